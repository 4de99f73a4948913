package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// Kind is a kind of outcome. Its name is the member "kind" of a problem, and never changes its meaning.
type Kind string

// The kinds.
const (
	Done        Kind = "done"
	Refused     Kind = "refused"       // by the rules of waivers: a result, not a problem
	Invalid     Kind = "invalid"       // the request is not well formed
	TooLarge    Kind = "too-large"     // its body is
	NotJSON     Kind = "not-json"      // its body is of another type
	NotSignedIn Kind = "not-signed-in" // no token, or one that is over
	NotFound    Kind = "not-found"     // not there, or none of the person's business: nobody is told which
	Overtaken   Kind = "overtaken"     // others decided about the same at the same time, again and again
	TooOften    Kind = "too-often"
	Unavailable Kind = "unavailable" // GitHub or the database; try again
	Failed      Kind = "failed"      // the log says why
)

// Row says what a kind is for programs: over HTTP, and as the exit code of a command line. A comment knows two
// outcomes: what is refused is answered, and what could not be done is tried again until it can.
type Row struct {
	Kind   Kind
	Status int
	Exit   int // 0 done, 1 refused or invalid, 2 could not be done
	Title  string
}

// Table has a row for each kind.
var Table = []Row{
	{Done, http.StatusOK, 0, "Done"},
	{Refused, http.StatusOK, 1, "Refused"},
	{Invalid, http.StatusBadRequest, 1, "Not a valid request"},
	{TooLarge, http.StatusRequestEntityTooLarge, 1, "Too large"},
	{NotJSON, http.StatusUnsupportedMediaType, 1, "Not JSON"},
	{NotSignedIn, http.StatusUnauthorized, 2, "Not signed in"},
	{NotFound, http.StatusNotFound, 1, "Not found"},
	{Overtaken, http.StatusConflict, 2, "Overtaken"},
	{TooOften, http.StatusTooManyRequests, 2, "Too many requests"},
	{Unavailable, http.StatusServiceUnavailable, 2, "Not now"},
	{Failed, http.StatusInternalServerError, 2, "Failed"},
}

// Of is the row of a kind; that of Failed for one that is not in the table.
func Of(k Kind) Row {
	for _, r := range Table {
		if r.Kind == k {
			return r
		}
	}
	return Row{Failed, http.StatusInternalServerError, 2, "Failed"}
}

// Problem is an error as the API tells it (RFC 9457, application/problem+json).
type Problem struct {
	Kind   Kind   `json:"kind"`
	Code   string `json:"code,omitempty"` // of a refusal: see policy/waiver
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"` // a sentence: what happened, what it means, what to do next
}

func (p *Problem) Error() string { return p.Detail }

func problem(k Kind, detail string) *Problem {
	r := Of(k)
	return &Problem{Kind: k, Title: r.Title, Status: r.Status, Detail: detail}
}

const nothingThere = "There is no such thing, or it is not yours to see. Look at the names; an organization's owner and a repository's admin reach it."

// problemOf is the problem of an error inside. Nothing of the error's own text gets out but a refusal's.
func problemOf(err error) *Problem {
	var p *Problem
	var no *waiver.Refusal
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &no):
		p := problem(Invalid, no.Sentence)
		if no.Code == waiver.NotFound {
			p = problem(NotFound, no.Sentence)
		}
		p.Code = string(no.Code)
		return p
	case errors.Is(err, store.ErrNotFound):
		return problem(NotFound, nothingThere)
	case errors.Is(err, store.ErrStale):
		return problem(Overtaken, "Others decided about the same thing at the same time, so nothing was done. Try again.")
	case errors.Is(err, gate.ErrGitHubUnavailable):
		return problem(Unavailable, "GitHub did not answer, and nobody is let through on a guess, so nothing was done. Try again in a minute.")
	case errors.Is(err, gate.ErrGitHubGone):
		return problem(Unavailable, "GitHub does not answer noxaudit about this repository or pull request, so nothing was done. Is the App still installed, and the number right?")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problem(Unavailable, "noxaudit's database did not answer in time. Look whether it was done before you try again.")
	}
	return problem(Failed, "noxaudit could not do it, for a reason that an operator finds in the log.")
}
