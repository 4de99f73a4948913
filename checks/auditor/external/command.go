package external

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/sarif"
)

// CommandOptions are how an operator's command runs.
type CommandOptions struct {
	Options

	Timeout time.Duration // 0: 10 minutes
	Accept  []int         // exit codes that count as success when there is a SARIF document; nil: 0 and 1
	Bytes   int64         // most bytes of SARIF; 0: sarif.DefaultBytes

	// Path is the search path that the command sees, and on which it is found; "" is DefaultPath. Its folders
	// must be absolute: a relative one would lie in the audited code.
	Path string

	// Env names the variables that the command inherits, a token for its rules for example. It sees no others
	// but PATH, HOME, TMPDIR and LANG. Their values are taken out of error texts.
	Env []string

	TempDir string // where the code is copied to; "": the system's folder for temporary files
}

// DefaultPath is the search path of commands.
const DefaultPath = "/usr/local/bin:/usr/bin:/bin"

const (
	defaultTimeout = 10 * time.Minute
	stderrTail     = 2 << 10
	// grace is how long output may stay open after the command has ended: by something it left running.
	grace = 2 * time.Second
)

// Command is an auditor that runs an operator's program on a copy of the code and reads what it found, as
// SARIF, from its standard output, or from a file when an argument holds "{output}". It is an
// audit.TreeAuditor and needs audit.Needs.Command.
//
// The program starts without a shell, in a temporary copy of the tree ("{tree}" in an argument is its folder)
// that has no symbolic links and no .git, in a process group of its own. When it ends, or its time is over,
// the group is killed and the copy removed. That keeps accidents apart, not attackers: the program runs as the
// user that noxaudit runs as, on code that anyone may have written. Who lets it build or run that code puts a
// sandbox into the command.
type Command struct {
	info audit.Info
	argv []string
	o    CommandOptions
}

// NewCommand checks a command and finds its program. argv[0] is absolute, or a name on the search path.
func NewCommand(name string, argv []string, o CommandOptions) (*Command, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	fail := func(format string, a ...any) (*Command, error) {
		return nil, fmt.Errorf("external auditor %s: "+format, append([]any{name}, a...)...)
	}
	if len(argv) == 0 || argv[0] == "" {
		return fail("no command: name a program and its arguments")
	}
	if slices.ContainsFunc(argv, func(s string) bool { return strings.ContainsRune(s, 0) }) {
		return fail("an argument holds a NUL byte")
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Accept == nil {
		o.Accept = []int{0, 1}
	}
	if o.Bytes <= 0 {
		o.Bytes = sarif.DefaultBytes
	}
	if o.Path == "" {
		o.Path = DefaultPath
	}
	for _, dir := range filepath.SplitList(o.Path) {
		if !filepath.IsAbs(dir) {
			return fail("search path: %q is not absolute", dir)
		}
	}
	for _, v := range o.Env {
		if v == "" || strings.ContainsAny(v, "=\x00") {
			return fail("%q is not the name of an environment variable", v)
		}
		if slices.Contains([]string{"PATH", "HOME", "TMPDIR", "LANG"}, v) {
			return fail("the variable %s is set for the command and cannot be inherited", v)
		}
	}
	config, err := configDigest(struct {
		Argv    []string
		Options CommandOptions
	}{argv, o})
	if err != nil {
		return nil, err
	}
	program, err := find(argv[0], o.Path)
	if err != nil {
		return fail("%w", err)
	}
	return &Command{
		info: audit.Info{
			Name: name, Version: version, Config: config, Focus: o.focus(), Needs: audit.Needs{Command: true},
			Title: "Results of the command " + filepath.Base(argv[0]),
		},
		argv: append([]string{program}, argv[1:]...), o: o,
	}, nil
}

// find resolves a program. A relative path is refused: it would be looked for in the audited code.
func find(program, path string) (string, error) {
	if filepath.IsAbs(program) {
		return program, executable(program)
	}
	if strings.ContainsRune(program, filepath.Separator) {
		return "", fmt.Errorf("program %q: want an absolute path or a name on the search path, the audited code holds no programs to run", program)
	}
	for _, dir := range filepath.SplitList(path) {
		if p := filepath.Join(dir, program); executable(p) == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("program %q is not on the search path %s: install it, or name its absolute path", program, path)
}

func executable(p string) error {
	info, err := os.Stat(p)
	if err != nil {
		return fmt.Errorf("program: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("program %s is not executable", p)
	}
	return nil
}

// Info says what is run. Config changes with every argument and option, not with the program itself: who
// installs another version of it changes an option, the most honest being an argument that names the version.
func (c *Command) Info() audit.Info {
	i := c.info
	i.Focus = slices.Clone(i.Focus)
	return i
}

// Reads is true for every file: the program sees them all.
func (c *Command) Reads(string) bool { return true }

// AuditTree runs the command on a copy of the tree. It was no look at the code, and an error, when the program
// did not start, ran out of time, ended with a code that is not accepted, or wrote no valid SARIF document.
func (c *Command) AuditTree(ctx context.Context, t audit.Tree) (res audit.Result, err error) {
	defer func() {
		if err != nil {
			res, err = audit.Result{}, fmt.Errorf("external auditor %s: %w", c.info.Name, err)
		}
	}()
	dir, err := os.MkdirTemp(c.o.TempDir, "noxaudit-")
	if err != nil {
		return res, fmt.Errorf("temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, remove(dir)) }()
	// The program reports the folder by its real name.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return res, fmt.Errorf("temporary folder: %w", err)
	}
	tree := filepath.Join(dir, "tree")
	for _, d := range []string{tree, filepath.Join(dir, "home"), filepath.Join(dir, "tmp"), filepath.Join(dir, "out")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return res, fmt.Errorf("temporary folder: %w", err)
		}
	}
	var gaps []audit.Gap
	var left *source.ExportError
	if err := t.Export(ctx, tree); errors.As(err, &left) {
		for _, p := range left.Paths {
			gaps = append(gaps, audit.Gap{Path: p, Reason: "not shown to the command: another file has its name on this file system"})
		}
	} else if err != nil {
		return res, err
	}
	for _, s := range t.Skipped() {
		gaps = append(gaps, audit.Gap{Path: s.Path, Reason: "not shown to the command: " + s.Reason})
	}
	document, err := c.run(ctx, dir)
	if err != nil {
		return res, err
	}
	log, err := sarif.Read(bytes.NewReader(document), sarif.ReadOptions{Bytes: c.o.Bytes, Root: tree, IncludeSuppressed: c.o.IncludeSuppressed, IncludeInSource: true})
	if err != nil {
		return res, err
	}
	m, err := tie(ctx, log, t.Snapshot, c.o.Options)
	if err != nil {
		return res, err
	}
	res = m.all(t.Seal)
	res.Gaps = merged(append(gaps, res.Gaps...))
	return res, nil
}

// run runs the program in dir/tree and returns the document it wrote.
func (c *Command) run(ctx context.Context, dir string) ([]byte, error) {
	inner, cancel := context.WithTimeoutCause(ctx, c.o.Timeout, errTime)
	defer cancel()
	output := filepath.Join(dir, "out", "results.sarif")
	tree := filepath.Join(dir, "tree")
	argv := slices.Clone(c.argv)
	toFile := false
	for i, a := range argv[1:] {
		toFile = toFile || strings.Contains(a, "{output}")
		argv[i+1] = strings.NewReplacer("{output}", output, "{tree}", tree).Replace(a)
	}
	cmd := exec.CommandContext(inner, argv[0], argv[1:]...)
	cmd.Dir = tree
	cmd.Env = []string{"PATH=" + c.o.Path, "HOME=" + filepath.Join(dir, "home"), "TMPDIR=" + filepath.Join(dir, "tmp"), "LANG=C.UTF-8"}
	var hidden []string
	for _, name := range c.o.Env {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
			hidden = append(hidden, v)
		}
	}
	stdout := &capped{most: c.o.Bytes, full: cancel}
	stderr := &tail{}
	cmd.Stderr = stderr
	if !toFile {
		cmd.Stdout = stdout
	}
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = grace
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	err := cmd.Wait()
	// What the program left running ends with it. No such group is the good case.
	_ = killGroup(cmd)
	said := stderr.String(hidden)
	switch {
	case stdout.over:
		return nil, &sarif.LimitError{What: "bytes", Limit: c.o.Bytes, Fix: "let the command write fewer results, or raise the limit"}
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(context.Cause(inner), errTime):
		return nil, fmt.Errorf("stopped after %s, its time limit%s", c.o.Timeout, said)
	case errors.Is(err, exec.ErrWaitDelay):
		return nil, fmt.Errorf("it ended but left a process that kept its output open%s", said)
	}
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		if code = exit.ExitCode(); code < 0 {
			return nil, fmt.Errorf("ended by %s%s", exit.ProcessState, said)
		}
	case err != nil:
		return nil, err
	}
	if !slices.Contains(c.o.Accept, code) {
		return nil, fmt.Errorf("ended with exit code %d, which is not one of %d%s", code, c.o.Accept, said)
	}
	if !toFile {
		if stdout.kept.Len() == 0 {
			return nil, fmt.Errorf("wrote nothing to its standard output (exit code %d)%s", code, said)
		}
		return stdout.kept.Bytes(), nil
	}
	document, err := readOutput(output, c.o.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w (exit code %d)%s", err, code, said)
	}
	return document, nil
}

var errTime = errors.New("time limit")

// readOutput reads the file that the program wrote. The program ran on outside code: a link in the file's
// place is not followed, a pipe not waited for.
func readOutput(path string, most int64) ([]byte, error) {
	f, err := openPlain(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("wrote no file to {output}")
	}
	if err != nil {
		return nil, fmt.Errorf("{output}: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("{output}: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("{output} is not a plain file")
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("{output}: %w", err)
	}
	if int64(len(b)) > most {
		return nil, &sarif.LimitError{What: "bytes", Limit: most, Fix: "let the command write fewer results, or raise the limit"}
	}
	return b, nil
}

// remove deletes the copy, also where the program took away the right to.
func remove(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700) // WalkDir follows no links
		}
		return nil
	})
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("the copy of the code could not be removed: %w", err)
	}
	return nil
}

// capped keeps what is written to it, up to a limit; beyond it the program is stopped. The buffer is not
// embedded: its ReadFrom would pass the limit by.
type capped struct {
	kept bytes.Buffer
	most int64
	over bool
	full func()
}

func (c *capped) Write(p []byte) (int, error) {
	if int64(c.kept.Len()+len(p)) > c.most {
		c.over = true
		c.full()
		return 0, errors.New("too much output")
	}
	return c.kept.Write(p)
}

// tail keeps the last bytes that are written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-2*stderrTail):]...)
	if len(t.b) > 4*stderrTail {
		t.b = append(t.b[:0], t.b[len(t.b)-2*stderrTail:]...)
	}
	return len(p), nil
}

// String is what the program said last, for the end of an error: printable, without the values of hidden
// variables, at most stderrTail bytes; "" when it said nothing.
func (t *tail) String(hidden []string) string {
	s := strings.ToValidUTF8(string(t.b), "�")
	for _, h := range hidden {
		for part := range strings.Lines(h) {
			if part = strings.TrimSpace(part); part != "" {
				s = strings.ReplaceAll(s, part, mask)
			}
		}
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, s)
	if s = strings.TrimSpace(s); s == "" {
		return ""
	}
	if len(s) > stderrTail {
		s = "…" + strings.ToValidUTF8(s[len(s)-stderrTail:], "")
	}
	return "; it said: " + s
}
