package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/noxaudit/noxaudit/internal/database"
)

// What a caller decides by.
var (
	// ErrStale means that the line has another version than the change expects: somebody else committed to
	// it first. Nothing was written; read again and compute again.
	ErrStale = errors.New("the line has moved on since this was computed")
	// ErrNoEntry means that a change carries no entry for the ledger. It is a mistake in the program.
	ErrNoEntry = errors.New("a change needs at least one ledger entry")
	// ErrDuplicate means that an entry, or an audit, of this id is stored already with other content. It is
	// a mistake in the program: a retry of the same change is no error.
	ErrDuplicate = errors.New("an id is used twice")
	// ErrDuplicateDelivery means that a delivery of this GUID is in the inbox already. It is answered like the
	// first.
	ErrDuplicateDelivery = errors.New("this delivery is known already")
	// ErrAlreadyDone means that the delivery has ended: somebody else processed it. There is nothing left to do.
	ErrAlreadyDone = errors.New("the delivery has been processed already")
	// ErrNotFound means that this account has no such thing.
	ErrNotFound = errors.New("not found")
	// ErrInvalid means that a change cannot be stored as it is. It is a mistake in the program.
	ErrInvalid = errors.New("not a valid change")
	// ErrNoAccount means that a tenant was made for the zero account.
	ErrNoAccount = errors.New("no account is named")
	// ErrUnavailable means that the database could not do it now. Try the same change again, with the same
	// entry ids: it takes effect once, even where the first try took effect and the answer was lost.
	ErrUnavailable = database.ErrUnavailable
	// ErrFull means that the disk behind the database is full; it is also ErrUnavailable.
	ErrFull = database.ErrFull
)

// TooLargeError says that a change is over a limit of the package and must be cut into several.
type TooLargeError struct {
	Noun      string // "findings", "entries", "documents", "bytes of documents", …
	Got, Most int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("change: %d %s, at most %d fit in one: commit it in parts", e.Got, e.Noun, e.Most)
}

// AmbiguousError says that a prefix names several things.
type AmbiguousError struct {
	Noun, Prefix string
	Candidates   []string // at most 10, each enough to tell it from the others
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%s %s: names several: %s", e.Noun, e.Prefix, strings.Join(e.Candidates, ", "))
}

// CorruptError says that what is stored is not what was written: the database was changed by other hands, or
// its disk lost data.
type CorruptError struct {
	Noun, Key string
	Cause     error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s %s: stored data is damaged: %v", e.Noun, e.Key, e.Cause)
}

func (e *CorruptError) Unwrap() error { return e.Cause }

// fail gives an error of the database its noun and its meaning; nil stays nil.
func fail(noun string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", noun, database.Explain(err))
}
