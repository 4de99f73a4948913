package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// The most that one transaction appends.
const (
	maxBatchRows  = 4096
	maxBatchBytes = 4 << 20
)

// Sequencer moves events from an outbox into a log. There is one per log at a time: a newer one fences it.
// Its methods must not be called concurrently.
type Sequencer struct {
	outbox  Outbox
	log     Log
	epoch   uint64
	account string
	hash    hasher
	fields  spans
	clashes map[string]uint64 // ids that an append failed on, with the entry that has the id
	end     *end              // nil when it must be read: at the start, and after any error
}

// end is the end of the log as the sequencer left it. It may be remembered from batch to batch because an append
// fails when anybody else wrote.
type end struct {
	size    uint64
	head    Hash
	tree    Tree
	sources map[string]uint64 // the last SSeq of each source that was looked up; 0 for none
}

// maxSources is how many sources a sequencer remembers.
const maxSources = 1 << 16

// NewSequencer claims the log; the sequencer that held it before can append nothing from here on.
func NewSequencer(ctx context.Context, outbox Outbox, log Log) (*Sequencer, error) {
	epoch, err := log.Claim(ctx)
	if err != nil {
		return nil, fmt.Errorf("sequencer: %w", err)
	}
	return &Sequencer{outbox: outbox, log: log, epoch: epoch, account: accountOf(log.Origin()), clashes: make(map[string]uint64)}, nil
}

// Skipper is an Outbox that can leave sources out. Without it a source that is held back can stand in front of
// all others.
type Skipper interface {
	// PendingExcept is Pending without the rows of some sources.
	PendingExcept(ctx context.Context, limit int, except []string) ([]Recorded, error)
}

// Archive is an Outbox that keeps the rows it has marked. They restore a ledger that lost its end.
type Archive interface {
	// Marked returns at most limit rows that were marked with from or a later number, in the order of the numbers.
	Marked(ctx context.Context, from uint64, limit int) ([]Marked, error)
}

// Marked is a row of the outbox and its place in the log.
type Marked struct {
	Recorded
	Seq uint64
}

// ErrForeign says that the outbox and the log do not belong together: the outbox knows entries that the log has
// in another form or cannot get back, or the other way round.
var ErrForeign = errors.New("this ledger and this database do not belong together: one of the two was lost, exchanged, or restored from an older backup than the other")

// Drain appends what waits in the outbox and returns how many entries the log gained. An event that cannot
// be appended (ErrGap, ErrConflict, ErrMalformed: evidence of a fault or of tampering) holds back its own
// source; the others go on, and the error names each, again at every call until somebody acts. After any error,
// Drain may be called again: an event that reached the log before a crash is recognised there by its id.
//
// Where the log ends before what the outbox marked (its database was lost, or restored from an older backup), the
// entries are appended again from an Archive, byte for byte, before anything else.
func (s *Sequencer) Drain(ctx context.Context) (int, error) {
	total, err := s.restore(ctx)
	if err != nil {
		return total, err
	}
	var problems []error
	var except []string
	for {
		rows, err := s.pending(ctx, except)
		if err != nil {
			return total, errors.Join(append(problems, fmt.Errorf("sequencer: outbox: %w", err))...)
		}
		settled, before := 0, len(except)
		for rest := rows; len(rest) > 0; {
			n := batchLength(rest)
			added, marked, held, err := s.batch(ctx, rest[:n])
			total += added
			settled += marked
			for _, h := range held {
				if !slices.Contains(except, h.source) {
					problems = append(problems, h.reason)
					except = append(except, h.source)
				}
			}
			if err != nil {
				return total, errors.Join(append(problems, err)...)
			}
			rest = rest[n:]
		}
		_, skips := s.outbox.(Skipper)
		if settled == 0 && (len(except) == before || !skips) {
			return total, errors.Join(problems...)
		}
		if len(except) > 0 && !skips {
			return total, errors.Join(problems...)
		}
	}
}

func (s *Sequencer) pending(ctx context.Context, except []string) ([]Recorded, error) {
	if skipper, ok := s.outbox.(Skipper); ok && len(except) > 0 {
		return skipper.PendingExcept(ctx, maxBatchRows, except)
	}
	return s.outbox.Pending(ctx, maxBatchRows)
}

// restore appends again what the outbox says is in the log and is not, after a look at whether the outbox and
// the log are of one history at all.
func (s *Sequencer) restore(ctx context.Context) (int, error) {
	archive, ok := s.outbox.(Archive)
	if !ok || s.end != nil {
		return 0, nil
	}
	total := 0
	for {
		state, err := s.log.State(ctx, nil)
		if err != nil {
			return total, fmt.Errorf("sequencer: %w", err)
		}
		rows, err := archive.Marked(ctx, max(state.Size, 1)-1, maxBatchRows)
		if err != nil {
			return total, fmt.Errorf("sequencer: outbox: %w", err)
		}
		if len(rows) > 0 && rows[0].Seq < state.Size {
			if err := s.same(ctx, rows[0]); err != nil {
				return total, err
			}
			rows = rows[1:]
		}
		if len(rows) == 0 {
			return total, nil
		}
		if rows[0].Seq != state.Size {
			return total, fmt.Errorf("sequencer: the log ends at %d, the outbox keeps its entries from %d on: %w", state.Size, rows[0].Seq, ErrForeign)
		}
		tree, err := treeAt(ctx, s.log, state.Size)
		if err != nil {
			return total, fmt.Errorf("sequencer: %w", err)
		}
		p := plan{
			batch: Batch{Epoch: s.epoch, From: state.Size, Sources: make(map[string]uint64)},
			end:   end{size: state.Size, head: state.Head, tree: tree},
		}
		size := 0
		for _, r := range rows {
			if size += len(r.Body); size > maxBatchBytes && len(p.batch.Entries) > 0 {
				break
			}
			if r.Seq != p.end.size {
				return total, fmt.Errorf("sequencer: the outbox lacks entry %d: %w", p.end.size, ErrForeign)
			}
			if err := s.add(&p, r.Recorded); err != nil {
				return total, fmt.Errorf("sequencer: entry %d: %w: %w", r.Seq, err, ErrForeign)
			}
		}
		if err := s.log.Append(ctx, p.batch); err != nil {
			return total, s.explain(ctx, p.batch, err)
		}
		total += len(p.batch.Entries)
	}
}

// same wants the log to hold a marked row where the mark says.
func (s *Sequencer) same(ctx context.Context, r Marked) error {
	found, err := s.log.Find(ctx, []string{r.ID})
	if err != nil {
		return fmt.Errorf("sequencer: %w", err)
	}
	if f, ok := found[r.ID]; !ok || f.Seq != r.Seq || !sameBody(f.Line, r.Body) {
		return fmt.Errorf("sequencer: the log holds something else as entry %d than the outbox: %w", r.Seq, ErrForeign)
	}
	return nil
}

// batchLength is how many of the rows fit into one transaction, at least one.
func batchLength(rows []Recorded) int {
	size := 0
	for i, r := range rows {
		size += len(r.Body)
		if i > 0 && (i == maxBatchRows || size > maxBatchBytes) {
			return i
		}
	}
	return len(rows)
}

// batch appends rows in one transaction and then marks them. held are the reasons why some were not.
func (s *Sequencer) batch(ctx context.Context, rows []Recorded) (added, marked int, held []held, err error) {
	defer func() {
		if err != nil || len(held) > 0 {
			s.end = nil
		}
	}()
	if err := s.look(ctx, rows); err != nil {
		return 0, 0, nil, fmt.Errorf("sequencer: %w", err)
	}
	plan, err := s.plan(ctx, rows)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("sequencer: %w", err)
	}
	if len(plan.held) > 0 {
		// What looks like a gap to a writer that was replaced is what the other one appended.
		state, err := s.log.State(ctx, nil)
		if err != nil {
			return 0, 0, nil, fmt.Errorf("sequencer: %w", err)
		}
		if state.Size != s.end.size || state.Head != s.end.head {
			return 0, 0, nil, fmt.Errorf("sequencer: %w", ErrFenced)
		}
	}
	if n := len(plan.batch.Entries); n > 0 {
		if err := s.log.Append(ctx, plan.batch); err != nil {
			return 0, 0, plan.held, s.explain(ctx, plan.batch, err)
		}
		added = n
		s.end.size, s.end.head, s.end.tree = plan.end.size, plan.end.head, plan.end.tree
		maps.Copy(s.end.sources, plan.batch.Sources)
	}
	if len(plan.positions) > 0 {
		if err := s.outbox.Sequenced(ctx, plan.positions); err != nil {
			return added, 0, plan.held, fmt.Errorf("sequencer: outbox: %w", err)
		}
	}
	return added, len(plan.positions), plan.held, nil
}

// look reads what is not remembered of the end of the log.
func (s *Sequencer) look(ctx context.Context, rows []Recorded) error {
	if s.end != nil && len(s.end.sources) > maxSources {
		s.end = nil
	}
	var missing []string
	seen := make(map[string]bool)
	for _, r := range rows {
		known := seen[r.Source]
		if s.end != nil && !known {
			_, known = s.end.sources[r.Source]
		}
		if !known {
			seen[r.Source] = true
			missing = append(missing, r.Source)
		}
	}
	if s.end != nil && len(missing) == 0 {
		return nil
	}
	state, err := s.log.State(ctx, missing)
	if err != nil {
		return err
	}
	if s.end == nil {
		tree, err := treeAt(ctx, s.log, state.Size)
		if err != nil {
			return err
		}
		s.end = &end{size: state.Size, head: state.Head, tree: tree, sources: make(map[string]uint64)}
	}
	if state.Size != s.end.size {
		return ErrFenced
	}
	for _, source := range missing {
		s.end.sources[source] = state.Sources[source]
	}
	return nil
}

// held is a source that cannot go on, and why.
type held struct {
	source string
	reason error
}

// plan is what to do with some rows of the outbox.
type plan struct {
	batch     Batch
	positions []Position
	held      []held
	end       end // after the batch; without its sources
}

func (s *Sequencer) plan(ctx context.Context, rows []Recorded) (plan, error) {
	known, err := s.known(ctx, rows)
	if err != nil {
		return plan{}, err
	}
	p := plan{
		batch: Batch{Epoch: s.epoch, From: s.end.size, Sources: make(map[string]uint64)},
		end:   end{size: s.end.size, head: s.end.head, tree: s.end.tree},
	}
	bad := make(map[string]bool)
	inBatch := make(map[string]int) // of the events of this batch: index into its entries
	for _, r := range rows {
		if bad[r.Source] {
			continue
		}
		last, moved := p.batch.Sources[r.Source]
		if !moved {
			last = s.end.sources[r.Source]
		}
		found, there := known[r.ID]
		if i, here := inBatch[r.ID]; here {
			found, there = Found{Seq: p.batch.Entries[i].Seq, Line: p.batch.Entries[i].Line}, true
		}
		var problem error
		switch clash, clashes := s.clashes[r.ID]; {
		case r.SSeq > last+1:
			problem = fmt.Errorf("%w: expected number %d next", ErrGap, last+1)
		case r.SSeq <= last && !there:
			problem = fmt.Errorf("%w: the ledger holds this number under another id (%w)", ErrConflict, ErrForeign)
		case r.SSeq <= last && sameBody(found.Line, r.Body):
			p.positions = append(p.positions, Position{ID: r.ID, Seq: found.Seq})
		case there:
			problem = fmt.Errorf("%w: it is entry %d", ErrConflict, found.Seq)
		case clashes:
			problem = fmt.Errorf("%w: it is entry %d", ErrConflict, clash)
		default:
			if problem = s.add(&p, r); problem == nil {
				inBatch[r.ID] = len(p.batch.Entries) - 1
			}
		}
		if problem != nil {
			bad[r.Source] = true
			p.held = append(p.held, held{r.Source, fmt.Errorf("sequencer: source %s, event %d (%s): %w", clip(r.Source), r.SSeq, clip(r.ID), problem)})
		}
	}
	return p, nil
}

// add gives an event the next place.
func (s *Sequencer) add(p *plan, r Recorded) error {
	if len(r.Body) == 0 || r.Body[0] != '{' { // the one byte that does not enter the line
		return fmt.Errorf("%w: not an object", ErrMalformed)
	}
	line := appendLine(make([]byte, 0, len(r.Body)+128), p.end.size, p.end.head, r.Body)
	if err := s.check(r, line); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	chain, leaf := s.hash.sums(line)
	p.batch.Entries = append(p.batch.Entries, Entry{
		Seq: p.end.size, ID: r.ID, Prev: p.end.head, Hashes: p.end.tree.grow(leaf, nil), Line: line,
	})
	p.positions = append(p.positions, Position{ID: r.ID, Seq: p.end.size})
	p.batch.Sources[r.Source] = r.SSeq
	p.end.size, p.end.head = p.end.size+1, chain
	return nil
}

// known looks up the events that seem to be in the log already, which is so only after a crash.
func (s *Sequencer) known(ctx context.Context, rows []Recorded) (map[string]Found, error) {
	var ids []string
	for _, r := range rows {
		if r.SSeq <= s.end.sources[r.Source] {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return s.log.Find(ctx, ids)
}

// check refuses what could never be taken back: a line that a verifier would not accept, or that says
// something else than its row.
func (s *Sequencer) check(r Recorded, line []byte) error {
	f := &s.fields
	if err := checkLine(line, f); err != nil {
		return err
	}
	if string(f.id) != r.ID || string(f.source) != r.Source || f.sseq != r.SSeq {
		return errors.New("the row and its body name different events")
	}
	if string(f.account) != s.account {
		return fmt.Errorf("it belongs to account %s", clip(string(f.account)))
	}
	return nil
}

// explain finds out whether an append failed because an id is in the log under another number. The next
// Drain then holds that row back and goes on with the rest.
func (s *Sequencer) explain(ctx context.Context, b Batch, cause error) error {
	cause = fmt.Errorf("sequencer: append: %w", cause)
	if errors.Is(cause, ErrFenced) || ctx.Err() != nil {
		return cause
	}
	ids := make([]string, len(b.Entries))
	for i, e := range b.Entries {
		ids[i] = e.ID
	}
	found, err := s.log.Find(ctx, ids)
	if err != nil {
		return cause
	}
	for _, e := range b.Entries {
		if f, ok := found[e.ID]; ok && !bytes.Equal(f.Line, e.Line) {
			s.clashes[e.ID] = f.Seq
			return fmt.Errorf("sequencer: event %s: %w: it is entry %d", clip(e.ID), ErrConflict, f.Seq)
		}
	}
	return cause
}

func sameBody(line, body []byte) bool {
	p, err := parsePrefix(line)
	return err == nil && len(body) > 0 && body[0] == '{' && bytes.Equal(line[p.end:], body[1:])
}
