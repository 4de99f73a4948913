package store

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/internal/name"
)

// What the store keeps for GitHub's front: what GitHub told us (deliveries), what we know by it (installations,
// repositories, pull requests, merge groups), and the check run that each head shall have. Ids are GitHub's
// numeric ones.

// Limits of these parts of a change.
const (
	MaxRepositories  = 500
	MaxPulls         = 500
	MaxWants         = 500
	MaxDeliveryBytes = 25 << 20 // of a body, before compression: GitHub's own limit
)

// Origin is where GitHub serves a repository and what it says of it.
type Origin struct {
	Installation  int64  // that speaks for it
	Owner, Name   string // under which it is served today; writing "" keeps what is stored
	DefaultBranch string // without refs/heads/; writing "" keeps what is stored: not every event tells it
	Private       bool
	Archived      bool
	Covered       bool // the installation covers it now
}

// The states of a delivery. One that is received waits for its processing; the others are final.
const (
	DeliveryReceived = "received"
	DeliveryFinished = "done"
	DeliveryRefused  = "refused"
)

// Delivery is a webhook delivery in the inbox. A change inserts it with the fields down to Body; a GUID that
// the account has already is ErrDuplicateDelivery, and nothing of the change is written.
type Delivery struct {
	GUID         string // GitHub's X-GitHub-Delivery, equal for all attempts to deliver it
	Event        string // "pull_request"
	Action       string // "opened"; "" for events without
	Installation int64  // 0 for none
	Received     time.Time
	Body         []byte // at most MaxDeliveryBytes; nil on reading once it was dropped

	State     string    // read only
	Attempts  int       // read only: how often its processing began without coming to an end (DeliveryTried)
	Processed time.Time // read only; zero while it is received
	Note      string    // read only: why it was refused
}

// DeliveryDone ends a delivery, together with all that it brought about: it is a compare-and-set from
// "received". One that has ended already is ErrAlreadyDone, and nothing of the change is written, so that a
// delivery that is processed twice takes effect once. ErrNotFound when there is no such delivery.
type DeliveryDone struct {
	GUID  string
	State string // DeliveryFinished or DeliveryRefused
	Note  string // why; clipped at 1,024 bytes
	At    time.Time
}

// The states of an installation.
const (
	InstallationActive    = "active"
	InstallationSuspended = "suspended"
	InstallationDeleted   = "deleted"
)

// Installation is the App on an account. A deleted one stays deleted, whatever arrives late: who installs again
// gets a new id.
type Installation struct {
	ID      int64
	Login   string // of the account
	State   string
	Changed time.Time // when login or state changed last; given out on reading
}

// Pull is a pull request as GitHub described it last. Descriptions may arrive out of order: an older one than
// what is stored changes nothing, an equally old one only where it does not open what is closed.
type Pull struct {
	Repository string
	Number     int
	Head       name.Commit
	HeadRef    string // branch name; of outside origin
	HeadRepo   int64  // numeric id; 0 when the fork is gone
	BaseRef    string // branch name, without refs/heads/
	Base       name.Commit
	Draft      bool
	Open       bool
	Title      string // of outside origin; clipped at 1,024 bytes
	AuthorID   int64
	Author     string
	UpdatedAt  time.Time // GitHub's, in whole seconds
	// Follows is the head before this one as the event says that brought it: it puts two events of one second in
	// order. "" when it says nothing, FirstHead for a pull request that was just opened.
	Follows string
	Pusher  int64 // numeric id of who brought the head; 0: not known, and keeps what is stored for the same head
}

// FirstHead is Pull.Follows of a pull request that was just opened: nothing can be older.
const FirstHead = "none"

// MergeGroup is a group of the merge queue, or the tip of a branch. The last description stands, but one whose base is
// its own head (nobody knows what it came from) does not replace one that knows better.
type MergeGroup struct {
	Repository string
	Head       name.Commit
	HeadRef    string // "refs/heads/gh-readonly-queue/main/pr-7-…"
	Base       name.Commit
	BaseRef    string // "refs/heads/main"
	Active     bool   // false once the queue destroyed it
}

// Want asks for a check run on a head, once more: it raises the head's generation.
type Want struct {
	Repository string
	SHA        name.Commit
	Rejudge    bool // what was found is to be judged again; the code need not be looked at
	Anew       bool // the check run that is known no longer counts: another shall take its place
}

// The states of a check run; "" before the first attempt.
const (
	CheckInProgress = "in_progress"
	CheckCompleted  = "completed"
)

// HeadCheck says what became of a head's check run. The head must have been wanted before, and Done must not be
// beyond what was wanted: else ErrNotFound.
type HeadCheck struct {
	Repository string
	SHA        name.Commit
	CheckID    int64  // GitHub's; 0 keeps what is stored
	Tried      bool   // a creation was attempted, its answer may be lost; once true it stays
	State      string // "" keeps what is stored
	Published  string // the digest of what was published; "" keeps what is stored
	Done       int64  // the generation that is finished; a smaller one than stored keeps that
}

// Head is a commit that gets a check run. Whoever works on it reads Wanted first, and says at the end that this
// generation is done: an event that arrives meanwhile has raised Wanted, and the work begins again.
type Head struct {
	Repository   string
	SHA          name.Commit
	Wanted, Done int64  // generations
	AuditWanted  int64  // the last generation that asks for more than another judgement
	CheckID      int64  // GitHub's; 0: not known
	Tried        bool   // a creation was attempted
	State        string // "", CheckInProgress, CheckCompleted
	Published    string // digest of what was published last
	Changed      time.Time
}

// DeliveryKey names a delivery among all tenants'.
type DeliveryKey struct {
	Account name.Account
	GUID    string
}

// HeadKey names a head among all tenants'.
type HeadKey struct {
	Account    name.Account
	Repository string
	SHA        name.Commit
}

// repositories are those of both fields.
func (c Change) repositories() []Repository {
	if c.Repository == nil {
		return c.Repositories
	}
	return append([]Repository{*c.Repository}, c.Repositories...)
}

// checkGitHub is the part of check for GitHub's front; key is check's.
func (c Change) checkGitHub(key func(what, s string, most int)) error {
	for _, l := range []struct {
		noun      string
		got, most int
	}{
		{"repositories", len(c.Repositories), MaxRepositories},
		{"pull requests", len(c.Pulls), MaxPulls},
		{"wanted heads", len(c.Want), MaxWants},
	} {
		if l.got > l.most {
			return &TooLargeError{Noun: l.noun, Got: l.got, Most: l.most}
		}
	}
	if err := c.checkDelivery(key); err != nil {
		return err
	}
	if err := c.checkConversation(key); err != nil {
		return err
	}
	// No key may come twice: one statement cannot write a row twice, and which of the two stands would be chance.
	seen := map[[3]string]bool{}
	twice := func(kind, a, b string) error {
		k := [3]string{kind, a, b}
		if seen[k] {
			return invalid("%s %s %s changes twice", kind, a, b)
		}
		seen[k] = true
		return nil
	}
	for _, r := range c.repositories() {
		key("the repository's id", r.ID, 64)
		key("the repository's name", r.FullName, 512)
		if err := twice("repository", r.ID, ""); err != nil {
			return err
		}
		if o := r.Origin; o != nil {
			if o.Installation <= 0 {
				return invalid("the installation of a repository is missing")
			}
			for what, s := range map[string]string{"the repository's owner": o.Owner, "the repository's own name": o.Name, "the default branch": o.DefaultBranch} {
				if s != "" {
					key(what, s, 1024)
				}
			}
		}
	}
	if i := c.Installation; i != nil {
		key("the installation's login", i.Login, 256)
		if i.ID <= 0 {
			return invalid("the installation's id is missing")
		}
		switch i.State {
		case InstallationActive, InstallationSuspended, InstallationDeleted:
		default:
			return invalid("%q is no state of an installation", i.State)
		}
	}
	for _, p := range c.Pulls {
		key("the pull request's repository", p.Repository, 64)
		key("the pull request's base branch", p.BaseRef, 1024)
		switch {
		case p.Number <= 0:
			return invalid("the number of a pull request is missing")
		case p.Head.IsZero():
			return invalid("the head of a pull request is missing")
		case p.UpdatedAt.IsZero():
			return invalid("the time of a pull request's description is missing")
		case len(p.Follows) > 128:
			return invalid("the head before a pull request's head is too long")
		}
		if err := twice("pull request", p.Repository, strconv.Itoa(p.Number)); err != nil {
			return err
		}
	}
	if g := c.MergeGroup; g != nil {
		key("the merge group's repository", g.Repository, 64)
		key("the merge group's base branch", g.BaseRef, 1024)
		if g.Head.IsZero() {
			return invalid("the head of a merge group is missing")
		}
	}
	for _, w := range c.Want {
		key("the wanted head's repository", w.Repository, 64)
		if w.SHA.IsZero() {
			return invalid("the commit of a wanted head is missing")
		}
		if err := twice("wanted head", w.Repository, w.SHA.String()); err != nil {
			return err
		}
	}
	if h := c.HeadCheck; h != nil {
		key("the head's repository", h.Repository, 64)
		if h.Published != "" {
			key("the digest of what was published", h.Published, 256)
		}
		switch {
		case h.SHA.IsZero():
			return invalid("the commit of a head is missing")
		case h.CheckID < 0, h.Done < 0:
			return invalid("a number of a head is negative")
		case h.State != "" && h.State != CheckInProgress && h.State != CheckCompleted:
			return invalid("%q is no state of a check run", h.State)
		}
	}
	return nil
}

func (c Change) checkDelivery(key func(what, s string, most int)) error {
	if d := c.Delivery; d != nil {
		key("the delivery's id", d.GUID, 128)
		key("the delivery's event", d.Event, 128)
		if d.Action != "" {
			key("the delivery's action", d.Action, 128)
		}
		switch {
		case d.Received.IsZero():
			return invalid("the time of a delivery is missing")
		case len(d.Body) == 0:
			return invalid("the body of a delivery is missing")
		case d.Installation < 0:
			return invalid("the installation of a delivery is negative")
		case len(d.Body) > MaxDeliveryBytes:
			return &TooLargeError{Noun: "bytes in a delivery", Got: len(d.Body), Most: MaxDeliveryBytes}
		}
	}
	if d := c.DeliveryDone; d != nil {
		key("the delivery's id", d.GUID, 128)
		switch {
		case d.At.IsZero():
			return invalid("the time of a delivery's end is missing")
		case d.State != DeliveryFinished && d.State != DeliveryRefused:
			return invalid("%q is no end of a delivery", d.State)
		}
	}
	return nil
}

// clipped is text of outside origin for people: fit for a column, and of at most 1,024 bytes.
func clipped(s string) string {
	s = column(s)
	if len(s) <= 1024 {
		return s
	}
	end := 1024
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
