package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

// Whatever comes, goes, comes back and changes its severity: the counts that Commit keeps are those that counting the
// findings gives.
func TestKeptCountsAreThoseThatCountingGives(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, _ *store.Tenant) {
		tenants := 0
		rapid.Check(t, func(rt *rapid.T) {
			ctx := context.Background()
			tenants++
			tenant := s.For(account(t, fmt.Sprint(700000+tenants)))
			type state struct {
				f    finding.Finding
				open bool
			}
			lines := map[string]map[string]state{"default": {}, "pull/1": {}}
			versions := map[string]int64{}
			at := now
			opened, resolved := 0, 0
			for range rapid.IntRange(1, 12).Draw(rt, "changes") {
				at = at.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "hours")) * time.Hour)
				line := rapid.SampledFrom([]string{"default", "pull/1"}).Draw(rt, "line")
				expect := store.Expect{Repository: repo, Line: line, Version: versions[line]}
				c := store.Change{Time: at, Expect: &expect, Repository: &store.Repository{ID: repo, FullName: "octo-org/payments"}}
				c.Entries = append(c.Entries, event(t, tenant, expect.Source()))
				for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 5), 0, 4, rapid.ID[int]).Draw(rt, "findings") {
					f := fnd("a.go", n)
					f.Severity = rapid.SampledFrom([]finding.Severity{finding.Low, finding.High, finding.Critical}).Draw(rt, "severity")
					f.Type = rapid.SampledFrom([]string{"secrets/a", "secrets/b"}).Draw(rt, "type")
					was := lines[line][f.Fingerprint]
					gone := was.open && rapid.Bool().Draw(rt, "gone")
					if gone {
						f = was.f
					}
					c.Findings = append(c.Findings, store.FindingChange{Finding: f, Resolved: gone})
					lines[line][f.Fingerprint] = state{f, !gone}
				}
				if err := tenant.Commit(ctx, c); err != nil {
					rt.Fatal(err)
				}
				if err := tenant.Commit(ctx, c); err != nil { // a retry counts nothing twice
					rt.Fatal(err)
				}
				versions[line]++
			}
			for line, fs := range lines {
				want := map[finding.Severity]int{}
				types := map[string]int{}
				for _, f := range fs {
					if f.open {
						want[f.f.Severity]++
						types[f.f.Type]++
					}
				}
				got, err := tenant.OpenCountsOf(ctx, repo, line)
				if err != nil {
					rt.Fatal(err)
				}
				for _, c := range got {
					var oldest int64
					if err := s.DB().Read.QueryRow(`SELECT MIN(first_seen) FROM finding WHERE account = $1 AND repository = $2 AND line = $3 AND severity = $4 AND state = 'open'`,
						tenant.Account().String(), repo, line, int(c.Severity)).Scan(&oldest); err != nil {
						rt.Fatal(err)
					}
					if c.Open != want[c.Severity] || c.Oldest.UnixMicro() != oldest {
						rt.Fatalf("%s: %+v, counting gives %d since %d", line, c, want[c.Severity], oldest)
					}
					delete(want, c.Severity)
				}
				for severity, n := range want {
					if n > 0 {
						rt.Fatalf("%s: no count of %d %s findings", line, n, severity)
					}
				}
				if line != store.DefaultLine {
					continue
				}
				kept, err := tenant.OpenTypes(ctx, 10)
				if err != nil {
					rt.Fatal(err)
				}
				for _, k := range kept {
					if types[k.Type] != k.Open {
						rt.Fatalf("%+v, counting gives %d", k, types[k.Type])
					}
					delete(types, k.Type)
				}
				if len(types) > 0 {
					rt.Fatalf("no count of %v", types)
				}
				days, err := tenant.Days(ctx, 0)
				if err != nil {
					rt.Fatal(err)
				}
				opened, resolved = 0, 0
				for _, d := range days {
					opened += d.Opened
					resolved += d.Resolved
				}
				open := 0
				for _, f := range fs {
					if f.open {
						open++
					}
				}
				if opened-resolved != open {
					rt.Fatalf("%d opened less %d resolved, and %d are open", opened, resolved, open)
				}
			}
		})
	})
}

func TestALineKnowsItsNewestVerdict(t *testing.T) {
	each(t, func(t *testing.T, _ *store.Store, tenant *store.Tenant) {
		judge := func(version int64, conclusion string, at time.Time) string {
			c := change(t, tenant, version)
			d := store.Document{Kind: "verdict", Body: fmt.Append(nil, conclusion, at)}
			c.Documents = []store.Document{d}
			c.Verdict = &store.Verdict{ID: d.Digest(), Repository: repo, Line: "default", Conclusion: conclusion, Time: at}
			mustCommit(t, tenant, c)
			return d.Digest()
		}
		judge(0, "pass", now)
		newest := judge(1, "block", now.Add(time.Hour))
		judge(2, "pass", now.Add(-time.Hour)) // an older one that comes late
		lines, err := tenant.DefaultLines(t.Context())
		must(t, err)
		if len(lines) != 1 || lines[0].Verdict != newest || lines[0].Conclusion != "block" || !lines[0].JudgedAt.Equal(now.Add(time.Hour)) {
			t.Errorf("%+v", lines)
		}
		all, err := tenant.RecentVerdicts(t.Context(), 2)
		must(t, err)
		if len(all) != 2 || all[0].ID != newest {
			t.Errorf("%+v", all)
		}
	})
}

func TestFindingsComeInPagesThatMeet(t *testing.T) {
	each(t, func(t *testing.T, _ *store.Store, tenant *store.Tenant) {
		c := change(t, tenant, 0)
		for n := range 25 {
			f := fnd("a.go", n)
			f.Severity = []finding.Severity{finding.Low, finding.High}[n%2]
			c.Findings = append(c.Findings, store.FindingChange{Finding: f})
		}
		mustCommit(t, tenant, c)
		var got []store.FindingRow
		var after *store.FindingKey
		for {
			rows, err := tenant.Findings(t.Context(), store.FindingFilter{After: after}, 4)
			must(t, err)
			got = append(got, rows...)
			if len(rows) < 4 {
				break
			}
			k := rows[3].Key()
			after = &k
		}
		if len(got) != 25 || !slices.IsSortedFunc(got, func(a, b store.FindingRow) int { return int(b.Finding.Severity) - int(a.Finding.Severity) }) {
			t.Errorf("%d findings", len(got))
		}
		seen := map[string]bool{}
		for _, r := range got {
			seen[r.Finding.Fingerprint] = true
		}
		if len(seen) != 25 {
			t.Errorf("%d different findings", len(seen))
		}
	})
}

func TestANameLeadsToWhoHasItNow(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, a *store.Tenant) {
		b := s.For(account(t, "42"))
		named := func(tenant *store.Tenant, login string, at time.Time) {
			c := store.Change{Time: at, Entries: []ledger.Event{event(t, tenant, "github")}, Account: &store.Account{Login: login}}
			mustCommit(t, tenant, c)
		}
		lead := func(login, want string) {
			t.Helper()
			got, err := s.AccountByLogin(t.Context(), login)
			must(t, err)
			if got.String() != want {
				t.Errorf("%s leads to %s, want %s", login, got, want)
			}
		}
		named(a, "Octo-Org", now)
		lead("octo-org", "583231")
		named(a, "octo-inc", now.Add(time.Hour))
		lead("OCTO-org", "583231") // its old name still does
		named(b, "octo-org", now.Add(2*time.Hour))
		lead("octo-org", "42") // until somebody takes it
		lead("octo-inc", "583231")
		_, err := s.AccountByLogin(t.Context(), "nobody\x00")
		wantErr(t, err, store.ErrNotFound)
	})
}
