package finding

import (
	"reflect"
	"slices"
)

// key is what makes two findings of one tree the same one: the place as the fingerprint knows it, and the
// content where that matters. A different secret on the same line has the same fingerprint and is not the same
// finding.
type key struct{ place, content string }

// statement is what two trees' findings are compared by. It leaves the occurrence out: of three keys on equal
// lines, taking out the first must not make the other two new.
type statement struct{ typ, path, context, content string }

// Moves are the files that a change moved: what its files are called now, and what they were called at the
// base. A file counts as moved only when its old path is gone and its new one was not there.
type Moves struct {
	Added, Deleted map[string]bool   // paths
	Renamed        map[string]string // added path to deleted path, of files moved without any change of content
}

// MarkIntroduced sets Introduced on each head finding that is not there at base, and MovedFrom on those that
// were there in a file that has moved. Each finding of the base excuses one of the head that says the same
// (type, context, content) in the same file, or in a new file when its own file is gone: copying a finding
// introduces it. Without a context only an unchanged renamed file excuses.
func MarkIntroduced(head, base []Finding, moves Moves) {
	excuses := map[statement]int{}
	for _, f := range base {
		excuses[f.statement(f.Path)]++
	}
	var left []int // of head: not there in the same file
	for i := range head {
		f := &head[i]
		f.MovedFrom = ""
		s := f.statement(f.Path)
		f.Introduced = excuses[s] == 0
		if f.Introduced {
			left = append(left, i)
		} else {
			excuses[s]--
		}
	}
	gone := map[statement][]string{} // deleted files that said it, by a statement without path
	for _, f := range base {
		if s := f.statement(f.Path); moves.Deleted[f.Path] && excuses[s] > 0 {
			excuses[s]--
			gone[f.statement("")] = append(gone[f.statement("")], f.Path)
		}
	}
	for _, i := range left {
		f := &head[i]
		paths := gone[f.statement("")]
		if len(paths) == 0 || !moves.Added[f.Path] {
			continue
		}
		n := slices.Index(paths, moves.Renamed[f.Path])
		switch {
		case n >= 0:
		case f.Context == "":
			continue
		default:
			n = 0
		}
		f.Introduced, f.MovedFrom = false, paths[n]
		gone[f.statement("")] = slices.Delete(paths, n, n+1)
	}
}

func (f Finding) statement(path string) statement {
	return statement{f.Type, path, f.Context, f.Content}
}

// Delta is what became of a set of findings between two audits of one line of history.
type Delta struct {
	Created  []Finding // in the newer set only
	Updated  []Finding // in both, said differently; the newer form
	Resolved []Finding // in the older set only
}

// Compare tells the older set from the newer by fingerprint and content. Introduced is not part of what a
// finding says; all slices are in canonical order.
func Compare(older, newer []Finding) Delta {
	before := make(map[key]Finding, len(older))
	for _, f := range older {
		before[key{f.Fingerprint, f.Content}] = f
	}
	var d Delta
	after := make(map[key]bool, len(newer))
	for _, f := range newer {
		k := key{f.Fingerprint, f.Content}
		if after[k] {
			continue
		}
		after[k] = true
		was, ok := before[k]
		if !ok {
			d.Created = append(d.Created, f)
			continue
		}
		if !sameStatement(was, f) {
			d.Updated = append(d.Updated, f)
		}
	}
	seen := make(map[key]bool, len(older))
	for _, f := range older {
		k := key{f.Fingerprint, f.Content}
		if !after[k] && !seen[k] {
			seen[k] = true
			d.Resolved = append(d.Resolved, f)
		}
	}
	Sort(d.Created)
	Sort(d.Updated)
	Sort(d.Resolved)
	return d
}

// sameStatement ignores where in the file a finding stands, and how it came there: neither changes what it says.
func sameStatement(a, b Finding) bool {
	a.Introduced, b.Introduced = false, false
	a.MovedFrom, b.MovedFrom = "", ""
	a.Region, b.Region = Region{}, Region{}
	return reflect.DeepEqual(a, b)
}
