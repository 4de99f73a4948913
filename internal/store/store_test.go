package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 123456000, time.UTC)

const repo = "1296269"

func account(t testing.TB, id string) name.Account {
	t.Helper()
	a, err := name.ParseAccount(id)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func open(t testing.TB, dsn string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// each runs a test on a tenant of an empty store, per engine.
func each(t *testing.T, test func(t *testing.T, s *store.Store, tenant *store.Tenant)) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		test(t, s, s.For(account(t, "583231")))
	})
}

func event(t testing.TB, tenant *store.Tenant, source string) ledger.Event {
	t.Helper()
	id, err := ledger.NewID(now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	salt, err := ledger.NewSalt(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Event{
		Time: now, Source: source, ID: id, Salt: salt, Type: "test.happened",
		Account: tenant.Account().String(), Actor: ledger.Actor{Kind: "system"}, Subject: map[string]string{}, Content: map[string]string{},
	}
}

func commit(n byte) name.Commit {
	c, err := name.ParseCommit(strings.Repeat(fmt.Sprintf("%02x", n), 20))
	if err != nil {
		panic(err)
	}
	return c
}

func fnd(path string, n int) finding.Finding {
	return finding.Assemble("secrets", path, []finding.Draft{{
		Type: "secrets/aws-access-token", Focus: "security", Severity: finding.High, Confidence: finding.Certain,
		Evidence: finding.Deterministic, Title: "an access token", Region: finding.Region{StartLine: n + 1},
		Context: fmt.Sprintf("token %d = ****", n), Content: fmt.Sprintf("%064x", n),
	}})[0]
}

var line = store.Expect{Repository: repo, Line: "default"}

// change is the smallest change of the line at version.
func change(t testing.TB, tenant *store.Tenant, version int64) store.Change {
	expect := line
	expect.Version = version
	return store.Change{
		Time: now, Entries: []ledger.Event{event(t, tenant, expect.Source())}, Expect: &expect,
		Repository: &store.Repository{ID: repo, FullName: "octo-org/payments"},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustCommit(t testing.TB, tenant *store.Tenant, c store.Change) {
	t.Helper()
	must(t, tenant.Commit(context.Background(), c))
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func wantEqual(t testing.TB, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b name.Commit) bool { return a == b }),
		cmp.Comparer(func(a, b name.Account) bool { return a == b })); d != "" {
		t.Fatalf("-want +got\n%s", d)
	}
}

func TestACommittedChangeIsReadBack(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		must(t, s.Ping(ctx))
		body := []byte(strings.Repeat(`{"conclusion":"failure"}`, 100))
		verdict := store.Document{Kind: "verdict", Body: body}
		c := change(t, tenant, 0)
		c.Account = &store.Account{Login: "octo-org"}
		c.Line = &store.Line{Head: commit(1), Tree: "tree-1", AuditedAt: now}
		c.Findings = []store.FindingChange{{Finding: fnd("b.go", 1)}, {Finding: fnd("a.go", 2)}}
		c.Documents = []store.Document{verdict, {Kind: "findings", Body: []byte("[]")}, {Kind: "empty"}, verdict}
		c.Audit = &store.Audit{ID: "audit-1", Repository: repo, Line: "default", Head: commit(1), Started: now, Finished: now, Stats: []byte(`{"clean":3}`)}
		c.Verdict = &store.Verdict{ID: verdict.Digest(), Repository: repo, Line: "default", Head: commit(1), Base: commit(2), Conclusion: "failure", Time: now}
		mustCommit(t, tenant, c)

		details, err := tenant.Details(ctx)
		must(t, err)
		wantEqual(t, details, store.Account{Login: "octo-org", CreatedAt: now})
		r, err := tenant.Repository(ctx, repo)
		must(t, err)
		wantEqual(t, r, store.Repository{ID: repo, FullName: "octo-org/payments", Version: 1, FirstSeen: now, LastChanged: now})
		l, err := tenant.Line(ctx, repo, "default")
		must(t, err)
		wantEqual(t, l, store.Line{Repository: repo, Name: "default", Version: 1, Head: commit(1), Tree: "tree-1", AuditedAt: now})
		open, err := tenant.OpenFindings(ctx, repo, "default")
		must(t, err)
		wantEqual(t, open, []finding.Finding{fnd("a.go", 2), fnd("b.go", 1)})
		for _, d := range c.Documents {
			got, err := tenant.Document(ctx, d.Digest())
			must(t, err)
			if got.Kind != d.Kind || !bytes.Equal(got.Body, d.Body) {
				t.Errorf("document %s came back as %s %q", d.Kind, got.Kind, got.Body)
			}
		}
		want := *c.Verdict
		want.Version, want.Short = 1, store.ShortVerdict(want.ID)
		for _, id := range []string{want.ID, want.Short, strings.ToLower(want.Short), want.Short[:8]} {
			v, err := tenant.VerdictByID(ctx, id)
			must(t, err)
			wantEqual(t, v, want)
		}
		vs, err := tenant.Verdicts(ctx, repo, 10)
		must(t, err)
		wantEqual(t, vs, []store.Verdict{want})
		pending, err := tenant.Pending(ctx, 10)
		must(t, err)
		e := c.Entries[0]
		e.SSeq = 1
		wantBody, err := e.Body()
		must(t, err)
		wantEqual(t, pending, []ledger.Recorded{{ID: e.ID, Source: "repository/1296269/default", SSeq: 1, Body: wantBody}})
		if c.Entries[0].SSeq != 0 {
			t.Error("Commit changed the caller's event")
		}
	})
}

func TestAFindingKeepsItsFirstSightingWhileItIsResolvedAndOpenedAgain(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		f := fnd("a.go", 1)
		step := func(version int64, resolved bool, at time.Time) {
			c := change(t, tenant, version)
			c.Time = at
			c.Findings = []store.FindingChange{{Finding: f, Resolved: resolved}}
			mustCommit(t, tenant, c)
		}
		row := func() (state string, first, last int64, resolved sql.NullInt64) {
			must(t, s.DB().Read.QueryRow(`SELECT state, first_seen, last_changed, resolved_at FROM finding`).Scan(&state, &first, &last, &resolved))
			return
		}
		step(0, false, now)
		step(1, true, now.Add(time.Hour))
		if state, first, last, resolved := row(); state != "resolved" || first != now.UnixMicro() || last != now.Add(time.Hour).UnixMicro() || resolved.Int64 != last {
			t.Errorf("resolved: %s %d %d %v", state, first, last, resolved)
		}
		if open, err := tenant.OpenFindings(t.Context(), repo, "default"); err != nil || len(open) != 0 {
			t.Errorf("open: %v, %v", open, err)
		}
		again := change(t, tenant, 2)
		again.Findings = []store.FindingChange{{Finding: f, Resolved: true}}
		wantErr(t, tenant.Commit(t.Context(), again), store.ErrNotFound)
		f.Title = "said anew"
		step(2, false, now.Add(2*time.Hour))
		if state, first, last, resolved := row(); state != "open" || first != now.UnixMicro() || last != now.Add(2*time.Hour).UnixMicro() || resolved.Valid {
			t.Errorf("reopened: %s %d %d %v", state, first, last, resolved)
		}
		open, err := tenant.OpenFindings(t.Context(), repo, "default")
		must(t, err)
		wantEqual(t, open, []finding.Finding{f})
	})
}

func TestANewNameMakesANewVersionOfARepository(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		for i, n := range []string{"a/b", "a/b", "a/c"} {
			mustCommit(t, tenant, store.Change{Time: now.Add(time.Duration(i) * time.Hour), Entries: []ledger.Event{event(t, tenant, "repository/1")},
				Repository: &store.Repository{ID: "1", FullName: n}})
		}
		r, err := tenant.Repository(t.Context(), "1")
		must(t, err)
		wantEqual(t, r, store.Repository{ID: "1", FullName: "a/c", Version: 2, FirstSeen: now, LastChanged: now.Add(2 * time.Hour)})
	})
}

func TestAStaleChangeWritesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		mustCommit(t, tenant, change(t, tenant, 0))
		before := dump(t, s)
		for _, version := range []int64{0, 2, 7} {
			c := change(t, tenant, version)
			c.Repository.FullName = "octo-org/renamed"
			c.Findings = []store.FindingChange{{Finding: fnd("a.go", 1)}}
			c.Documents = []store.Document{{Kind: "x", Body: []byte("x")}}
			wantErr(t, tenant.Commit(t.Context(), c), store.ErrStale)
		}
		wantEqual(t, dump(t, s), before)
	})
}

func TestARefusedChangeWritesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		mustCommit(t, tenant, change(t, tenant, 0))
		before := dump(t, s)
		cases := []struct {
			name   string
			want   error
			change func(*store.Change)
		}{
			{"without an entry", store.ErrNoEntry, func(c *store.Change) { c.Entries = nil }},
			{"without a time", store.ErrInvalid, func(c *store.Change) { c.Time = time.Time{} }},
			{"an entry of another account", store.ErrInvalid, func(c *store.Change) { c.Entries[0].Account = "1" }},
			{"an entry without an id", store.ErrInvalid, func(c *store.Change) { c.Entries[0].ID = "" }},
			{"an entry without a source", store.ErrInvalid, func(c *store.Change) { c.Entries[0].Source = "" }},
			{"an entry without a time", store.ErrInvalid, func(c *store.Change) { c.Entries[0].Time = time.Time{} }},
			{"an entry twice", store.ErrInvalid, func(c *store.Change) { c.Entries = append(c.Entries, c.Entries[0]) }},
			{"an entry that is too large", ledger.ErrTooLarge, func(c *store.Change) { c.Entries[0].Content = strings.Repeat("x", ledger.MaxBody) }},
			{"findings without an expectation", store.ErrInvalid, func(c *store.Change) {
				c.Expect, c.Findings = nil, []store.FindingChange{{Finding: fnd("a.go", 1)}}
			}},
			{"a line without an expectation", store.ErrInvalid, func(c *store.Change) { c.Expect, c.Line = nil, &store.Line{} }},
			{"another line than expected", store.ErrInvalid, func(c *store.Change) { c.Line = &store.Line{Name: "pull/1"} }},
			{"a negative version", store.ErrInvalid, func(c *store.Change) { c.Expect.Version = -1 }},
			{"a finding twice", store.ErrInvalid, func(c *store.Change) {
				c.Findings = []store.FindingChange{{Finding: fnd("a.go", 1)}, {Finding: fnd("a.go", 1), Resolved: true}}
			}},
			{"a finding without a fingerprint", store.ErrInvalid, func(c *store.Change) { c.Findings = []store.FindingChange{{}} }},
			{"a resolved finding that is not open", store.ErrNotFound, func(c *store.Change) {
				c.Findings = []store.FindingChange{{Finding: fnd("a.go", 1), Resolved: true}}
			}},
			{"a line of an unknown repository", store.ErrNotFound, func(c *store.Change) {
				c.Repository, c.Expect.Repository, c.Expect.Version = nil, "404", 0
			}},
			{"a verdict without its document", store.ErrNotFound, func(c *store.Change) {
				c.Verdict = &store.Verdict{ID: store.Document{Body: []byte("none")}.Digest(), Repository: repo, Line: "default", Conclusion: "success", Time: now}
			}},
			{"a verdict whose id is no digest", store.ErrInvalid, func(c *store.Change) {
				c.Verdict = &store.Verdict{ID: "V-1", Repository: repo, Line: "default", Conclusion: "success", Time: now}
			}},
			{"an audit of an unknown repository", store.ErrNotFound, func(c *store.Change) {
				c.Audit = &store.Audit{ID: "a", Repository: "404", Line: "default", Started: now, Finished: now}
			}},
			{"statistics that are not JSON", store.ErrInvalid, func(c *store.Change) {
				c.Audit = &store.Audit{ID: "a", Repository: repo, Line: "default", Started: now, Finished: now, Stats: []byte("{")}
			}},
			{"text with a NUL", store.ErrInvalid, func(c *store.Change) { c.Repository.FullName = "a\x00b" }},
			{"text that is not UTF-8", store.ErrInvalid, func(c *store.Change) { c.Expect.Line = "a\xffb" }},
		}
		for _, tc := range cases {
			c := change(t, tenant, 1)
			tc.change(&c)
			if err := tenant.Commit(t.Context(), c); !errors.Is(err, tc.want) {
				t.Errorf("%s: got error %v, want %v", tc.name, err, tc.want)
			}
		}
		for noun, grow := range map[string]func(*store.Change){
			"findings":  func(c *store.Change) { c.Findings = make([]store.FindingChange, store.MaxFindings+1) },
			"entries":   func(c *store.Change) { c.Entries = make([]ledger.Event, store.MaxEntries+1) },
			"documents": func(c *store.Change) { c.Documents = make([]store.Document, store.MaxDocuments+1) },
			"bytes in a document": func(c *store.Change) {
				c.Documents = []store.Document{{Kind: "x", Body: make([]byte, store.MaxDocumentBytes+1)}}
			},
			"bytes of compressed documents": func(c *store.Change) {
				noise := make([]byte, store.MaxStoredBytes+1)
				rand.Read(noise)
				c.Documents = []store.Document{{Kind: "x", Body: noise}}
			},
		} {
			c := change(t, tenant, 1)
			grow(&c)
			var tooLarge *store.TooLargeError
			if err := tenant.Commit(t.Context(), c); !errors.As(err, &tooLarge) || tooLarge.Noun != noun {
				t.Errorf("too many %s: got error %v", noun, err)
			}
		}
		wantEqual(t, dump(t, s), before)
	})
}

// Every field of a change but the three that alter no state is set alone, without an entry. A field that is
// added to Change fails here until it has its line.
func TestNoStateIsWrittenWithoutAnEntry(t *testing.T) {
	state := map[string]any{
		"Account":    &store.Account{Login: "x"},
		"Repository": &store.Repository{ID: "1", FullName: "a/b"},
		"Line":       &store.Line{Tree: "t"},
		"Findings":   []store.FindingChange{{Finding: fnd("a.go", 1)}},
		"Documents":  []store.Document{{Kind: "x", Body: []byte("x")}},
		"Audit":      &store.Audit{ID: "a", Repository: repo, Line: "default", Started: now, Finished: now},
		"Verdict":    &store.Verdict{ID: store.Document{}.Digest(), Repository: repo, Line: "default", Conclusion: "success", Time: now},

		"Delivery":     &store.Delivery{GUID: "g", Event: "push", Received: now, Body: []byte("{}")},
		"DeliveryDone": &store.DeliveryDone{GUID: "g", State: store.DeliveryFinished, At: now},
		"Installation": &store.Installation{ID: 1, Login: "x", State: store.InstallationActive},
		"Repositories": []store.Repository{{ID: "1", FullName: "a/b"}},
		"Pulls":        []store.Pull{{Repository: "1", Number: 1, Head: commit(1), BaseRef: "main", UpdatedAt: now}},
		"MergeGroup":   &store.MergeGroup{Repository: "1", Head: commit(1), BaseRef: "refs/heads/main"},
		"Want":         []store.Want{{Repository: "1", SHA: commit(1)}},
		"HeadCheck":    &store.HeadCheck{Repository: "1", SHA: commit(1)},

		"Waivers": []store.Waiver{wvr("W-1")},
		"Command": &store.Command{Repository: "1", Surface: store.SurfaceComment, ID: 1, State: store.CommandDone},

		"Sessions": &store.SessionChange{End: []string{"1"}},
	}
	stateless := map[string]bool{"Time": true, "Entries": true, "Expect": true}
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		before := dump(t, s)
		for i := range reflect.TypeFor[store.Change]().NumField() {
			field := reflect.TypeFor[store.Change]().Field(i).Name
			if stateless[field] {
				continue
			}
			value, ok := state[field]
			if !ok {
				t.Errorf("Change.%s is not in the table of this test", field)
				continue
			}
			expect := line
			c := store.Change{Time: now, Expect: &expect}
			reflect.ValueOf(&c).Elem().Field(i).Set(reflect.ValueOf(value))
			wantErr(t, tenant.Commit(t.Context(), c), store.ErrNoEntry)
		}
		wantEqual(t, dump(t, s), before)
	})
}

func TestTheSameChangeAgainTakesEffectOnce(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		c := change(t, tenant, 0)
		c.Findings = []store.FindingChange{{Finding: fnd("a.go", 1)}}
		c.Audit = &store.Audit{ID: "a", Repository: repo, Line: "default", Started: now, Finished: now}
		mustCommit(t, tenant, c)
		mustCommit(t, tenant, change(t, tenant, 1))
		free := store.Change{Time: now, Entries: []ledger.Event{event(t, tenant, "settings"), event(t, tenant, "settings")}}
		mustCommit(t, tenant, free)
		before := dump(t, s)
		mustCommit(t, tenant, c)
		mustCommit(t, tenant, free)
		wantEqual(t, dump(t, s), before)

		other := change(t, tenant, 2)
		other.Entries[0].ID = c.Entries[0].ID
		wantErr(t, tenant.Commit(t.Context(), other), store.ErrDuplicate)
		half := store.Change{Time: now, Entries: []ledger.Event{free.Entries[0], event(t, tenant, "settings")}}
		wantErr(t, tenant.Commit(t.Context(), half), store.ErrDuplicate)
		audit := change(t, tenant, 2)
		audit.Audit = c.Audit
		wantErr(t, tenant.Commit(t.Context(), audit), store.ErrDuplicate)
		wantEqual(t, dump(t, s), before)
	})
}

func TestOfManyCommitsAtOnceOneWinsPerVersion(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		const writers, versions = 16, 5
		wins := make([]int, versions)
		for version := range int64(versions) {
			var wg sync.WaitGroup
			errs := make([]error, writers)
			for i := range writers {
				c := change(t, tenant, version)
				c.Entries = append(c.Entries, event(t, tenant, "shared"))
				c.Findings = []store.FindingChange{{Finding: fnd("a.go", i)}, {Finding: fnd("b.go", int(version))}}
				c.Documents = []store.Document{{Kind: "x", Body: []byte("one")}, {Kind: "x", Body: []byte("two")}}
				wg.Go(func() { errs[i] = tenant.Commit(context.Background(), c) })
			}
			wg.Wait()
			for _, err := range errs {
				switch {
				case err == nil:
					wins[version]++
				case !errors.Is(err, store.ErrStale):
					t.Error(err)
				}
			}
		}
		wantEqual(t, wins, []int{1, 1, 1, 1, 1})
		checkOutbox(t, s, tenant, map[string]int{line.Source(): versions, "shared": versions})
	})
}

func TestCommitsAtOnceToOneStreamAreNumberedWithoutAGap(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for range 5 {
					c := store.Change{Time: now, Entries: []ledger.Event{event(t, tenant, "b"), event(t, tenant, "a"), event(t, tenant, "b"), event(t, tenant, fmt.Sprint("own", i))}}
					if err := tenant.Commit(context.Background(), c); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		want := map[string]int{"a": 80, "b": 160}
		for i := range 16 {
			want[fmt.Sprint("own", i)] = 5
		}
		checkOutbox(t, s, tenant, want)
	})
}

// checkOutbox drains the outbox as a sequencer does and wants each source complete, in order, and as numbered
// in the bodies.
func checkOutbox(t testing.TB, s *store.Store, tenant *store.Tenant, want map[string]int) {
	t.Helper()
	ctx := context.Background()
	got, seq := map[string]int{}, uint64(0)
	for {
		pending, err := tenant.Pending(ctx, 7)
		must(t, err)
		if len(pending) == 0 {
			break
		}
		var positions []ledger.Position
		for _, r := range pending {
			got[r.Source]++
			if r.SSeq != uint64(got[r.Source]) {
				t.Fatalf("source %s: number %d comes as the %dth", r.Source, r.SSeq, got[r.Source])
			}
			var body struct {
				ID, Source string
				SSeq       uint64
			}
			must(t, json.Unmarshal(r.Body, &body))
			if body.ID != r.ID || body.Source != r.Source || body.SSeq != r.SSeq {
				t.Fatalf("row %+v has the body %s", r, r.Body)
			}
			positions = append(positions, ledger.Position{ID: r.ID, Seq: seq})
			seq++
		}
		must(t, tenant.Sequenced(ctx, positions))
	}
	wantEqual(t, got, want)
}

func TestTheOutboxIsMarkedOncePerPlace(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		other := s.For(account(t, "9"))
		if as, err := s.PendingAccounts(ctx); err != nil || len(as) != 0 {
			t.Fatalf("an empty store has pending accounts %v, %v", as, err)
		}
		c := store.Change{Time: now}
		for range 40 {
			c.Entries = append(c.Entries, event(t, tenant, "s"))
		}
		mustCommit(t, tenant, c)
		mustCommit(t, other, store.Change{Time: now, Entries: []ledger.Event{event(t, other, "s")}})
		as, err := s.PendingAccounts(ctx)
		must(t, err)
		wantEqual(t, as, []name.Account{account(t, "583231"), account(t, "9")})

		var ps []ledger.Position
		for i, e := range c.Entries {
			ps = append(ps, ledger.Position{ID: e.ID, Seq: uint64(i)})
		}
		must(t, tenant.Sequenced(ctx, ps[:20]))
		must(t, tenant.Sequenced(ctx, ps)) // as after a crash between the ledger's commit and this one
		wantErr(t, tenant.Sequenced(ctx, []ledger.Position{{ID: ps[3].ID, Seq: 99}}), store.ErrNotFound)
		wantErr(t, tenant.Sequenced(ctx, []ledger.Position{{ID: "none", Seq: 99}}), store.ErrNotFound)
		pending, err := tenant.Pending(ctx, 10)
		if err != nil || len(pending) != 0 {
			t.Fatalf("still pending: %v, %v", pending, err)
		}
		as, err = s.PendingAccounts(ctx)
		must(t, err)
		wantEqual(t, as, []name.Account{account(t, "9")})
	})
}

func TestPendingStopsAtAFewMegabytes(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		for range 2 {
			c := store.Change{Time: now}
			for range 50 {
				e := event(t, tenant, "s")
				e.Content = strings.Repeat("x", 50<<10)
				c.Entries = append(c.Entries, e)
			}
			mustCommit(t, tenant, c)
		}
		pending, err := tenant.Pending(t.Context(), 1000)
		must(t, err)
		if len(pending) < 80 || len(pending) > 90 {
			t.Errorf("%d entries of 50 KiB at once", len(pending))
		}
	})
}

func TestTheContentKeyIsMadeOnceAndForEachAccount(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		keys := make([][]byte, 16)
		var wg sync.WaitGroup
		for i := range keys {
			wg.Go(func() {
				var err error
				if keys[i], err = tenant.ContentKey(ctx, now, rand.Reader); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, k := range keys {
			if len(k) != store.ContentKeyBytes || !bytes.Equal(k, keys[0]) {
				t.Fatalf("keys of %d bytes differ", len(k))
			}
		}
		c := store.Change{Time: now, Entries: []ledger.Event{event(t, tenant, "s")}, Account: &store.Account{Login: "new"}}
		mustCommit(t, tenant, c)
		again, err := tenant.ContentKey(ctx, now, strings.NewReader(""))
		must(t, err)
		other, err := s.For(account(t, "9")).ContentKey(ctx, now, rand.Reader)
		must(t, err)
		if !bytes.Equal(again, keys[0]) || bytes.Equal(other, keys[0]) {
			t.Error("the key changed, or two accounts share one")
		}
		if _, err := s.For(account(t, "10")).ContentKey(ctx, now, strings.NewReader("short")); err == nil {
			t.Error("a key was made from too little randomness")
		}
	})
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		_, err := tenant.Repository(ctx, "1")
		wantErr(t, err, store.ErrNotFound)
		_, err = tenant.Details(ctx)
		wantErr(t, err, store.ErrNotFound)
		_, err = tenant.Document(ctx, store.Document{}.Digest())
		wantErr(t, err, store.ErrNotFound)
		for _, id := range []string{store.Document{}.Digest(), "V-ABCDEFGH", "V-", "V-ABC", "V-ABCDEFGU", "", "x", "V-%%%%%%", strings.Repeat("V-A", 100)} {
			_, err = tenant.VerdictByID(ctx, id)
			wantErr(t, err, store.ErrNotFound)
		}
		l, err := tenant.Line(ctx, "1", "default")
		must(t, err)
		wantEqual(t, l, store.Line{Repository: "1", Name: "default"})
		open, err := tenant.OpenFindings(ctx, "1", "default")
		if err != nil || len(open) != 0 {
			t.Errorf("findings %v, %v", open, err)
		}
		wantErr(t, s.For(name.Account{}).Commit(ctx, change(t, tenant, 0)), store.ErrNoAccount)
		_, err = s.For(name.Account{}).OpenFindings(ctx, "1", "default")
		wantErr(t, err, store.ErrNoAccount)
	})
}

func TestAPrefixOfSeveralVerdictsIsAmbiguousAndNamesThem(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		c := change(t, tenant, 0)
		doc := store.Document{Kind: "verdict", Body: []byte("a")}
		c.Documents = []store.Document{doc}
		c.Verdict = &store.Verdict{ID: doc.Digest(), Repository: repo, Line: "default", Conclusion: "success", Time: now}
		mustCommit(t, tenant, c)
		// A digest that begins alike cannot be made; the row can.
		twin := doc.Digest()[:len("sha256:")+12] + strings.Repeat("0", 52)
		_, err := s.DB().Write.Exec(`INSERT INTO document (account, digest, kind, encoding, size, body, created_at) VALUES ('583231', $1, 'x', 'raw', 0, '', 0)`, twin)
		must(t, err)
		_, err = s.DB().Write.Exec(`INSERT INTO verdict (account, id, short, repository, line, version, head, base, conclusion, at)
			SELECT account, $1, $2, repository, line, version, head, base, conclusion, at FROM verdict`, twin, store.ShortVerdict(twin)+"00000000")
		must(t, err)
		_, err = tenant.VerdictByID(t.Context(), store.ShortVerdict(twin))
		var ambiguous *store.AmbiguousError
		if !errors.As(err, &ambiguous) || len(ambiguous.Candidates) != 2 || ambiguous.Candidates[0] == ambiguous.Candidates[1] {
			t.Errorf("got error %v", err)
		}
		if v, err := tenant.VerdictByID(t.Context(), doc.Digest()); err != nil || v.ID != doc.Digest() {
			t.Errorf("by the whole digest: %v, %v", v, err)
		}
	})
}

func TestVerdictsComeNewestFirst(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		for i := range 5 {
			c := change(t, tenant, int64(i))
			doc := store.Document{Kind: "verdict", Body: []byte{byte('a' + i)}}
			c.Documents = []store.Document{doc}
			c.Verdict = &store.Verdict{ID: doc.Digest(), Repository: repo, Line: "default", Conclusion: "success", Time: now.Add(time.Duration(i/2) * time.Second)}
			mustCommit(t, tenant, c)
		}
		vs, err := tenant.Verdicts(t.Context(), repo, 3)
		must(t, err)
		var versions []int64
		for _, v := range vs {
			versions = append(versions, v.Version)
		}
		wantEqual(t, versions, []int64{5, 4, 3})
	})
}

func TestDamagedRowsAreReportedAsSuch(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		large := store.Document{Kind: "x", Body: bytes.Repeat([]byte("findings "), 1000)}
		small := store.Document{Kind: "x", Body: []byte("small")}
		c := change(t, tenant, 0)
		c.Documents = []store.Document{large, small}
		c.Findings = []store.FindingChange{{Finding: fnd("a.go", 1)}}
		mustCommit(t, tenant, c)
		var size int
		must(t, s.DB().Read.QueryRow(`SELECT LENGTH(body) FROM document WHERE digest = $1`, large.Digest()).Scan(&size))
		if size > 200 {
			t.Errorf("9,000 bytes that repeat are stored as %d", size)
		}
		corrupt := func(what string, err error) {
			t.Helper()
			var c *store.CorruptError
			if !errors.As(err, &c) {
				t.Errorf("%s: got error %v", what, err)
			}
		}
		for _, statement := range []string{
			`UPDATE document SET body = $1`,
			`UPDATE document SET size = 3 WHERE $1 = $1`,
			`UPDATE document SET size = 4611686018427387904 WHERE $1 = $1`,
		} {
			_, err := s.DB().Write.Exec(statement, []byte("other"))
			must(t, err)
			for _, d := range []store.Document{large, small} {
				_, err := tenant.Document(ctx, d.Digest())
				corrupt(statement, err)
			}
		}
		_, err := s.DB().Write.Exec(`UPDATE finding SET body = $1`, []byte(`{"fingerprint":"another"}`))
		must(t, err)
		_, err = tenant.OpenFindings(ctx, repo, "default")
		corrupt("finding", err)
	})
}

func TestTheCacheReturnsWhatItHasAndDropsTheLongestUnused(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		bodies, keys := map[string][]byte{}, []string{}
		for i := range 1200 {
			k := fmt.Sprintf("key-%04d", i)
			bodies[k] = bytes.Repeat([]byte{byte(i)}, 10)
			keys = append(keys, k)
		}
		must(t, tenant.CachePut(ctx, now, bodies))
		got, err := tenant.CacheGet(ctx, append([]string{"missing", "key-0000"}, keys...))
		must(t, err)
		wantEqual(t, got, bodies)
		must(t, tenant.CachePut(ctx, now, map[string][]byte{"key-0001": nil, "key-0000": []byte("replaced!!")}))
		got, err = tenant.CacheGet(ctx, keys[:2])
		must(t, err)
		wantEqual(t, got, map[string][]byte{"key-0000": []byte("replaced!!"), "key-0001": {}})

		later := now.Add(48 * time.Hour)
		must(t, tenant.CacheTouch(ctx, now.Add(time.Hour), keys)) // within the grain: nothing changes
		must(t, tenant.CacheTouch(ctx, later, keys[1000:]))
		n, err := tenant.CacheTrim(ctx, time.Time{}.Add(1), 1<<40)
		must(t, err)
		wantEqual(t, n, 0)
		n, err = tenant.CacheTrim(ctx, later, 1000)
		must(t, err)
		wantEqual(t, n, 1100)
		got, err = tenant.CacheGet(ctx, keys)
		must(t, err)
		if len(got) != 100 || got["key-1199"] == nil {
			t.Errorf("%d are left", len(got))
		}
		n, err = tenant.CacheTrim(ctx, now, 0)
		must(t, err)
		wantEqual(t, n, 100)
	})
}

func TestTheLargestChangeIsCommitted(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		c := largest(t, tenant, 0)
		mustCommit(t, tenant, c)
		open, err := tenant.OpenFindings(t.Context(), repo, "default")
		must(t, err)
		if len(open) != store.MaxFindings {
			t.Fatalf("%d findings are open", len(open))
		}
		c = largest(t, tenant, 1)
		for i := range c.Findings {
			c.Findings[i].Resolved = true
		}
		mustCommit(t, tenant, c)
		checkOutbox(t, s, tenant, map[string]int{line.Source(): 2 * store.MaxEntries})
		open, err = tenant.OpenFindings(t.Context(), repo, "default")
		if err != nil || len(open) != 0 {
			t.Fatalf("%d findings are open, %v", len(open), err)
		}
	})
}

func largest(t testing.TB, tenant *store.Tenant, version int64) store.Change {
	c := change(t, tenant, version)
	c.Entries = nil
	for i := range store.MaxFindings {
		c.Findings = append(c.Findings, store.FindingChange{Finding: fnd(fmt.Sprintf("dir/file-%d.go", i%50), i)})
	}
	for range store.MaxEntries {
		c.Entries = append(c.Entries, event(t, tenant, c.Expect.Source()))
	}
	return c
}

func TestTheSourceOfALineIsOneThatTheLedgerTakes(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	tenant := s.For(name.Local)
	for _, l := range []string{"default", "pull/12", "branch/größe", "branch/a b", strings.Repeat("x", 400), `a"b\c`} {
		e := event(t, tenant, store.Expect{Repository: repo, Line: l}.Source())
		mustCommit(t, tenant, store.Change{Time: now, Entries: []ledger.Event{e}})
	}
}

// tables are all of the schema.
var tables = []string{"account", "repository", "line", "finding", "document", "verdict", "audit", "cache", "stream", "outbox",
	"delivery", "installation", "pull", "merge_group", "head", "waiver", "command", "session", "open_count", "type_count", "day_count", "known_name"}

// dump is the whole content of the database.
func dump(t testing.TB, s *store.Store) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, table := range tables {
		rows, err := s.DB().Read.Query(`SELECT * FROM ` + table)
		must(t, err)
		columns, err := rows.Columns()
		must(t, err)
		for rows.Next() {
			values, pointers := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				pointers[i] = &values[i]
			}
			must(t, rows.Scan(pointers...))
			out[table] = append(out[table], fmt.Sprint(values...))
		}
		must(t, rows.Err())
		rows.Close()
		slices.Sort(out[table])
	}
	return out
}
