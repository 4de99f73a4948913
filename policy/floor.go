package policy

import (
	_ "embed"

	"github.com/noxaudit/noxaudit/internal/canon"
)

//go:embed floor.yml
var floor []byte

// Floor returns the policies that always hold, whatever a repository or an organisation says: what keeps the
// gate itself from being taken away.
func Floor() *Document {
	d, err := Load(floor, Origin{Layer: LayerBuiltin, Path: "policy/floor.yml", Blob: canon.Digest(floor)})
	if err != nil {
		panic(err) // embedded; a test loads it
	}
	return d
}
