// Package access decides what a signed-in person may reach. There is one decision, [Can], and it denies whatever is
// not in its table.
//
// It knows roles, not where they come from: today GitHub is asked with the person's own token, later a directory may
// answer as well. It says only whether a surface may be reached. Whether somebody may approve a certain waiver is
// decided where waivers are, from what GitHub says at that moment.
package access

import (
	"errors"
	"slices"

	"github.com/noxaudit/noxaudit/internal/name"
)

// ErrSignInEnded is what a source of rights answers when the person's sign-in is not taken any more: it was revoked,
// or its time is over. Asking again does not help; signing in anew may.
var ErrSignInEnded = errors.New("the sign-in has ended at its source")

// Role is what a person is in one account. The zero value is nobody.
type Role string

// The roles.
const (
	Nobody Role = ""
	// RepositoryAdmin administers some repositories of the account and reaches those, and nothing about the account as a whole.
	RepositoryAdmin Role = "repository-admin"
	// Owner owns the organisation, or is the user whose account it is, and reaches all of the account.
	Owner Role = "owner"
)

// Person is somebody who signed in. The zero value may do nothing.
type Person struct {
	ID     int64   // GitHub's numeric id: logins change hands, ids do not
	Login  string  // for people to read; never compared
	Grants []Grant // at most one for an account; none for an account in which the person is nobody
}

// Grant is a person's role in one account.
type Grant struct {
	Account      name.Account
	Login        string // of the account, for people to read
	Role         Role
	Repositories []string // ids of the repositories that a RepositoryAdmin administers; nil for an Owner
}

// In is the person's grant in an account; its zero value when there is none.
func (p Person) In(a name.Account) Grant {
	if a.IsZero() {
		return Grant{}
	}
	for _, g := range p.Grants {
		if g.Account == a {
			return g
		}
	}
	return Grant{}
}

// Action is something that a surface lets people do.
type Action string

// The actions. Those on one repository need On.Repository, those on one's own sessions On.Person.
const (
	SeeAccount      Action = "see the account"       // its front page, which lists what SeeRepository allows and no more
	SeeOrganization Action = "see the organisation"  // figures and pages over the whole account
	SeeLedger       Action = "see the ledger"        // size, head, and who did what in the whole account
	SeeRepository   Action = "see the repository"    // verdicts, findings, pull requests, waivers
	RequestWaiver   Action = "request a waiver"      // and extend one
	ApproveWaiver   Action = "approve a waiver"      // reach the form; the rules of waivers decide
	RejectWaiver    Action = "reject a waiver"       // likewise
	RevokeWaiver    Action = "revoke a waiver"       // likewise
	EndOwnSessions  Action = "end one's sessions"    // list and end the sessions of On.Person
	EndAnySessions  Action = "end anybody's session" // list and end the sessions of all who reach the account
)

// Actions lists all actions.
var Actions = []Action{SeeAccount, SeeOrganization, SeeLedger, SeeRepository, RequestWaiver, ApproveWaiver, RejectWaiver, RevokeWaiver,
	EndOwnSessions, EndAnySessions}

// On is what an action is done to.
type On struct {
	Account    name.Account
	Repository string // id of a repository of that account
	Person     int64  // id of the person whose sessions are meant
}

// Can reports whether a person may do it. An action that it does not know, an account in which the person has no
// role, and a thing that is not named, are refused.
func Can(p Person, a Action, on On) bool {
	if p.ID <= 0 {
		return false
	}
	g := p.In(on.Account)
	owner := g.Role == Owner
	switch a {
	case SeeAccount:
		return owner || g.Role == RepositoryAdmin
	case SeeOrganization, SeeLedger, EndAnySessions:
		return owner
	case SeeRepository, RequestWaiver, ApproveWaiver, RejectWaiver, RevokeWaiver:
		return on.Repository != "" && (owner || g.Role == RepositoryAdmin && slices.Contains(g.Repositories, on.Repository))
	case EndOwnSessions:
		return on.Person == p.ID
	}
	return false
}
