// Package gate holds what the product does, a use case per file: Audit looks at code, Judge decides about
// what was found, Record keeps both with what happened, Replay proves a decision again. Surfaces (the command
// line, GitHub's webhooks) call these and render what they return.
//
// Everything that a use case needs of the world is in Gate: the store, a clock, a source of randomness.
package gate

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/policy"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Gate runs the use cases. All fields but Options are required.
type Gate struct {
	Store    *store.Store
	Auditors []audit.Auditor
	Options  audit.Options                                // its Cache is replaced by the account's own
	Now      func() time.Time                             // the clock; read once per recorded step
	Rand     io.Reader                                    // crypto/rand.Reader outside tests
	Engine   string                                       // version of this program
	Wait     func(ctx context.Context, attempt int) error // before a retry of the database; nil: up to about 90 s in all
}

// Request is one state of one repository that somebody wants judged.
type Request struct {
	Repo     name.Repo
	Line     string // the line of history: "worktree/main", "default", "pull/12"
	Adhoc    bool   // no line that goes on: the verdict is kept, what became of findings is not told
	Context  verdict.Context
	Pull     int              // number of the pull request, where the context is one
	Head     *source.Snapshot // what is judged
	Base     *source.Snapshot // what it is compared with; nil: everything is in scope
	Policy   policy.Set
	Sources  []PolicySource   // the documents Policy was made of, kept for later readers
	Waivers  []verdict.Waiver // in force for what was found; the command line has none
	Actor    ledger.Actor     // who asked
	Trigger  string           // why: "push", "pull_request.synchronize", "command line"
	Progress func(audit.Progress)
}

// Audited is what a run of the auditors found, and when.
type Audited struct {
	*audit.Report
	ID                string // of the run, a UUIDv7
	Started, Finished time.Time
	version           int64 // of the line when the run began: Record refuses an older view of it
}

// Audit runs the auditors over the request's head and base.
func (g *Gate) Audit(ctx context.Context, req Request) (*Audited, error) {
	started := g.Now()
	tenant := g.Store.For(req.Repo.Account)
	seal, err := g.seal(ctx, tenant)
	if err != nil {
		return nil, err
	}
	opts := g.Options
	opts.Cache = cache{tenant, g.Now}
	runner, err := audit.New(g.Auditors, opts)
	if err != nil {
		return nil, err
	}
	id, err := ledger.NewID(started, g.Rand)
	if err != nil {
		return nil, err
	}
	line, err := retry(ctx, g, func() (store.Line, error) { return tenant.Line(ctx, req.Repo.ID, req.Line) })
	if err != nil {
		return nil, err
	}
	report, err := runner.Run(ctx, audit.Target{Head: req.Head, Base: req.Base, Seal: seal, Progress: req.Progress})
	if err != nil {
		return nil, err
	}
	return &Audited{Report: report, ID: id, Started: started, Finished: g.Now(), version: line.Version}, nil
}

// seal digests secrets under the account's key: whoever has the ledger but not the key cannot guess them.
func (g *Gate) seal(ctx context.Context, tenant *store.Tenant) (audit.Seal, error) {
	key, err := retry(ctx, g, func() ([]byte, error) { return tenant.ContentKey(ctx, g.Now(), g.Rand) })
	if err != nil {
		return nil, err
	}
	return func(secret []byte) string {
		mac := hmac.New(sha256.New, key)
		mac.Write(secret)
		return hex.EncodeToString(mac.Sum(nil))
	}, nil
}

// cache is the account's part of the stored cache.
type cache struct {
	*store.Tenant
	now func() time.Time
}

func (c cache) CachePut(ctx context.Context, entries map[string][]byte) error {
	return c.Tenant.CachePut(ctx, c.now(), entries)
}

// Judged is a verdict and its forms.
type Judged struct {
	verdict.Verdict
	Canonical []byte
	Digest    string // the verdict's key: "sha256:…"
	ID        string // for people: "V-…"
}

// Judge decides about what an audit found. It is pure: at is the time of the event that asks.
func (g *Gate) Judge(req Request, found *audit.Report, at time.Time) (Judged, error) {
	return judged(input(req, found, at, g.Engine))
}

func judged(in policy.Input) (Judged, error) {
	v, err := policy.Judge(in)
	if err != nil {
		return Judged{}, err
	}
	b, err := v.Canonical()
	if err != nil {
		return Judged{}, err
	}
	digest, err := v.Digest()
	if err != nil {
		return Judged{}, err
	}
	return Judged{Verdict: v, Canonical: b, Digest: digest, ID: verdict.ID(digest)}, nil
}

func input(req Request, found *audit.Report, at time.Time, engine string) policy.Input {
	subject := verdict.Subject{
		Account:    req.Repo.Account.String(),
		Repository: verdict.Repository{ID: req.Repo.ID, FullName: req.Repo.FullName},
		Head:       req.Head.Commit(),
		Tree:       req.Head.ID(),
		Context:    req.Context,
		Pull:       req.Pull,
	}
	if req.Base != nil {
		subject.Base = req.Base.Commit()
	}
	return policy.Input{
		Subject: subject, Findings: found.Findings, Policy: req.Policy,
		Waivers: req.Waivers, Assessments: assessments(found.Assessments), Time: at, Engine: engine,
	}
}

// assessments hands the runner's view to the policies: the rooms share no types, only words.
func assessments(as []audit.Assessment) []policy.Assessment {
	out := make([]policy.Assessment, len(as))
	for i, a := range as {
		out[i] = policy.Assessment{
			Auditor: a.Auditor, Version: a.Version, Config: a.Config, Focus: a.Focus,
			Outcome: policy.Outcome(a.Outcome), Reason: a.Reason,
		}
		for _, g := range a.Gaps {
			out[i].Gaps = append(out[i].Gaps, policy.Gap{Path: g.Path, Reason: g.Reason, Introduced: g.Introduced})
		}
	}
	return out
}

// retry calls again while the database is away: a gate that gives up at once turns a restart of the database
// into a wall of red checks.
func retry[T any](ctx context.Context, g *Gate, call func() (T, error)) (T, error) {
	wait := g.Wait
	if wait == nil {
		wait = BackOff
	}
	for attempt := 1; ; attempt++ {
		v, err := call()
		if err == nil || !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrFull) {
			return v, err
		}
		if waitErr := wait(ctx, attempt); waitErr != nil {
			return v, fmt.Errorf("%w (gave up after %d attempts)", err, attempt)
		}
	}
}

// errEnough ends the retries.
var errEnough = errors.New("tried long enough")

// BackOff waits before a retry: 0.1, 0.2, 0.4 … up to 10 seconds, about 80 in all over 14 attempts. Its error
// says that there is no use in another.
func BackOff(ctx context.Context, attempt int) error {
	const attempts = 14
	if attempt >= attempts {
		return errEnough
	}
	d := min(100*time.Millisecond<<(attempt-1), 10*time.Second)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
