package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/name"
)

// Snapshot is one state of a repository: the tree of a commit, or the working tree when it was listed. It
// does not change, is safe for concurrent use, and can be read until its repository is closed.
type Snapshot struct {
	repo   *Repository
	id     string
	commit name.Commit
	listing
	disk map[string]bool // by Raw: files of a working tree that are in no object store
}

// Commit lists the tree of a commit. The last few listings are remembered.
func (r *Repository) Commit(ctx context.Context, c name.Commit) (*Snapshot, error) {
	tree, err := r.tree(ctx, c)
	if err != nil {
		return nil, err
	}
	l := r.recent.get(tree)
	if l == nil {
		if near, known := r.recent.last(); known != nil {
			l = r.derive(ctx, near, known, tree)
		}
		if l == nil {
			if l, err = r.list(ctx, tree); err != nil {
				return nil, fmt.Errorf("list commit %s: %w", c.Short(), err)
			}
		}
		r.recent.put(tree, l)
	}
	return &Snapshot{repo: r, id: tree, commit: c, listing: *l}, nil
}

func (r *Repository) list(ctx context.Context, tree string) (*listing, error) {
	l := lister{limits: r.git.limits}
	if !r.git.partial {
		err := r.git.stream(ctx, func(out io.Reader) error { return parseTree(out, func(e Entry) error { return l.add(e, "") }) },
			"ls-tree", "-r", "-z", "-l", "--full-tree", "--end-of-options", tree)
		if err != nil {
			return nil, err // half a listing is none
		}
		return l.done(), nil
	}
	// Where blobs may be missing, git lists no sizes at all; the object store tells those it has.
	var all []Entry
	var ids []string
	err := r.git.stream(ctx, func(out io.Reader) error {
		return parseTree(out, func(e Entry) error {
			all, ids = append(all, e), append(ids, e.Blob)
			if len(all) > l.limits.Files {
				return l.tooMany()
			}
			return nil
		})
	}, "ls-tree", "-r", "-z", "--full-tree", "--end-of-options", tree)
	if err != nil {
		return nil, err
	}
	sizes, err := r.sizes(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i, e := range all {
		if e.Mode != Submodule {
			e.Size = sizes[i]
		}
		if err := l.add(e, ""); err != nil {
			return nil, err
		}
	}
	return l.done(), nil
}

// What a listing may differ in from the last one to be made of it: beyond that, git lists faster.
const (
	deriveFolders = 300
	deriveEntries = 5000
)

// derive makes the listing of a tree out of another one and what the two differ in: a push changes few of many files.
// It is what list would say, or nil where list has to be asked, for whatever reason.
func (r *Repository) derive(ctx context.Context, near string, known *listing, tree string) *listing {
	if known.twice {
		return nil
	}
	w := treeWalk{Repository: r, ctx: ctx, most: deriveFolders}
	if err := w.folders("", 1, [2]string{near, tree}); err != nil || w.cut || len(w.found[0])+len(w.found[1]) > deriveEntries {
		return nil
	}
	gone := make(map[string]bool, len(w.found[0]))
	for _, e := range w.found[0] {
		gone[e.Raw] = true
	}
	var ids []string
	for _, e := range w.found[1] {
		ids = append(ids, e.Blob)
	}
	sizes, err := r.sizes(ctx, ids)
	if err != nil {
		return nil
	}
	l := lister{limits: r.git.limits}
	l.list.entries = make([]Entry, 0, len(known.entries)+len(w.found[1]))
	for _, part := range [][]Entry{known.entries, known.left} {
		for _, e := range part {
			if !gone[e.Raw] {
				if l.add(e, "") != nil {
					return nil
				}
			}
		}
	}
	for i, e := range w.found[1] {
		if e.Mode != Submodule {
			e.Size = sizes[i]
		}
		if l.add(e, "") != nil {
			return nil
		}
	}
	if d := l.done(); !d.twice {
		return d
	}
	return nil
}

// ID is the object id of a commit's tree, or "worktree-" and the digest of a working tree's entries
// and of what is skipped there. Snapshots of equal ids, listed under equal limits, have equal content.
func (s *Snapshot) ID() string { return s.id }

// Commit is the commit the snapshot was listed from; zero for a working tree.
func (s *Snapshot) Commit() name.Commit { return s.commit }

// Entries are all files, symbolic links and submodules, sorted by Path, then Raw. They must not be modified.
// What is kept out is in Skipped, and in no entry.
func (s *Snapshot) Entries() []Entry { return s.entries }

// Skipped is what the limits keep out, sorted by Path: content that nobody assessed.
func (s *Snapshot) Skipped() []Skipped { return s.skipped }

// Notes are entries that are assessed but odd, such as names that differ only in case: on some file systems
// one of them hides the other.
func (s *Snapshot) Notes() []Skipped { return s.notes }

// Lookup finds an entry by its Path; the first one of several.
func (s *Snapshot) Lookup(path string) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(s.entries, path, func(e Entry, p string) int { return strings.Compare(e.Path, p) })
	if !ok {
		return Entry{}, false
	}
	return s.entries[i], true
}

// Named returns all entries of a Path: mostly one, several where different raw paths look the same, or none.
// They must not be modified.
func (s *Snapshot) Named(path string) []Entry {
	first, _ := slices.BinarySearchFunc(s.entries, path, func(e Entry, p string) int { return strings.Compare(e.Path, p) })
	last := first
	for last < len(s.entries) && s.entries[last].Path == path {
		last++
	}
	return s.entries[first:last]
}

// Read returns the content of an entry of this snapshot; of a symbolic link it is the target's name. The
// caller owns the bytes. ErrTooLarge, ErrMissing, ErrNotFile (a submodule) and ErrChanged (a file of the
// working tree that is no longer what was listed) are told apart by errors.Is.
func (s *Snapshot) Read(ctx context.Context, e Entry) ([]byte, error) {
	limit := s.repo.git.limits.BlobBytes
	switch {
	case e.Mode == Submodule:
		return nil, fmt.Errorf("%s: %w: it is a submodule", e.Path, ErrNotFile)
	case e.Size > limit:
		return nil, &TooLargeError{Path: e.Path, What: "bytes", Size: e.Size, Limit: limit}
	case !isID(e.Blob):
		return nil, fmt.Errorf("%s: %w: it has no object id", e.Path, ErrNotFile)
	}
	if s.disk[e.Raw] {
		return s.repo.readDisk(ctx, e)
	}
	body, err := s.repo.objects.read(ctx, e.Blob, "blob", e.Size >= 0, limit)
	if err == nil {
		return body, nil
	}
	if large := (*TooLargeError)(nil); errors.As(err, &large) {
		large.Path = e.Path
		return nil, large
	}
	return nil, fmt.Errorf("%s: %w", e.Path, s.repo.lacking(err))
}
