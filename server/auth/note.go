package auth

import (
	"context"
	"strconv"
	"time"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

// source is the stream of the entries about sign-ins, in each log.
const source = "sessions"

// notes are the entries about one moment: those of the deployment's log, and those that each account's log gets as
// well, since its owners read that one only and learn from it who reached their account. No entry holds a token, a
// cookie, or what a browser calls itself.
type notes struct {
	at      time.Time
	by      ledger.Actor
	entries map[name.Account][]ledger.Event
	order   []name.Account // of the accounts; the deployment is not among them
}

func (a *Auth) note(at time.Time, by ledger.Actor) *notes {
	return &notes{at: at, by: by, entries: map[name.Account][]ledger.Event{}}
}

func actor(id int64, login string) ledger.Actor {
	return ledger.Actor{Kind: "user", ID: strconv.FormatInt(id, 10), Name: login, Via: "page"}
}

func (n *notes) add(account name.Account, event string, subject map[string]string, content any) {
	if account != name.Deployment && n.entries[account] == nil {
		n.order = append(n.order, account)
	}
	n.entries[account] = append(n.entries[account], ledger.Event{
		Time: n.at, Source: source, Type: event, Account: account.String(), Actor: n.by, Subject: subject, Content: content,
	})
}

// role is a grant as entries tell it.
type role struct {
	Account      string      `json:"account"`
	Role         access.Role `json:"role"`
	Repositories int         `json:"repositories,omitempty"`
}

func roles(p access.Person, in name.Account) []role {
	out := []role{}
	for _, g := range p.Grants {
		if in.IsZero() || g.Account == in {
			out = append(out, role{g.Account.String(), g.Role, len(g.Repositories)})
		}
	}
	return out
}

// mostRoles is how many roles an entry of the deployment tells; a person with more is told by their number.
const mostRoles = 200

func allRoles(p access.Person) map[string]any {
	all := roles(p, name.Account{})
	if len(all) > mostRoles {
		return map[string]any{"roles": all[:mostRoles], "more": len(all) - mostRoles}
	}
	return map[string]any{"roles": all}
}

func about(s store.Session) map[string]string {
	return map[string]string{"session": s.ID, "person": strconv.FormatInt(s.Person, 10)}
}

func (n *notes) opened(s store.Session, p access.Person) {
	content := allRoles(p)
	content["source"] = s.Source
	n.add(name.Deployment, "session.opened", about(s), content)
	for _, a := range s.Accounts {
		n.add(a, "session.opened", about(s), map[string]any{"source": s.Source, "roles": roles(p, a)})
	}
}

func (n *notes) changed(s store.Session, was, is access.Person) {
	content := allRoles(is)
	content["login"] = is.Login
	n.add(name.Deployment, "session.rights_changed", about(s), content)
	for _, a := range accounts(access.Person{Grants: append(append([]access.Grant{}, was.Grants...), is.Grants...)}) {
		if n.entries[a] == nil && !sameGrant(was.In(a), is.In(a)) {
			n.add(a, "session.rights_changed", about(s), map[string]any{"roles": roles(is, a)})
		}
	}
}

func (n *notes) ended(s store.Session, reason string) {
	n.add(name.Deployment, "session.ended", about(s), map[string]string{"reason": reason, "login": s.Login})
	for _, a := range s.Accounts {
		n.add(a, "session.ended", about(s), map[string]string{"reason": reason, "login": s.Login})
	}
}

func (n *notes) refused(p access.Person) {
	n.add(name.Deployment, "session.refused", map[string]string{"person": strconv.FormatInt(p.ID, 10)}, map[string]string{"reason": "no role in any account"})
}

// commit records the entries and makes the change. The accounts' entries come first: nobody reaches an account whose
// log does not say so.
func (a *Auth) commit(ctx context.Context, n *notes, c store.Change) error {
	for _, account := range append(n.order, name.Deployment) {
		for i := range n.entries[account] {
			e := &n.entries[account][i]
			var err error
			if e.ID, err = a.newID(n.at); err != nil {
				return err
			}
			if e.Salt, err = ledger.NewSalt(a.opts.Rand); err != nil {
				return err
			}
		}
	}
	for _, account := range n.order {
		if err := a.opts.Store.For(account).Commit(ctx, store.Change{Time: n.at, Entries: n.entries[account]}); err != nil {
			return err
		}
	}
	c.Entries = n.entries[name.Deployment]
	return a.home.Commit(ctx, c)
}
