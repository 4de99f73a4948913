package finding

import "reflect"

// key is what makes two findings the same one: the place as the fingerprint knows it, and the content where
// that matters. A different secret on the same line has the same fingerprint and is not the same finding.
type key struct{ place, content string }

// MarkIntroduced sets Introduced on each head finding that is not there at base. A finding is there when
// base has one with equal fingerprint and content, or when one with equal Moved key and content vanished
// from another path (a renamed or moved file): each vanished finding excuses one, so that copying a finding
// to a second file introduces it there.
func MarkIntroduced(head, base []Finding) {
	atBase := make(map[key]bool, len(base))
	for _, f := range base {
		atBase[key{f.Fingerprint, f.Content}] = true
	}
	atHead := make(map[key]bool, len(head))
	for _, f := range head {
		atHead[key{f.Fingerprint, f.Content}] = true
	}
	vanished := map[key]int{}
	for _, f := range base {
		if !atHead[key{f.Fingerprint, f.Content}] {
			vanished[key{f.Moved, f.Content}]++
		}
	}
	for i := range head {
		f := &head[i]
		if atBase[key{f.Fingerprint, f.Content}] {
			f.Introduced = false
			continue
		}
		moved := key{f.Moved, f.Content}
		f.Introduced = vanished[moved] == 0
		if !f.Introduced {
			vanished[moved]--
		}
	}
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

// sameStatement ignores where in the file a finding stands and whether a pull request introduced it: neither
// changes what it says.
func sameStatement(a, b Finding) bool {
	a.Introduced, b.Introduced = false, false
	a.Region, b.Region = Region{}, Region{}
	return reflect.DeepEqual(a, b)
}
