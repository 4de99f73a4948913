package source

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/noxaudit/noxaudit/internal/name"
)

// Changes is the Diff of two commits without a listing of either: of the two trees, only folders that differ
// are opened. It is for a caller who needs nothing else of them. Limits.Files holds for the paths that differ
// and for the folders that have to be opened.
//
// git diff-tree does the same, but says nothing before it has seen everything, so that a small repository of
// trees within trees could make it take any amount of memory.
func (r *Repository) Changes(ctx context.Context, base, head name.Commit) ([]Change, error) {
	var roots [2]string
	for side, c := range []name.Commit{base, head} {
		var err error
		if roots[side], err = r.tree(ctx, c); err != nil {
			return nil, err
		}
	}
	w := treeWalk{Repository: r, ctx: ctx}
	if err := w.folders("", 1, roots); err != nil {
		return nil, fmt.Errorf("compare %s with %s: %w", base.Short(), head.Short(), err)
	}
	// Only the object store knows sizes, and the sizes decide what is an entry.
	var ids []string
	for _, side := range w.found {
		for _, e := range side {
			ids = append(ids, e.Blob)
		}
	}
	sizes, err := r.sizes(ctx, ids)
	if err != nil {
		return nil, err
	}
	var entries [2][]Entry
	for side, found := range w.found {
		l := lister{limits: r.git.limits}
		for _, e := range found {
			if e.Mode != Submodule {
				e.Size = sizes[0]
			}
			sizes = sizes[1:]
			if err := l.add(e, ""); err != nil {
				return nil, err
			}
		}
		entries[side] = l.done().entries
	}
	return renames(merge(entries[0], entries[1])), nil
}

// treeWalk collects, on both sides, the entries below folders that differ.
type treeWalk struct {
	*Repository
	ctx    context.Context
	found  [2][]Entry
	opened int
	names  int  // bytes of all paths found
	most   int  // folders to open; 0: Limits.Files
	cut    bool // something lies too deep to be looked at
}

// treeNode is one line of a tree object.
type treeNode struct {
	name   string
	folder bool
	mode   Mode // of what is no folder
	id     string
}

// folders compares two trees; an id may be "", a tree that is not there.
func (w *treeWalk) folders(prefix string, depth int, ids [2]string) error {
	if ids[0] == ids[1] {
		return nil
	}
	// What lies deeper is kept out of every listing, so there is nothing to find.
	if depth > w.git.limits.Depth || len(prefix) > w.git.limits.PathBytes {
		w.cut = true
		return nil
	}
	var nodes [2]map[string][]treeNode
	var names []string
	for side, id := range ids {
		nodes[side] = map[string][]treeNode{}
		if id == "" {
			continue
		}
		list, err := w.open(id)
		if err != nil {
			return err
		}
		for _, n := range list {
			nodes[side][n.name] = append(nodes[side][n.name], n)
			names = append(names, n.name)
		}
	}
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		a, b := nodes[0][n], nodes[1][n]
		if slices.Equal(a, b) {
			continue
		}
		if len(a) == 1 && len(b) == 1 && a[0].folder && b[0].folder {
			if err := w.folders(prefix+n+"/", depth+1, [2]string{a[0].id, b[0].id}); err != nil {
				return err
			}
			continue
		}
		for side, list := range [2][]treeNode{a, b} {
			for _, one := range list {
				if err := w.all(prefix, depth, side, one); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// all takes everything that a node of one side holds.
func (w *treeWalk) all(prefix string, depth, side int, n treeNode) error {
	if n.folder {
		var ids [2]string
		ids[side] = n.id
		return w.folders(prefix+n.name+"/", depth+1, ids)
	}
	e := Entry{Raw: prefix + n.name, Mode: n.mode, Blob: n.id, Size: -1}
	w.found[side] = append(w.found[side], e)
	if len(w.found[side]) > w.git.limits.Files {
		return &TooLargeError{What: "changed files", Size: -1, Limit: int64(w.git.limits.Files)}
	}
	if w.names += len(e.Raw); w.names > namesBytes {
		return &TooLargeError{What: "bytes of paths", Size: -1, Limit: namesBytes}
	}
	return nil
}

// treeBytes is the largest tree object that is read: far more than a folder of 200,000 files takes.
const treeBytes = 64 << 20

func (w *treeWalk) open(id string) ([]treeNode, error) {
	most := w.git.limits.Files
	if w.most > 0 {
		most = min(most, w.most)
	}
	if w.opened++; w.opened > most {
		return nil, &TooLargeError{What: "changed folders", Size: -1, Limit: int64(w.git.limits.Files)}
	}
	body, err := w.objects.read(w.ctx, id, "tree", true, treeBytes)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", id, w.lacking(err))
	}
	idBytes := 20
	if w.sha256 {
		idBytes = 32
	}
	nodes, err := parseTreeObject(body, idBytes)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w: %w", id, ErrCorrupt, err)
	}
	return nodes, nil
}

// parseTreeObject reads the lines "<mode> <name>\0<id>" that a tree object is made of.
func parseTreeObject(body []byte, idBytes int) ([]treeNode, error) {
	var nodes []treeNode
	for len(body) > 0 {
		head, rest, ok := bytes.Cut(body, []byte{0})
		mode, entry, spaced := strings.Cut(string(head), " ")
		if !ok || !spaced || entry == "" || len(rest) < idBytes {
			return nil, fmt.Errorf("it breaks off, or a name is empty")
		}
		if strings.Contains(entry, "/") {
			return nil, fmt.Errorf("the name %q holds a slash", shown(entry, 80))
		}
		m, folder, ok := modeOf(mode)
		if !ok {
			return nil, fmt.Errorf("%q is no mode", shown(mode, 20))
		}
		nodes = append(nodes, treeNode{entry, folder, m, hex.EncodeToString(rest[:idBytes])})
		body = rest[idBytes:]
	}
	return nodes, nil
}

// modeOf reads git's mode as git does: old repositories hold modes like 100664, and what is no file, link or
// folder is taken for a submodule.
func modeOf(octal string) (m Mode, folder, ok bool) {
	n, err := strconv.ParseUint(octal, 8, 32)
	if err != nil {
		return 0, false, false
	}
	switch n & 0o170000 {
	case 0o100000:
		if n&0o100 != 0 {
			return Executable, false, true
		}
		return Regular, false, true
	case 0o120000:
		return Symlink, false, true
	case 0o040000:
		return 0, true, true
	}
	return Submodule, false, true
}

// sizes asks for the sizes of many objects; -1 for one that is not there.
func (r *Repository) sizes(ctx context.Context, ids []string) ([]int64, error) {
	if !r.git.partial {
		return r.objects.sizes(ctx, ids)
	}
	// Asked for an object that a partial clone lacks, git ends, since it may not fetch it. So here it tells
	// what there is.
	have := make(map[string]int64, len(ids))
	for _, id := range ids {
		have[id] = -1
	}
	err := r.git.stream(ctx, func(out io.Reader) error {
		recs := newRecords(out)
		for {
			line, err := recs.next('\n')
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return fmt.Errorf("git cat-file: %w", err)
			}
			if o, err := parseAnswer(line); err == nil {
				if _, wanted := have[o.id]; wanted {
					have[o.id] = o.size
				}
			}
		}
	}, "cat-file", "--batch-check", "--batch-all-objects", "--unordered")
	if err != nil {
		return nil, err
	}
	sizes := make([]int64, len(ids))
	for i, id := range ids {
		sizes[i] = have[id]
	}
	return sizes, nil
}
