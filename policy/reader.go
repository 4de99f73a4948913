package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/noxaudit/noxaudit/internal/finding"
)

// Reader reads a YAML document about policies, such as their test cases, exactly as strictly as Load reads
// policies, and with the same limits. What it cannot use becomes a problem, and it goes on; Err is all of them
// at the end. The zero Reader is not usable.
type Reader struct {
	l      loader
	origin Origin
}

// NewReader parses src. The node is the document's mapping, or nil where there is none to go on with. begins is
// the key that a document of this kind cannot lack.
func NewReader(src []byte, origin Origin, begins string) (*Reader, *yaml.Node) {
	r := &Reader{loader{begins: begins, refused: map[*yaml.Node]bool{}}, origin}
	root := r.l.parse(src)
	if root == nil {
		return r, nil
	}
	r.l.survey(root, 0)
	if r.l.refused[root] {
		return r, nil
	}
	if root.Kind != yaml.MappingNode {
		r.l.problem(root, "it begins with `"+begins+":`", "the document is %s, not a mapping", kindOf(root))
		return r, nil
	}
	return r, root
}

// Err is nil, or a *LoadError with all problems by place.
func (r *Reader) Err() error {
	if len(r.l.problems) == 0 {
		return nil
	}
	return newLoadError(r.origin, slices.Clone(r.l.problems))
}

// Problem adds one at the place of n. The hint says what to write instead and may be empty.
func (r *Reader) Problem(n *yaml.Node, hint, format string, args ...any) {
	if !r.l.refused[n] {
		r.l.problem(n, hint, format, args...)
	}
}

// Unknown adds a problem about a word that is not one of known, and names the one that was probably meant.
// what is what the word is not: "a key of a case".
func (r *Reader) Unknown(n *yaml.Node, known []string, what string) { r.l.unknown(n, known, what) }

// Mapping calls f with each key of n, in the order of the document. keys are the known ones, where only
// some are; what is what others are not: "a key of a case". It returns whether n is a mapping of known keys: where
// one is misspelt, that is the problem to repair, and not that a key is missing.
func (r *Reader) Mapping(n *yaml.Node, keys []string, what string, f func(key, value *yaml.Node)) bool {
	switch {
	case r.l.refused[n]:
		return false
	case n.Kind != yaml.MappingNode:
		r.l.problem(n, "write its keys below it, indented", "this is %s, not a mapping", kindOf(n))
		return false
	}
	known := true
	for _, m := range r.l.members(n) {
		if keys != nil && !slices.Contains(keys, m.key.Value) {
			r.l.unknown(m.key, keys, what)
			known = false
			continue
		}
		f(m.key, m.value)
	}
	return known
}

// Version reads the number of the form; only 1 is known.
func (r *Reader) Version(n *yaml.Node) { r.l.version(n) }

// Text reads a text of 1 to 2000 bytes.
func (r *Reader) Text(key string, n *yaml.Node) string { return r.l.text(key, n) }

// Word reads one of words; it is empty after a problem.
func (r *Reader) Word(key string, n *yaml.Node, words []string) string {
	return r.l.word(key, n, words)
}

// Confidence reads a number from 0 to 1; it is nil after a problem.
func (r *Reader) Confidence(key string, n *yaml.Node) *finding.Confidence {
	return r.l.confidence(key, n)
}

// Focus reads the names of focus areas, one or a list, sorted.
func (r *Reader) Focus(key string, n *yaml.Node) []string {
	return r.l.list(key, n, func(n *yaml.Node) string { return r.l.focus(key, n) })
}

// Number reads a whole number from least to most; it is least after a problem.
func (r *Reader) Number(key string, n *yaml.Node, least, most int) int {
	if r.l.refused[n] {
		return least
	}
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || v < least || v > most {
		r.l.problem(n, fmt.Sprintf("write a whole number from %d to %d", least, most), "`%s` is no such number", key)
		return least
	}
	return v
}

// Bool reads true or false.
func (r *Reader) Bool(key string, n *yaml.Node) bool {
	switch {
	case r.l.refused[n]:
	case n.Kind == yaml.ScalarNode && n.Tag == "!!bool":
		return strings.EqualFold(n.Value, "true")
	default:
		r.l.problem(n, "write `true` or `false`", "`%s` is %s", key, kindOf(n))
	}
	return false
}

// List returns the entries of a list of at most most entries, which may be empty.
func (r *Reader) List(key string, n *yaml.Node, most int) []*yaml.Node {
	switch {
	case r.l.refused[n]:
	case isNull(n):
		r.l.problem(n, "give it a value or delete it", "`%s` has no value", key)
	case n.Kind != yaml.SequenceNode:
		r.l.problem(n, "write each entry on a line of its own, after `- `", "`%s` is %s, not a list", key, kindOf(n))
	case len(n.Content) > most:
		r.l.problem(n, "", "`%s` has %d entries; at most %d are read", key, len(n.Content), most)
	default:
		return n.Content
	}
	return nil
}
