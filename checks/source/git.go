package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// git starts the git command on one repository. Everything that could make git start another program, or
// read what is not the repository's, is switched off here, for every command alike.
type git struct {
	path    string // of the git program
	version [2]int
	dir     string // GIT_DIR: given, never discovered by git, so git's rules on foreign owners do not apply
	tree    string // the working tree; "" in a bare repository
	limits  Limits
	partial bool // the clone may lack objects that its remote has
}

// settings outrank the configuration of the repository. Those that name a program are empty or refuse.
var settings = []string{
	"core.hooksPath=/dev/null",
	"core.fsmonitor=false",
	"core.attributesFile=/dev/null",
	"core.excludesFile=/dev/null",
	"core.sshCommand=false",
	"core.askPass=false",
	"core.editor=false",
	"core.pager=cat",
	"core.alternateRefsCommand=false",
	"core.untrackedCache=false",
	"core.useReplaceRefs=false",
	"core.warnAmbiguousRefs=false",
	"core.quotePath=false",
	"core.precomposeUnicode=false",
	"credential.helper=",
	"protocol.allow=never",
	"submodule.recurse=false",
	"diff.external=",
	"diff.ignoreSubmodules=none",
	"diff.renames=false",
	"diff.orderFile=/dev/null",
	"gc.auto=0",
	"maintenance.auto=false",
	"safe.directory=*",
}

// environment is all that git sees. PATH and GIT_EXEC_PATH lead nowhere: the commands used here are part of
// the git program itself, and one that tried to start a second program by name would not find it.
func (g *git) environment() []string {
	env := []string{
		"PATH=/dev/null",
		"GIT_EXEC_PATH=/dev/null",
		"LC_ALL=C",
		"TZ=UTC",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_ATTR_NOSYSTEM=1",
		"GIT_ALLOW_PROTOCOL=none", // outranks protocol.<name>.allow of the repository
		"GIT_PROTOCOL_FROM_USER=0",
		"GIT_NO_LAZY_FETCH=1",
		"GIT_NO_REPLACE_OBJECTS=1",
		"GIT_OPTIONAL_LOCKS=0",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_PAGER=cat",
		"GIT_ASKPASS=false",
		"GIT_SSH_COMMAND=false",
		"GIT_LITERAL_PATHSPECS=1",
		"GIT_DIR=" + g.dir,
	}
	if g.tree != "" {
		env = append(env, "GIT_WORK_TREE="+g.tree)
	}
	if root := os.Getenv("SYSTEMROOT"); root != "" {
		env = append(env, "SYSTEMROOT="+root) // Windows starts no program without it
	}
	return env
}

// command is a git command in a process group of its own that dies with ctx.
func (g *git) command(ctx context.Context, args ...string) *exec.Cmd {
	all := make([]string, 0, 2*len(settings)+len(args)+3)
	all = append(all, "--no-pager")
	for _, s := range settings {
		all = append(all, "-c", s)
	}
	// A blob beyond the limit is streamed by git, should one ever be asked for.
	all = append(all, "-c", "core.bigFileThreshold="+strconv.FormatInt(max(g.limits.BlobBytes, 1<<20), 10))
	cmd := exec.CommandContext(ctx, g.path, append(all, args...)...)
	cmd.Env = g.environment()
	cmd.Dir = g.dir
	if g.tree != "" {
		cmd.Dir = g.tree
	}
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// stream runs a command and hands its output to parse. An error of parse ends the command.
func (g *git) stream(ctx context.Context, parse func(io.Reader) error, args ...string) error {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, g.limits.Command)
	defer cancel()
	cmd := g.command(ctx, args...)
	var stderr excerpt
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("git %s: %w", args[0], err)
	}
	if err := cmd.Start(); err != nil {
		return g.notStarted(parent, err)
	}
	parsed := parse(out)
	if parsed != nil {
		cancel()
	}
	err = cmd.Wait()
	switch {
	case parent.Err() != nil:
		return context.Cause(parent)
	case parsed != nil && ctx.Err() == context.Canceled:
		return parsed
	case ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("git %s: %w: more than %v", args[0], ErrTimeLimit, g.limits.Command)
	case err != nil:
		return g.failure(args[0], stderr.String(), err)
	}
	return parsed
}

// output runs a command whose output is small; more than most bytes are an error.
func (g *git) output(ctx context.Context, most int64, args ...string) ([]byte, error) {
	var b bytes.Buffer
	err := g.stream(ctx, func(r io.Reader) error {
		n, err := io.Copy(&b, io.LimitReader(r, most+1))
		if err == nil && n > most {
			err = fmt.Errorf("git %s: more than %s of output", args[0], bytesText(most))
		}
		return err
	}, args...)
	return b.Bytes(), err
}

func (g *git) notStarted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNoGit, err)
	}
	return fmt.Errorf("git: %w", err)
}

// failure gives a failed command the kind that its message tells. The exit code remains in the chain.
func (g *git) failure(command, stderr string, err error) error {
	kind := error(nil)
	for _, k := range []struct {
		text string
		kind error
	}{
		{"not a git repository", ErrNotRepository},
		{"unable to access", ErrNotRepository},
		{"missing", ErrMissing},
		{"unable to get", ErrMissing},
		{"could not fetch", ErrMissing},
		{"not a tree object", ErrMissing},
		{"not a valid object", ErrMissing},
		{"unable to read", ErrMissing},
		{"Could not read", ErrMissing},
		{"bad tree object", ErrMissing},
		{"unknown repository extension", nil},
		{"repo version", nil},
		{"malformed mode", ErrCorrupt},
		{"empty filename", ErrCorrupt},
		{"too-short tree", ErrCorrupt},
		{"corrupt", ErrCorrupt},
		{"inflate", ErrCorrupt},
		{"index file", ErrCorrupt},
		{"bad signature", ErrCorrupt},
		{"bad config", ErrCorrupt},
	} {
		if strings.Contains(stderr, k.text) {
			kind = k.kind
			break
		}
	}
	// A complete clone that lacks an object is a damaged one.
	if kind == ErrMissing && !g.partial {
		kind = ErrCorrupt
	}
	said := firstLine(stderr)
	if said == "" {
		said = "no message"
	}
	if kind == nil {
		return fmt.Errorf("git %s: %s: %w", command, said, err)
	}
	return fmt.Errorf("git %s: %w (%s): %w", command, kind, said, err)
}

// exitCode is the code that a command of failure ended with, -1 when it did not end so.
func exitCode(err error) int {
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		return e.ExitCode()
	}
	return -1
}

// firstLine is git's message without its prefix, safe to show: a repository chooses part of the words.
// Warnings stand before the message; they are taken only when there is nothing else.
func firstLine(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	for _, l := range lines {
		if rest, ok := strings.CutPrefix(l, "fatal: "); ok {
			return shown(rest, 200)
		}
	}
	for _, l := range lines {
		if rest, ok := strings.CutPrefix(l, "error: "); ok {
			return shown(rest, 200)
		}
	}
	return shown(lines[0], 200)
}

// shown escapes what cannot be shown safely and clips the rest to about most bytes.
func shown(s string, most int) string {
	clipped := len(s) > most
	if clipped {
		s = s[:most]
	}
	q := strconv.QuoteToGraphic(s)
	q = strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
	if clipped {
		q += "…"
	}
	return q
}

// excerpt keeps the beginning of what a command says on its standard error.
type excerpt struct {
	mu sync.Mutex
	b  []byte
}

const excerptBytes = 4096

func (e *excerpt) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if room := excerptBytes - len(e.b); room > 0 {
		e.b = append(e.b, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (e *excerpt) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(e.b)
}

// versions remembers what each git program said of itself: it is asked once.
var versions sync.Map // path → [2]int

// findGit finds the program and asks for its version.
func findGit(ctx context.Context, l Limits) (*git, error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoGit, err)
	}
	g := &git{path: path, limits: l, dir: os.DevNull}
	if v, ok := versions.Load(path); ok {
		g.version = v.([2]int)
		return g, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.Command)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.Env = g.environment()
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, g.notStarted(ctx, err)
	}
	if g.version, err = parseVersion(string(out)); err != nil {
		return nil, err
	}
	if !g.atLeast(2, 30) {
		return nil, fmt.Errorf("%w: this one is %d.%d", ErrNoGit, g.version[0], g.version[1])
	}
	versions.Store(path, g.version)
	return g, nil
}

func (g *git) atLeast(major, minor int) bool {
	return g.version[0] > major || g.version[0] == major && g.version[1] >= minor
}

// parseVersion reads "git version 2.39.5 (vendor's words)".
func parseVersion(s string) (v [2]int, err error) {
	f := strings.Fields(s)
	if len(f) < 3 || f[0] != "git" || f[1] != "version" {
		return v, fmt.Errorf("%w: %q is no version of it", ErrNoGit, shown(s, 80))
	}
	parts := strings.SplitN(f[2], ".", 3)
	for i := range min(2, len(parts)) {
		if v[i], err = strconv.Atoi(parts[i]); err != nil {
			return v, fmt.Errorf("%w: %q is no version of it", ErrNoGit, shown(f[2], 80))
		}
	}
	return v, nil
}
