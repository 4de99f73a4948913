// Package seedtest makes an organisation with some months of history for tests of reports: real git repositories,
// audited, judged and recorded by the gate, with a signed ledger. Only its auditors are the test's own.
package seedtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/gittest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/ledger/sqllog"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// World is an organisation and everything that was recorded about it.
type World struct {
	t       testing.TB
	Store   *store.Store
	Log     *sqllog.Log
	Key     *ledger.Key
	Account name.Account
	Login   string
	Now     time.Time // moves on with what is done
	gate    *gate.Gate
	repos   int64
}

// New is an organisation without a repository, called login, on an empty store.
func New(t testing.TB, dsn, login string, id int64, now time.Time) *World {
	t.Helper()
	ctx := context.Background()
	s, err := store.Open(ctx, dsn)
	check(t, err)
	t.Cleanup(func() { s.Close() })
	log, err := sqllog.Open(ctx, filepath.Join(t.TempDir(), "ledger.db"), "prod")
	check(t, err)
	t.Cleanup(func() { log.Close() })
	key, err := ledger.LoadOrCreateKey(filepath.Join(t.TempDir(), "key"), "noxaudit/prod", rand.Reader)
	check(t, err)
	return NewOn(t, s, log, key, login, id, now)
}

// NewOn is New on what another organisation uses already.
func NewOn(t testing.TB, s *store.Store, log *sqllog.Log, key *ledger.Key, login string, id int64, now time.Time) *World {
	t.Helper()
	account, err := name.ParseAccount(fmt.Sprint(id))
	check(t, err)
	w := &World{t: t, Store: s, Log: log, Key: key, Account: account, Login: login, Now: now}
	w.gate = &gate.Gate{
		Store: s, Rand: rand.Reader, Engine: "0.9.0", Now: func() time.Time { w.Now = w.Now.Add(20 * time.Millisecond); return w.Now },
		Auditors: []audit.Auditor{lines{"secrets", "security"}, lines{"deps", "dependencies"}, lines{"docs", "documentation"}, lines{"model", "security-review"}, gate.PolicyFile{}, gate.PolicyRemoval{}},
	}
	w.Commit("installation.created", store.Change{Installation: &store.Installation{ID: 7, Login: login, State: store.InstallationActive}})
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Commit records a change with one entry of this type.
func (w *World) Commit(event string, c store.Change) {
	w.t.Helper()
	id, err := ledger.NewID(w.Now, rand.Reader)
	check(w.t, err)
	salt, err := ledger.NewSalt(rand.Reader)
	check(w.t, err)
	c.Time = w.Now
	c.Entries = append(c.Entries, ledger.Event{
		Time: w.Now, Source: "github", ID: id, Salt: salt, Type: event, Account: w.Account.String(),
		Actor: ledger.Actor{Kind: "system", Name: "noxaudit"}, Subject: map[string]string{}, Content: map[string]string{},
	})
	check(w.t, w.Store.For(w.Account).Commit(context.Background(), c))
}

// Repo is a repository of the organisation.
type Repo struct {
	w    *World
	Git  *gittest.Repo
	ID   string
	Name string
	last string // commit
}

// Repo adds a repository; without a policy of its own it is under the built-in ones.
func (w *World) Repo(name string) *Repo {
	w.t.Helper()
	w.repos++
	r := &Repo{w: w, ID: fmt.Sprint(90000 + w.repos), Name: name}
	r.Rename(name)
	return r
}

// Rename tells that the repository is called so now.
func (r *Repo) Rename(name string) {
	r.w.t.Helper()
	r.Name = name
	r.w.Commit("repository.seen", store.Change{Repository: &store.Repository{ID: r.ID, FullName: r.w.Login + "/" + name, Origin: &store.Origin{
		Installation: 7, Owner: r.w.Login, Name: name, DefaultBranch: "main", Private: true, Covered: true,
	}}})
}

// At moves the clock.
func (w *World) At(t time.Time) *World { w.Now = t; return w }

func (r *Repo) git() *gittest.Repo {
	if r.Git == nil {
		r.Git = gittest.New(r.w.t)
	}
	return r.Git
}

// Push commits files to main and judges it against what was there before.
func (r *Repo) Push(files gittest.Files) string {
	r.w.t.Helper()
	g := r.git()
	if r.last != "" {
		g.Git("checkout", "-q", "main")
	}
	head := g.Commit(files)
	r.judge("default", verdict.Push, 0, head, r.last)
	r.last = head
	return head
}

// Pull is a pull request to be.
type Pull struct {
	Number                int
	Title, Author, Branch string
	HeadRepo              int64 // 0: the repository itself
	Draft, Closed         bool
}

// PullRequest commits files to a branch of their own and judges it as a pull request into main. Called again with
// the same number it pushes to that branch.
func (r *Repo) PullRequest(p Pull, files gittest.Files) string {
	r.w.t.Helper()
	head := r.Open(p, files)
	r.judge(fmt.Sprintf("pull/%d", p.Number), verdict.PullRequest, p.Number, head, r.last)
	return head
}

// Open is PullRequest without a verdict.
func (r *Repo) Open(p Pull, files gittest.Files) string {
	r.w.t.Helper()
	g := r.git()
	branch := fmt.Sprintf("pr-%d", p.Number)
	if strings.Contains(g.Git("branch", "--list", branch), branch) {
		g.Git("checkout", "-q", branch)
	} else {
		g.Git("checkout", "-q", "-b", branch, r.last)
	}
	head := commit(r.w.t, g.Commit(files))
	if p.HeadRepo == 0 {
		fmt.Sscan(r.ID, &p.HeadRepo)
	}
	r.w.Commit("pull.seen", store.Change{Pulls: []store.Pull{{
		Repository: r.ID, Number: p.Number, Head: head, HeadRef: p.Branch, HeadRepo: p.HeadRepo, BaseRef: "main", Base: commit(r.w.t, r.last),
		Draft: p.Draft, Open: !p.Closed, Title: p.Title, AuthorID: 501, Author: p.Author, UpdatedAt: r.w.Now,
	}}, Want: []store.Want{{Repository: r.ID, SHA: head}}})
	return head.String()
}

func commit(t testing.TB, s string) name.Commit {
	c, err := name.ParseCommit(s)
	check(t, err)
	return c
}

func (r *Repo) judge(line string, why verdict.Context, pull int, head, base string) {
	w := r.w
	w.t.Helper()
	ctx := context.Background()
	repo, err := source.Open(ctx, r.Git.Dir, source.DefaultLimits())
	check(w.t, err)
	defer repo.Close()
	snapshot := func(rev string) *source.Snapshot {
		s, err := repo.Commit(ctx, commit(w.t, rev))
		check(w.t, err)
		return s
	}
	req := gate.Request{
		Repo: name.Repo{Account: w.Account, ID: r.ID, FullName: w.Login + "/" + r.Name}, Line: line, Context: why, Pull: pull,
		Trigger: string(why), Actor: ledger.Actor{Kind: "system", Name: "noxaudit"}, Head: snapshot(head),
	}
	from := req.Head
	if base != "" {
		req.Base = snapshot(base)
		from = req.Base
	}
	doc, src, err := gate.ReadPolicy(ctx, from)
	check(w.t, err)
	if doc != nil {
		req.Sources = []gate.PolicySource{src}
	}
	req.Policy = gate.Effective(doc)
	found, err := w.gate.Audit(ctx, req)
	check(w.t, err)
	j, err := w.gate.Judge(req, found.Report, w.gate.Now())
	check(w.t, err)
	check(w.t, w.gate.Record(ctx, req, found, j))
	if s := commit(w.t, head); pull > 0 {
		h, err := w.Store.For(w.Account).Head(ctx, r.ID, s)
		check(w.t, err)
		w.Commit("check.published", store.Change{HeadCheck: &store.HeadCheck{Repository: r.ID, SHA: s, CheckID: 1, Tried: true, State: store.CheckCompleted, Published: j.Digest, Done: h.Wanted}})
	}
}

// Sequence moves what was recorded into the ledger and signs it.
func (w *World) Sequence() {
	w.t.Helper()
	ctx := context.Background()
	seq, err := ledger.NewSequencer(ctx, w.Store.For(w.Account), w.Log.For(w.Account))
	check(w.t, err)
	for {
		n, err := seq.Drain(ctx)
		check(w.t, err)
		if n == 0 {
			break
		}
	}
	signer, err := ledger.NewSigner(w.Key, w.Log.For(w.Account))
	check(w.t, err)
	_, err = signer.Sign(ctx)
	check(w.t, err)
}

// Mark is how a line of code says what an auditor of this package finds in it:
//
//	access_key = "AKIA****" // @high secrets/aws-access-key AWS access key in a Terraform variable file
const Mark = " // @"

// lines finds marked lines whose type begins with its name.
type lines struct{ name, focus string }

func (l lines) Info() audit.Info {
	return audit.Info{Name: l.name, Version: "3", Focus: []string{l.focus}, Title: "marked lines"}
}

func (l lines) Reads(string) (string, bool) { return "", true }

func (l lines) AuditBlob(_ context.Context, b audit.Blob) ([]finding.Draft, error) {
	var out []finding.Draft
	for i, text := range strings.Split(string(b.Bytes), "\n") {
		code, mark, ok := strings.Cut(text, Mark)
		if !ok {
			continue
		}
		severity, rest, _ := strings.Cut(mark, " ")
		kind, title, _ := strings.Cut(rest, " ")
		if !strings.HasPrefix(kind, l.name+"/") {
			continue
		}
		d := finding.Draft{
			Type: kind, Focus: l.focus, Confidence: finding.Certain, Evidence: finding.Deterministic, Title: title,
			Message: says[kind][0], Remediation: says[kind][1], Context: strings.TrimSpace(code), Region: finding.Region{StartLine: i + 1},
		}
		if err := d.Severity.UnmarshalText([]byte(severity)); err != nil {
			return nil, io.ErrUnexpectedEOF // not assessed
		}
		switch l.name {
		case "secrets":
			sum := sha256.Sum256([]byte(code))
			d.Content, d.CWE = hex.EncodeToString(sum[:]), []int{798}
		case "model":
			d.Evidence, d.Confidence = finding.Model, 840
		}
		out = append(out, d)
	}
	return out, nil
}

// says is what rules say of what they find, and how to get rid of it.
var says = map[string][2]string{
	"secrets/stripe-secret-key": {"Whoever reads the repository can charge and refund in your name.", "Revoke the key at Stripe, read it from VAULT_STRIPE_KEY, push. Removing the line alone leaves the key in history."},
	"secrets/aws-access-key":    {"Whoever reads the repository can act in the account.", "Deactivate the key, let the job assume a role, push. Removing the line alone leaves the key in history."},
	"secrets/private-key":       {"A private key in a repository is public to everyone who ever clones it.", "Make a new key, and put it where deployments read theirs."},
	"deps/known-vulnerability":  {"A published weakness is in a version that this module asks for.", "Update to a version that has the fix."},
	"deps/stale":                {"The newest release is more than a year ahead.", "Update it, or say in an ADR why not."},
	"docs/readme-stale":         {"The README names an endpoint that no longer exists.", "Describe what is there."},
	"docs/endpoint":             {"The endpoint is in the code and not in the contract.", "Add it to openapi.yml."},
	"model/missing-tenant":      {"The handler reads a row without asking whose it is.", "Pass the tenant, as the other handlers do."},
}

// RepoByID is a repository that the world has already, to rename it.
func (w *World) RepoByID(id, name string) Repo { return Repo{w: w, ID: id, Name: name} }

// RenameAccount tells that the organisation is called so now.
func (w *World) RenameAccount(login string) {
	w.t.Helper()
	w.Login = login
	w.Commit("installation.seen", store.Change{Installation: &store.Installation{ID: 7, Login: login, State: store.InstallationActive}})
}
