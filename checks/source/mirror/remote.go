package mirror

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/name"
)

// Remote is a repository of GitHub and the right to read it.
type Remote struct {
	// Repo is the key: account and numeric id. The full name is shown and never used.
	Repo name.Repo
	// URL is the address for git: https://github.com/octo-org/payments.git.
	URL string
	// Token gives an installation token; fresh asks for a new one, after GitHub refused the last. A nil Token,
	// or an empty answer, means that none is needed.
	Token func(ctx context.Context, fresh bool) (string, error)
}

// address is a checked URL.
type address struct {
	url      string
	protocol string // "https" or "http"
	origin   string // scheme and host
	loopback bool
}

func parseAddress(raw string, allowHTTP bool) (address, error) {
	bad := func(why string) (address, error) { return address{}, fmt.Errorf("%w: the address %s", ErrRemote, why) }
	if len(raw) > 2048 {
		return bad("is too long")
	}
	for _, c := range []byte(raw) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"'\\<>^`{|}*%", c) >= 0 {
			return bad("holds a character that none of GitHub's has")
		}
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return bad("is malformed") // the parser's message would repeat it, with a password if it has one
	case u.User != nil:
		return bad("holds a user or a password: the token is given apart")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || u.Opaque != "":
		return bad("has more than a host and a path")
	case u.Hostname() == "" || strings.Trim(u.Path, "/") == "":
		return bad("lacks a host or a path")
	}
	ip := net.ParseIP(u.Hostname())
	a := address{u.String(), u.Scheme, u.Scheme + "://" + strings.ToLower(u.Host), ip != nil && ip.IsLoopback() || u.Hostname() == "localhost"}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && (a.loopback || allowHTTP):
	case u.Scheme == "http":
		return bad("is not https: the token would be sent in clear")
	default:
		return bad("is not https")
	}
	return a, nil
}

func checkRepo(r name.Repo) error {
	if r.Account.IsZero() {
		return fmt.Errorf("%w: it has no account", ErrRemote)
	}
	// A repository's id has the form of an account's.
	if id, err := name.ParseAccount(r.ID); err != nil || id == name.Local || id == name.Deployment {
		return fmt.Errorf("%w: %q is no numeric repository id", ErrRemote, said(r.ID, 40))
	}
	return nil
}

// tokenOf asks for the token and makes sure that it can be nothing but one.
func (r Remote) tokenOf(ctx context.Context, fresh bool) (string, error) {
	if r.Token == nil {
		return "", nil
	}
	t, err := r.Token(ctx, fresh)
	if err != nil {
		return "", fmt.Errorf("installation token: %w", err)
	}
	if len(t) > 4096 || strings.ContainsFunc(t, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return "", fmt.Errorf("%w: it is no token at all", ErrUnauthorized)
	}
	return t, nil
}

// passed are the variables that say how to reach the outside and whom to trust there.
var passed = []string{"HTTPS_PROXY", "https_proxy", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"}

// environment is what the git process needs beyond the hardened one. The token travels here and nowhere else:
// the environment of a process is seen by its own user only.
func (a address) environment(token string) []string {
	var env []string
	if !a.loopback {
		for _, k := range passed {
			if v := os.Getenv(k); v != "" {
				env = append(env, k+"="+v)
			}
		}
		// curl may be built with a library that does not know Go's variable.
		if f := os.Getenv("SSL_CERT_FILE"); f != "" && os.Getenv("GIT_SSL_CAINFO") == "" {
			env = append(env, "GIT_SSL_CAINFO="+f)
		}
	}
	if token == "" {
		return env
	}
	return append(env,
		"GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=http."+a.url+".extraHeader",
		"GIT_CONFIG_VALUE_0="+"Authorization: Basic "+basic(token))
}

func basic(token string) string {
	return base64.StdEncoding.EncodeToString([]byte("x-access-token:" + token))
}

// fewPulls is up to which number a pull request lives in a repository with few refs: each has one or two, and a
// branch.
const fewPulls = 1000

// dialect is the version of git's protocol that costs least. Version 2 asks for capabilities, refs and pack in three
// requests; version 0 tells all refs in the first, which saves one, and is dear only where there are very many. The
// highest number of a pull request tells how many, about. Commits by their id are asked for in version 2 only.
func dialect(refs []string) string {
	few := false
	for _, ref := range refs {
		if !strings.HasPrefix(ref, "refs/") {
			return "protocol.version=2"
		}
		if number, ok := strings.CutPrefix(ref, "refs/pull/"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(number, "/head"))
			if err != nil || n > fewPulls {
				return "protocol.version=2"
			}
			few = true
		}
	}
	if few {
		return "protocol.version=0"
	}
	return "protocol.version=2"
}

// transfer runs git fetch once, in the workspace, for the given refs. Where objects are borrowed, the cause of
// a failure may be their lender. The error of a failed fetch has one of the kinds of this package.
func (s *Mirrors) transfer(ctx context.Context, w *workspace, a address, repo name.Repo, token string, refs []string, borrowed bool) error {
	cmd, err := s.git.Remote(ctx, w.dir, a.protocol,
		[]string{dialect(refs), "http.lowSpeedLimit=1", "http.lowSpeedTime=" + strconv.Itoa(int(s.opt.FetchTimeout/time.Second)+1), "fetch.unpackLimit=1", "fetch.fsckObjects=false", "fetch.writeCommitGraph=false", "pack.threads=1"},
		"fetch", "--stdin", "--quiet", "--no-progress", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
		"--no-auto-maintenance", "--no-show-forced-updates", "--end-of-options", a.url)
	if err != nil {
		return err
	}
	trace := filepath.Join(w.dir, "trace")
	cmd.Env = append(cmd.Env, "GIT_TRACE_PACKET="+trace)
	cmd.Env = append(cmd.Env, a.environment(token)...)
	var specs bytes.Buffer
	for _, ref := range refs {
		specs.WriteString("+" + ref + ":refs/got/" + keyOf(ref) + "\n")
	}
	cmd.Stdin = &specs
	var stderr tail
	cmd.Stderr = &stderr
	err = runToDeath(cmd)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	err = classify(hide(stderr.String(), token), repo, refs, borrowed)
	if gone := (*NotFoundError)(nil); errors.As(err, &gone) && gone.Ref != "" && !spoken(trace) {
		return fmt.Errorf("%w (what answers does not speak git's protocol)", ErrUnavailable)
	}
	return err
}

// spoken reports whether the other side spoke git's protocol at all. To git, any answer of status 200, such as
// the error page of a proxy, is a repository on a plain web server, in which the ref is missing.
func spoken(trace string) bool {
	f, err := os.Open(trace)
	if err != nil {
		return false
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 64<<10))
	return bytes.Contains(b, []byte("< version ")) || bytes.Contains(b, []byte("# service=git-upload-pack"))
}

// runToDeath runs a command that does not outlive this process. A helper of it that waits for a silent server
// may, until http.lowSpeedTime; it writes nothing.
func runToDeath(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dieWithUs(cmd)
	return cmd.Run()
}

// hide takes a token out of a text, should a server have sent it back.
func hide(text, token string) string {
	if token == "" {
		return text
	}
	return strings.NewReplacer(token, "***", basic(token), "***").Replace(text)
}

// classify gives a failed fetch its kind, by what git said. What the server said to people comes in lines
// that begin with "remote:" and has no say here.
func classify(stderr string, repo name.Repo, refs []string, borrowed bool) error {
	var lines []string
	for line := range strings.Lines(stderr) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "fatal: ") || strings.HasPrefix(line, "error: ") {
			lines = append(lines, line)
		}
	}
	text := strings.Join(lines, "\n")
	why := source.Message(text)
	if why == "" {
		why = "git gave no reason"
	}
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	for _, line := range lines {
		if ref, ok := strings.CutPrefix(line, "fatal: couldn't find remote ref "); ok && slices.Contains(refs, ref) {
			return &NotFoundError{Repo: repo, Ref: ref}
		}
		if _, after, ok := strings.Cut(line, "not our ref "); ok && slices.Contains(refs, strings.TrimSpace(after)) {
			return &NotFoundError{Repo: repo, Ref: strings.TrimSpace(after)}
		}
	}
	switch {
	case has("No space left on device", "Disk quota exceeded"):
		return fmt.Errorf("%w (%w: %s)", ErrNoSpace, errDiskFull, why)
	case has("mismatched algorithms"):
		return errFormat
	case has("could not read Username", "could not read Password", "Authentication failed", "returned error: 401", "returned error: 403"):
		return fmt.Errorf("%w (%s)", ErrUnauthorized, why)
	case has("returned error: 404", "returned error: 410", "returned error: 451"), has("repository '") && has("' not found"):
		return &NotFoundError{Repo: repo}
	case has("returned error: 301", "returned error: 302", "returned error: 303", "returned error: 307", "returned error: 308", "redirection"):
		return fmt.Errorf("%w (%s)", ErrMoved, why)
	case has("unable to access", "RPC failed", "hung up", "early EOF", "unexpected disconnect", "remote error", "protocol error"):
		return fmt.Errorf("%w (%s)", ErrUnavailable, why)
	case borrowed && has("bad object", "unable to read", "does not match index", "unresolved delta", "necessary objects",
		"missing", "corrupt", "loose object", "packfile", "index file", "valid object", "not a git repository", "inflate", "index-pack"):
		return fmt.Errorf("%w: %s", errDamaged, why)
	}
	return fmt.Errorf("%w (%s)", ErrUnavailable, why)
}

// tail keeps the end of what a command says on its standard error: the reason comes last.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - tailBytes; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

// diskError says what this machine could not do with its disk.
func diskError(what string, err error) error {
	if err == nil {
		return nil
	}
	if isFull(err) {
		return fmt.Errorf("%w (%w: %s)", ErrNoSpace, errDiskFull, what)
	}
	return fmt.Errorf("mirror: %s: %w", what, err)
}
