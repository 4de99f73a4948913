package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

var (
	errAbsent    = errors.New("no such object")
	errAmbiguous = fmt.Errorf("%w: the name is ambiguous", errAbsent)
)

// objects reads git's object store through git processes that stay, so that a read costs a line down a pipe
// instead of a process. Two may run: a second reader need not wait, more would gain little.
type objects struct {
	git   *git
	slots chan struct{}

	mu     sync.Mutex
	idle   []*reader
	live   map[*reader]bool
	closed bool
}

const readers = 2

func newObjects(g *git) *objects {
	return &objects{git: g, slots: make(chan struct{}, readers), live: map[*reader]bool{}}
}

// object is what git says about one.
type object struct {
	id   string
	kind string // "blob", "tree", "commit", "tag"
	size int64
}

// info asks what a name stands for. The name must hold no newline.
func (o *objects) info(ctx context.Context, object string) (found object, err error) {
	err = o.with(ctx, func(r *reader) error {
		found, err = r.info(object)
		return err
	})
	return found, err
}

// sizes asks for the sizes of many objects; -1 for one that is absent.
func (o *objects) sizes(ctx context.Context, ids []string) (sizes []int64, err error) {
	// So many questions and their answers fit into the pipes: nobody waits for the other.
	const together = 256
	for len(ids) > 0 {
		part := ids[:min(together, len(ids))]
		ids = ids[len(part):]
		var some []int64
		err = o.with(ctx, func(r *reader) error {
			some, err = r.sizes(part)
			return err
		})
		if err != nil {
			return nil, err
		}
		sizes = append(sizes, some...)
	}
	return sizes, nil
}

// read reads an object of a kind and at most limit bytes. A larger one is a TooLargeError; it is not even
// fetched from git unless the caller says that its size was already found to be within the limit.
func (o *objects) read(ctx context.Context, id, kind string, sized bool, limit int64) (body []byte, err error) {
	err = o.with(ctx, func(r *reader) error {
		if !sized {
			found, err := r.info(id)
			if err != nil {
				return err
			}
			if err := acceptable(found, kind, limit); err != nil {
				return err
			}
		}
		body, err = r.contents(id, kind, limit)
		return err
	})
	return body, err
}

func acceptable(o object, kind string, limit int64) error {
	if o.kind != kind {
		return fmt.Errorf("object %s: %w: it is a %s where a %s was expected", o.id, ErrCorrupt, o.kind, kind)
	}
	if o.size > limit {
		return &TooLargeError{What: "bytes", Size: o.size, Limit: limit}
	}
	return nil
}

// with hands a reader to do. A reader that died is replaced once: somebody may have ended it. A reader whose
// context ends is ended too, since it may be in the middle of an answer.
func (o *objects) with(ctx context.Context, do func(*reader) error) error {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, o.git.limits.Command)
	defer cancel()
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	case <-ctx.Done():
		return o.ended(parent)
	}
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			return o.ended(parent)
		}
		r, err := o.take()
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, r.kill)
		err = do(r)
		interrupted := !stop()
		broken := (*brokenError)(nil)
		if !interrupted && !errors.As(err, &broken) {
			o.give(r)
			return err
		}
		said := o.drop(r)
		switch {
		case interrupted && err == nil:
			return nil // the answer was complete before the context ended
		case interrupted:
			return o.ended(parent)
		case o.isClosed():
			return ErrClosed
		case o.git.partial && strings.Contains(said, "promisor"), o.git.partial && strings.Contains(said, "lazy fetching"):
			return errAbsent // git ends when it may not fetch what it lacks
		case attempt > 0:
			if said == "" {
				return fmt.Errorf("git cat-file: it ended without an answer: %w", broken.cause)
			}
			return o.git.failure("cat-file", said, broken.cause)
		}
	}
}

func (o *objects) ended(parent context.Context) error {
	if parent.Err() != nil {
		return context.Cause(parent)
	}
	return fmt.Errorf("git cat-file: %w: more than %v", ErrTimeLimit, o.git.limits.Command)
}

func (o *objects) take() (*reader, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, ErrClosed
	}
	if n := len(o.idle); n > 0 {
		r := o.idle[n-1]
		o.idle = o.idle[:n-1]
		return r, nil
	}
	r, err := startReader(o.git)
	if err != nil {
		return nil, err
	}
	o.live[r] = true
	return r, nil
}

func (o *objects) give(r *reader) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.idle = append(o.idle, r)
	}
}

// drop ends a reader and returns what it said on its standard error.
func (o *objects) drop(r *reader) string {
	r.end()
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.live, r)
	return r.stderr.String()
}

func (o *objects) isClosed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed
}

func (o *objects) close() {
	o.mu.Lock()
	o.closed = true
	var all []*reader
	for r := range o.live {
		all = append(all, r)
	}
	clear(o.live)
	o.idle = nil
	o.mu.Unlock()
	for _, r := range all {
		r.end()
	}
}

// reader asks one git process, or two of a git that cannot answer both kinds of question in one.
type reader struct {
	asks, reads *pipe // the same one where git knows --batch-command
	commands    bool
	stderr      excerpt

	mu    sync.Mutex
	ended bool // the processes are gone, their ids may be others' by now
}

// pipe is a running git cat-file.
type pipe struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// brokenError says that a reader is of no more use.
type brokenError struct{ cause error }

func (e *brokenError) Error() string { return e.cause.Error() }

func startReader(g *git) (*reader, error) {
	r := &reader{commands: g.atLeast(2, 36)}
	start := func(mode string) (*pipe, error) {
		// Its life is not bound to the context of the one who happened to need it first.
		cmd := g.command(context.Background(), "cat-file", mode)
		cmd.Stderr = &r.stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, fmt.Errorf("git cat-file: %w", err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, fmt.Errorf("git cat-file: %w", err)
		}
		if err := cmd.Start(); err != nil {
			return nil, g.notStarted(context.Background(), err)
		}
		return &pipe{cmd, in, bufio.NewReaderSize(out, 64<<10)}, nil
	}
	var err error
	if r.commands {
		r.asks, err = start("--batch-command")
		r.reads = r.asks
		return r, err
	}
	if r.asks, err = start("--batch-check"); err != nil {
		return nil, err
	}
	if r.reads, err = start("--batch"); err != nil {
		r.reads = r.asks
		r.end()
		return nil, err
	}
	return r, nil
}

// kill ends the processes; whoever reads from them sees the end.
func (r *reader) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.signal()
}

// end kills the processes and waits for them.
func (r *reader) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.signal()
	_ = r.asks.cmd.Wait()
	if r.reads != r.asks {
		_ = r.reads.cmd.Wait()
	}
	r.ended = true
}

func (r *reader) signal() {
	if r.ended {
		return
	}
	_ = killGroup(r.asks.cmd)
	if r.reads != r.asks {
		_ = killGroup(r.reads.cmd)
	}
}

func (r *reader) ask(p *pipe, command, what string) error {
	line := what + "\n"
	if r.commands {
		line = command + " " + line
	}
	if _, err := io.WriteString(p.in, line); err != nil {
		return &brokenError{err}
	}
	return nil
}

// answer reads the line "<id> <kind> <size>", or "<name> missing".
func (r *reader) answer(p *pipe) (object, error) {
	line, err := p.out.ReadSlice('\n')
	if err != nil {
		return object{}, &brokenError{err}
	}
	o, err := parseAnswer(string(line[:len(line)-1]))
	if err != nil && !errors.Is(err, errAbsent) {
		err = &brokenError{err}
	}
	return o, err
}

func parseAnswer(line string) (object, error) {
	if strings.HasSuffix(line, " missing") {
		return object{}, errAbsent
	}
	if strings.HasSuffix(line, " ambiguous") {
		return object{}, errAmbiguous
	}
	id, rest, _ := strings.Cut(line, " ")
	kind, size, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 0 || !isID(id) || kind == "" {
		return object{}, fmt.Errorf("unexpected answer %q", shown(line, 80))
	}
	return object{id, kind, n}, nil
}

func (r *reader) info(name string) (object, error) {
	if err := r.ask(r.asks, "info", name); err != nil {
		return object{}, err
	}
	return r.answer(r.asks)
}

func (r *reader) sizes(ids []string) ([]int64, error) {
	var b strings.Builder
	for _, id := range ids {
		if r.commands {
			b.WriteString("info ")
		}
		b.WriteString(id)
		b.WriteByte('\n')
	}
	if _, err := io.WriteString(r.asks.in, b.String()); err != nil {
		return nil, &brokenError{err}
	}
	sizes := make([]int64, len(ids))
	for i := range ids {
		o, err := r.answer(r.asks)
		switch {
		case err == nil:
			sizes[i] = o.size
		case errors.Is(err, errAbsent):
			sizes[i] = -1
		default:
			return nil, err
		}
	}
	return sizes, nil
}

func (r *reader) contents(id, kind string, limit int64) ([]byte, error) {
	if err := r.ask(r.reads, "contents", id); err != nil {
		return nil, err
	}
	o, err := r.answer(r.reads)
	if err != nil {
		return nil, err
	}
	if err := acceptable(o, kind, limit); err != nil {
		// The answer is on its way all the same: let it pass by without holding it.
		if _, derr := io.CopyN(io.Discard, r.reads.out, o.size+1); derr != nil {
			return nil, &brokenError{derr}
		}
		return nil, err
	}
	body := make([]byte, o.size)
	if _, err := io.ReadFull(r.reads.out, body); err != nil {
		return nil, &brokenError{err}
	}
	if c, err := r.reads.out.ReadByte(); err != nil || c != '\n' {
		return nil, &brokenError{errors.Join(errors.New("the answer does not end where it said"), err)}
	}
	return body, nil
}
