package ledger

import (
	"context"
	"errors"
	"iter"
)

// Recorded is an event in the outbox, committed together with the change it tells of, that has no place in
// the ledger yet. The other fields repeat what Body holds.
type Recorded struct {
	ID     string
	Source string
	SSeq   uint64
	Body   []byte // from Event.Body
}

// Position says that the event ID is entry Seq of the log.
type Position struct {
	ID  string
	Seq uint64
}

// Outbox holds the events of one account on their way into the ledger.
type Outbox interface {
	// Pending returns at most limit committed rows that have no position, the rows of one source in the order
	// of their SSeq. It should stop at about 4 MB. It must select by the missing position, never by "after the
	// last one seen": rows become visible in another order than they were numbered.
	Pending(ctx context.Context, limit int) ([]Recorded, error)
	// Sequenced stores positions. It is called again with the same ones when a crash hid whether it worked.
	Sequenced(ctx context.Context, positions []Position) error
}

// Log stores one account's log for its sequencer. A store only ever appends.
type Log interface {
	// Origin is the log's name: see the function Origin.
	Origin() string
	// Claim makes the caller the only writer and returns its epoch, greater than every one before.
	Claim(ctx context.Context) (epoch uint64, err error)
	// State reads the end of the log, and of those sources that have entries the last SSeq.
	State(ctx context.Context, sources []string) (State, error)
	// Find returns the entries that events with these ids have become, by id; unknown ids are left out.
	Find(ctx context.Context, ids []string) (map[string]Found, error)
	HashReader
	// Append writes a batch in one transaction, or nothing. It fails with ErrFenced unless the epoch is the
	// latest claimed and the log still ends at From.
	Append(ctx context.Context, b Batch) error
}

// State is the end of a log.
type State struct {
	Size    uint64
	Head    Hash              // SHA-256 of the last line; zeros for an empty log
	Sources map[string]uint64 // the last SSeq of each source that was asked for and has one
}

// Found is where an event already stands.
type Found struct {
	Seq  uint64
	Line []byte
}

// Batch is what one transaction appends.
type Batch struct {
	Epoch   uint64
	From    uint64 // the size of the log before
	Entries []Entry
	Sources map[string]uint64 // the last SSeq of each source in the batch
}

// Entry is an entry as it is stored.
type Entry struct {
	Seq    uint64
	ID     string
	Prev   Hash   // what the line's prev says
	Hashes []byte // the leaf, then each subtree the entry completes, 32 bytes each
	Line   []byte
}

// SignedLog is a Log as its signer needs it.
type SignedLog interface {
	Origin() string
	State(ctx context.Context, sources []string) (State, error)
	HashReader
	// Lines yields the entries from one number to before another. What it yields is valid until the next.
	Lines(ctx context.Context, from, to uint64) iter.Seq2[Stored, error]
	// Claimed is what the store says of the log beside its entries.
	Claimed(ctx context.Context) (Claims, error)
	// Signed is what was signed last: the zero value when nothing was.
	Signed(ctx context.Context) (Signed, error)
	// Publish replaces what was signed last and keeps next.Note as a checkpoint, with the key that verifies
	// it, in one transaction. It fails with ErrFenced when last is not what is stored.
	Publish(ctx context.Context, last, next Signed, verifier string) error
}

// Claims are a store's own words, which its entries must not contradict.
type Claims struct {
	Size       uint64 // how many entries were appended
	Checkpoint uint64 // the size of the greatest checkpoint kept
}

// Signed is a signer's memory: the last state of the log that it put its name to.
type Signed struct {
	Size uint64
	Root Hash
	Head Hash   // SHA-256 of the line Size-1
	Note []byte // the signed checkpoint
}

// Stored is an entry as found in a copy of a log.
type Stored struct {
	Line   []byte // without its newline
	Hashes []byte // the stored nodes, as in Entry; nil where a copy holds only lines
}

// ErrFenced says that another process has taken over the log. Stop writing to it.
var ErrFenced = errors.New("another process has taken over this log")

// ErrGap says that a source lacks an event: it was lost, or deleted, before it reached the ledger.
var ErrGap = errors.New("an event is missing")

// ErrConflict says that an event was recorded twice with different content.
var ErrConflict = errors.New("recorded before with other content")

// ErrMalformed says that a row of the outbox is not an event of this log in canonical form.
var ErrMalformed = errors.New("not an event of this log in canonical form")
