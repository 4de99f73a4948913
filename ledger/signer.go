package ledger

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// Signer signs checkpoints of one log. It trusts its own memory, the last checkpoint it signed, which is kept in
// the log's database and, where Key.Remember names a folder, outside of it as well. It believes nothing else of
// the store: it reads every new line, checks that the lines continue what it signed and are what a verifier
// accepts, and computes the root itself. What it signed is stored before anybody sees the signature, so that
// neither a crash nor a second signer can make one key sign two histories.
//
// Without a memory outside, whoever can write the database can take the one in it away, and has any history
// signed that fits together.
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
// was signed before; one that lost its end until it has it again, to the byte. It fails with ErrFenced when
// another signer was faster: call it again.
func (s *Signer) Sign(ctx context.Context) (Signed, error) {
	signed, err := s.sign(ctx)
	if err != nil {
		return Signed{}, fmt.Errorf("signer: %w", err)
	}
	return signed, nil
}

func (s *Signer) sign(ctx context.Context) (Signed, error) {
	// The order of these reads keeps a signer that works at the same time from looking like a log that was cut.
	size, root, err := s.remembered()
	if err != nil {
		return Signed{}, err
	}
	claims, err := s.log.Claimed(ctx)
	if err != nil {
		return Signed{}, err
	}
	last, err := s.log.Signed(ctx)
	if err != nil {
		return Signed{}, err
	}
	if err := s.recall(last, size); err != nil {
		return Signed{}, err
	}
	state, err := s.log.State(ctx, nil)
	if err != nil {
		return Signed{}, err
	}
	switch most := max(last.Size, size); {
	case state.Size < most:
		return Signed{}, &Tampered{Seq: state.Size, Layer: LayerSize, Detail: fmt.Sprintf(
			"the log has %d entries and %d were signed: it was cut, or restored from an older backup", state.Size, most)}
	case state.Size < claims.Size:
		return Signed{}, &Tampered{Seq: state.Size, Layer: LayerSize, Detail: fmt.Sprintf(
			"%d entries were appended and %d are there: the end is missing", claims.Size, state.Size)}
	case last.Size < claims.Checkpoint:
		return Signed{}, &Tampered{Seq: 0, Layer: LayerSignature, Detail: fmt.Sprintf(
			"a checkpoint of %d entries is kept, and the signer's memory beside it is of %d: it was taken away", claims.Checkpoint, last.Size)}
	}
	tree, err := treeAt(ctx, s.log, last.Size)
	if err != nil {
		return Signed{}, err
	}
	if last.Size > 0 && tree.Root() != last.Root {
		return Signed{}, &Tampered{Seq: 0, Layer: LayerRoot, Detail: fmt.Sprintf(
			"the stored tree of %d entries is not the one that was signed", last.Size)}
	}
	if 0 < size && size <= last.Size {
		if err := s.continues(ctx, size, root, last); err != nil {
			return Signed{}, err
		}
	}
	if state.Size == last.Size {
		if size < last.Size { // signed before there was a memory outside, or by another machine
			return last, s.remember(last)
		}
		return last, nil
	}
	if err := s.lastLine(ctx, last); err != nil {
		return Signed{}, err
	}
	next, err := s.read(ctx, last, tree, state.Size, size, root)
	if err != nil {
		return Signed{}, err
	}
	text := Checkpoint{Origin: s.log.Origin(), Size: next.Size, Root: next.Root}.Text()
	if next.Note, err = note.Sign(&note.Note{Text: text}, s.note); err != nil {
		return Signed{}, err
	}
	if err := s.remember(next); err != nil {
		return Signed{}, err
	}
	if err := s.log.Publish(ctx, last, next, s.verifier); err != nil {
		return Signed{}, err
	}
	return next, nil
}

// otherHistory says that the log is not the one that the memory outside of its database is of.
func otherHistory(size uint64) error {
	return &Tampered{Seq: 0, Layer: LayerRoot, Detail: fmt.Sprintf("the first %d entries are not those that were signed", size)}
}

// continues wants a proof that what the database remembers grew out of what is remembered outside. Comparing
// the stored trees of both sizes would not do: they need not have a node in common.
func (s *Signer) continues(ctx context.Context, size uint64, root Hash, last Signed) error {
	proof, err := ProveGrowth(ctx, s.log, size, last.Size)
	if err != nil {
		return err
	}
	if CheckGrowth(proof, size, root, last.Size, last.Root) != nil {
		return otherHistory(size)
	}
	return nil
}

// lastLine checks the head, which the next line has to name: unlike the root it is in no note.
func (s *Signer) lastLine(ctx context.Context, last Signed) error {
	if last.Size == 0 {
		return nil
	}
	proof, err := ProveEntry(ctx, s.log, last.Size, last.Size-1)
	if err != nil {
		return err
	}
	for stored, err := range s.log.Lines(ctx, last.Size-1, last.Size) {
		if err != nil {
			return err
		}
		if CheckEntry(proof, last.Size, last.Root, last.Size-1, stored.Line) != nil {
			return &Tampered{Seq: last.Size - 1, Layer: LayerRoot, Detail: "it is not the entry that was signed"}
		}
		if LineHash(stored.Line) != last.Head {
			return &Tampered{Seq: last.Size - 1, Layer: LayerSignature, Detail: "the signer's memory of its last line was changed"}
		}
		return nil
	}
	return &Tampered{Seq: last.Size - 1, Layer: LayerSequence, Detail: "it is missing"}
}

// read extends the signed tree by the lines that follow. On the way it has to come by what is remembered
// outside of the database.
func (s *Signer) read(ctx context.Context, last Signed, tree Tree, size, remembered uint64, root Hash) (Signed, error) {
	v := walker{tree: tree, head: last.Head}
	var f spans
	sources := make(map[string]*uint64)
	for stored, err := range s.log.Lines(ctx, last.Size, size) {
		if err != nil {
			return Signed{}, err
		}
		if err := v.step(stored); err != nil {
			return Signed{}, err
		}
		if v.tree.Size() == remembered && v.tree.Root() != root {
			return Signed{}, otherHistory(remembered)
		}
		if err := s.acceptable(&v, stored.Line, &f, sources, last.Size == 0); err != nil {
			return Signed{}, err
		}
	}
	if v.tree.Size() != size {
		return Signed{}, &Tampered{Seq: v.tree.Size(), Layer: LayerSequence,
			Detail: fmt.Sprintf("the log should have %d entries and ends here", size)}
	}
	if err := s.counted(ctx, last.Size, sources); err != nil {
		return Signed{}, err
	}
	return Signed{Size: size, Root: v.tree.Root(), Head: v.head}, nil
}

// acceptable refuses a line that a verifier would refuse: it could never be taken back.
func (s *Signer) acceptable(v *walker, line []byte, f *spans, sources map[string]*uint64, fromStart bool) error {
	seq := v.tree.Size() - 1
	if err := checkBody(line, v.body, f); err != nil {
		return &Tampered{Seq: seq, Layer: LayerCanonical, Detail: err.Error()}
	}
	if string(f.account) != accountOf(s.log.Origin()) {
		return &Tampered{Seq: seq, Layer: LayerAccount, Detail: "it belongs to another account"}
	}
	switch before := sources[string(f.source)]; {
	case before != nil && f.sseq != *before+1, before == nil && fromStart && f.sseq != 1:
		return &Tampered{Seq: seq, Layer: LayerSource, Detail: fmt.Sprintf(
			"event %d of source %s does not follow the one before", f.sseq, clip(string(f.source)))}
	case before != nil:
		*before = f.sseq
	default:
		first := f.sseq
		sources[string(f.source)] = &first
	}
	return nil
}

// counted compares the sources with the log's own count of them. That the first new event of a source follows
// its last signed one is known from there alone; reading the whole log each time would be the other way.
func (s *Signer) counted(ctx context.Context, from uint64, sources map[string]*uint64) error {
	state, err := s.log.State(ctx, sortedKeys(sources))
	if err != nil {
		return err
	}
	for source, last := range sources {
		if state.Sources[source] < *last { // more have come in the meantime, fewer cannot
			return &Tampered{Seq: from, Layer: LayerSource, Detail: fmt.Sprintf(
				"the new entries end with event %d of source %s, the log counts %d", *last, clip(source), state.Sources[source])}
		}
	}
	return nil
}

// recall checks the signer's memory in the database against the note in it: whoever edits the one must forge the
// other. A note by another key is what a rotation leaves; it may say no more than is remembered outside, because
// anybody can write one.
func (s *Signer) recall(last Signed, remembered uint64) error {
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
		if 0 < remembered && remembered < last.Size {
			return forged("it is signed by another key, beyond what this one remembers")
		}
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
