package gate

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/gittest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

// somebody did it.
var somebody = ledger.Actor{Kind: "system"}

// wall is where checks are published to.
type wall struct{ published []Check }

func (w *wall) Publish(_ context.Context, c Check, _ bool) (int64, error) {
	w.published = append(w.published, c)
	return 7, nil
}

func (w *wall) last() Check {
	if len(w.published) == 0 {
		return Check{}
	}
	return w.published[len(w.published)-1]
}

// copies hands out a repository as a mirror would.
type copies struct {
	repo             *source.Repository
	refs             map[string]name.Commit
	down             error
	fetches, damaged int
}

func (c *copies) Fetch(_ context.Context, _ Origin, refs ...string) (Lease, error) {
	c.fetches++
	for _, r := range refs {
		if _, ok := c.refs[r]; !ok && !name.IsObjectID(r) {
			return nil, ErrRefGone
		}
	}
	return c, c.down
}
func (c *copies) Repository() *source.Repository         { return c.repo }
func (c *copies) Commit(ref string) (name.Commit, error) { return c.refs[ref], nil }
func (c *copies) Damaged()                               { c.damaged++ }
func (c *copies) Release()                               {}

// wanted has the store know open pull requests with these heads, and want the heads.
func (b *bench) wanted(heads ...name.Commit) {
	b.t.Helper()
	c := store.Change{Time: b.gate.Now(), Repositories: []store.Repository{{ID: "5", FullName: "octo/pay", Origin: &store.Origin{
		Installation: 3, Owner: "octo", Name: "pay", DefaultBranch: "main", Covered: true,
	}}}}
	for i, h := range heads {
		c.Pulls = append(c.Pulls, store.Pull{Repository: "5", Number: i + 1, Head: h, BaseRef: "main", Open: true, UpdatedAt: b.now})
		want(&c, "5", h)
	}
	b.commit(c)
}

func (b *bench) commit(c store.Change) {
	b.t.Helper()
	if err := b.gate.entry(&c, c.Time, name.Local, "test", "test", somebody, nil, map[string]string{}); err != nil {
		b.t.Fatal(err)
	}
	if err := b.gate.Store.For(name.Local).Commit(context.Background(), c); err != nil {
		b.t.Fatal(err)
	}
}

// leak makes a commit on main and one that brings a key on top of it.
func (b *bench) leak() (hub Hub, w *wall, c *copies, head name.Commit) {
	b.t.Helper()
	base := b.git.Commit(gittest.Files{PolicyPath: blocking, "a.txt": "a\n"})
	tip := b.git.Commit(gittest.Files{"x.env": "KEY=1\n"})
	repo, err := source.Open(context.Background(), b.git.Dir, source.DefaultLimits())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { repo.Close() })
	head = parsed(b.t, tip)
	c = &copies{repo: repo, refs: map[string]name.Commit{"refs/pull/1/head": head, "refs/heads/main": parsed(b.t, base)}}
	w = &wall{}
	return Hub{Publisher: w, Fetcher: c}, w, c, head
}

func parsed(t *testing.T, id string) name.Commit {
	t.Helper()
	c, err := name.ParseCommit(id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (b *bench) work(head name.Commit, hub Hub) error {
	return b.gate.Work(context.Background(), store.HeadKey{Account: name.Local, Repository: "5", SHA: head}, hub)
}

func (b *bench) head(sha name.Commit) store.Head {
	b.t.Helper()
	h, err := b.gate.Store.For(name.Local).Head(context.Background(), "5", sha)
	if err != nil {
		b.t.Fatal(err)
	}
	return h
}

func TestAMirrorThatIsDamagedEachTimeEndsInARedRunThatIsTakenUpAgain(t *testing.T) {
	b := setup(t, dbtest.SQLite(t))
	hub, w, c, head := b.leak()
	b.wanted(head)
	tree := b.git.Git("rev-parse", "HEAD^{tree}")
	if err := os.Remove(filepath.Join(b.git.Dir, ".git", "objects", tree[:2], tree[2:])); err != nil {
		t.Fatal(err)
	}
	if err := b.work(head, hub); err != nil {
		t.Fatal(err)
	}
	if last := w.last(); !last.Completed || !last.Blocked || last.Title != "Could not be evaluated" || c.damaged != maxFetches {
		t.Errorf("%+v after %d damaged mirrors", last, c.damaged)
	}
	lacking, err := lacksCheck(context.Background(), b.gate.Store.For(name.Local), "5", head, b.now)
	if err != nil || !lacking {
		t.Errorf("nothing takes it up again: %v, %v", b.head(head), err)
	}
}

func TestAnAuditThatCannotBeDoneIsToldOfNowAndThenAndStaysWanted(t *testing.T) {
	b := setup(t, dbtest.SQLite(t))
	hub, w, c, head := b.leak()
	b.wanted(head)
	c.down = fmt.Errorf("%w: the disk is full", ErrGitHubUnavailable)
	told := 0
	for range 60 { // one hour
		if err := b.work(head, hub); !errors.Is(err, ErrGitHubUnavailable) {
			t.Fatal(err)
		}
		b.now = b.now.Add(time.Minute)
	}
	for _, p := range w.published {
		if p.Completed {
			told++
			if !p.Blocked || p.Title != "Could not be evaluated yet" || !strings.Contains(p.Summary, "disk is full") {
				t.Errorf("%+v", p)
			}
		}
	}
	if told < 5 || told > 12 {
		t.Errorf("told of %d times in an hour", told)
	}
	c.down = nil
	if err := b.work(head, hub); err != nil {
		t.Fatal(err)
	}
	if last := w.last(); !last.Blocked || !strings.HasPrefix(last.Title, "Blocked") || b.head(head).State != store.CheckCompleted {
		t.Errorf("%+v, %+v", last, b.head(head))
	}
	// A finished verdict is not taken back because another look is delayed.
	b.wanted(head)
	c.down = fmt.Errorf("%w: the disk is full", ErrGitHubUnavailable)
	before := len(w.published)
	for range 20 {
		if err := b.work(head, hub); !errors.Is(err, ErrGitHubUnavailable) {
			t.Fatal(err)
		}
		b.now = b.now.Add(time.Minute)
	}
	if len(w.published) != before {
		t.Errorf("%+v", w.last())
	}
}

func TestAHeadThatMovedWithoutAWordIsFollowed(t *testing.T) {
	b := setup(t, dbtest.SQLite(t))
	hub, w, c, head := b.leak()
	b.wanted(head)
	next := parsed(t, b.git.Commit(gittest.Files{"x.env": "nothing\n"}))
	c.refs["refs/pull/1/head"] = next
	if err := b.work(head, hub); !errors.Is(err, ErrGitHubUnavailable) {
		t.Fatalf("a ref that does not fit at once: %v", err)
	}
	b.now = b.now.Add(settling)
	if err := b.work(head, hub); err != nil {
		t.Fatal(err)
	}
	if last := w.last(); !last.Completed || last.Head != head || last.Title != "Superseded" {
		t.Errorf("%+v", last)
	}
	if err := b.work(next, hub); err != nil {
		t.Fatal(err)
	}
	if last := w.last(); last.Blocked || last.Head != next {
		t.Errorf("%+v", last)
	}
}

func TestAPushWhoseBeforeIsGoneIsJudgedAlone(t *testing.T) {
	b := setup(t, dbtest.SQLite(t))
	hub, w, c, head := b.leak()
	c.refs = map[string]name.Commit{"refs/heads/main": head}
	hub.Fetcher = strict{c}
	lost := parsed(t, strings.Repeat("ab", 20))
	b.wanted()
	at := b.gate.Now()
	change := store.Change{Time: at, MergeGroup: &store.MergeGroup{Repository: "5", Head: head, HeadRef: "refs/heads/main", Base: lost, BaseRef: "refs/heads/main", Active: true}}
	want(&change, "5", head)
	b.commit(change)
	if err := b.work(head, hub); err != nil {
		t.Fatal(err)
	}
	if last := w.last(); !last.Blocked || !strings.HasPrefix(last.Title, "Blocked") || !strings.Contains(last.Summary, "no longer at GitHub") {
		t.Errorf("%+v", last)
	}
}

// strict has no commit that no ref leads to.
type strict struct{ *copies }

func (s strict) Fetch(ctx context.Context, o Origin, refs ...string) (Lease, error) {
	for _, r := range refs {
		if _, ok := s.refs[r]; !ok {
			return nil, ErrRefGone
		}
	}
	return s.copies.Fetch(ctx, o, refs...)
}

func TestNewPoliciesAreHeldAgainstMoreHeadsThanOneChangeHolds(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		b := setup(t, dsn)
		b.wanted()
		ctx := context.Background()
		const n = store.MaxPulls*2 + 3
		for from := 0; from < n; from += store.MaxPulls {
			c := store.Change{Time: b.gate.Now()}
			for i := from; i < min(n, from+store.MaxPulls); i++ {
				sum := sha1.Sum(fmt.Append(nil, i))
				c.Pulls = append(c.Pulls, store.Pull{
					Repository: "5", Number: i + 1, Head: parsed(t, hex.EncodeToString(sum[:])), BaseRef: "main", Open: true, UpdatedAt: b.now,
				})
			}
			b.commit(c)
		}
		if err := b.gate.Receive(ctx, name.Local, store.Delivery{GUID: "g", Event: "push", Installation: 3, Received: b.now, Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		_, err := b.gate.Hear(ctx, store.DeliveryKey{Account: name.Local, GUID: "g"}, func(string, []byte) (Event, error) {
			e := Event{Sender: somebody, Push: &PushEvent{Ref: "refs/heads/main", After: parsed(t, strings.Repeat("ab", 20)), Paths: []string{PolicyPath}, PathsComplete: true}}
			e.Origin = Origin{Installation: 3, Repo: name.Repo{Account: name.Local, ID: "5", FullName: "octo/pay"}, Owner: "octo", Name: "pay", DefaultBranch: "main"}
			return e, nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		heads, err := b.gate.Store.WantedHeads(ctx, 2*n)
		if err != nil || len(heads) != n+1 { // and the push's own
			t.Errorf("%d heads are wanted, want %d; %v", len(heads), n+1, err)
		}
	})
}
