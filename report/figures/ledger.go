package figures

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/ledger"
)

// Ledger is the part of ledger.SignedLog that figures read.
type Ledger interface {
	Origin() string
	State(ctx context.Context, sources []string) (ledger.State, error)
	ledger.HashReader
	Lines(ctx context.Context, from, to uint64) iter.Seq2[ledger.Stored, error]
	Signed(ctx context.Context) (ledger.Signed, error)
}

// LedgerState is how the record stands, and what was checked of it just now.
type LedgerState struct {
	Kept      bool // there is a ledger at all
	At        time.Time
	Origin    string
	Size      uint64    // entries
	Head      string    // SHA-256 of the last line, hexadecimal
	LastEntry time.Time // of the last entry; zero for none
	Signed    uint64    // entries under the newest checkpoint
	Root      string    // of that, base64
	Note      string    // the signed checkpoint
	Waiting   int       // entries that are not in the ledger yet
	Oldest    time.Time // since when the first of them waits
	Agrees    bool      // Problem is empty, and a checkpoint was there to check
	Checked   []string  // what agreed
	Problem   string    // what did not agree; "" for nothing
}

// Stale reports whether entries wait for longer than a sequencer at work leaves them.
func (l LedgerState) Stale() bool { return l.Waiting > 0 && l.At.Sub(l.Oldest) > 5*time.Minute }

// LedgerState reads the end of the account's log and checks that its newest checkpoint is signed by the deployment's
// key, that the tree over the entries has the root that was signed, and that the last signed entry is in it. It does
// not read all entries: "noxaudit ledger verify" does.
func (f *Figures) LedgerState(ctx context.Context, account name.Account) (LedgerState, error) {
	out := LedgerState{At: f.Now()}
	var err error
	if out.Waiting, out.Oldest, err = f.Store.For(account).Waiting(ctx); err != nil {
		return out, err
	}
	if f.Ledger == nil {
		return out, nil
	}
	log := f.Ledger(account)
	out.Kept, out.Origin = true, log.Origin()
	state, err := log.State(ctx, nil)
	if err != nil {
		return out, err
	}
	out.Size = state.Size
	if state.Size == 0 {
		return out, nil
	}
	out.Head = fmt.Sprintf("%x", state.Head[:])
	signed, err := log.Signed(ctx)
	if err != nil {
		return out, err
	}
	var last, atSigned []byte
	for _, seq := range []uint64{state.Size - 1, signed.Size - 1} {
		if seq == ^uint64(0) {
			continue
		}
		for l, err := range log.Lines(ctx, seq, seq+1) {
			if err != nil {
				return out, err
			}
			line := append([]byte(nil), l.Line...)
			if seq == state.Size-1 {
				last = line
			}
			if seq == signed.Size-1 {
				atSigned = line
			}
		}
	}
	if l, err := ledger.ParseLine(last); err == nil {
		out.LastEntry = l.Event.Time
	}
	if signed.Size == 0 {
		return out, nil
	}
	out.Signed, out.Root, out.Note = signed.Size, signed.Root.String(), string(signed.Note)
	out.check(ctx, log, state, signed, last, atSigned, f.Keys)
	return out, nil
}

func (l *LedgerState) check(ctx context.Context, log Ledger, state ledger.State, signed ledger.Signed, last, atSigned []byte, keys []string) {
	fail := func(format string, args ...any) { l.Problem = fmt.Sprintf(format, args...) }
	c, err := ledger.OpenCheckpoint(log.Origin(), signed.Note, keys)
	if err != nil {
		fail("The newest checkpoint is not one that a key of this server signed: %v.", err)
		return
	}
	if c.Origin != log.Origin() || c.Size != signed.Size || c.Root != signed.Root {
		fail("The newest checkpoint says something else than the ledger's own memory of it.")
		return
	}
	l.Checked = append(l.Checked, "the checkpoint's signature")
	if state.Size < signed.Size {
		fail("%d entries are signed, and only %d are there.", signed.Size, state.Size)
		return
	}
	proof, err := ledger.ProveEntry(ctx, log, signed.Size, signed.Size-1)
	if err == nil {
		err = ledger.CheckEntry(proof, signed.Size, signed.Root, signed.Size-1, atSigned)
	}
	if err != nil {
		fail("The last signed entry does not lead to the root that was signed.")
		return
	}
	l.Checked = append(l.Checked, "the tree's root with the last signed entry")
	if ledger.LineHash(last) != state.Head {
		fail("The last entry is not the one that the chain ends in.")
		return
	}
	l.Checked = append(l.Checked, "the end of the chain")
	l.Agrees = true
}
