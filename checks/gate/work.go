package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/render"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Lease is a mirror of a repository, brought up to date and held while it is read.
type Lease interface {
	Repository() *source.Repository
	Commit(ref string) (name.Commit, error) // what a fetched ref pointed to
	Damaged()                               // says that a read found it corrupt
	Release()
}

// Fetcher gives read access to a repository's code at GitHub. A ref or commit that is gone is ErrRefGone; errors
// that will pass wrap ErrGitHubUnavailable, others ErrGitHubGone.
type Fetcher interface {
	Fetch(ctx context.Context, o Origin, refs ...string) (Lease, error)
}

// ErrRefGone says that a ref or commit is no longer at GitHub.
var ErrRefGone = errors.New("the ref is gone")

// Hub is the outside world that work on a head needs.
type Hub struct {
	Publisher Publisher
	Fetcher   Fetcher
	People    People
	Voice     Voice
	Details   func(account name.Account, repository string, head name.Commit) string // the address of the page about a head; nil: none
}

// occasion is one reason why a head is judged: a pull request, the default branch, a merge group.
type occasion struct {
	line    string // of the store
	context verdict.Context
	pull    int
	row     store.Pull // of a pull request
	label   string     // for people: "pull request #7 into main"
	ref     string     // the ref that must point to the head
	baseRef string     // where the base and the policies come from; "" when baseID is exact
	baseID  name.Commit
	adhoc   bool
	unbased bool // the base is gone
}

// told is what was decided on one occasion.
type told struct {
	occasion
	Judged
	found   *Audited
	pending []render.Pending
	notes   []string
}

// Work looks at a head until nobody wants it looked at again: it announces the check run, audits and judges the head
// on every occasion that it has, records that, and publishes the worst verdict of all on the one check run. Calls
// for one head must not overlap. Errors that wrap ErrGitHubUnavailable or store.ErrUnavailable will pass: call
// again.
func (g *Gate) Work(ctx context.Context, key store.HeadKey, hub Hub) error {
	tenant := g.Store.For(key.Account)
	for {
		h, err := tenant.Head(ctx, key.Repository, key.SHA)
		if err != nil {
			return err
		}
		if h.Wanted <= h.Done {
			return nil
		}
		if err := g.generation(ctx, tenant, key, h, hub); err != nil {
			return err
		}
	}
}

// generation serves one wanted generation of a head.
func (g *Gate) generation(ctx context.Context, tenant *store.Tenant, key store.HeadKey, h store.Head, hub Hub) error {
	repo, err := tenant.Repository(ctx, key.Repository)
	if err != nil {
		return err
	}
	if repo.Origin == nil || !repo.Origin.Covered || repo.Origin.Archived {
		return g.finish(ctx, tenant, h, "check.skipped", map[string]any{"reason": "the App no longer covers the repository, or it is archived"}, store.HeadCheck{State: store.CheckInProgress})
	}
	origin := originOf(key.Account, repo)
	occasions, err := g.occasions(ctx, tenant, key)
	if err != nil {
		return err
	}
	check := Check{
		Origin: origin, Head: key.SHA, ID: h.CheckID, Started: g.Now(),
		ExternalID: key.Account.String() + "/" + key.Repository + "/" + key.SHA.String(),
	}
	if hub.Details != nil {
		check.DetailsURL = hub.Details(key.Account, key.Repository, key.SHA)
	}
	var (
		tolds   []told
		moved   []store.Pull
		workErr error
		a       announcement
		again   bool
	)
	if h.Done >= h.AuditWanted && h.State == store.CheckCompleted {
		tolds, again, err = g.rejudgeAll(ctx, origin, key.SHA, occasions)
		if err := passing(ctx, err); err != nil {
			return err
		}
		if err != nil { // what it rests on cannot be read: the check must not stay as it is for that
			tolds, again = nil, false
		}
	}
	if !again {
		announced := g.announce(ctx, tenant, h, check, hub, len(occasions) > 0)
		tolds, moved, workErr = g.judgeAll(ctx, origin, key.SHA, occasions, hub)
		// Whatever came of the audit, the announcement has to be waited for: its id is the run's.
		a = <-announced
		if a.id != 0 {
			check.ID = a.id
		}
	}
	if errors.Is(a.err, ErrGitHubGone) {
		return g.refused(ctx, tenant, h, check.ID, a.err)
	}
	if err := errors.Join(a.err, passing(ctx, workErr)); err != nil {
		if check.ID != 0 && check.ID != h.CheckID {
			if kept := g.keepID(ctx, tenant, h, check.ID); kept != nil {
				err = errors.Join(err, kept)
			}
		}
		if a.err == nil && h.State != store.CheckCompleted && g.Now().Sub(h.Changed) > patience {
			err = errors.Join(err, g.waiting(ctx, tenant, h, check, hub, err))
		}
		return err
	}
	if workErr == nil && !again {
		if err := g.settle(ctx, tenant, key, h, tolds, moved); err != nil {
			if check.ID != h.CheckID {
				err = errors.Join(err, g.keepID(ctx, tenant, h, check.ID))
			}
			return err
		}
	}
	// A run whose creation was tried may be there, with its answer lost: it is not left in progress.
	if len(tolds) == 0 && workErr == nil && (check.ID == 0 && !h.Tried || h.State == store.CheckCompleted) {
		return g.finish(ctx, tenant, h, "check.skipped", map[string]any{"reason": "it is no longer the head of anything"}, store.HeadCheck{})
	}
	check.Completed, check.Finished = true, g.Now()
	if workErr != nil {
		failed(&check, workErr)
	} else {
		compose(&check, tolds)
	}
	published, err := checkDigest(check)
	if err != nil {
		return err
	}
	id, err := hub.Publisher.Publish(ctx, check, h.Tried && check.ID == 0)
	if err != nil {
		if errors.Is(err, ErrGitHubGone) {
			return g.refused(ctx, tenant, h, id, err)
		}
		return err
	}
	state := store.CheckCompleted
	if len(tolds) == 0 {
		state = store.CheckInProgress // if GitHub lists the head as an open one all the same, it is looked at again
	}
	var verdicts []string
	for _, t := range tolds {
		verdicts = append(verdicts, t.Digest)
	}
	return g.finish(ctx, tenant, h, "check.published",
		map[string]any{"check": strconv.FormatInt(id, 10), "conclusion": conclusion(check), "title": check.Title, "verdicts": verdicts, "content": published},
		store.HeadCheck{CheckID: id, Tried: true, State: state, Published: published})
}

func conclusion(c Check) string {
	if c.Blocked {
		return "failure"
	}
	return "success"
}

// refused ends a generation whose check GitHub does not take. What it shows is not what it should, so the head counts
// as unfinished: once the App may write there again, Reconcile wants it looked at.
func (g *Gate) refused(ctx context.Context, tenant *store.Tenant, h store.Head, id int64, why error) error {
	return g.finish(ctx, tenant, h, "check.refused", map[string]any{"reason": why.Error()}, store.HeadCheck{CheckID: id, Tried: true, State: store.CheckInProgress})
}

// patience is how long a run stays in progress while its audit cannot be done.
const patience = 5 * time.Minute

// waiting tells on the run that the audit could not be done so far, and why: a run that stays in progress tells
// nobody that something is wrong. The generation stays wanted, so that the next try replaces it.
func (g *Gate) waiting(ctx context.Context, tenant *store.Tenant, h store.Head, check Check, hub Hub, why error) error {
	if check.ID == 0 || errors.Is(why, store.ErrUnavailable) || errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	// The time for the work may be over; telling that it was not enough has a time of its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	check.Completed, check.Finished = true, g.Now()
	delayed(&check, why)
	published, err := checkDigest(check)
	if err != nil {
		return err
	}
	id, err := hub.Publisher.Publish(ctx, check, false)
	if err != nil {
		return err
	}
	return g.note(ctx, tenant, h, "check.published",
		map[string]any{"check": strconv.FormatInt(id, 10), "conclusion": conclusion(check), "title": check.Title, "content": published},
		store.HeadCheck{CheckID: id, Tried: true, State: store.CheckInProgress, Published: published})
}

// settling is how long a pull request's ref may lag behind what GitHub said of its head. If it has moved on instead,
// the event about that ends the wait.
const settling = 10 * time.Second

// settle finds out why a commit is not the head that it was said to be: for a while that is for time to tell, then
// the ref is right, and its commit is the one to look at.
func (g *Gate) settle(ctx context.Context, tenant *store.Tenant, key store.HeadKey, h store.Head, tolds []told, moved []store.Pull) error {
	if len(tolds) > 0 && len(moved) == 0 {
		return nil
	}
	still, err := tenant.PullsByHead(ctx, key.Repository, key.SHA)
	if err != nil {
		return err
	}
	still = slices.DeleteFunc(still, func(p store.Pull) bool {
		return slices.ContainsFunc(tolds, func(t told) bool { return t.pull == p.Number })
	})
	moved = slices.DeleteFunc(moved, func(m store.Pull) bool {
		return !slices.ContainsFunc(still, func(p store.Pull) bool { return p.Number == m.Number })
	})
	switch {
	case len(still) > 0 && g.Now().Sub(h.Changed) < settling:
		return fmt.Errorf("%w: its git service does not show %s as the head of pull request #%d yet", ErrGitHubUnavailable, key.SHA.Short(), still[0].Number)
	case len(moved) > 0:
		return g.follow(ctx, tenant, h, moved)
	}
	return nil
}

// passing returns an error that another try may be without, and nil for one that stays.
func passing(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, ErrGitHubUnavailable) || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrStale) || errors.Is(err, ErrOvertaken) {
		return err
	}
	return nil
}

type announcement struct {
	id  int64
	err error
}

// announce puts the run in progress beside the fetch, once per commit: a run that is there already is only updated
// at the end, so that a steady event costs two calls. That a creation is tried is kept first, since its answer
// may be lost.
func (g *Gate) announce(ctx context.Context, tenant *store.Tenant, h store.Head, check Check, hub Hub, needed bool) <-chan announcement {
	out := make(chan announcement, 1)
	if h.CheckID != 0 || !needed {
		out <- announcement{id: h.CheckID}
		return out
	}
	go func() {
		if !h.Tried {
			if err := g.note(ctx, tenant, h, "check.announced", map[string]any{}, store.HeadCheck{Tried: true}); err != nil {
				out <- announcement{err: err}
				return
			}
		}
		check.Title = "Auditing"
		check.Summary = "noxaudit is looking at this commit."
		id, err := hub.Publisher.Publish(ctx, check, h.Tried)
		out <- announcement{id, err}
	}()
	return out
}

// follow brings pull requests up to date whose ref the fetch found at another commit than their description says:
// two events of one second cannot be put in order by their time, and one may be lost.
func (g *Gate) follow(ctx context.Context, tenant *store.Tenant, h store.Head, moved []store.Pull) error {
	at := g.Now()
	c := store.Change{Time: at, Pulls: moved}
	numbers := map[string]string{}
	for _, p := range moved {
		want(&c, p.Repository, p.Head)
		numbers[strconv.Itoa(p.Number)] = p.Head.String()
	}
	err := g.entry(&c, at, tenant.Account(), "repository/"+h.Repository+"/checks", "pull.moved", itself,
		map[string]string{"repository": h.Repository, "head": h.SHA.String()}, map[string]any{"heads": numbers})
	if err != nil {
		return err
	}
	_, err = retry(ctx, g, func() (struct{}, error) { return struct{}{}, tenant.Commit(ctx, c) })
	return err
}

func (g *Gate) keepID(ctx context.Context, tenant *store.Tenant, h store.Head, id int64) error {
	return g.note(ctx, tenant, h, "check.created", map[string]any{"check": strconv.FormatInt(id, 10)}, store.HeadCheck{CheckID: id, Tried: true, State: store.CheckInProgress})
}

// note records something about a head's check run.
func (g *Gate) note(ctx context.Context, tenant *store.Tenant, h store.Head, event string, content map[string]any, hc store.HeadCheck) error {
	at := g.Now()
	hc.Repository, hc.SHA = h.Repository, h.SHA
	c := store.Change{Time: at, HeadCheck: &hc}
	err := g.entry(&c, at, tenant.Account(), "repository/"+h.Repository+"/checks", event, itself,
		map[string]string{"repository": h.Repository, "head": h.SHA.String()}, content)
	if err != nil {
		return err
	}
	_, err = retry(ctx, g, func() (struct{}, error) { return struct{}{}, tenant.Commit(ctx, c) })
	return err
}

// finish is note for the last step of a generation.
func (g *Gate) finish(ctx context.Context, tenant *store.Tenant, h store.Head, event string, content map[string]any, hc store.HeadCheck) error {
	hc.Done = h.Wanted
	return g.note(ctx, tenant, h, event, content, hc)
}

func originOf(account name.Account, r store.Repository) Origin {
	return Origin{
		Installation: r.Origin.Installation, Repo: name.Repo{Account: account, ID: r.ID, FullName: r.FullName},
		Owner: r.Origin.Owner, Name: r.Origin.Name, DefaultBranch: r.Origin.DefaultBranch,
		Private: r.Origin.Private, Archived: r.Origin.Archived,
	}
}

// occasions are why a head is looked at, in a fixed order.
func (g *Gate) occasions(ctx context.Context, tenant *store.Tenant, key store.HeadKey) ([]occasion, error) {
	pulls, err := tenant.PullsByHead(ctx, key.Repository, key.SHA)
	if err != nil {
		return nil, err
	}
	groups, err := tenant.MergeGroups(ctx, key.Repository, key.SHA)
	if err != nil {
		return nil, err
	}
	var out []occasion
	for _, p := range pulls {
		out = append(out, occasion{
			line: "pull/" + strconv.Itoa(p.Number), context: verdict.PullRequest, pull: p.Number, row: p,
			label: fmt.Sprintf("pull request #%d into %s", p.Number, p.BaseRef),
			ref:   fmt.Sprintf("refs/pull/%d/head", p.Number), baseRef: "refs/heads/" + p.BaseRef,
		})
	}
	for _, m := range groups {
		if strings.HasPrefix(m.HeadRef, "refs/heads/gh-readonly-queue/") {
			out = append(out, occasion{line: "queue", adhoc: true, context: verdict.MergeGroup, label: "merge group into " + strings.TrimPrefix(m.BaseRef, "refs/heads/"), ref: m.HeadRef, baseID: m.Base})
			continue
		}
		out = append(out, occasion{line: "default", context: verdict.Push, label: "push to " + strings.TrimPrefix(m.HeadRef, "refs/heads/"), ref: m.HeadRef, baseID: m.Base})
	}
	return out, nil
}

// maxFetches is how often a damaged mirror is made anew for one look. One that is damaged each time is a reason to tell.
const maxFetches = 3

// judgeAll fetches and judges the head on every occasion that still holds. moved are the pull requests whose head is
// another one, as the fetch found it.
func (g *Gate) judgeAll(ctx context.Context, origin Origin, sha name.Commit, occasions []occasion, hub Hub) (out []told, moved []store.Pull, err error) {
	for fetches := 1; ; fetches++ {
		out, moved, err = g.judgeFetched(ctx, origin, sha, occasions, hub)
		if fetches == maxFetches || !errors.Is(err, source.ErrCorrupt) && !errors.Is(err, source.ErrMissing) {
			return out, moved, err
		}
	}
}

// judgeWithout judges on the occasions one by one, because a ref of one of them is gone: that one no longer holds, the
// others do. Of a push it may be only the commit before that is gone, after a forced push.
func (g *Gate) judgeWithout(ctx context.Context, origin Origin, sha name.Commit, occasions []occasion, hub Hub) (out []told, moved []store.Pull, err error) {
	if len(occasions) == 1 {
		o := occasions[0]
		if o.baseID.IsZero() {
			return nil, nil, nil // a newer event tells what became of it
		}
		o.baseID, o.unbased = name.Commit{}, true
		return g.judgeFetched(ctx, origin, sha, []occasion{o}, hub)
	}
	for i := range occasions {
		tolds, others, err := g.judgeFetched(ctx, origin, sha, occasions[i:i+1], hub)
		if err != nil {
			return nil, nil, err
		}
		out, moved = append(out, tolds...), append(moved, others...)
	}
	return out, moved, nil
}

// judgeFetched is judgeAll with one fetch.
func (g *Gate) judgeFetched(ctx context.Context, origin Origin, sha name.Commit, occasions []occasion, hub Hub) (out []told, moved []store.Pull, err error) {
	if len(occasions) == 0 {
		return nil, nil, nil
	}
	var refs []string
	add := func(ref string) {
		if ref != "" && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	for _, o := range occasions {
		add(o.ref)
		add(o.baseRef)
		add(o.baseID.String())
	}
	lease, err := hub.Fetcher.Fetch(ctx, origin, refs...)
	if errors.Is(err, ErrRefGone) {
		return g.judgeWithout(ctx, origin, sha, occasions, hub)
	}
	if err != nil {
		return nil, nil, err
	}
	defer lease.Release()
	for _, o := range occasions {
		// The fetch confirms the head: a ref that has moved on is judged on its own commit, never on this one.
		if head, err := lease.Commit(o.ref); err != nil || head != sha {
			if err != nil {
				return nil, nil, err
			}
			if o.pull != 0 {
				o.row.Head, o.row.Follows, o.row.Pusher = head, "", 0
				moved = append(moved, o.row)
			}
			continue
		}
		t, err := g.judgeOccasion(ctx, origin, sha, o, lease)
		if errors.Is(err, source.ErrCorrupt) || errors.Is(err, source.ErrMissing) {
			lease.Damaged()
			return nil, nil, err
		}
		if err != nil {
			return nil, nil, err
		}
		if t != nil {
			out = append(out, *t)
		}
	}
	return out, moved, nil
}

// maxOvertaken is how often a head is audited again because its line was recorded by somebody else.
const maxOvertaken = 5

func (g *Gate) judgeOccasion(ctx context.Context, origin Origin, head name.Commit, o occasion, lease Lease) (*told, error) {
	repo := lease.Repository()
	tenant := g.Store.For(origin.Repo.Account)
	base := o.baseID
	var err error
	if o.baseRef != "" {
		if base, err = lease.Commit(o.baseRef); err != nil {
			return nil, err
		}
	}
	req := Request{
		Repo: origin.Repo, Line: o.line, Adhoc: o.adhoc, Context: o.context, Pull: o.pull,
		Actor: itself, Trigger: string(o.context),
	}
	if req.Head, err = repo.Commit(ctx, head); err != nil {
		return nil, err
	}
	from := req.Head
	if !base.IsZero() {
		if from, err = repo.Commit(ctx, base); err != nil {
			return nil, err
		}
		merge, err := repo.MergeBase(ctx, base, head)
		switch {
		case errors.Is(err, source.ErrNoMergeBase): // unrelated histories: everything is new
		case err != nil:
			return nil, err
		default:
			if req.Base, err = repo.Commit(ctx, merge); err != nil {
				return nil, err
			}
		}
	}
	t := &told{occasion: o}
	if o.unbased {
		t.notes = append(t.notes, "The commit that this is compared with is no longer at GitHub: everything counts as introduced, under the commit's own policies.")
	}
	if err := g.policiesOf(ctx, tenant, &req, from, t); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		at := g.Now()
		if t.found, err = g.Audit(ctx, req); err != nil {
			return nil, err
		}
		if req.Waivers, err = g.waiversFor(ctx, origin.Repo, t.found.Findings, at); err != nil {
			return nil, err
		}
		if t.Judged, err = g.Judge(req, t.found.Report, at); err != nil {
			return nil, err
		}
		if err = g.Record(ctx, req, t.found, t.Judged); err == nil {
			asked, err := g.askedIn(ctx, origin.Repo, o)
			if err == nil {
				err = g.resolvePending(ctx, origin.Repo, asked, t.found.Report)
			}
			if err == nil {
				t.pending, err = pendingFor(asked, t.Verdict)
			}
			return t, err
		}
		if !errors.Is(err, ErrOvertaken) || attempt == maxOvertaken {
			return nil, err
		}
	}
}

// policiesOf sets the policies of the base. Where its file cannot be read, the last good one stays in force.
func (g *Gate) policiesOf(ctx context.Context, tenant *store.Tenant, req *Request, from *source.Snapshot, t *told) error {
	doc, src, err := ReadPolicy(ctx, from)
	if err == nil {
		req.Policy = Effective(doc)
		if doc != nil {
			req.Sources = []PolicySource{src}
		} else {
			t.notes = append(t.notes, "There is no "+PolicyPath+" at the base: the built-in policies hold, which warn and do not block.")
		}
		return nil
	}
	if errors.Is(err, source.ErrCorrupt) || errors.Is(err, source.ErrMissing) || ctx.Err() != nil {
		return err
	}
	t.notes = append(t.notes, "The policies at the base cannot be read ("+err.Error()+"). The last readable ones are in force.")
	for _, line := range []string{req.Line, "default"} {
		last, lastErr := tenant.LatestLineVerdict(ctx, req.Repo.ID, line)
		if errors.Is(lastErr, store.ErrNotFound) {
			continue
		}
		if lastErr != nil {
			return lastErr
		}
		d, docErr := tenant.Document(ctx, last.ID)
		if docErr != nil {
			return docErr
		}
		v, docErr := verdict.ParseCanonical(d.Body)
		if docErr != nil {
			return docErr
		}
		if d, docErr = tenant.Document(ctx, v.Inputs.Policy); docErr != nil {
			return docErr
		}
		req.Policy, docErr = policy.ParseSet(d.Body)
		return docErr
	}
	req.Policy = Effective(nil)
	return nil
}

// checkDigest is the digest of what a check run says.
func checkDigest(c Check) (string, error) {
	b, err := canon.Marshal(struct {
		Blocked              bool
		Title, Summary, Text string
		Annotations          []Annotation
		At                   time.Time
	}{c.Blocked, c.Title, c.Summary, c.Text, c.Annotations, c.Finished.UTC()})
	if err != nil {
		return "", err
	}
	return canon.Digest(b), nil
}
