package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/gittest"
)

// todoAuditor finds lines that hold the word "bad" and counts the files it reads.
type wordAuditor struct {
	version string
	mu      sync.Mutex
	read    []string
	fail    map[string]error // by path
	panics  map[string]bool
	hang    map[string]bool
}

func (a *wordAuditor) Info() Info {
	return Info{Name: "words", Version: "1" + a.version, Focus: []string{"words"}}
}

func (a *wordAuditor) Reads(path string) (string, bool) { return "", strings.HasSuffix(path, ".txt") }

func (a *wordAuditor) AuditBlob(ctx context.Context, b Blob) ([]finding.Draft, error) {
	a.mu.Lock()
	a.read = append(a.read, b.Path)
	fail, panics, hang := a.fail[b.Path], a.panics[b.Path], a.hang[b.Path]
	a.mu.Unlock()
	var ds []finding.Draft
	for i, line := range strings.Split(string(b.Bytes), "\n") {
		if strings.Contains(line, "bad") {
			ds = append(ds, finding.Draft{Type: "words/bad", Focus: "words", Severity: finding.High, Evidence: finding.Deterministic,
				Title: "a bad word", Context: line, Region: finding.Region{StartLine: i + 1}, Content: b.Seal([]byte(line))})
		}
	}
	switch {
	case panics:
		panic("secret-in-panic")
	case hang:
		<-ctx.Done()
		return ds, ctx.Err()
	}
	return ds, fail
}

func (a *wordAuditor) taken() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := slices.Sorted(slices.Values(a.read))
	a.read = nil
	return out
}

// memory is a Cache.
type memory struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (c *memory) CacheGet(_ context.Context, keys []string) (map[string][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string][]byte{}
	for _, k := range keys {
		if v, ok := c.m[k]; ok {
			out[k] = v
		}
	}
	return out, nil
}

func (c *memory) CachePut(_ context.Context, entries map[string][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[string][]byte{}
	}
	maps.Copy(c.m, entries)
	return nil
}

type bench struct {
	t    testing.TB
	git  *gittest.Repo
	repo *source.Repository
}

func setup(t testing.TB) *bench {
	t.Helper()
	return &bench{t: t, git: gittest.New(t)}
}

func (b *bench) commit(files gittest.Files) *source.Snapshot {
	b.t.Helper()
	return b.snapshot(b.git.Commit(files))
}

func (b *bench) snapshot(rev string) *source.Snapshot {
	b.t.Helper()
	ctx := context.Background()
	if b.repo == nil {
		repo, err := source.Open(ctx, b.git.Dir, source.DefaultLimits())
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { repo.Close() })
		b.repo = repo
	}
	c, err := b.repo.Resolve(ctx, rev)
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := b.repo.Commit(ctx, c)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func run1(t testing.TB, opts Options, target Target, as ...Auditor) *Report {
	t.Helper()
	r, err := New(as, opts)
	if err != nil {
		t.Fatal(err)
	}
	if target.Seal == nil {
		target.Seal = func(b []byte) string { return fmt.Sprintf("%x", b) }
	}
	rep, err := r.Run(context.Background(), target)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// said writes findings as "path:line new|old".
func said(rep *Report) []string {
	out := []string{}
	for _, f := range rep.Findings {
		age := "old"
		if f.Introduced {
			age = "new"
		}
		out = append(out, f.Place()+" "+age)
	}
	return out
}

func TestOnlyWhatTheBaseLacksIsIntroduced(t *testing.T) {
	b := setup(t)
	base := b.commit(gittest.Files{"a.txt": "bad one\n", "gone.txt": "bad gone\n", "moved.txt": "x\nbad moved\n", "c.md": "bad"})
	head := b.commit(gittest.Files{"a.txt": "first\nbad one\nbad two\n", "gone.txt": "", "moved.txt": "", "new/moved.txt": "x\nbad moved\n"})
	a := &wordAuditor{}
	rep := run1(t, Options{}, Target{Head: head, Base: base}, a)
	if diff := cmp.Diff([]string{"a.txt:2 old", "a.txt:3 new", "new/moved.txt:2 old"}, said(rep)); diff != "" {
		t.Error(diff)
	}
	if len(rep.Resolved) != 2 { // gone.txt, and the moved one's old place
		t.Errorf("resolved %d findings, want 2", len(rep.Resolved))
	}
}

func TestUnchangedFilesAreNotReadAgain(t *testing.T) {
	b := setup(t)
	base := b.commit(gittest.Files{"a.txt": "bad one\n", "b.txt": "fine\n", "c.txt": "also fine\n"})
	head := b.commit(gittest.Files{"b.txt": "now bad\n"})
	a := &wordAuditor{}
	cache := &memory{}
	run1(t, Options{Cache: cache}, Target{Head: head, Base: base}, a)
	if got := a.taken(); len(got) != 4 {
		t.Errorf("the first run read %v, want the base's three files and the changed one", got)
	}
	rep := run1(t, Options{Cache: cache}, Target{Head: head, Base: base}, a)
	if got := a.taken(); len(got) != 0 {
		t.Errorf("the same run again read %v", got)
	}
	if diff := cmp.Diff([]string{"a.txt:1 old", "b.txt:1 new"}, said(rep)); diff != "" {
		t.Error(diff)
	}
	next := b.commit(gittest.Files{"d.txt": "bad again\n", "copy.txt": "fine\n"})
	run1(t, Options{Cache: cache}, Target{Head: next, Base: head}, a)
	if got := a.taken(); !slices.Equal(got, []string{"d.txt"}) {
		t.Errorf("the next commit read %v, want only the new content", got)
	}
}

func TestAnotherVersionLooksAgain(t *testing.T) {
	b := setup(t)
	head := b.commit(gittest.Files{"a.txt": "bad one\n"})
	cache := &memory{}
	run1(t, Options{Cache: cache}, Target{Head: head}, &wordAuditor{})
	a := &wordAuditor{version: "2"}
	run1(t, Options{Cache: cache}, Target{Head: head}, a)
	if got := a.taken(); len(got) != 1 {
		t.Errorf("read %v after the auditor changed", got)
	}
}

func TestAFailingFileIsAGapAndNotClean(t *testing.T) {
	b := setup(t)
	base := b.commit(gittest.Files{"a.txt": "bad one\n"})
	head := b.commit(gittest.Files{"fails.txt": "bad before\n", "panics.txt": "x\n", "hangs.txt": "bad early\n"})
	a := &wordAuditor{
		fail:   map[string]error{"fails.txt": errors.New("cannot parse")},
		panics: map[string]bool{"panics.txt": true}, hang: map[string]bool{"hangs.txt": true},
	}
	cache := &memory{}
	rep := run1(t, Options{Cache: cache, BlobTimeout: 20 * time.Millisecond}, Target{Head: head, Base: base}, a)
	as := rep.Assessments[0]
	want := []Gap{
		{"fails.txt", "cannot parse", true}, {"hangs.txt", "took longer than 20ms", true}, {"panics.txt", "the auditor crashed on it", true},
	}
	if diff := cmp.Diff(want, as.Gaps); diff != "" {
		t.Error(diff)
	}
	if as.Outcome != Found || len(rep.Findings) != 3 {
		t.Errorf("outcome %q with %v: what was found before a failure must count", as.Outcome, said(rep))
	}
	a.taken()
	a.fail, a.panics, a.hang = nil, nil, nil
	rep = run1(t, Options{Cache: cache}, Target{Head: head, Base: base}, a)
	if got := a.taken(); !slices.Equal(got, []string{"fails.txt", "hangs.txt", "panics.txt"}) {
		t.Errorf("the second run read %v: a passing failure was remembered", got)
	}
	if len(rep.Assessments[0].Gaps) != 0 {
		t.Errorf("gaps stay: %v", rep.Assessments[0].Gaps)
	}
}

func TestAnAuditorThatSeesNothingIsNotAssessed(t *testing.T) {
	b := setup(t)
	head := b.commit(gittest.Files{"a.txt": "x\n", "b.txt": "y\n"})
	a := &wordAuditor{fail: map[string]error{"a.txt": errors.New("no"), "b.txt": errors.New("no")}}
	if got := run1(t, Options{}, Target{Head: head}, a).Assessments[0]; got.Outcome != NotAssessed || got.Reason == "" {
		t.Errorf("outcome %q (%s), want not assessed", got.Outcome, got.Reason)
	}
}

func TestOutcomesAreNotBooleans(t *testing.T) {
	b := setup(t)
	nothing := b.commit(gittest.Files{"a.md": "bad"})
	if got := run1(t, Options{}, Target{Head: nothing}, &wordAuditor{}).Assessments[0].Outcome; got != NotApplicable {
		t.Errorf("no file of its kind: %q", got)
	}
	clean := b.commit(gittest.Files{"a.txt": "fine"})
	if got := run1(t, Options{}, Target{Head: clean}, &wordAuditor{}).Assessments[0].Outcome; got != Clean {
		t.Errorf("nothing found: %q", got)
	}
}

func TestAFileOverTheLimitIsAGapOnlyForThoseWhoWouldRead(t *testing.T) {
	b := setup(t)
	big := strings.Repeat("bad\n", 2<<20)
	head := b.commit(gittest.Files{"big.txt": big, "big.bin": big, "a.txt": "fine"})
	as := run1(t, Options{}, Target{Head: head}, &wordAuditor{}).Assessments[0]
	if len(as.Gaps) != 1 || as.Gaps[0].Path != "big.txt" || !strings.Contains(as.Gaps[0].Reason, "larger than 5 MiB") {
		t.Errorf("gaps %v", as.Gaps)
	}
	next := b.commit(gittest.Files{"b.txt": "fine"})
	as = run1(t, Options{}, Target{Head: next, Base: head}, &wordAuditor{}).Assessments[0]
	if len(as.Gaps) != 1 || as.Gaps[0].Introduced {
		t.Errorf("an old gap is reported as %v", as.Gaps)
	}
}

type treeAuditor struct {
	calls int
	err   error
	res   func(Tree) Result
}

func (*treeAuditor) Info() Info             { return Info{Name: "tree", Version: "1", Focus: []string{"docs"}} }
func (*treeAuditor) Reads(path string) bool { return path == "README.md" }
func (a *treeAuditor) AuditTree(_ context.Context, t Tree) (Result, error) {
	a.calls++
	if a.err != nil {
		return Result{}, a.err
	}
	return a.res(t), nil
}

func missingReadme(t Tree) Result {
	if len(t.Files) == 0 {
		return Result{Drafts: []Placed{{Draft: finding.Draft{Type: "docs/readme", Title: "no README"}}}}
	}
	return Result{}
}

func TestATreeAuditorIsAskedWhenItsFilesChange(t *testing.T) {
	b := setup(t)
	base := b.commit(gittest.Files{"a.txt": "x"})
	head := b.commit(gittest.Files{"b.txt": "y"})
	withReadme := b.commit(gittest.Files{"README.md": "z"})
	a := &treeAuditor{res: missingReadme}
	cache := &memory{}
	rep := run1(t, Options{Cache: cache}, Target{Head: head, Base: base}, a)
	if a.calls != 1 || len(rep.Findings) != 1 || rep.Findings[0].Introduced || rep.Findings[0].Path != "" {
		t.Errorf("%d calls, findings %v: a missing artefact is a finding of the repository, there before", a.calls, said(rep))
	}
	rep = run1(t, Options{Cache: cache}, Target{Head: withReadme, Base: head}, a)
	if a.calls != 2 || len(rep.Findings) != 0 || len(rep.Resolved) != 1 {
		t.Errorf("%d calls, findings %v", a.calls, said(rep))
	}
}

func TestAFailingTreeAuditorIsNotAssessed(t *testing.T) {
	b := setup(t)
	head := b.commit(gittest.Files{"a.txt": "x"})
	a := &treeAuditor{err: errors.New("no parser")}
	got := run1(t, Options{}, Target{Head: head}, a).Assessments[0]
	if got.Outcome != NotAssessed || got.Reason != "no parser" {
		t.Errorf("got %+v", got)
	}
}

type needy struct{ treeAuditor }

func (*needy) Info() Info { return Info{Name: "model", Version: "1", Needs: Needs{Network: true}} }

func TestAnAuditorThatMayNotRunIsNotAssessed(t *testing.T) {
	b := setup(t)
	head := b.commit(gittest.Files{"a.txt": "x"})
	a := &needy{}
	got := run1(t, Options{}, Target{Head: head}, a).Assessments[0]
	if got.Outcome != NotAssessed || !strings.Contains(got.Reason, "network") || a.calls != 0 {
		t.Errorf("got %+v after %d calls", got, a.calls)
	}
}

func TestNewRefusesWhatCannotBeRun(t *testing.T) {
	for name, as := range map[string][]Auditor{
		"no capability":  {struct{ Auditor }{&wordAuditor{}}},
		"one name twice": {&wordAuditor{}, &wordAuditor{}},
	} {
		if _, err := New(as, Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAnInterruptedRunKeepsWhatItHasDone(t *testing.T) {
	b := setup(t)
	files := gittest.Files{}
	for i := range 50 {
		files[fmt.Sprintf("f%02d.txt", i)] = fmt.Sprintf("bad %d\n", i)
	}
	head := b.commit(files)
	ctx, cancel := context.WithCancel(context.Background())
	a := &wordAuditor{}
	cache := &memory{}
	r, err := New([]Auditor{a}, Options{Cache: cache, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	seal := func([]byte) string { return "" }
	_, err = r.Run(ctx, Target{Head: head, Seal: seal, Progress: func(p Progress) {
		if p.Done == 10 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("err %v", err)
	}
	done := len(a.taken())
	rep := run1(t, Options{Cache: cache}, Target{Head: head, Seal: seal}, a)
	if again := len(a.taken()); again > 50-10 || done < 10 {
		t.Errorf("read %d files, then %d of 50 again", done, again)
	}
	if len(rep.Findings) != 50 {
		t.Errorf("%d findings, want 50", len(rep.Findings))
	}
}

func TestAFileWhoseTwinChangesKeepsItsFindings(t *testing.T) {
	b := setup(t)
	b.git.Write(gittest.Files{"a\xff.txt": "bad one\n", `a\xff.txt`: "bad two\n"}) // both are shown as a\xff.txt
	base := b.commit(nil)
	head := b.commit(gittest.Files{`a\xff.txt`: "fine\n"})
	rep := run1(t, Options{}, Target{Head: head, Base: base}, &wordAuditor{})
	if diff := cmp.Diff([]string{`a\xff.txt:1 old`}, said(rep)); diff != "" {
		t.Error(diff)
	}
}

func TestAnotherLimitLooksAgain(t *testing.T) {
	b := setup(t)
	rev := b.git.Commit(gittest.Files{"a.txt": "bad " + strings.Repeat("x", 100)})
	cache := &memory{}
	ctx := context.Background()
	for _, c := range []struct {
		limit int64
		want  Outcome
	}{{50, NotAssessed}, {500, Found}, {50, NotAssessed}} {
		repo, err := source.Open(ctx, b.git.Dir, source.Limits{BlobBytes: c.limit})
		if err != nil {
			t.Fatal(err)
		}
		commit, err := repo.Resolve(ctx, rev)
		if err != nil {
			t.Fatal(err)
		}
		s, err := repo.Commit(ctx, commit)
		if err != nil {
			t.Fatal(err)
		}
		if got := run1(t, Options{Cache: cache}, Target{Head: s}, &wordAuditor{}).Assessments[0].Outcome; got != c.want {
			t.Errorf("limit %d: %q, want %q", c.limit, got, c.want)
		}
		repo.Close()
	}
}

// failsAt fails on one tree only.
type failsAt struct {
	wordTree
	tree string
}

type wordTree struct{}

func (wordTree) Info() Info        { return Info{Name: "tree", Version: "1", Focus: []string{"docs"}} }
func (wordTree) Reads(string) bool { return true }
func (f failsAt) AuditTree(_ context.Context, t Tree) (Result, error) {
	if t.ID() == f.tree {
		return Result{}, errors.New("no parser")
	}
	return Result{Drafts: []Placed{{Path: "a.txt", Draft: finding.Draft{Type: "docs/old", Title: "old"}}}}, nil
}

func TestABaseThatCouldNotBeAssessedExcusesNothing(t *testing.T) {
	b := setup(t)
	base := b.commit(gittest.Files{"a.txt": "x"})
	head := b.commit(gittest.Files{"b.txt": "y"})
	rep := run1(t, Options{}, Target{Head: head, Base: base}, failsAt{tree: base.ID()})
	if len(rep.Findings) != 1 || !rep.Findings[0].Introduced {
		t.Errorf("findings %v: an old one is excused by a base that nobody saw", said(rep))
	}
	if gaps := rep.Assessments[0].Gaps; len(gaps) != 1 || !strings.Contains(gaps[0].Reason, "base was not assessed") {
		t.Errorf("gaps %v", gaps)
	}
}

// TestIncrementalEqualsFull is the law of the cache: whatever was looked at before, the answer is the one of a
// fresh look.
func TestIncrementalEqualsFull(t *testing.T) {
	b := setup(t)
	cache := &memory{}
	var states []*source.Snapshot
	rapid.Check(t, func(rt *rapid.T) {
		files := gittest.Files{}
		for range rapid.IntRange(1, 4).Draw(rt, "files") {
			path := rapid.SampledFrom([]string{"a.txt", "b.txt", "d/c.txt", "d/e.md", "d\xff.txt", `d\xff.txt`}).Draw(rt, "path")
			files[path] = rapid.SampledFrom([]string{"bad\n", "fine\n", "x\nbad\nbad\n", "worse\n"}).Draw(rt, "body")
		}
		states = append(states, b.commit(files))
		head := states[len(states)-1]
		base := states[rapid.IntRange(0, len(states)-1).Draw(rt, "base")]
		warm := run1(t, Options{Cache: cache}, Target{Head: head, Base: base}, &wordAuditor{})
		cold := run1(t, Options{}, Target{Head: head, Base: base}, &wordAuditor{})
		warm.Stats, cold.Stats = Stats{}, Stats{}
		if diff := cmp.Diff(cold, warm); diff != "" {
			rt.Fatal(diff)
		}
	})
}
