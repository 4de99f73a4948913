package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/policy"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// The kinds under which documents are kept.
const (
	kindFindings    = "findings"
	kindPolicy      = "policy"
	kindAssessments = "assessments"
	kindVerdict     = "verdict"
	kindSource      = "policy source"
	kindWaivers     = "waivers"
)

// perChange is how many findings go into one change, each with its entry; the last change has room for the
// entries about the audit and the verdict.
const perChange = store.MaxFindings - 10

// ErrOvertaken says that the line was audited and recorded by somebody else since this audit began. What it found
// may be older than what is kept: audit again, which costs only what changed.
var ErrOvertaken = errors.New("the line was audited again in the meantime")

// largeDocument is the size, in bytes, from which a document is written in a change of its own, before all
// others: the change that makes the verdict stays small.
const largeDocument = 1 << 20

// Record keeps an audit and its verdict: what became of the line's findings, an entry for each, then the run,
// its inputs and the verdict in one transaction. Large sets are written in several changes; each is complete in
// itself, so a run that is killed half-way leaves nothing unrecorded, and the next one goes on from there.
// ErrOvertaken: nothing of the verdict was kept.
func (g *Gate) Record(ctx context.Context, req Request, found *Audited, j Judged) error {
	err := g.record(ctx, req, found, j)
	if errors.Is(err, store.ErrStale) {
		return fmt.Errorf("record: %w", ErrOvertaken)
	}
	return err
}

// What is remembered may be forgotten at any time, and is when it is this old or this much.
const (
	rememberFor   = 60 * 24 * time.Hour
	rememberBytes = 1 << 30
)

// Trim drops what the cache has not needed for long.
func (g *Gate) Trim(ctx context.Context, account name.Account) error {
	_, err := g.Store.For(account).CacheTrim(ctx, g.Now().Add(-rememberFor), rememberBytes)
	return err
}

func (g *Gate) record(ctx context.Context, req Request, found *Audited, j Judged) error {
	tenant := g.Store.For(req.Repo.Account)
	r := recording{g: g, req: req, now: g.Now(), tenant: tenant, version: found.version}
	docs, err := documents(req, found.Report, j)
	if err != nil {
		return err
	}
	if docs, err = r.large(ctx, docs); err != nil {
		return err
	}
	open, err := retry(ctx, g, func() ([]finding.Finding, error) { return tenant.OpenFindings(ctx, req.Repo.ID, req.Line) })
	if err != nil {
		return err
	}
	var pending store.Change
	known, err := retry(ctx, g, func() (store.Repository, error) { return tenant.Repository(ctx, req.Repo.ID) })
	switch {
	case errors.Is(err, store.ErrNotFound):
		err = r.add(&pending, "repository.added", nil, map[string]string{"name": req.Repo.FullName})
	case err == nil && known.FullName != req.Repo.FullName:
		err = r.add(&pending, "repository.renamed", nil, map[string]string{"from": known.FullName, "to": req.Repo.FullName})
	}
	if err != nil {
		return err
	}
	pending.Repository = &store.Repository{ID: req.Repo.ID, FullName: req.Repo.FullName}
	var delta finding.Delta
	if !req.Adhoc {
		delta = finding.Compare(open, found.Findings)
	}
	for _, step := range []struct {
		event    string
		findings []finding.Finding
		resolved bool
	}{
		{"finding.created", delta.Created, false},
		{"finding.updated", delta.Updated, false},
		{"finding.resolved", resolvable(delta.Resolved, found.Assessments), true},
	} {
		for _, f := range step.findings {
			pending.Findings = append(pending.Findings, store.FindingChange{Finding: f, Resolved: step.resolved})
			if err := r.add(&pending, step.event, map[string]string{"finding": f.ID, "fingerprint": f.Fingerprint}, f); err != nil {
				return err
			}
			if len(pending.Findings) == perChange {
				if err := r.commit(ctx, pending); err != nil {
					return err
				}
				pending = store.Change{}
			}
		}
	}
	if err := r.conclude(&pending, found, j); err != nil {
		return err
	}
	pending.Documents = docs
	return r.commit(ctx, pending)
}

// large keeps the large documents, each with its entry, and returns the others.
func (r *recording) large(ctx context.Context, docs []store.Document) ([]store.Document, error) {
	var small []store.Document
	for _, d := range docs {
		if len(d.Body) < largeDocument {
			small = append(small, d)
			continue
		}
		c := store.Change{Documents: []store.Document{d}, Repository: &store.Repository{ID: r.req.Repo.ID, FullName: r.req.Repo.FullName}}
		content := map[string]any{"kind": d.Kind, "digest": d.Digest(), "bytes": len(d.Body)}
		if err := r.add(&c, "document.kept", map[string]string{"document": d.Digest()}, content); err != nil {
			return nil, err
		}
		if err := r.commit(ctx, c); err != nil {
			return nil, err
		}
	}
	return small, nil
}

// resolvable leaves out findings that are only gone because nobody looked: their auditor did not run or
// failed, or it could not assess their file.
func resolvable(gone []finding.Finding, as []audit.Assessment) []finding.Finding {
	looked := map[string]bool{}
	blind := map[[2]string]bool{}
	for _, a := range as {
		looked[a.Auditor] = a.Outcome != audit.NotAssessed
		for _, gap := range a.Gaps {
			blind[[2]string{a.Auditor, gap.Path}] = true
		}
	}
	var out []finding.Finding
	for _, f := range gone {
		if looked[f.Auditor] && !blind[[2]string{f.Auditor, f.Path}] {
			out = append(out, f)
		}
	}
	return out
}

// recording is one attempt to record: its clock reading, and the version of the line as it grows.
type recording struct {
	g       *Gate
	req     Request
	tenant  *store.Tenant
	now     time.Time
	version int64
}

func (r *recording) expect() store.Expect {
	return store.Expect{Repository: r.req.Repo.ID, Line: r.req.Line, Version: r.version}
}

// add gives the change one more entry.
func (r *recording) add(c *store.Change, event string, subject map[string]string, content any) error {
	id, err := ledger.NewID(r.now, r.g.Rand)
	if err != nil {
		return err
	}
	salt, err := ledger.NewSalt(r.g.Rand)
	if err != nil {
		return err
	}
	about := map[string]string{"repository": r.req.Repo.ID, "line": r.req.Line}
	for k, v := range subject {
		about[k] = v
	}
	c.Entries = append(c.Entries, ledger.Event{
		Time: r.now, Source: r.expect().Source(), ID: id, Salt: salt, Type: event,
		Account: r.req.Repo.Account.String(), Actor: r.req.Actor, Subject: about, Content: content,
	})
	return nil
}

func (r *recording) commit(ctx context.Context, c store.Change) error {
	expect := r.expect()
	c.Time, c.Expect = r.now, &expect
	if _, err := retry(ctx, r.g, func() (struct{}, error) { return struct{}{}, r.tenant.Commit(ctx, c) }); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	r.version++
	return nil
}

// run is the content of the entry about an audit.
type run struct {
	ID       string       `json:"id"`
	Trigger  string       `json:"trigger"`
	Started  string       `json:"started"`
	Finished string       `json:"finished"`
	Head     string       `json:"head,omitempty"`
	Base     string       `json:"base,omitempty"`
	Tree     string       `json:"tree"`
	Engine   string       `json:"engine"`
	Files    int          `json:"files"`
	Audited  int          `json:"audited"`
	Auditors []runAuditor `json:"auditors"`
}

type runAuditor struct {
	Name    string        `json:"name"`
	Version string        `json:"version"`
	Config  string        `json:"config,omitempty"`
	Inputs  []audit.Input `json:"inputs,omitempty"`
	Outcome audit.Outcome `json:"outcome"`
	Reason  string        `json:"reason,omitempty"`
	Found   int           `json:"found"`
	Gaps    int           `json:"gaps"`
}

// decision is the content of the entry about a verdict.
type decision struct {
	Verdict    string             `json:"verdict"` // digest
	ID         string             `json:"id"`
	Conclusion verdict.Conclusion `json:"conclusion"`
	Trigger    string             `json:"trigger,omitempty"` // of one without an audit: what changed
	Head       string             `json:"head,omitempty"`
	Base       string             `json:"base,omitempty"`
	Inputs     verdict.Inputs     `json:"inputs"`
	Policies   []decidedPolicy    `json:"policies"`
}

type decidedPolicy struct {
	Name    string          `json:"name"`
	Action  verdict.Action  `json:"action"`
	Outcome verdict.Outcome `json:"outcome"`
}

// conclude adds the run, the inputs and the verdict.
func (r *recording) conclude(c *store.Change, found *Audited, j Judged) error {
	ran := run{
		ID: found.ID, Trigger: r.req.Trigger, Tree: r.req.Head.ID(), Engine: r.g.Engine,
		Started: verdict.FormatTime(found.Started), Finished: verdict.FormatTime(found.Finished),
		Head: j.Subject.Head.String(), Base: j.Subject.Base.String(),
		Files: found.Stats.Files, Audited: found.Stats.Audited,
	}
	for _, a := range found.Assessments {
		ran.Auditors = append(ran.Auditors, runAuditor{
			Name: a.Auditor, Version: a.Version, Config: a.Config, Inputs: a.Inputs,
			Outcome: a.Outcome, Reason: a.Reason, Found: a.Found, Gaps: len(a.Gaps),
		})
	}
	stats, err := json.Marshal(ran)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if err := r.add(c, "audit.completed", map[string]string{"audit": found.ID}, ran); err != nil {
		return err
	}
	if err := r.verdict(c, j, found.ID, ""); err != nil {
		return err
	}
	c.Line = &store.Line{Head: j.Subject.Head, Tree: r.req.Head.ID(), AuditedAt: found.Finished}
	c.Audit = &store.Audit{
		ID: found.ID, Repository: r.req.Repo.ID, Line: r.req.Line, Head: j.Subject.Head, Base: j.Subject.Base,
		Started: found.Started, Finished: found.Finished, Stats: stats,
	}
	return nil
}

// verdict adds a verdict with its entry: of an audit, or, with a trigger, of what was found before.
func (r *recording) verdict(c *store.Change, j Judged, audit, trigger string) error {
	decided := decision{
		Verdict: j.Digest, ID: j.ID, Conclusion: j.Conclusion, Trigger: trigger,
		Head: j.Subject.Head.String(), Base: j.Subject.Base.String(), Inputs: j.Inputs,
	}
	for _, p := range j.Policies {
		decided.Policies = append(decided.Policies, decidedPolicy{p.Name, p.Action, p.Outcome})
	}
	subject := map[string]string{"verdict": j.Digest}
	if audit != "" {
		subject["audit"] = audit
	}
	if err := r.add(c, "verdict.reached", subject, decided); err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339Nano, j.Inputs.Time)
	if err != nil {
		return fmt.Errorf("record: time of the verdict: %w", err)
	}
	c.Verdict = &store.Verdict{
		ID: j.Digest, Repository: r.req.Repo.ID, Line: r.req.Line, Head: j.Subject.Head, Base: j.Subject.Base,
		Conclusion: string(j.Conclusion), Time: at,
	}
	return nil
}

// waiverDocuments are the waivers of a verdict as a document; none for none.
func waiverDocuments(ws []verdict.Waiver) ([]store.Document, error) {
	if len(ws) == 0 {
		return nil, nil
	}
	b, err := policy.CanonicalWaivers(ws)
	if err != nil {
		return nil, err
	}
	return []store.Document{{Kind: kindWaivers, Body: b}}, nil
}

// documents are the verdict and all that it follows from, each under the digest that the verdict names.
func documents(req Request, found *audit.Report, j Judged) ([]store.Document, error) {
	fs, err := finding.Canonical(found.Findings)
	if err != nil {
		return nil, err
	}
	as, err := policy.CanonicalAssessments(assessments(found.Assessments))
	if err != nil {
		return nil, err
	}
	docs := []store.Document{
		{Kind: kindFindings, Body: fs},
		{Kind: kindPolicy, Body: req.Policy.Canonical()},
		{Kind: kindAssessments, Body: as},
		{Kind: kindVerdict, Body: j.Canonical},
	}
	ws, err := waiverDocuments(req.Waivers)
	if err != nil {
		return nil, err
	}
	docs = append(docs, ws...)
	for _, s := range req.Sources {
		docs = append(docs, store.Document{Kind: kindSource, Body: s.Bytes})
	}
	for _, want := range []struct{ noun, digest string }{
		{kindFindings, j.Inputs.Findings}, {kindPolicy, j.Inputs.Policy}, {kindAssessments, j.Inputs.Assessments},
	} {
		held := false
		for _, d := range docs {
			held = held || canon.Digest(d.Body) == want.digest
		}
		if !held {
			// Keeping it would make a verdict that nobody could ever replay.
			return nil, fmt.Errorf("record: the verdict's %s are not those of this audit", want.noun)
		}
	}
	return docs, nil
}
