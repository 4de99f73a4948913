package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

// model is a tenant of the store, in memory, in the plainest way.
type model struct {
	versions map[string]int64                      // by line
	open     map[string]map[string]finding.Finding // by line, then fingerprint
	docs     map[string]string
	verdicts []string // ids in the order of their making
	entries  map[string]uint64
	sources  map[string][]string // ids in their order
	marked   map[string]uint64
	cache    map[string]string
	done     []store.Change
}

// Any interleaving of changes, right ones, stale ones and repeated ones, of marks and of the cache leaves the
// store as it leaves the model, and another tenant as it was.
func TestTheStoreIsWhatItsModelIs(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, bystander *store.Tenant) {
		mustCommit(t, bystander, change(t, bystander, 0))
		tenants := atomic.Int64{}
		lines := []string{"default", "worktree", "pull/12"}
		paths := []string{"a.go", "b.go", "c.go"}
		rapid.Check(t, func(rt *rapid.T) {
			ctx := context.Background()
			tenant := s.For(account(t, fmt.Sprint(600000+tenants.Add(1))))
			m := model{
				versions: map[string]int64{}, open: map[string]map[string]finding.Finding{}, docs: map[string]string{},
				entries: map[string]uint64{}, sources: map[string][]string{}, marked: map[string]uint64{}, cache: map[string]string{},
			}
			seq := uint64(0)
			check := func(err error) {
				if err != nil {
					rt.Fatal(err)
				}
			}
			rt.Repeat(map[string]func(*rapid.T){
				"commit": func(rt *rapid.T) {
					l := rapid.SampledFrom(lines).Draw(rt, "line")
					version := m.versions[l]
					stale := rapid.IntRange(0, 4).Draw(rt, "stale") == 0
					if stale {
						version += rapid.Int64Range(1, 2).Draw(rt, "ahead")
					}
					expect := store.Expect{Repository: repo, Line: l, Version: version}
					c := store.Change{Time: now, Expect: &expect, Repository: &store.Repository{ID: repo, FullName: "r"}}
					for range rapid.IntRange(1, 3).Draw(rt, "entries") {
						c.Entries = append(c.Entries, event(t, tenant, rapid.SampledFrom([]string{expect.Source(), "settings"}).Draw(rt, "source")))
					}
					touched := map[string]bool{}
					for range rapid.IntRange(0, 3).Draw(rt, "findings") {
						f := fnd(rapid.SampledFrom(paths).Draw(rt, "path"), rapid.IntRange(0, 2).Draw(rt, "n"))
						f.Title = rapid.SampledFrom([]string{"one", "two"}).Draw(rt, "title")
						if touched[f.Fingerprint] {
							continue
						}
						touched[f.Fingerprint] = true
						_, isOpen := m.open[l][f.Fingerprint]
						c.Findings = append(c.Findings, store.FindingChange{Finding: f, Resolved: isOpen && rapid.Bool().Draw(rt, "resolved")})
					}
					if rapid.Bool().Draw(rt, "verdict") {
						d := store.Document{Kind: "verdict", Body: fmt.Append(nil, "verdict ", l, version, rapid.IntRange(0, 1).Draw(rt, "text"))}
						c.Documents = []store.Document{d}
						c.Verdict = &store.Verdict{ID: d.Digest(), Repository: repo, Line: l, Conclusion: "success", Time: now.Add(time.Duration(len(m.verdicts)) * time.Second)}
					}
					err := tenant.Commit(ctx, c)
					if stale {
						if !errors.Is(err, store.ErrStale) {
							rt.Fatalf("a stale change: %v", err)
						}
						return
					}
					check(err)
					m.versions[l]++
					for _, e := range c.Entries {
						m.sources[e.Source] = append(m.sources[e.Source], e.ID)
						m.entries[e.ID] = uint64(len(m.sources[e.Source]))
					}
					if m.open[l] == nil {
						m.open[l] = map[string]finding.Finding{}
					}
					for _, f := range c.Findings {
						if delete(m.open[l], f.Finding.Fingerprint); !f.Resolved {
							m.open[l][f.Finding.Fingerprint] = f.Finding
						}
					}
					for _, d := range c.Documents {
						m.docs[d.Digest()] = string(d.Body)
					}
					if c.Verdict != nil && !slices.Contains(m.verdicts, c.Verdict.ID) {
						m.verdicts = append(m.verdicts, c.Verdict.ID)
					}
					m.done = append(m.done, c)
				},
				"commit again": func(rt *rapid.T) {
					if len(m.done) == 0 {
						rt.Skip()
					}
					check(tenant.Commit(ctx, rapid.SampledFrom(m.done).Draw(rt, "change")))
				},
				"sequence": func(rt *rapid.T) {
					pending, err := tenant.Pending(ctx, rapid.IntRange(1, 5).Draw(rt, "limit"))
					check(err)
					var ps []ledger.Position
					for _, r := range pending {
						ps = append(ps, ledger.Position{ID: r.ID, Seq: seq})
						m.marked[r.ID] = seq
						seq++
					}
					check(tenant.Sequenced(ctx, ps))
					check(tenant.Sequenced(ctx, ps))
				},
				"cache": func(rt *rapid.T) {
					bodies := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.SliceOfN(rapid.Byte(), 0, 5), 0, 3).Draw(rt, "bodies")
					check(tenant.CachePut(ctx, now, bodies))
					for k, b := range bodies {
						m.cache[k] = string(b)
					}
				},
				"": func(rt *rapid.T) { // after every step
					for _, l := range lines {
						got, err := tenant.Line(ctx, repo, l)
						check(err)
						if got.Version != m.versions[l] {
							rt.Fatalf("line %s is at %d, want %d", l, got.Version, m.versions[l])
						}
						open, err := tenant.OpenFindings(ctx, repo, l)
						check(err)
						want := slices.Collect(maps.Values(m.open[l]))
						a, err := finding.Canonical(open)
						check(err)
						b, err := finding.Canonical(want)
						check(err)
						if string(a) != string(b) {
							rt.Fatalf("line %s has the findings\n%s\nwant\n%s", l, a, b)
						}
					}
					for digest, body := range m.docs {
						d, err := tenant.Document(ctx, digest)
						check(err)
						if string(d.Body) != body {
							rt.Fatalf("document %s", digest)
						}
					}
					vs, err := tenant.Verdicts(ctx, repo, 1000)
					check(err)
					var ids []string
					for _, v := range vs {
						ids = append(ids, v.ID)
					}
					slices.Reverse(ids)
					if !slices.Equal(ids, m.verdicts) {
						rt.Fatalf("verdicts %v, want %v", ids, m.verdicts)
					}
					pending, err := tenant.Pending(ctx, 1000)
					check(err)
					if len(pending) != len(m.entries)-len(m.marked) {
						rt.Fatalf("%d entries are pending of %d, %d of them marked", len(pending), len(m.entries), len(m.marked))
					}
					for _, r := range pending {
						if _, marked := m.marked[r.ID]; marked || m.entries[r.ID] != r.SSeq {
							rt.Fatalf("entry %+v is pending, want number %d", r, m.entries[r.ID])
						}
					}
					got, err := tenant.CacheGet(ctx, []string{"a", "b", "c", "d"})
					check(err)
					if len(got) != len(m.cache) {
						rt.Fatalf("cache %v, want %v", got, m.cache)
					}
					for k, b := range got {
						if string(b) != m.cache[k] {
							rt.Fatalf("cache %s is %q", k, b)
						}
					}
				},
			})
		})
		checkOutbox(t, s, bystander, map[string]int{line.Source(): 1})
	})
}

// FuzzVerdictID: whatever a person types, the answer is a verdict or one of the two errors that say why not.
func FuzzVerdictID(f *testing.F) {
	s := open(f, dbtest.SQLite(f))
	tenant := s.For(account(f, "583231"))
	doc := store.Document{Kind: "verdict", Body: []byte("{}")}
	c := change(f, tenant, 0)
	c.Documents = []store.Document{doc}
	c.Verdict = &store.Verdict{ID: doc.Digest(), Repository: repo, Line: "default", Conclusion: "success", Time: now}
	mustCommit(f, tenant, c)
	for _, seed := range []string{doc.Digest(), store.ShortVerdict(doc.Digest()), "V-ABCDEF", "v-il0o00", "V-' OR 1=1 --", "sha256:", "\x00", "V-~~~~~~"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		v, err := tenant.VerdictByID(context.Background(), id)
		if err == nil && v.ID != doc.Digest() {
			t.Errorf("%q found %q", id, v.ID)
		}
		var ambiguous *store.AmbiguousError
		if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.As(err, &ambiguous) {
			t.Errorf("%q: %v", id, err)
		}
	})
}
