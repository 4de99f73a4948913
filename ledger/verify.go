package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Copy is a log as somebody holds it: in a database, in an export. Nothing in it is trusted.
type Copy struct {
	Origin  string                   // which log it should be: the checkpoints must say the same
	Entries iter.Seq2[Stored, error] // from the first; what it yields need only last until the next
	// Checkpoints are the signed checkpoints kept with the log, in ascending order of size; nil for none.
	Checkpoints iter.Seq2[[]byte, error]
	// Keys are the verifier keys the log names itself. Whoever can rewrite the log can replace them, so they
	// prove no more than that one hand signed all of it.
	Keys []string
	// Size and Signed are how many entries the store says that it has, and has signed. Fewer than that are a log
	// that was cut by somebody who forgot to say so everywhere.
	Size, Signed uint64
}

// Options are what the verifier brings along, which is where the strength of the result comes from.
type Options struct {
	// Keys are pinned verifier keys, of the deployment or of the log: from then on only they count.
	Keys []string
	// Held are checkpoints kept out of the log's reach. Only they show that a log was cut, or exchanged for
	// another history, by somebody who has its key.
	Held [][]byte
	// Now and Grace refuse, where a key is pinned, an entry that no checkpoint covers and whose time is further
	// than Grace from Now: a signer works within seconds, so that one was not at work or did not want to sign.
	// The time of such an entry is what its writer says it is. A zero Now leaves the check out.
	Now   time.Time
	Grace time.Duration
	// BytesOnly leaves out the reading of what the lines say (LayerCanonical, LayerAccount, LayerSource): about
	// a fifth of the time, and the memory for one number per source, the only part that grows with the log. The
	// chain, the tree and the signatures cover every byte in either case.
	BytesOnly bool
}

// Verified is what a log was found to be.
type Verified struct {
	Origin      string
	Entries     uint64
	Head        Hash // SHA-256 of the last line
	Root        Hash // of the tree over all entries
	Checkpoints int
	SignedSize  uint64 // entries covered by the greatest checkpoint
	KeyPinned   bool   // the signatures were checked with Options.Keys
}

func (v Verified) String() string {
	s := fmt.Sprintf("%s: %s, none changed, missing or out of place", v.Origin, count(v.Entries, "entry", "entries"))
	switch {
	case v.Checkpoints == 0:
		return s + "; no checkpoint, so nothing is signed"
	case v.KeyPinned:
		s += "; signature valid, key pinned"
	default:
		s += "; signature valid, key not pinned"
	}
	s += fmt.Sprintf(" (%s)", count(uint64(v.Checkpoints), "checkpoint", "checkpoints"))
	if n := v.Entries - v.SignedSize; n > 0 {
		s += fmt.Sprintf("; %s not yet signed", count(n, "entry", "entries"))
	}
	return s + "; root " + v.Root.String()
}

func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Layer names the check that a log failed.
type Layer string

// The layers of evidence, in the order in which an entry meets them.
const (
	LayerEncoding   Layer = "encoding"        // the file is not lines, each ended by a newline
	LayerVersion    Layer = "version"         // a version of the format that does not exist
	LayerPrefix     Layer = "prefix"          // the line does not begin as a line does
	LayerSequence   Layer = "sequence"        // the number is not the next one
	LayerHashes     Layer = "stored hashes"   // the tree kept with the entries is not the one of their bytes
	LayerChain      Layer = "chain"           // prev is not the digest of the line before
	LayerCanonical  Layer = "canonical form"  // the bytes could be written in another way
	LayerAccount    Layer = "account"         // the entry belongs to another tenant
	LayerSource     Layer = "source"          // an event of a source is missing or there twice
	LayerSignature  Layer = "signature"       // a checkpoint is not signed by the key
	LayerOrigin     Layer = "origin"          // a checkpoint is of another log
	LayerCheckpoint Layer = "checkpoint form" // a checkpoint cannot be read or is out of order
	LayerRoot       Layer = "checkpoint root" // the entries are not those that were signed
	LayerSize       Layer = "size"            // fewer entries than were signed
	LayerFork       Layer = "fork"            // two histories signed by one key: proof against its owner
)

// Tampered says that a log is not what was recorded.
type Tampered struct {
	Seq    uint64 // the first entry that cannot be relied on
	Layer  Layer  // what caught it
	Detail string
	Whole  bool // it is about the log as a whole, and no entry is to blame
}

func (t *Tampered) Error() string {
	if t.Whole {
		return fmt.Sprintf("ledger: %s: %s", t.Layer, t.Detail)
	}
	return fmt.Sprintf("ledger entry %d: %s: %s", t.Seq, t.Layer, t.Detail)
}

// Verify reads a whole log, once and in constant memory (see Options.BytesOnly), and returns what it is, or a
// *Tampered that names the first entry that cannot be relied on and the layer that caught it. With a pinned key it
// also refuses entries that the key should have signed and did not. Other errors say that the copy could not be
// read, or that what the verifier brought is not for this log, and decide nothing.
func Verify(ctx context.Context, c Copy, o Options) (Verified, error) {
	keys := o.Keys
	if len(keys) == 0 {
		keys = c.Keys
	}
	known, err := verifiers(c.Origin, keys)
	if err != nil {
		if len(o.Keys) == 0 {
			return Verified{}, &Tampered{Layer: LayerSignature, Detail: "the log's own key: " + err.Error()}
		}
		return Verified{}, fmt.Errorf("verify: %w", err)
	}
	v := verifier{copy: c, known: known, pinned: len(o.Keys) > 0, account: accountOf(c.Origin), sources: make(map[string]*uint64)}
	if v.pinned && !o.Now.IsZero() {
		v.early, v.late = timeText(o.Now.Add(-o.Grace)), timeText(o.Now.Add(o.Grace))
	}
	if err := v.hold(o.Held); err != nil {
		return Verified{}, err
	}
	next, stop := pull(c.Checkpoints)
	defer stop()
	v.nextStored = next
	if err := v.checkpoints(); err != nil {
		return Verified{}, err
	}
	for stored, err := range c.Entries {
		if v.walk.tree.Size()%1024 == 0 && ctx.Err() != nil {
			return Verified{}, ctx.Err()
		}
		if err != nil {
			return Verified{}, v.readError(err)
		}
		if err := v.walk.step(stored); err != nil {
			return Verified{}, err
		}
		if !o.BytesOnly {
			if err := v.content(stored.Line); err != nil {
				return Verified{}, err
			}
		}
		if v.early != "" {
			v.date(stored.Line)
		}
		if err := v.checkpoints(); err != nil {
			return Verified{}, err
		}
	}
	if err := v.beyond(); err != nil {
		return Verified{}, err
	}
	if err := v.unsigned(); err != nil {
		return Verified{}, err
	}
	return Verified{
		Origin: c.Origin, Entries: v.walk.tree.Size(), Head: v.walk.head, Root: v.walk.tree.Root(),
		Checkpoints: v.checked, SignedSize: v.signed, KeyPinned: v.checked > 0 && len(o.Keys) > 0,
	}, nil
}

type verifier struct {
	copy    Copy
	known   note.Verifiers
	pinned  bool
	account string
	walk    walker
	sources map[string]*uint64 // the last SSeq of each
	fields  spans

	nextStored func() ([]byte, error, bool)
	stored     *Checkpoint  // the next of the log's own
	lastSize   uint64       // of the log's own checkpoints, to see that they ascend
	held       []Checkpoint // what remains of Options.Held, ascending
	checked    int
	signed     uint64 // the greatest size whose root was right

	early, late string // what an entry without a checkpoint must lie between; "" for anything
	stray       bool   // one since the last checkpoint does not
	strayAt     uint64 // the first of them
}

func timeText(t time.Time) string { return t.UTC().Format(timeLayout) }

// date notes an entry whose time is not about now; a checkpoint that covers it makes up for that.
func (v *verifier) date(line []byte) {
	const before = `"time":"`
	at := v.walk.body + len(before)
	if v.stray {
		return
	}
	if end := at + len(timeLayout); end <= len(line) {
		if t := line[at:end]; string(t) >= v.early && string(t) <= v.late {
			return
		}
	}
	v.stray, v.strayAt = true, v.walk.tree.Size()-1
}

// unsigned refuses what the pinned key should have signed and has not.
func (v *verifier) unsigned() error {
	switch size := v.walk.tree.Size(); {
	case !v.pinned || size == 0:
		return nil
	case v.signed == 0:
		return &Tampered{Layer: LayerSignature, Detail: "no checkpoint is left, so nothing is signed by the pinned key", Whole: true}
	case v.stray:
		return &Tampered{Seq: v.strayAt, Layer: LayerSignature, Detail: fmt.Sprintf(
			"no checkpoint covers it, and it is not of just now: the last one is of %d entries", v.signed)}
	}
	return nil
}

func pull(seq iter.Seq2[[]byte, error]) (next func() ([]byte, error, bool), stop func()) {
	if seq == nil {
		return func() ([]byte, error, bool) { return nil, nil, false }, func() {}
	}
	return iter.Pull2(seq)
}

// readError gives an error of the entries its place, when it is one of form.
func (v *verifier) readError(err error) error {
	var t *Tampered
	if errors.As(err, &t) {
		return err
	}
	return fmt.Errorf("verify: entry %d: %w", v.walk.tree.Size(), err)
}

// content checks what a line says.
func (v *verifier) content(line []byte) error {
	seq := v.walk.tree.Size() - 1
	f := &v.fields
	if err := checkBody(line, v.walk.body, f); err != nil {
		return &Tampered{Seq: seq, Layer: LayerCanonical, Detail: err.Error()}
	}
	if string(f.account) != v.account {
		return &Tampered{Seq: seq, Layer: LayerAccount, Detail: fmt.Sprintf(
			"it belongs to account %s, the log to %s", clip(string(f.account)), clip(v.account))}
	}
	last := v.sources[string(f.source)]
	if last == nil {
		last = new(uint64)
		v.sources[string(f.source)] = last
	}
	if f.sseq != *last+1 {
		return &Tampered{Seq: seq, Layer: LayerSource, Detail: fmt.Sprintf(
			"event %d of source %s follows event %d", f.sseq, clip(string(f.source)), *last)}
	}
	*last++
	return nil
}

// hold reads the checkpoints that the verifier brought along.
func (v *verifier) hold(held [][]byte) error {
	for _, signed := range held {
		c, err := v.open(signed)
		var t *Tampered
		if errors.As(err, &t) {
			// It says nothing about the log: the verifier brought the wrong file, or a wrong key.
			return fmt.Errorf("verify: a held checkpoint: %s: %s", t.Layer, t.Detail)
		}
		if err != nil {
			return err
		}
		v.held = append(v.held, c)
	}
	slices.SortStableFunc(v.held, func(a, b Checkpoint) int {
		switch {
		case a.Size < b.Size:
			return -1
		case a.Size > b.Size:
			return 1
		}
		return 0
	})
	for i := 1; i < len(v.held); i++ {
		if a, b := v.held[i-1], v.held[i]; a.Size == b.Size && a.Root != b.Root {
			return &Tampered{Seq: 0, Layer: LayerFork, Detail: fmt.Sprintf("two held checkpoints of size %d differ", a.Size)}
		}
	}
	return nil
}

func (v *verifier) open(signed []byte) (Checkpoint, error) {
	// The origin before the signature: a checkpoint of another log is not signed under this one's name either.
	if origin, _, _ := strings.Cut(string(signed), "\n"); origin != v.copy.Origin && validOrigin(origin) {
		return Checkpoint{}, &Tampered{Seq: v.signed, Layer: LayerOrigin, Detail: fmt.Sprintf(
			"a checkpoint of %s, not of %s", clip(origin), v.copy.Origin)}
	}
	c, err := openCheckpoint(signed, v.known)
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) && v.pinned && v.checked == 0 {
		return Checkpoint{}, &Tampered{Layer: LayerSignature, Detail: "not signed by this key: " + err.Error(), Whole: true}
	}
	if err != nil {
		return Checkpoint{}, &Tampered{Seq: v.signed, Layer: LayerSignature, Detail: "a checkpoint: " + err.Error()}
	}
	if c.Origin != v.copy.Origin {
		return Checkpoint{}, &Tampered{Seq: v.signed, Layer: LayerOrigin, Detail: fmt.Sprintf(
			"a checkpoint of %s, not of %s", clip(c.Origin), v.copy.Origin)}
	}
	return c, nil
}

// validOrigin reports whether text looks like what Origin makes, rather than like a damaged checkpoint.
func validOrigin(text string) bool {
	return strings.HasPrefix(text, "noxaudit/") && strings.Count(text, "/") == 2 && all([]byte(text), classToken)
}

// advance reads the next of the log's own checkpoints, unless one is waiting. It is nil at the end.
func (v *verifier) advance() error {
	if v.stored != nil || v.nextStored == nil {
		return nil
	}
	signed, err, ok := v.nextStored()
	if !ok {
		v.nextStored = nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("verify: checkpoint: %w", err)
	}
	c, err := v.open(signed)
	if err != nil {
		return err
	}
	if v.checked > 0 && c.Size < v.lastSize {
		return &Tampered{Seq: v.signed, Layer: LayerCheckpoint, Detail: fmt.Sprintf(
			"a checkpoint of size %d follows one of size %d", c.Size, v.lastSize)}
	}
	v.lastSize = c.Size
	v.stored = &c
	return nil
}

// checkpoints compares every checkpoint of the present size with the entries read so far.
func (v *verifier) checkpoints() error {
	size := v.walk.tree.Size()
	for {
		if err := v.advance(); err != nil {
			return err
		}
		if v.stored == nil || v.stored.Size != size {
			break
		}
		if err := v.compare(*v.stored, "a checkpoint"); err != nil {
			return err
		}
		v.stored = nil
	}
	for len(v.held) > 0 && v.held[0].Size == size {
		if err := v.compare(v.held[0], "a held checkpoint"); err != nil {
			return err
		}
		v.held = v.held[1:]
	}
	return nil
}

func (v *verifier) compare(c Checkpoint, which string) error {
	if c.Root == v.walk.tree.Root() {
		v.checked++
		v.signed, v.stray = c.Size, false
		return nil
	}
	if v.checked > 0 && v.signed == c.Size {
		return &Tampered{Seq: 0, Layer: LayerFork, Detail: fmt.Sprintf(
			"%s of size %d contradicts another of the same size", which, c.Size)}
	}
	return &Tampered{Seq: v.signed, Layer: LayerRoot, Detail: fmt.Sprintf(
		"%s of size %d was signed over other entries: one from %d to %d was changed", which, c.Size, v.signed, max(c.Size, 1)-1)}
}

// beyond refuses checkpoints of more entries than there are.
func (v *verifier) beyond() error {
	size := v.walk.tree.Size()
	greatest := uint64(0)
	if v.stored != nil {
		greatest = v.stored.Size
	}
	if n := len(v.held); n > 0 {
		greatest = max(greatest, v.held[n-1].Size)
	}
	if c := max(v.copy.Size, v.copy.Signed); c > size {
		return &Tampered{Seq: size, Layer: LayerSize, Detail: fmt.Sprintf(
			"the store says that there are %d entries and has %d: the end is missing", c, size)}
	}
	if v.copy.Signed > v.signed && greatest <= size {
		return &Tampered{Seq: v.signed, Layer: LayerSignature, Detail: fmt.Sprintf(
			"%d entries were signed, and the checkpoints that are left cover %d", v.copy.Signed, v.signed)}
	}
	if greatest > size {
		return &Tampered{Seq: size, Layer: LayerSize, Detail: fmt.Sprintf(
			"%d entries were signed and %d are there: the end is missing", greatest, size)}
	}
	return nil
}

// ReadLines yields the lines of an export, each ended by exactly one newline. Whatever else is in the way
// (no newline at the end, a line longer than any can be) is a *Tampered.
func ReadLines(r io.Reader) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		buffered := bufio.NewReaderSize(r, 1<<16)
		for seq := uint64(0); ; seq++ {
			line, err := buffered.ReadSlice('\n')
			switch {
			case err == io.EOF && len(line) == 0:
				return
			case err == io.EOF:
				err = &Tampered{Seq: seq, Layer: LayerEncoding, Detail: "the last line has no newline"}
			case errors.Is(err, bufio.ErrBufferFull):
				err = &Tampered{Seq: seq, Layer: LayerEncoding, Detail: "a line is longer than an entry can be"}
			}
			if err != nil {
				yield(Stored{}, err)
				return
			}
			if !yield(Stored{Line: line[:len(line)-1]}, nil) {
				return
			}
		}
	}
}
