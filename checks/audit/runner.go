package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sort"
	"sync"
	"time"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
)

// Options tune a Runner. The zero value is usable.
type Options struct {
	Cache         Cache                    // nil: nothing is remembered between runs
	Workers       int                      // files audited at once; default: the number of processors
	BlobTimeout   time.Duration            // for one auditor on one file; default 30 s
	TreeTimeout   time.Duration            // for one auditor on one tree or change; default 10 min
	Mask          func(text string) string // takes secrets out of a short text; nil: texts stay as they are
	AllowNetwork  bool
	AllowMoney    bool
	AllowCommands bool
}

// Runner lifts a list of auditors over trees. It is safe for concurrent use.
type Runner struct {
	auditors []lifted
	opts     Options
}

// lifted is an auditor with what the runner needs of it at every turn.
type lifted struct {
	Auditor
	info    Info
	key     string // digest of all that its results depend on besides the tree
	refused string // why it may not run here; "" when it may
}

// New checks each auditor: a name of its own, and exactly one capability.
func New(auditors []Auditor, opts Options) (*Runner, error) {
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	if opts.BlobTimeout <= 0 {
		opts.BlobTimeout = 30 * time.Second
	}
	if opts.TreeTimeout <= 0 {
		opts.TreeTimeout = 10 * time.Minute
	}
	r := &Runner{opts: opts}
	seen := map[string]bool{}
	for _, a := range auditors {
		info := a.Info()
		if info.Name == "" || info.Version == "" {
			return nil, fmt.Errorf("auditor %T: has no name or no version", a)
		}
		if seen[info.Name] {
			return nil, fmt.Errorf("auditor %s: two auditors bear this name", info.Name)
		}
		seen[info.Name] = true
		capabilities := 0
		for _, has := range []bool{is[BlobAuditor](a), is[TreeAuditor](a), is[ChangeAuditor](a)} {
			if has {
				capabilities++
			}
		}
		if capabilities != 1 {
			return nil, fmt.Errorf("auditor %s: implements %d of BlobAuditor, TreeAuditor and ChangeAuditor, want exactly one", info.Name, capabilities)
		}
		key, err := canon.Marshal(struct {
			Name, Version, Config string
			Inputs                []Input
		}{info.Name, info.Version, info.Config, info.Inputs})
		if err != nil {
			return nil, fmt.Errorf("auditor %s: %w", info.Name, err)
		}
		r.auditors = append(r.auditors, lifted{a, info, canon.Digest(key), opts.refusal(info.Needs)})
	}
	return r, nil
}

func is[T any](a Auditor) bool { _, ok := a.(T); return ok }

func (o Options) refusal(n Needs) string {
	switch {
	case n.Network && !o.AllowNetwork:
		return "it needs the network, which is not allowed here"
	case n.Money && !o.AllowMoney:
		return "it costs money, and no budget is set here"
	case n.Command && !o.AllowCommands:
		return "it starts a program, which is not allowed here"
	}
	return ""
}

// Auditors lists what this runner runs, in its order.
func (r *Runner) Auditors() []Info {
	infos := make([]Info, len(r.auditors))
	for i, a := range r.auditors {
		infos[i] = a.info
	}
	return infos
}

// Target is what one run looks at.
type Target struct {
	Head     *source.Snapshot
	Base     *source.Snapshot // nil: the head is looked at alone, and every finding counts as introduced
	Seal     Seal
	Progress func(Progress) // may be nil; called from several goroutines
}

// Progress tells how far a run is. Total counts the files that have to be read, not those remembered.
type Progress struct {
	Done, Total int
	Stage       string // "base" or "head"
}

// Report is what a run found. It depends on the target and the auditors alone.
type Report struct {
	Findings    []finding.Finding // at the head, in canonical order, Introduced set
	Resolved    []finding.Finding // at the base and no longer at the head
	Assessments []Assessment      // one per auditor, in the runner's order
	Stats       Stats
}

// Stats say what a run cost; they are no part of a verdict.
type Stats struct {
	Files      int    // at the head
	Audited    int    // files read and audited, base and head together
	Remembered int    // results of files taken from the cache
	CacheError string // why nothing was remembered, if so
}

// Run looks at a target with every auditor. It fails only when the context ends or a tree cannot be listed;
// an auditor that fails is "not assessed" in the report, and its other findings stand.
func (r *Runner) Run(ctx context.Context, t Target) (*Report, error) {
	run := &run{Runner: r, target: t}
	if run.target.Seal == nil {
		run.target.Seal = func([]byte) string { return "" }
	}
	var base *treeResult
	var err error
	if t.Base != nil {
		if base, err = run.tree(ctx, "base", t.Base, nil); err != nil {
			return nil, err
		}
	}
	head, err := run.tree(ctx, "head", t.Head, base)
	if err != nil {
		return nil, err
	}
	if err := run.changes(ctx, head); err != nil {
		return nil, err
	}
	rep := &Report{Stats: run.stats}
	rep.Stats.Files = len(t.Head.Entries())
	var atBase []finding.Finding
	for i, a := range r.auditors {
		head.parts[i].limit()
		if base != nil {
			base.parts[i].limit()
		}
		fs := assemble(a.info.Name, head.parts[i].drafts)
		as := Assessment{
			Auditor: a.info.Name, Version: a.info.Version, Config: a.info.Config, Inputs: a.info.Inputs,
			Focus: a.info.Focus, Found: len(fs),
		}
		for _, g := range head.parts[i].sortedGaps() {
			g.Introduced = base == nil || head.changed[g.Path] || base.parts[i].gaps[g.Path] == ""
			as.Gaps = append(as.Gaps, g)
		}
		as.Outcome, as.Reason = head.parts[i].outcome(len(fs))
		if base != nil && !is[ChangeAuditor](a.Auditor) {
			if failed := base.parts[i].failed; failed != "" {
				// Fail closed: without a view of the base nothing can be excused as old.
				as.Gaps = append(as.Gaps, Gap{Reason: "the base was not assessed (" + failed + "), so every finding counts as introduced", Introduced: true})
			}
			old := assemble(a.info.Name, base.parts[i].drafts)
			finding.MarkIntroduced(fs, old, head.moves)
			atBase = append(atBase, old...)
		}
		rep.Findings = append(rep.Findings, fs...)
		rep.Assessments = append(rep.Assessments, as)
	}
	finding.Sort(rep.Findings)
	rep.Resolved = finding.Compare(atBase, rep.Findings).Resolved
	return rep, nil
}

func assemble(auditor string, byPath map[string][]finding.Draft) []finding.Finding {
	paths := make([]string, 0, len(byPath))
	for p := range byPath {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	var fs []finding.Finding
	for _, p := range paths {
		fs = append(fs, finding.Assemble(auditor, p, byPath[p])...)
	}
	return fs
}

// treeResult is what all auditors said of one snapshot, in the runner's order.
type treeResult struct {
	snapshot *source.Snapshot
	changed  map[string]bool // paths that differ from the base, with a base
	moves    finding.Moves   // likewise
	parts    []*part
}

// part is one auditor's view of one snapshot.
type part struct {
	drafts  map[string][]finding.Draft // by path
	gaps    map[string]string          // by path, the reason
	looked  bool                       // there was something of its kind
	files   int                        // of its kind, looked at now or remembered
	skipped int                        // of its kind, kept out by the limits
	failed  string                     // why it could not do its work at all
	passing bool                       // a gap has a passing cause: this part must not be remembered
}

func newPart() *part {
	return &part{drafts: map[string][]finding.Draft{}, gaps: map[string]string{}}
}

func (p *part) outcome(found int) (Outcome, string) {
	switch {
	case p.failed != "":
		return NotAssessed, p.failed
	case found > 0:
		return Found, ""
	case p.files+p.skipped > 0 && len(p.gaps) >= p.files+p.skipped: // never so of a tree or change auditor
		return NotAssessed, "none of the files it looks at could be assessed"
	case !p.looked:
		return NotApplicable, ""
	}
	return Clean, ""
}

func (p *part) sortedGaps() []Gap {
	var gaps []Gap
	for path, reason := range p.gaps {
		gaps = append(gaps, Gap{Path: path, Reason: reason})
	}
	sort.Slice(gaps, func(i, j int) bool { return gaps[i].Path < gaps[j].Path })
	return gaps
}

type run struct {
	*Runner
	target Target
	mu     sync.Mutex
	stats  Stats
}

// tree runs the blob and tree auditors over one snapshot. With the result of a base, the blob auditors are
// asked about the changed files only.
func (r *run) tree(ctx context.Context, stage string, s *source.Snapshot, base *treeResult) (*treeResult, error) {
	res := &treeResult{snapshot: s, parts: make([]*part, len(r.auditors))}
	var changes []source.Change
	if base != nil {
		var err error
		if changes, err = s.Diff(ctx, base.snapshot); err != nil {
			return nil, fmt.Errorf("compare with the base: %w", err)
		}
		res.changed, res.moves = changedPaths(changes, s, base.snapshot)
	}
	var blobs []*blobWork
	for i, a := range r.auditors {
		p := newPart()
		res.parts[i] = p
		if p.failed = a.refused; p.failed != "" {
			continue
		}
		if ba, ok := a.Auditor.(BlobAuditor); ok {
			w := &blobWork{lifted: a, auditor: ba, part: p}
			if base != nil && base.parts[i].failed == "" {
				w.base, w.changes = base.parts[i], changes
			}
			blobs = append(blobs, w)
		}
	}
	if err := r.blobs(ctx, stage, s, blobs); err != nil {
		return nil, err
	}
	for i, a := range r.auditors {
		if ta, ok := a.Auditor.(TreeAuditor); ok && a.refused == "" {
			if err := r.treeAuditor(ctx, s, a, ta, res.parts[i]); err != nil {
				return nil, err
			}
		}
	}
	return res, nil
}

// changedPaths are the paths that differ, those that the limits keep out included: they are no entries, so a
// comparison of entries does not see them. One whose content is not known counts as changed.
func changedPaths(changes []source.Change, head, base *source.Snapshot) (map[string]bool, finding.Moves) {
	changed := make(map[string]bool, len(changes))
	moves := finding.Moves{Added: map[string]bool{}, Deleted: map[string]bool{}, Renamed: map[string]string{}}
	for _, c := range changes {
		changed[c.Path] = true
		switch {
		case c.From == nil:
			moves.Added[c.Path] = true
			if c.RenamedFrom != "" {
				moves.Renamed[c.Path] = c.RenamedFrom
			}
		case c.To == nil:
			moves.Deleted[c.Path] = true
		}
	}
	was := map[string]string{}
	for _, sk := range base.Skipped() {
		was[sk.Path] = sk.Blob
	}
	for _, sk := range head.Skipped() {
		if blob := was[sk.Path]; sk.Blob == "" || sk.Blob != blob {
			changed[sk.Path] = true
		}
	}
	return changed, moves
}

func (r *run) treeAuditor(ctx context.Context, s *source.Snapshot, a lifted, ta TreeAuditor, p *part) error {
	t := Tree{Snapshot: s, Seal: r.target.Seal}
	digest := newKey("tree", a.key)
	for _, e := range s.Entries() {
		if ta.Reads(e.Path) {
			t.Files = append(t.Files, e)
			digest.add(e.Path, e.Mode.String(), e.Blob)
		}
	}
	digest.skipped(s, ta.Reads)
	return r.whole(ctx, digest.String(), p, func(ctx context.Context) (Result, error) { return ta.AuditTree(ctx, t) })
}

// changes runs the change auditors; their parts join the head's.
func (r *run) changes(ctx context.Context, head *treeResult) error {
	for i, a := range r.auditors {
		ca, ok := a.Auditor.(ChangeAuditor)
		if !ok || a.refused != "" {
			continue
		}
		c := Change{Base: r.target.Base, Head: r.target.Head, Seal: r.target.Seal}
		files, err := r.target.Head.Diff(ctx, r.target.Base)
		if err != nil {
			return fmt.Errorf("compare with the base: %w", err)
		}
		c.Files = files
		baseID := ""
		if c.Base != nil {
			baseID = c.Base.ID()
		}
		key := newKey("change", a.key)
		key.add(baseID, c.Head.ID())
		if err := r.whole(ctx, key.String(), head.parts[i], func(ctx context.Context) (Result, error) { return ca.AuditChange(ctx, c) }); err != nil {
			return err
		}
	}
	return nil
}

// whole runs an auditor that answers for a whole tree or change, through the cache.
func (r *run) whole(ctx context.Context, key string, p *part, call func(context.Context) (Result, error)) error {
	if body, ok := r.cached(ctx, []string{key})[key]; ok {
		if res, err := decodeResult(body); err == nil {
			p.take(res)
			return nil
		}
	}
	res, err := guard(ctx, r.opts.TreeTimeout, call)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		p.failed = r.mask(err.Error())
		return nil
	}
	for i := range res.Drafts {
		r.maskDraft(&res.Drafts[i].Draft)
	}
	for i := range res.Gaps {
		res.Gaps[i].Reason = r.mask(res.Gaps[i].Reason)
	}
	p.take(res)
	if body, err := encodeResult(res); err == nil {
		r.remember(ctx, map[string][]byte{key: body})
	}
	return nil
}

// mask takes secrets out of what an auditor says. Each auditor masks what it knows to be one; another tool's
// message, or the line of code it is about, may hold any.
func (r *run) mask(text string) string {
	if r.opts.Mask == nil || text == "" {
		return text
	}
	return r.opts.Mask(text)
}

func (r *run) maskDraft(d *finding.Draft) {
	for _, text := range []*string{&d.Title, &d.Message, &d.Remediation, &d.Context, &d.Link} {
		*text = r.mask(*text)
	}
}

func (p *part) take(res Result) {
	p.looked = !res.NotApplicable
	for _, d := range res.Drafts {
		p.drafts[d.Path] = append(p.drafts[d.Path], d.Draft)
	}
	for _, g := range res.Gaps {
		if g.Path == "" {
			p.failed = g.Reason
			continue
		}
		p.gaps[g.Path] = g.Reason
	}
}

// guard calls an auditor within a time limit and turns a panic into an error that names it: one auditor's
// fault must not take the others down.
func guard[T any](ctx context.Context, limit time.Duration, call func(context.Context) (T, error)) (result T, err error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Stack: debug.Stack()}
		}
	}()
	result, err = call(limited)
	if err == nil {
		err = limited.Err()
	}
	if err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
		err = fmt.Errorf("took longer than %s", limit)
	}
	return result, err
}

// PanicError is the error of an auditor that panicked. Its text says no more than that: the panic's value may
// hold a piece of the file, and so a secret. Stack is for the operator's log.
type PanicError struct{ Stack []byte }

func (*PanicError) Error() string { return "the auditor crashed on it" }
