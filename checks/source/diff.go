package source

import (
	"context"
	"path"
)

// Diff is what became of base, sorted by path: the changes that turn its entries into those of s. A nil base
// is an empty one. No file is opened.
func (s *Snapshot) Diff(ctx context.Context, base *Snapshot) ([]Change, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	var from []Entry
	if base != nil {
		if base.id == s.id && base.repo == s.repo {
			return nil, nil
		}
		from = base.entries
	}
	return renames(merge(from, s.entries)), nil
}

// merge walks two sorted lists side by side.
func merge(from, to []Entry) []Change {
	var changes []Change
	for i, j := 0, 0; i < len(from) || j < len(to); {
		c := 0
		switch {
		case i == len(from):
			c = 1
		case j == len(to):
			c = -1
		default:
			c = compareEntries(from[i], to[j])
		}
		switch {
		case c < 0:
			changes = append(changes, Change{Path: from[i].Path, From: &from[i]})
			i++
		case c > 0:
			changes = append(changes, Change{Path: to[j].Path, To: &to[j]})
			j++
		default:
			if from[i].Blob != to[j].Blob || from[i].Mode != to[j].Mode {
				changes = append(changes, Change{Path: to[j].Path, From: &from[i], To: &to[j]})
			}
			i, j = i+1, j+1
		}
	}
	return changes
}

// renames tells added files from where they came: a deleted file of the same blob, preferably of the same
// name, otherwise the first in order. Empty files are all alike, so they come from nowhere.
func renames(changes []Change) []Change {
	gone := map[string][]*Entry{}  // deleted files, by blob
	named := map[string][]*Entry{} // the same, by blob and the path's last element
	key := func(e *Entry) string { return e.Blob + path.Base(e.Raw) }
	for _, c := range changes {
		if c.To == nil && c.From.Mode.IsFile() && c.From.Size != 0 {
			gone[c.From.Blob] = append(gone[c.From.Blob], c.From)
			named[key(c.From)] = append(named[key(c.From)], c.From)
		}
	}
	if len(gone) == 0 {
		return changes
	}
	taken := map[*Entry]bool{}
	// Each queue is walked once: a repository of many equal files costs no more than any other.
	take := func(queues map[string][]*Entry, k string, c *Change) {
		q := queues[k]
		for len(q) > 0 && taken[q[0]] {
			q = q[1:]
		}
		if len(q) > 0 {
			c.RenamedFrom, taken[q[0]] = q[0].Path, true
			q = q[1:]
		}
		queues[k] = q
	}
	added := func(c *Change) bool { return c.From == nil && c.To.Mode.IsFile() && c.RenamedFrom == "" }
	for i := range changes {
		if c := &changes[i]; added(c) {
			take(named, key(c.To), c)
		}
	}
	for i := range changes {
		if c := &changes[i]; added(c) {
			take(gone, c.To.Blob, c)
		}
	}
	return changes
}
