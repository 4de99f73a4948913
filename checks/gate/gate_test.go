package gate

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/gittest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/policy"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// keys finds lines that begin with KEY=.
type keys struct{ broken error }

func (keys) Info() audit.Info {
	return audit.Info{Name: "secrets", Version: "1", Focus: []string{"security"}}
}
func (keys) Reads(path string) (string, bool) { return "", strings.HasSuffix(path, ".env") }
func (k keys) AuditBlob(_ context.Context, b audit.Blob) ([]finding.Draft, error) {
	var ds []finding.Draft
	for i, line := range strings.Split(string(b.Bytes), "\n") {
		if value, ok := strings.CutPrefix(line, "KEY="); ok {
			ds = append(ds, finding.Draft{
				Type: "secrets/key", Focus: "security", Severity: finding.High, Confidence: finding.Certain, Evidence: finding.Deterministic,
				Title: "a key", Context: "KEY=***", Content: b.Seal([]byte(value)), Region: finding.Region{StartLine: i + 1},
			})
		}
	}
	return ds, k.broken
}

type bench struct {
	t    *testing.T
	git  *gittest.Repo
	gate *Gate
	now  time.Time
}

func setup(t *testing.T, dsn string) *bench {
	t.Helper()
	st, err := store.Open(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	b := &bench{t: t, git: gittest.New(t), now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	b.gate = &Gate{
		Store: st, Auditors: []audit.Auditor{keys{}, PolicyFile{}, PolicyRemoval{}}, Rand: rand.Reader, Engine: "1.0.0",
		Now: func() time.Time { b.now = b.now.Add(time.Second); return b.now },
	}
	return b
}

// judge audits and records rev against base, "" for none, under the policies of the base (or of rev).
func (b *bench) judge(rev, base string) (Judged, *Audited) {
	b.t.Helper()
	j, found, err := b.tryJudge(rev, base)
	if err != nil {
		b.t.Fatal(err)
	}
	return j, found
}

func (b *bench) tryJudge(rev, base string) (Judged, *Audited, error) {
	b.t.Helper()
	ctx := context.Background()
	req, end := b.request(rev, base)
	defer end()
	from := req.Head
	if base != "" {
		from = req.Base
	}
	doc, src, err := ReadPolicy(ctx, from)
	if err != nil {
		return Judged{}, nil, err
	}
	if doc != nil {
		req.Sources = []PolicySource{src}
	}
	req.Policy = Effective(doc)
	found, err := b.gate.Audit(ctx, req)
	if err != nil {
		return Judged{}, nil, err
	}
	j, err := b.gate.Judge(req, found.Report, b.gate.Now())
	if err != nil {
		return Judged{}, nil, err
	}
	return j, found, b.gate.Record(ctx, req, found, j)
}

// request asks for rev against base, under the built-in policies.
func (b *bench) request(rev, base string) (Request, func()) {
	b.t.Helper()
	ctx := context.Background()
	repo, err := source.Open(ctx, b.git.Dir, source.DefaultLimits())
	if err != nil {
		b.t.Fatal(err)
	}
	snapshot := func(rev string) *source.Snapshot {
		c, err := repo.Resolve(ctx, rev)
		if err != nil {
			b.t.Fatal(err)
		}
		s, err := repo.Commit(ctx, c)
		if err != nil {
			b.t.Fatal(err)
		}
		return s
	}
	req := Request{
		Repo: name.Repo{Account: name.Local, ID: "r1", FullName: "octo/pay"}, Line: "default", Context: verdict.Local,
		Trigger: "test", Actor: ledger.Actor{Kind: "cli", Name: "ada"}, Head: snapshot(rev),
	}
	if base != "" {
		req.Base = snapshot(base)
	}
	req.Policy = Effective(nil)
	return req, func() { repo.Close() }
}

// entries are the recorded events, "type finding-or-empty", in order.
func (b *bench) entries() []string {
	b.t.Helper()
	rows, err := b.gate.Store.For(name.Local).Pending(context.Background(), 10_000)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, r := range rows {
		var e struct {
			Type    string            `json:"type"`
			Subject map[string]string `json:"subject"`
		}
		if err := json.Unmarshal(r.Body, &e); err != nil {
			b.t.Fatal(err)
		}
		out = append(out, strings.TrimSpace(e.Type+" "+e.Subject["finding"]))
	}
	return out
}

const blocking = `policies:
  no-secrets-here:
    focus: security
    action: block
    severity_minimum: high
`

func TestAnIntroducedKeyBlocksAndEverythingIsRecorded(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		b := setup(t, dsn)
		base := b.git.Commit(gittest.Files{PolicyPath: blocking, "old.env": "KEY=old\n"})
		j, _ := b.judge(base, "")
		if j.Conclusion != verdict.Blocked {
			t.Errorf("without a base everything is in scope, but the verdict is %s", j.Conclusion)
		}
		clean := b.git.Commit(gittest.Files{"README.md": "hi"})
		if j, _ := b.judge(clean, base); j.Conclusion != verdict.Pass {
			t.Errorf("an old finding blocks: %s", j.Canonical)
		}
		leak := b.git.Commit(gittest.Files{"new.env": "x\nKEY=new\n"})
		j, found := b.judge(leak, clean)
		if j.Conclusion != verdict.Blocked {
			t.Fatalf("an introduced key passes: %s", j.Canonical)
		}
		var oldID, newID string
		for _, f := range found.Findings {
			if f.Introduced {
				newID = f.ID
			} else {
				oldID = f.ID
			}
		}
		fixed := b.git.Commit(gittest.Files{"new.env": "x\n"})
		if j, _ := b.judge(fixed, clean); j.Conclusion != verdict.Pass {
			t.Error("the fix does not pass")
		}
		want := []string{
			"repository.added", "finding.created " + oldID, "audit.completed", "verdict.reached",
			"audit.completed", "verdict.reached",
			"finding.created " + newID, "audit.completed", "verdict.reached",
			"finding.resolved " + newID, "audit.completed", "verdict.reached",
		}
		if got := b.entries(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("entries\n got %v\nwant %v", got, want)
		}
	})
}

func TestReplayIsByteIdenticalAndTellsWhatChanged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		b := setup(t, dsn)
		rev := b.git.Commit(gittest.Files{PolicyPath: blocking, "a.env": "KEY=1\n"})
		j, _ := b.judge(rev, "")
		ctx := context.Background()
		for _, id := range []string{j.ID, j.Digest, strings.ToLower(j.ID)} {
			r, err := b.gate.Replay(ctx, name.Local, id)
			if err != nil || r.Difference != nil || r.Digest != j.Digest {
				t.Errorf("replay %s: %+v, %v", id, r.Difference, err)
			}
		}
		if _, err := b.gate.Replay(ctx, name.Local, "V-00000000"); !errors.Is(err, ErrNoVerdict) {
			t.Errorf("an unknown verdict: %v", err)
		}
		other, err := name.ParseAccount("7")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.gate.Replay(ctx, other, j.Digest); !errors.Is(err, ErrNoVerdict) {
			t.Errorf("another account replays this one's verdict: %v", err)
		}
	})
}

func TestAnAuditorThatFailsBlocksAndResolvesNothing(t *testing.T) {
	b := setup(t, dbtest.SQLite(t))
	rev := b.git.Commit(gittest.Files{PolicyPath: blocking, "a.env": "KEY=1\n"})
	b.judge(rev, "")
	next := b.git.Commit(gittest.Files{"a.env": "fine\n"})
	b.gate.Auditors = []audit.Auditor{keys{broken: errors.New("out of memory")}, PolicyFile{}}
	j, _ := b.judge(next, "")
	if j.Conclusion != verdict.Blocked || !strings.Contains(string(j.Canonical), "none of the files") {
		t.Errorf("could not look, and the verdict is %s", j.Canonical)
	}
	for _, e := range b.entries() {
		if strings.HasPrefix(e, "finding.resolved") {
			t.Error("a finding counts as resolved because nobody could look")
		}
	}
}

func TestAChangeThatBreaksThePoliciesIsRed(t *testing.T) {
	for what, broken := range map[string]string{
		"not YAML":    "policies: [",
		"unknown key": strings.Replace(blocking, "severity_minimum", "severity_minimun", 1),
		"empty":       "\n",
	} {
		t.Run(what, func(t *testing.T) {
			b := setup(t, dbtest.SQLite(t))
			base := b.git.Commit(gittest.Files{PolicyPath: blocking})
			head := b.git.Commit(gittest.Files{PolicyPath: broken})
			j, found := b.judge(head, base)
			if j.Conclusion != verdict.Blocked {
				t.Fatalf("passes: %s", j.Canonical)
			}
			if f := found.Findings[0]; f.Type != "policy/unreadable" || f.Path != PolicyPath {
				t.Errorf("finding %+v", f)
			}
			_, _, err := b.tryJudge(head, "")
			var load *policy.LoadError
			if !errors.As(err, &load) || load.Problems[0].Line < 1 {
				t.Errorf("judged under a broken policy: %v", err)
			}
		})
	}
}

func TestRemovedPoliciesAreAWarningAndAFolderInTheirPlaceIsRed(t *testing.T) {
	b := setup(t, dbtest.SQLite(t))
	base := b.git.Commit(gittest.Files{PolicyPath: blocking})
	removed := b.git.Commit(gittest.Files{PolicyPath: ""})
	j, found := b.judge(removed, base)
	if j.Conclusion != verdict.Pass || len(found.Findings) != 1 || found.Findings[0].Type != "policy-removal/removed" {
		t.Errorf("%s with %+v", j.Conclusion, found.Findings)
	}
	folder := b.git.Commit(gittest.Files{PolicyPath + "/x": "1"})
	if j, _ := b.judge(folder, base); j.Conclusion != verdict.Blocked {
		t.Error("a folder in the policies' place passes")
	}
}

func TestAChangeCannotLoosenThePoliciesItIsJudgedBy(t *testing.T) {
	b := setup(t, dbtest.SQLite(t))
	base := b.git.Commit(gittest.Files{PolicyPath: blocking})
	head := b.git.Commit(gittest.Files{PolicyPath: strings.Replace(blocking, "block", "report", 1), "a.env": "KEY=1\n"})
	if j, _ := b.judge(head, base); j.Conclusion != verdict.Blocked {
		t.Error("judged under the policies that the change itself brings")
	}
}

func TestMoreFindingsThanFitInOneChange(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		b := setup(t, dsn)
		const n = 1300
		files := gittest.Files{}
		for _, path := range []string{"a.env", "b.env"} {
			var env strings.Builder
			for i := range n / 2 {
				fmt.Fprintf(&env, "KEY=%d\n", i)
			}
			files[path] = env.String()
		}
		rev := b.git.Commit(files)
		_, found := b.judge(rev, "")
		if len(found.Findings) != n {
			t.Fatalf("%d findings", len(found.Findings))
		}
		open, err := b.gate.Store.For(name.Local).OpenFindings(context.Background(), "r1", "default")
		if err != nil || len(open) != n {
			t.Errorf("%d findings are kept, want %d (%v)", len(open), n, err)
		}
		b.judge(rev, "")
		if got := len(b.entries()); got != n+5 {
			t.Errorf("%d entries after judging the same twice, want %d", got, n+5)
		}
	})
}

func TestAnOlderViewOfALineIsNotRecordedOverANewerOne(t *testing.T) {
	b := setup(t, dbtest.SQLite(t))
	leak := b.git.Commit(gittest.Files{PolicyPath: blocking, "a.env": "KEY=1\n"})
	fixed := b.git.Commit(gittest.Files{"a.env": "fine\n"})
	ctx := context.Background()
	slow, end := b.request(leak, "")
	defer end()
	found, err := b.gate.Audit(ctx, slow)
	if err != nil {
		t.Fatal(err)
	}
	j, err := b.gate.Judge(slow, found.Report, b.gate.Now())
	if err != nil {
		t.Fatal(err)
	}
	b.judge(fixed, "") // begins later, ends earlier
	if err := b.gate.Record(ctx, slow, found, j); !errors.Is(err, ErrOvertaken) {
		t.Errorf("recording the older view: %v, want ErrOvertaken", err)
	}
	line, err := b.gate.Store.For(name.Local).Line(ctx, "r1", "default")
	if err != nil || line.Head.String() != fixed {
		t.Errorf("the line stands at %s, want %s (%v)", line.Head, fixed, err)
	}
}

func TestALargeDocumentIsKeptBeforeTheVerdict(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		b := setup(t, dsn)
		files := gittest.Files{PolicyPath: blocking}
		for f := range 5 {
			var env strings.Builder
			for i := range 900 {
				fmt.Fprintf(&env, "KEY=%d-%d\n", f, i)
			}
			files[fmt.Sprintf("%d.env", f)] = env.String()
		}
		j, _ := b.judge(b.git.Commit(files), "")
		if !slices.Contains(b.entries(), "document.kept") {
			t.Error("no entry about the large document")
		}
		if r, err := b.gate.Replay(context.Background(), name.Local, j.ID); err != nil || r.Difference != nil {
			t.Errorf("replay: %+v, %v", r.Difference, err)
		}
	})
}

func TestRecordSurvivesADatabaseThatGoesAway(t *testing.T) {
	b := setup(t, dbtest.SQLite(t))
	b.gate.Wait = func(context.Context, int) error { return nil }
	calls := 0
	v, err := retry(context.Background(), b.gate, func() (int, error) {
		calls++
		if calls < 5 {
			return 0, fmt.Errorf("commit: %w", store.ErrUnavailable)
		}
		return 7, nil
	})
	if err != nil || v != 7 || calls != 5 {
		t.Errorf("%d, %v after %d calls", v, err, calls)
	}
	b.gate.Wait = func(_ context.Context, attempt int) error {
		if attempt == 3 {
			return errEnough
		}
		return nil
	}
	_, err = retry(context.Background(), b.gate, func() (int, error) { return 0, store.ErrUnavailable })
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("gave up with %v", err)
	}
}

func TestNoSecretReachesTheRecord(t *testing.T) {
	b := setup(t, dbtest.SQLite(t))
	rev := b.git.Commit(gittest.Files{"a.env": "KEY=correct-horse-battery\n"})
	j, _ := b.judge(rev, "")
	rows, err := b.gate.Store.For(name.Local).Pending(context.Background(), 100)
	if err != nil {
		t.Fatal(err)
	}
	all := j.Canonical
	for _, r := range rows {
		all = append(all, r.Body...)
	}
	if bytes.Contains(all, []byte("correct-horse")) {
		t.Error("the secret is in the record")
	}
}
