package policy

import (
	_ "embed"

	"github.com/noxaudit/noxaudit/internal/canon"
)

//go:embed builtin.yml
var builtin []byte

// Builtin returns the policies that hold where a repository and its organisation have none: introduced
// secrets of high and above are warnings. They go through the same loader as everyone's.
func Builtin() *Document {
	d, err := Load(builtin, Origin{Layer: LayerBuiltin, Path: "policy/builtin.yml", Blob: canon.Digest(builtin)})
	if err != nil {
		panic(err) // embedded; a test loads it
	}
	return d
}

// Schema is the JSON Schema (draft 2020-12) of a document, for editors. Load refuses more than it can say:
// repeated keys, anchors, malformed patterns.
//
//go:embed schema.json
var Schema string
