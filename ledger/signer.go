package ledger

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// Signer signs checkpoints of one log. It trusts its own memory, the last checkpoint it signed, which is kept in
// the log's database and, where Key.Remember names a folder, outside of it as well; it believes nothing else of
// the store: it reads every new line, checks that the lines continue what it signed, and
// computes the root itself. What it signed is stored before anybody sees the signature, so that neither a
// crash nor a second signer can make one key sign two histories.
type Signer struct {
	log      SignedLog
	note     note.Signer
	verifier string
	memory   string // a file outside of the log's database, "" for none
}

// NewSigner signs the log's checkpoints with the key of its deployment.
func NewSigner(key *Key, log SignedLog) (*Signer, error) {
	s, verifier, err := key.signer(log.Origin())
	if err != nil {
		return nil, err
	}
	return &Signer{log: log, note: s, verifier: verifier, memory: key.memory(log.Origin())}, nil
}

// Sign signs the log as it is now and returns the checkpoint; when nothing was appended since the last, it is
// that one, and of an empty log the zero value. It refuses, with a *Tampered, a log that does not continue what
// was signed before.
func (s *Signer) Sign(ctx context.Context) (Signed, error) {
	last, err := s.log.Signed(ctx)
	if err != nil {
		return Signed{}, fmt.Errorf("signer: %w", err)
	}
	if err := s.recall(last); err != nil {
		return Signed{}, fmt.Errorf("signer: %w", err)
	}
	state, err := s.log.State(ctx, nil)
	if err != nil {
		return Signed{}, fmt.Errorf("signer: %w", err)
	}
	if err := s.remembers(ctx, state.Size); err != nil {
		return Signed{}, fmt.Errorf("signer: %w", err)
	}
	tree, err := treeAt(ctx, s.log, min(last.Size, state.Size))
	if err != nil {
		return Signed{}, fmt.Errorf("signer: %w", err)
	}
	switch {
	case state.Size < last.Size:
		return Signed{}, fmt.Errorf("signer: %w", &Tampered{Seq: state.Size, Layer: LayerSize, Detail: fmt.Sprintf(
			"the log has %d entries and %d were signed: it was cut, or restored from an older backup", state.Size, last.Size)})
	case last.Size > 0 && tree.Root() != last.Root:
		return Signed{}, fmt.Errorf("signer: %w", &Tampered{Seq: 0, Layer: LayerRoot, Detail: fmt.Sprintf(
			"the stored tree of %d entries is not the one that was signed", last.Size)})
	case state.Size == last.Size:
		return last, nil
	}
	next, err := s.read(ctx, last, tree, state.Size)
	if err != nil {
		return Signed{}, err
	}
	text := Checkpoint{Origin: s.log.Origin(), Size: next.Size, Root: next.Root}.Text()
	if next.Note, err = note.Sign(&note.Note{Text: text}, s.note); err != nil {
		return Signed{}, fmt.Errorf("signer: %w", err)
	}
	if err := s.remember(next); err != nil {
		return Signed{}, fmt.Errorf("signer: %w", err)
	}
	if err := s.log.Publish(ctx, last, next, s.verifier); err != nil {
		return Signed{}, fmt.Errorf("signer: %w", err)
	}
	return next, nil
}

// read extends the signed tree by the lines that follow.
func (s *Signer) read(ctx context.Context, last Signed, tree Tree, size uint64) (Signed, error) {
	v := walker{tree: tree, head: last.Head}
	var f spans
	for stored, err := range s.log.Lines(ctx, last.Size, size) {
		if err != nil {
			return Signed{}, fmt.Errorf("signer: %w", err)
		}
		if err := v.step(stored); err != nil {
			return Signed{}, fmt.Errorf("signer: %w", err)
		}
		// What a verifier would refuse is never signed.
		if err := checkBody(stored.Line, v.body, &f); err != nil {
			return Signed{}, fmt.Errorf("signer: %w", &Tampered{Seq: v.tree.Size() - 1, Layer: LayerCanonical, Detail: err.Error()})
		}
		if string(f.account) != accountOf(s.log.Origin()) {
			return Signed{}, fmt.Errorf("signer: %w", &Tampered{Seq: v.tree.Size() - 1, Layer: LayerAccount, Detail: "it belongs to another account"})
		}
	}
	if v.tree.Size() != size {
		return Signed{}, fmt.Errorf("signer: %w", &Tampered{Seq: v.tree.Size(), Layer: LayerSequence,
			Detail: fmt.Sprintf("the log should have %d entries and ends here", size)})
	}
	return Signed{Size: size, Root: v.tree.Root(), Head: v.head}, nil
}

// recall checks the signer's memory against the note in it: whoever edits the one must forge the other.
func (s *Signer) recall(last Signed) error {
	if last.Size == 0 {
		return nil
	}
	forged := func(why string) error {
		return &Tampered{Seq: 0, Layer: LayerSignature, Detail: "the signer's memory of its last checkpoint was changed: " + why}
	}
	v, err := note.NewVerifier(s.verifier)
	if err != nil {
		return err
	}
	n, err := note.Open(last.Note, note.VerifierList(v))
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		n, err = unverified.Note, nil // signed by the key before this one
	}
	if err != nil {
		return forged(signatureError(err).Error())
	}
	want := Checkpoint{Origin: s.log.Origin(), Size: last.Size, Root: last.Root}.Text()
	if n.Text != want {
		return forged("it differs from the note")
	}
	return nil
}
