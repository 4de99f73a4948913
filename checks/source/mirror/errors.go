package mirror

import (
	"errors"
	"fmt"

	"github.com/noxaudit/noxaudit/internal/name"
)

// The kinds of errors a caller decides by. None of them ever holds a token.
var (
	// ErrUnauthorized: GitHub refuses the token, and a fresh one as well.
	ErrUnauthorized = errors.New("GitHub refuses the installation's token: check that the App is still installed and may read contents")
	// ErrNotFound: the repository or a ref is gone; a *NotFoundError says which.
	ErrNotFound = errors.New("not found")
	// ErrMoved: the repository answers under another address, which is not followed: the token goes nowhere else.
	ErrMoved = errors.New("the repository answers with a redirect, which is not followed: it was renamed or transferred, ask GitHub for its present address")
	// ErrUnavailable: network, time or GitHub itself. Try again later.
	ErrUnavailable = errors.New("GitHub cannot be reached or does not answer properly: try again later")
	// ErrTooLarge: the repository alone is larger than the budget of all mirrors.
	ErrTooLarge = errors.New("the repository is larger than the disk budget of all mirrors: raise the budget or leave the repository out")
	// ErrNoSpace: the disk is full, or the budget is used up by repositories that are being read. Try again later.
	ErrNoSpace = errors.New("there is no room for the repository: free disk space, raise the budget, or try again when running audits have ended")
	// ErrRef: the name is none that git accepts for a ref.
	ErrRef = errors.New("not a ref")
	// ErrRemote: the remote's address or numbers are not what a mirror can be made of.
	ErrRemote = errors.New("not a remote that can be mirrored")
	// ErrInUse: another process has the directory of mirrors.
	ErrInUse = errors.New("another process uses this directory of mirrors: give each its own, or stop the other")
	// ErrClosed: the mirrors were closed.
	ErrClosed = errors.New("the mirrors are closed")
)

// NotFoundError says what is gone. It is ErrNotFound for errors.Is.
type NotFoundError struct {
	Repo name.Repo
	Ref  string // "" when it is the whole repository, or the installation no longer reaches it
	Why  string // what was said instead, if anything; safe to show
}

func (e *NotFoundError) Error() string {
	what := fmt.Sprintf("repository %s: not found: it was deleted, or the App is not installed on it", said(e.Repo.FullName, 200))
	if e.Ref != "" {
		what = fmt.Sprintf("%s of %s: not found: it was deleted or replaced meanwhile", said(e.Ref, 200), said(e.Repo.FullName, 200))
	}
	if e.Why != "" {
		what += " (" + e.Why + ")"
	}
	return what
}

// Is makes the error one of kind ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// The outcomes of one git process that a fetch answers itself.
var (
	errDamaged  = errors.New("the mirror is damaged")
	errFormat   = errors.New("the remote names objects by another hash")
	errDiskFull = errors.New("the disk is full")
)
