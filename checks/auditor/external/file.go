package external

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/sarif"
)

// File is an auditor whose results were found elsewhere and handed over as a SARIF file. It is an
// audit.TreeAuditor.
type File struct {
	info audit.Info
	head side
	base *side
	// whole is set when results depend on which tree is asked about, not on single files only.
	whole bool
	paths map[string]bool
}

// side is one handed-over document; failed is why it does not count as a look at the code.
type side struct {
	made
	failed error
}

// Base is the same tools' results for the base.
type Base struct {
	SARIF []byte
	Tree  *source.Snapshot // that they were made for
}

// NewFile takes over the results in a SARIF document that was made for one tree, usually the head of a pull
// request. The tree is read here, once, for the lines that the results stand on. Base may be nil.
//
// A document that cannot be read, or was not made by the standard, is an error here (see sarif.Read). A
// document whose run failed is one of AuditTree: the auditor exists and has assessed nothing.
func NewFile(ctx context.Context, name string, document []byte, tree *source.Snapshot, base *Base, o Options) (*File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	config, err := configDigest(struct {
		Options Options
	}{o})
	if err != nil {
		return nil, err
	}
	f := &File{
		paths: map[string]bool{},
		info: audit.Info{
			Name: name, Version: version, Config: config, Focus: o.focus(),
			Title: "Results of other tools, from a SARIF file",
			Inputs: []audit.Input{
				{Name: "sarif", Digest: canon.Digest(document)},
				{Name: "sarif-tree", Digest: canon.Digest([]byte(tree.ID()))},
			},
		},
	}
	tools, err := f.take(ctx, &f.head, document, tree, o)
	if err != nil {
		return nil, fmt.Errorf("external auditor %s: %w", name, err)
	}
	if len(tools) > 0 {
		f.info.Title = "Results of " + strings.Join(tools, ", ") + ", from a SARIF file"
	}
	if base != nil {
		f.base = &side{}
		f.info.Inputs = append(f.info.Inputs,
			audit.Input{Name: "sarif-base", Digest: canon.Digest(base.SARIF)},
			audit.Input{Name: "sarif-base-tree", Digest: canon.Digest([]byte(base.Tree.ID()))})
		if _, err := f.take(ctx, f.base, base.SARIF, base.Tree, o); err != nil {
			return nil, fmt.Errorf("external auditor %s: of the base: %w", name, err)
		}
		f.whole = true
	}
	return f, nil
}

// take reads a document into s and returns the names of its tools.
func (f *File) take(ctx context.Context, s *side, document []byte, tree *source.Snapshot, o Options) (tools []string, err error) {
	log, err := sarif.Read(bytes.NewReader(document), sarif.ReadOptions{Root: o.Root, IncludeSuppressed: o.IncludeSuppressed, IncludeInSource: true})
	if err != nil {
		return nil, err
	}
	for _, run := range log.Runs {
		if !slices.Contains(tools, run.Tool) {
			tools = append(tools, run.Tool)
		}
	}
	s.tree = tree.ID()
	m, err := tie(ctx, log, tree, o)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		s.failed = err
		return tools, nil
	}
	s.made = *m
	for _, a := range m.anchors {
		f.paths[a.path] = true
		f.whole = f.whole || a.kind == onRepository
	}
	return tools, nil
}

// Info says which document the results are from.
func (f *File) Info() audit.Info {
	i := f.info
	i.Inputs, i.Focus = slices.Clone(i.Inputs), slices.Clone(i.Focus)
	return i
}

// Reads is true for the files that results stand in, and for all when a result is about the repository.
func (f *File) Reads(path string) bool { return f.whole || f.paths[path] }

// AuditTree returns the results that exist in t: all of them for the tree that the document was made for, and
// for another one those whose text stands there too.
func (f *File) AuditTree(ctx context.Context, t audit.Tree) (audit.Result, error) {
	if f.head.failed != nil {
		return audit.Result{}, fmt.Errorf("external auditor %s: %w", f.info.Name, f.head.failed)
	}
	if f.base != nil && t.ID() == f.base.tree && t.ID() != f.head.tree {
		if f.base.failed != nil {
			return audit.Result{}, fmt.Errorf("external auditor %s: of the base: %w", f.info.Name, f.base.failed)
		}
		return f.base.all(t.Seal), nil
	}
	res := audit.Result{Gaps: slices.Clone(f.head.gaps)}
	for anchors := range byPath(f.head.anchors) {
		if anchors[0].path == "" {
			if t.ID() == f.head.tree {
				res.Drafts = append(res.Drafts, drafts(anchors, t.Seal)...)
			}
			continue
		}
		found, err := f.head.in(ctx, t, anchors)
		if err != nil {
			return audit.Result{}, fmt.Errorf("external auditor %s: %w", f.info.Name, err)
		}
		res.Drafts = append(res.Drafts, found...)
	}
	return res, nil
}

func drafts(anchors []anchor, seal audit.Seal) []audit.Placed {
	out := make([]audit.Placed, len(anchors))
	for i, a := range anchors {
		out[i] = a.drafted(seal)
	}
	return out
}

// all are the results for the tree that they were made for.
func (m *made) all(seal audit.Seal) audit.Result {
	return audit.Result{Drafts: drafts(m.anchors, seal), Gaps: slices.Clone(m.gaps)}
}

// byPath yields the anchors of one path after another; they are sorted by it.
func byPath(anchors []anchor) func(yield func([]anchor) bool) {
	return func(yield func([]anchor) bool) {
		for len(anchors) > 0 {
			n := slices.IndexFunc(anchors, func(a anchor) bool { return a.path != anchors[0].path })
			if n < 0 {
				n = len(anchors)
			}
			if !yield(anchors[:n:n]) {
				return
			}
			anchors = anchors[n:]
		}
	}
}

// in finds the results of one file in another state of it.
func (m *made) in(ctx context.Context, t audit.Tree, anchors []anchor) ([]audit.Placed, error) {
	path := anchors[0].path
	e, ok := t.Lookup(path)
	if !ok {
		return nil, nil
	}
	var out []audit.Placed
	type group struct {
		typ  string
		text text
	}
	groups := map[group][]anchor{}
	var order []group
	for _, a := range anchors {
		switch {
		case a.kind == onFile && a.blob == e.Blob:
			out = append(out, a.drafted(t.Seal))
		case a.kind == onLine:
			g := group{a.draft.Type, a.text}
			if groups[g] == nil {
				order = append(order, g)
			}
			groups[g] = append(groups[g], a)
		}
	}
	if len(order) == 0 {
		return out, nil
	}
	f, err := open(ctx, t.Snapshot, e)
	if err != nil {
		return nil, err
	}
	at := map[text][]int{}
	wanted := m.lines[path]
	for n := 1; n <= len(f.lines); n++ {
		if x := f.text(n); has(wanted, x) {
			at[x] = append(at[x], n)
		}
	}
	same := anchors[0].blob == e.Blob
	for _, g := range order {
		byLine := map[int][]anchor{}
		for _, a := range groups[g] {
			byLine[a.line] = append(byLine[a.line], a)
		}
		flagged := slices.Sorted(maps.Keys(byLine))
		for i, line := range match(flagged, at[g.text], wanted[g.text]) {
			for _, a := range byLine[flagged[i]] {
				a.draft.Region = moved(a.draft.Region, line-a.line, same)
				out = append(out, a.drafted(t.Seal))
			}
		}
	}
	return out, nil
}

// match says which of the flagged lines exist in another state of the file, and where: the n-th element of the
// answer is the place of the n-th flagged line, and those behind its end do not exist. Their text stands there
// at these places, and stood in the state they were flagged in so many times. Where the text has become more
// frequent, flagged lines are the added ones as far as there are enough of them.
func match(flagged, places []int, times int) []int {
	added := max(0, times-len(places))
	n := min(max(0, len(flagged)-added), len(places))
	free := slices.Clone(places) // ascending
	var out []int
	for _, line := range flagged[:n] {
		i, exact := slices.BinarySearch(free, line)
		if i == len(free) || !exact && i > 0 && line-free[i-1] <= free[i]-line {
			i--
		}
		out = append(out, free[i])
		free = slices.Delete(free, i, i+1)
	}
	return out
}

// moved is a region some lines further down. Columns are kept only in the same file: elsewhere the line may be
// indented differently.
func moved(g finding.Region, by int, same bool) finding.Region {
	if g.StartLine += by; g.EndLine > 0 {
		g.EndLine += by
	}
	if !same {
		g.StartColumn, g.EndColumn = 0, 0
	}
	return g
}
