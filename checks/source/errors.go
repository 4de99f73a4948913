package source

import (
	"errors"
	"fmt"
)

// The kinds of errors a caller decides by; every error that wraps one of them also says what to do.
var (
	ErrNoGit           = errors.New("git is needed to read code, version 2.30 or later")
	ErrNotRepository   = errors.New("not a git repository")
	ErrNoWorkTree      = errors.New("this is a bare repository, it has no working tree: name a commit instead")
	ErrUnborn          = errors.New("the repository has no commit yet")
	ErrUnknownRevision = errors.New("no such commit")
	ErrAmbiguous       = errors.New("the name is ambiguous")
	ErrShallow         = errors.New("the clone is shallow, the history that is needed is not in it: run `git fetch --unshallow`, or check out with a fetch depth of 0")
	ErrNoMergeBase     = errors.New("the two commits have no common ancestor")
	ErrMissing         = errors.New("an object is missing: fetch the whole repository (without --filter) and try again")
	ErrCorrupt         = errors.New("the repository is damaged: `git fsck` tells more")
	ErrTooLarge        = errors.New("too large to be assessed")
	ErrNotFile         = errors.New("not a file")
	ErrChanged         = errors.New("the file changed since it was listed: list the working tree again")
	ErrTimeLimit       = errors.New("took too long")
	ErrClosed          = errors.New("the repository is closed")
)

// TooLargeError says which limit was exceeded. It is ErrTooLarge for errors.Is.
type TooLargeError struct {
	Path  string // of the file; "" when it is the repository as a whole
	What  string // "files", "bytes"
	Size  int64  // what there is, or -1 when counting stopped at the limit
	Limit int64
}

func (e *TooLargeError) Error() string {
	if e.Path != "" {
		return fmt.Sprintf("%s is larger than %s: not assessed", e.Path, bytesText(e.Limit))
	}
	limit := fmt.Sprintf("%d %s", e.Limit, e.What)
	if e.What == "bytes" {
		limit = bytesText(e.Limit)
	}
	return fmt.Sprintf("repository has more than %s: not assessed", limit)
}

// Is makes the error one of kind ErrTooLarge.
func (e *TooLargeError) Is(target error) bool { return target == ErrTooLarge }
