package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// Order is one command that a person gives elsewhere than in a comment: at a command line or on a page. Who it is must
// have been proved by the surface.
type Order struct {
	Account    name.Account
	Repository string         // id
	Pull       int            // the pull request it is about; 0: none, which only a waiver's own commands can do with
	Surface    waiver.Surface // waiver.CLI or waiver.Page
	By         waiver.Person
	Line       string // "/noxaudit approve W-…": the grammar is that of comments
}

// Receipt is what came of an order.
type Receipt struct {
	Refusal *waiver.Refusal // nil: it was done
	Waiver  *waiver.Waiver  // as it stands now, where the order was about one
	Applied bool            // something is in force, or ended, by it
	Text    string          // Markdown: the answer that a comment would get
	Heads   []store.HeadKey // to look at again
}

// Command does what an order says, by the same rules and with the same entries as a comment. A refusal is a result; an
// error means that it could not be found out or recorded now.
func (g *Gate) Command(ctx context.Context, o Order, people People) (Receipt, error) {
	for again := 1; ; again++ {
		r, err := g.ordered(ctx, o, people)
		if errors.Is(err, store.ErrStale) && again < maxOvertaken {
			continue
		}
		return r, err
	}
}

func (g *Gate) ordered(ctx context.Context, o Order, people People) (Receipt, error) {
	tenant := g.Store.For(o.Account)
	repo, err := tenant.Repository(ctx, o.Repository)
	if err != nil {
		return Receipt{}, err
	}
	if repo.Origin == nil || !repo.Origin.Covered {
		return Receipt{}, fmt.Errorf("repository %q: the App does not cover it: %w", o.Repository, store.ErrNotFound)
	}
	c := store.Change{Time: g.Now()}
	d := g.hearing(tenant, &c, originOf(o.Account, repo), people)
	d.who, d.via = waiver.Actor{Person: o.By}, string(o.Surface)
	d.place = waiver.Place{Surface: o.Surface, Pull: o.Pull}
	if err := d.ask(ctx); err != nil {
		return Receipt{}, err
	}
	command, err := waiver.Parse(o.Line)
	var no *waiver.Refusal
	if errors.As(err, &no) {
		err = d.refuse(answer{refusal: no})
	} else if err == nil {
		err = d.command(ctx, command)
	}
	if err == nil {
		err = d.rejudge(ctx)
	}
	if err != nil {
		return Receipt{}, err
	}
	if len(c.Entries) > 0 { // who only asks leaves no trace
		if err := tenant.Commit(ctx, c); err != nil {
			return Receipt{}, err
		}
	}
	a := d.answers[0]
	r := Receipt{Refusal: a.refusal, Waiver: a.waiver, Applied: a.applied, Text: reply(d.answers)}
	for _, w := range c.Want {
		r.Heads = append(r.Heads, store.HeadKey{Account: o.Account, Repository: w.Repository, SHA: w.SHA})
	}
	return r, nil
}

// Waivers are the waivers of a repository, at most limit: those that are open, the ones asked for last first, or all
// of them by id.
func (g *Gate) Waivers(ctx context.Context, account name.Account, repository string, open bool, limit int) ([]waiver.Waiver, error) {
	tenant := g.Store.For(account)
	var rows []store.Waiver
	var err error
	if open {
		rows, err = tenant.OpenWaivers(ctx, repository)
	} else {
		rows, err = tenant.WaiversByPrefix(ctx, repository, "W-", limit)
	}
	if err != nil {
		return nil, err
	}
	out := make([]waiver.Waiver, min(len(rows), limit))
	for i := range out {
		if out[i], err = readWaiver(rows[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Waiver is the one waiver of a repository that a target names, or a *waiver.Refusal that says what would be valid.
func (g *Gate) Waiver(ctx context.Context, account name.Account, repository string, t waiver.Target) (waiver.Waiver, error) {
	d := &hearing{g: g, tenant: g.Store.For(account), origin: Origin{Repo: name.Repo{Account: account, ID: repository}}}
	row, err := d.waiverOf(ctx, t)
	if err != nil {
		return waiver.Waiver{}, err
	}
	w, err := readWaiver(row)
	if err == nil && t.Digest != "" && !strings.HasPrefix(strings.TrimPrefix(w.Digest, "sha256:"), t.Digest) {
		err = refusal(waiver.OtherDigest, "%s has another content than @%s: it is %s.", w.ID, t.Digest, w.Name())
	}
	return w, err
}
