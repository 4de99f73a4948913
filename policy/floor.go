package policy

import (
	_ "embed"

	"github.com/noxaudit/noxaudit/internal/canon"
)

//go:embed floor.yml
var floor []byte

// floorPath is where the floor's policies are written.
const floorPath = "policy/floor.yml"

// waivable reports whether people may waive what a policy objects to: the floor holds always.
func (p Policy) waivable() bool { return p.Origin.Layer != LayerBuiltin || p.Origin.Path != floorPath }

// Floor returns the policies that always hold, whatever a repository or an organisation says: what keeps the
// gate itself from being taken away.
func Floor() *Document {
	d, err := Load(floor, Origin{Layer: LayerBuiltin, Path: floorPath, Blob: canon.Digest(floor)})
	if err != nil {
		panic(err) // embedded; a test loads it
	}
	return d
}
