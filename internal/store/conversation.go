package store

import (
	"time"

	"github.com/noxaudit/noxaudit/internal/name"
)

// Limits of what people say.
const (
	MaxWaivers     = 64       // of a change
	MaxWaiverBytes = 32 << 10 // of one body
	MaxAnswerBytes = 64 << 10 // of a reply
)

// Waiver is a waiver as it is kept: Body is all of it in its canonical form, the other fields repeat what it is
// found by.
type Waiver struct {
	ID          string // "W-…"
	Digest      string // of its content, which never changes
	Repository  string
	Fingerprint string // of the finding
	Content     string // of the finding; "" for one without
	Finding     string // "NX-…"
	State       string
	Suspended   bool
	Pull        int // where it was asked for; 0: elsewhere
	Requester   int64
	Requested   time.Time
	Until       time.Time // its last moment
	Due         time.Time // when time itself changes it next; zero when it has ended
	Version     int64     // writing: the version it was computed from, 0 for a new one. Reading: the one that is stored
	Changed     time.Time // read only
	Body        []byte
}

// The places where a command may stand.
const (
	SurfaceComment       = "comment"
	SurfaceReview        = "review"
	SurfaceReviewComment = "review_comment"
)

// The states of a command.
const (
	CommandDone    = "done"
	CommandEdited  = "edited"
	CommandDeleted = "deleted"
)

// Command is a comment or review that commanded something. A change records it with State CommandDone: one that is
// known already is ErrAlreadyDone, and nothing of the change is written. With another state it says that the comment
// was edited or deleted, once: a second time is ErrAlreadyDone too.
type Command struct {
	Repository string
	Surface    string
	ID         int64 // GitHub's, of the comment or review
	Pull       int
	Author     int64
	Digest     string // of the body that was acted on
	State      string
	Unheard    bool     // write only: it was edited or deleted before it was recorded. One that is known meanwhile is ErrStale
	Waivers    []string // ids of what rests on it
	Reaction   string   // GitHub's name of the reaction; "" for none
	Answer     string   // Markdown of the reply that is owed; "" for none
	Tries      int      // read only: how often posting the answer was tried
	Answered   bool     // read only
	At         time.Time
}

// CommandKey names a command among all tenants'.
type CommandKey struct {
	Account    name.Account
	Repository string
	Surface    string
	ID         int64
}

func (c Change) checkConversation(key func(what, s string, most int)) error {
	if len(c.Waivers) > MaxWaivers {
		return &TooLargeError{Noun: "waivers", Got: len(c.Waivers), Most: MaxWaivers}
	}
	seen := map[string]bool{}
	for _, w := range c.Waivers {
		for what, s := range map[string]string{
			"the waiver's id": w.ID, "the waiver's digest": w.Digest, "the waiver's repository": w.Repository,
			"the waiver's finding": w.Finding, "the waiver's fingerprint": w.Fingerprint, "the waiver's state": w.State,
		} {
			key(what, s, 256)
		}
		switch {
		case len(w.Body) == 0 || len(w.Body) > MaxWaiverBytes:
			return &TooLargeError{Noun: "bytes in a waiver", Got: len(w.Body), Most: MaxWaiverBytes}
		case w.Requested.IsZero(), w.Until.IsZero():
			return invalid("the times of waiver %s are missing", w.ID)
		case w.Version < 0:
			return invalid("the version of waiver %s is negative", w.ID)
		case seen[w.ID]:
			return invalid("waiver %s changes twice", w.ID)
		}
		seen[w.ID] = true
	}
	if d := c.Command; d != nil {
		key("the command's repository", d.Repository, 64)
		switch {
		case d.ID <= 0:
			return invalid("the id of a command's comment is missing")
		case d.State != CommandDone && d.State != CommandEdited && d.State != CommandDeleted:
			return invalid("%q is no state of a command", d.State)
		case len(d.Answer) > MaxAnswerBytes:
			return &TooLargeError{Noun: "bytes in an answer", Got: len(d.Answer), Most: MaxAnswerBytes}
		case len(d.Waivers) > MaxWaivers:
			return &TooLargeError{Noun: "waivers of a command", Got: len(d.Waivers), Most: MaxWaivers}
		}
	}
	return nil
}
