// Package source reads code.
package source

// Entry is a file.
type Entry struct{ Path, Raw, Blob string }

// Change is a difference.
type Change struct{ Path string }

// Snapshot is a tree.
type Snapshot struct{}
