package figures

import (
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/gittest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/seedtest"
	"github.com/noxaudit/noxaudit/internal/store"
)

func TestHealthIsWhatItsReckoningSays(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	judged := store.LineState{AuditedAt: ago(1), Conclusion: "pass"}
	blocked := store.LineState{AuditedAt: ago(1), Conclusion: "block"}
	count := func(s finding.Severity, n, days int) store.OpenCount {
		return store.OpenCount{Severity: s, Open: n, Oldest: ago(days)}
	}
	for title, c := range map[string]struct {
		line   store.LineState
		counts []store.OpenCount
		state  State
		score  int
		why    string
	}{
		"never looked at":         {store.LineState{}, nil, NotAudited, 0, ""},
		"nothing found":           {judged, nil, Healthy, 100, ""},
		"blocked all the same":    {blocked, nil, Attention, 100, "The default branch is blocked"},
		"one critical":            {judged, []store.OpenCount{count(finding.Critical, 1, 2)}, Critical, 59, "1 critical finding open on the default branch"},
		"a late critical":         {judged, []store.OpenCount{count(finding.Critical, 1, 9)}, Critical, 39, "Past its 7-day limit by 2 days"},
		"highs cost no more":      {judged, []store.OpenCount{count(finding.High, 50, 1)}, Attention, 70, "50 high findings open on the default branch"},
		"on the day of its limit": {judged, []store.OpenCount{count(finding.High, 1, 30)}, Healthy, 94, "1 high finding open on the default branch"},
		"all at once":             {blocked, []store.OpenCount{count(finding.Low, 99, 500), count(finding.Medium, 99, 500), count(finding.High, 99, 500), count(finding.Critical, 99, 500)}, Critical, 0, "Past its 7-day limit by 493 days"},
		"only infos":              {judged, []store.OpenCount{count(finding.Info, 1000, 500)}, Healthy, 100, ""},
	} {
		h := reckon(c.counts, c.line, DefaultLimits, now)
		if h.State != c.state || h.Score != c.score && c.state != NotAudited || h.Why(DefaultLimits) != c.why {
			t.Errorf("%s: %s %d %q, want %s %d %q", title, h.State, h.Score, h.Why(DefaultLimits), c.state, c.score, c.why)
		}
	}
}

func TestATrendGoesBackFromWhatIsOpenNow(t *testing.T) {
	open := BySeverity{finding.High: 5}
	got := trend(open, []store.DayCount{{Day: 101, Severity: finding.High, Opened: 4}, {Day: 103, Severity: finding.High, Opened: 2, Resolved: 3}, {Day: 99, Severity: finding.High, Opened: 9}}, 100, 5)
	want := []int{2, 6, 6, 5, 5}
	for i, n := range got.Series[finding.High] {
		if n != want[i] {
			t.Fatalf("%v, want %v", got.Series[finding.High], want)
		}
	}
	if got.Known != 0 || got.Opened[finding.High] != 6 || got.Resolved[finding.High] != 3 {
		t.Errorf("%+v", got)
	}
	if got := trend(BySeverity{}, nil, 100, 5); got.Known != 5 {
		t.Errorf("of nothing, the first day known is %d", got.Known)
	}
}

func TestTheLedgerIsVerifiedOnlyWhenItAgrees(t *testing.T) {
	ctx := t.Context()
	w := seedtest.New(t, dbtest.SQLite(t), "octo", 7, seedtest.Today)
	f := &Figures{Store: w.Store, Now: func() time.Time { return w.Now }}
	state := func() LedgerState {
		t.Helper()
		s, err := f.LedgerState(ctx, w.Account)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := state(); s.Kept || s.Agrees || s.Waiting == 0 {
		t.Errorf("without a ledger: %+v", s)
	}
	f.Ledger = func(a name.Account) Ledger { return w.Log.For(a) }
	f.Keys = []string{w.Key.Public()}
	if s := state(); !s.Kept || s.Agrees || s.Problem != "" {
		t.Errorf("an empty one: %+v", s)
	}
	w.Repo("a").Push(gittest.Files{"a": "x\n"})
	w.Sequence()
	if s := state(); !s.Agrees || s.Waiting != 0 || s.Size != s.Signed || s.Stale() {
		t.Errorf("a whole one: %+v", s)
	}
	w.Repo("b")
	w.Now = w.Now.Add(time.Hour)
	if s := state(); !s.Agrees || s.Waiting == 0 || !s.Stale() {
		t.Errorf("one that is behind: %+v", s)
	}
	other := seedtest.New(t, dbtest.SQLite(t), "other", 8, seedtest.Today)
	f.Keys = []string{other.Key.Public()}
	if s := state(); s.Agrees || !strings.Contains(s.Problem, "not one that a key of this server signed") {
		t.Errorf("signed by another key: %+v", s)
	}
	f.Keys = nil
	if s := state(); s.Agrees || s.Problem == "" {
		t.Errorf("without a key to check with: %+v", s)
	}
}
