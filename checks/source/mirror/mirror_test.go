package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/gittest"
	"github.com/noxaudit/noxaudit/internal/name"
)

// github is a server that speaks git over HTTP with git's own program, and asks for a token.
type github struct {
	t        testing.TB
	root     string
	srv      *httptest.Server
	requests atomic.Int64 // of git, refused ones included

	mu     sync.Mutex
	tokens map[string]bool
	before func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
	wrap   func(w http.ResponseWriter, r *http.Request) http.ResponseWriter
}

const goodToken = "ghs_goodgoodgoodgoodgoodgood"

func newGitHub(t testing.TB) *github {
	t.Helper()
	backend, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	h := &github{t: t, root: t.TempDir(), tokens: map[string]bool{goodToken: true}}
	g := &cgi.Handler{
		Path:   filepath.Join(strings.TrimSpace(string(backend)), "git-http-backend"),
		Env:    []string{"GIT_PROJECT_ROOT=" + h.root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"},
		Stderr: io.Discard,
		Logger: log.New(io.Discard, "", 0),
	}
	h.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.requests.Add(1)
		h.mu.Lock()
		before, wrap := h.before, h.wrap
		user, password, _ := r.BasicAuth()
		ok := user == "x-access-token" && h.tokens[password]
		h.mu.Unlock()
		if before != nil && before(w, r) {
			return
		}
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="GitHub"`)
			http.Error(w, "Bad credentials", http.StatusUnauthorized)
			return
		}
		g := *g
		g.Env = append(g.Env[:len(g.Env):len(g.Env)], "GIT_PROTOCOL="+r.Header.Get("Git-Protocol"))
		if wrap != nil {
			w = wrap(w, r)
		}
		g.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { h.srv.CloseClientConnections(); h.srv.Close() })
	return h
}

// stall has the server stop after some bytes of a pack, and tells on the channel that it has. It goes on when the
// client is gone.
func (h *github) stall(after int) <-chan struct{} {
	stalled := make(chan struct{}, 100)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrap = func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		return &staller{ResponseWriter: w, left: after, gone: r.Context().Done(), stalled: stalled}
	}
	return stalled
}

func (h *github) flow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrap = nil
}

type staller struct {
	http.ResponseWriter
	left    int
	gone    <-chan struct{}
	stalled chan<- struct{}
}

func (s *staller) Write(p []byte) (int, error) {
	if len(p) <= s.left {
		s.left -= len(p)
		return s.ResponseWriter.Write(p)
	}
	n, _ := s.ResponseWriter.Write(p[:s.left])
	s.ResponseWriter.(http.Flusher).Flush()
	s.stalled <- struct{}{}
	<-s.gone
	return n, io.ErrClosedPipe
}

func (h *github) intercept(before func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = before
}

// repo makes a repository of the server, with one commit on main. More args go to git init.
func (h *github) repo(id string, args ...string) (*gittest.Repo, Remote) {
	h.t.Helper()
	r := gittest.New(h.t)
	if len(args) > 0 {
		if err := os.RemoveAll(filepath.Join(r.Dir, ".git")); err != nil {
			h.t.Fatal(err)
		}
		r.Git(append([]string{"init", "-q", "-b", "main"}, args...)...)
	}
	r.Commit(gittest.Files{"README.md": "repository " + id + "\n"})
	if err := os.Symlink(filepath.Join(r.Dir, ".git"), filepath.Join(h.root, id+".git")); err != nil {
		h.t.Fatal(err)
	}
	return r, h.remote(id)
}

func (h *github) remote(id string) Remote { return remoteAt(h.srv.URL, id) }

func remoteAt(server, id string) Remote {
	account, err := name.ParseAccount("42")
	if err != nil {
		panic(err)
	}
	return Remote{
		Repo:  name.Repo{Account: account, ID: id, FullName: "octo-org/repo-" + id},
		URL:   server + "/" + id + ".git",
		Token: func(context.Context, bool) (string, error) { return goodToken, nil },
	}
}

func open(t testing.TB, o Options) *Mirrors {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "mirrors")
	}
	o.Maintain = -1
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func fetch(t testing.TB, s *Mirrors, r Remote, refs ...string) *Lease {
	t.Helper()
	l, err := s.Fetch(context.Background(), r, refs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Release)
	return l
}

// content reads a file of the commit that a ref of the lease names.
func content(t testing.TB, l *Lease, ref, path string) string {
	t.Helper()
	b, err := read(l, ref, path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(l *Lease, ref, path string) (string, error) {
	ctx := context.Background()
	c, err := l.Commit(ref)
	if err != nil {
		return "", err
	}
	snapshot, err := l.Repository().Commit(ctx, c)
	if err != nil {
		return "", err
	}
	e, ok := snapshot.Lookup(path)
	if !ok {
		return "", fmt.Errorf("no %s in %s", path, ref)
	}
	b, err := snapshot.Read(ctx, e)
	return string(b), err
}

func wantCommit(t testing.TB, l *Lease, ref, want string) {
	t.Helper()
	got, err := l.Commit(ref)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("%s is %s, want %s", ref, got, want)
	}
}

const main = "refs/heads/main"

func TestAFirstFetchBringsWhatWasAskedForAndNothingElse(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	first := repo.Git("rev-parse", "HEAD")
	repo.Git("checkout", "-q", "-b", "other")
	other := repo.Commit(gittest.Files{"other.txt": "not asked for\n"})
	repo.Git("tag", "v1")
	s := open(t, Options{})
	l := fetch(t, s, remote, main)
	wantCommit(t, l, main, first)
	if got := content(t, l, main, "README.md"); got != "repository 1\n" {
		t.Errorf("README.md is %q", got)
	}
	if _, err := l.Repository().Resolve(context.Background(), other); err == nil {
		t.Error("a branch that nobody asked for was fetched")
	}
	if _, err := l.Commit("refs/heads/other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a ref that was not asked for: %v", err)
	}
	fi, err := os.Stat(s.opt.Dir)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", fi.Mode(), err)
	}
}

func TestALaterFetchBringsOnlyWhatIsNew(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	for i := range 5 {
		repo.Commit(gittest.Files{fmt.Sprintf("big%d.txt", i): strings.Repeat(fmt.Sprint(i, " line of a file\n"), 2000)})
	}
	s := open(t, Options{})
	fetch(t, s, remote, main)
	size := s.all["42/1"].gen.size
	before := h.requests.Load()
	second := repo.Commit(gittest.Files{"new.txt": "new\n"})
	l := fetch(t, s, remote, main)
	wantCommit(t, l, main, second)
	if got := content(t, l, main, "new.txt"); got != "new\n" {
		t.Errorf("new.txt is %q", got)
	}
	if n := h.requests.Load() - before; n > 4 {
		t.Errorf("%d requests for one new commit", n)
	}
	if added := s.all["42/1"].gen.size - size; added > 8<<10 {
		t.Errorf("one small commit took %d bytes", added)
	}
	before = h.requests.Load()
	fetch(t, s, remote, main)
	if n := h.requests.Load() - before; n > 2 {
		t.Errorf("%d requests where nothing is new", n)
	}
}

func TestARefMayMoveAnywhere(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	base := repo.Git("rev-parse", "HEAD")
	old := repo.Commit(gittest.Files{"a.txt": "first try\n"})
	s := open(t, Options{})
	lease := fetch(t, s, remote, main)
	repo.Git("reset", "-q", "--hard", base)
	forced := repo.Commit(gittest.Files{"a.txt": "second try\n"})
	l := fetch(t, s, remote, main)
	wantCommit(t, l, main, forced)
	if got := content(t, l, main, "a.txt"); got != "second try\n" {
		t.Errorf("a.txt is %q", got)
	}
	wantCommit(t, lease, main, old)
	if got := content(t, lease, main, "a.txt"); got != "first try\n" {
		t.Errorf("a lease of before reads %q", got)
	}
	// A branch may take the place of a folder of branches, and differ from another in case alone.
	repo.Git("branch", "topic")
	fetch(t, s, remote, "refs/heads/topic")
	repo.Git("branch", "-D", "topic")
	repo.Git("branch", "topic/deeper")
	fetch(t, s, remote, "refs/heads/topic/deeper")
	repo.Git("update-ref", "refs/pull/7/head", old)
	wantCommit(t, fetch(t, s, remote, "refs/pull/7/head", main), "refs/pull/7/head", old)
	queue := "refs/heads/gh-readonly-queue/main/pr-7-" + forced
	repo.Git("update-ref", queue, forced)
	wantCommit(t, fetch(t, s, remote, queue), queue, forced)
}

func TestAnObjectIDIsFetchedOnce(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	first := repo.Git("rev-parse", "HEAD")
	hidden := repo.Commit(gittest.Files{"hidden.txt": "on no branch\n"})
	repo.Git("reset", "-q", "--hard", first)
	s := open(t, Options{})
	l := fetch(t, s, remote, hidden)
	wantCommit(t, l, hidden, hidden)
	if got := content(t, l, hidden, "hidden.txt"); got != "on no branch\n" {
		t.Errorf("hidden.txt is %q", got)
	}
	before := h.requests.Load()
	fetch(t, s, remote, hidden, first)
	if n := h.requests.Load() - before; n != 0 {
		t.Errorf("%d requests for commits that are there", n)
	}
	nowhere := strings.Repeat("ab", 20)
	_, err := s.Fetch(context.Background(), remote, nowhere)
	if gone := (*NotFoundError)(nil); !errors.As(err, &gone) || gone.Ref != nowhere {
		t.Errorf("an id that is nowhere: %v", err)
	}
}

func TestARefThatIsGoneIsNamed(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	repo.Git("branch", "topic")
	s := open(t, Options{})
	for _, known := range []bool{false, true} {
		if known {
			fetch(t, s, remote, "refs/heads/topic", main)
			repo.Git("branch", "-D", "topic")
		}
		for _, ref := range []string{"refs/heads/nowhere", "refs/heads/topic"} {
			if !known && ref == "refs/heads/topic" {
				continue
			}
			_, err := s.Fetch(context.Background(), remote, main, ref)
			gone := (*NotFoundError)(nil)
			if !errors.As(err, &gone) || gone.Ref != ref || !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", ref, err)
			}
		}
	}
	if _, ok := s.all["42/1"].gen.state.Refs[keyOf("refs/heads/topic")]; ok {
		t.Error("the mirror keeps a branch that is gone")
	}
	blob := repo.Git("rev-parse", "HEAD:README.md")
	repo.Git("tag", "blob", blob)
	repo.Git("tag", "-a", "-m", "annotated", "v1")
	if _, err := s.Fetch(context.Background(), remote, "refs/tags/blob"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "blob") {
		t.Errorf("a tag of a file: %v", err)
	}
	wantCommit(t, fetch(t, s, remote, "refs/tags/v1"), "refs/tags/v1", repo.Git("rev-parse", "HEAD"))
}

func TestARefusedTokenIsReplacedOnce(t *testing.T) {
	h := newGitHub(t)
	_, remote := h.repo("1")
	for _, c := range []struct {
		name   string
		stale  string
		fresh  string
		status int
		want   error
	}{
		{"expired", "ghs_expired", goodToken, 0, nil},
		{"revoked", "ghs_expired", "ghs_revoked", 0, ErrUnauthorized},
		{"forbidden", goodToken, goodToken, 403, ErrUnauthorized},
		{"not visible", goodToken, goodToken, 404, ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if c.status != 0 {
					http.Error(w, "no", c.status)
				}
				return c.status != 0
			})
			s := open(t, Options{})
			var asked []bool
			remote.Token = func(_ context.Context, fresh bool) (string, error) {
				asked = append(asked, fresh)
				if fresh {
					return c.fresh, nil
				}
				return c.stale, nil
			}
			_, err := s.Fetch(context.Background(), remote, main)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if fmt.Sprint(asked) != "[false true]" {
				t.Errorf("tokens asked for: %v", asked)
			}
			noToken(t, s, err)
		})
	}
}

// noToken looks for tokens in an error and in all files.
func noToken(t *testing.T, s *Mirrors, err error) {
	t.Helper()
	secrets := []string{"ghs_", basic(goodToken), basic("ghs_expired"), "x-access-token", "Authorization"}
	for _, secret := range secrets {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error holds a token: %v", err)
		}
	}
	_ = filepath.WalkDir(s.opt.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		b, _ := os.ReadFile(path)
		for _, secret := range secrets {
			if strings.Contains(string(b), secret) || strings.Contains(path, secret) {
				t.Errorf("%s holds a token", path)
			}
		}
		return nil
	})
}

func TestWhatGitHubAnswersInsteadIsTold(t *testing.T) {
	h := newGitHub(t)
	_, remote := h.repo("1")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the other host was asked, with %q", r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	post := func(r *http.Request) bool { return r.Method == http.MethodPost }
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request) bool
		want   error
	}{
		{"500", func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, goodToken, http.StatusInternalServerError)
			return true
		}, ErrUnavailable},
		{"503 in the middle", func(w http.ResponseWriter, r *http.Request) bool {
			if post(r) {
				http.Error(w, "later", http.StatusServiceUnavailable)
			}
			return post(r)
		}, ErrUnavailable},
		{"429", func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return true
		}, ErrUnavailable},
		{"gone", func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }, ErrNotFound},
		{"blocked for legal reasons", func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, "", http.StatusUnavailableForLegalReasons)
			return true
		}, ErrNotFound},
		{"redirect", func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path+"?"+r.URL.RawQuery, http.StatusMovedPermanently)
			return true
		}, ErrMoved},
		{"redirect in the middle", func(w http.ResponseWriter, r *http.Request) bool {
			if post(r) {
				http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
			}
			return post(r)
		}, ErrMoved},
		{"not git", func(w http.ResponseWriter, r *http.Request) bool { io.WriteString(w, "<html>hello"); return true }, ErrUnavailable},
		{"cut", func(w http.ResponseWriter, r *http.Request) bool {
			if post(r) {
				w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
				io.WriteString(w, "0011packfile\n")
				panic(http.ErrAbortHandler)
			}
			return false
		}, ErrUnavailable},
		{"says the token", func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			_, p, _ := r.BasicAuth()
			text := "ERR " + p + " " + r.Header.Get("Authorization")
			fmt.Fprintf(w, "%04x%s", len(text)+4, text)
			return true
		}, ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.intercept(c.answer)
			for _, known := range []bool{false, true} {
				s := open(t, Options{})
				if known {
					h.intercept(nil)
					fetch(t, s, remote, main)
					h.intercept(c.answer)
				}
				_, err := s.Fetch(context.Background(), remote, main)
				if !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				if err != nil && strings.Contains(err.Error(), "ghs_") || err != nil && strings.Contains(err.Error(), basic(goodToken)) {
					t.Errorf("the error holds the token: %v", err)
				}
				h.intercept(nil)
				fetch(t, s, remote, main).Release()
				h.intercept(c.answer)
			}
		})
	}
	h.srv.Close()
	if _, err := open(t, Options{}).Fetch(context.Background(), remote, main); !errors.Is(err, ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestHostileNamesAreRefused(t *testing.T) {
	h := newGitHub(t)
	_, remote := h.repo("1")
	s := open(t, Options{})
	for _, ref := range []string{"", "main", "--upload-pack=touch /tmp/x", "-x", "refs/heads/*", "refs/heads/a:refs/heads/b", "+refs/heads/main",
		"^refs/heads/main", "refs/heads/a b", "refs/heads/a\nrefs/heads/b", "refs/heads/..", "refs/heads/a..b", "refs/heads/a.lock",
		"refs/heads/.a", "refs/heads/a/", "refs//heads", "refs/heads/a.", "refs/heads/a@{1}", "refs/heads/a~1", "refs/heads/a?", "refs/heads/[a",
		"refs/heads/a\\b", "refs/heads/a\x00", "refs/heads/a\x7f", "refs/", "HEAD", "@", "abc", strings.Repeat("A", 40), "refs/heads/" + strings.Repeat("a", 2000),
		"ext::sh -c id"} {
		if _, err := s.Fetch(context.Background(), remote, ref); !errors.Is(err, ErrRef) {
			t.Errorf("%.60q: %v", ref, err)
		}
	}
	if _, err := s.Fetch(context.Background(), remote); !errors.Is(err, ErrRef) {
		t.Errorf("no ref: %v", err)
	}
	for _, u := range []string{"", "file:///etc", "/etc", "ssh://github.com/a/b", "git@github.com:a/b.git", "ext::sh -c id", "https://user:pw@github.com/a/b",
		"http://github.com/a/b.git", "https://github.com", "https://github.com/a/b?x", "https://github.com/a/b#c", "https:///a/b", "https://github.com/a b",
		"https://github.com/a\nb", "https://github.com/a%0ab", "-x", "http://127.0.0.1.evil.example/x", "https://github.com/a\"b"} {
		r := remote
		r.URL = u
		_, err := s.Fetch(context.Background(), r, main)
		if !errors.Is(err, ErrRemote) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: %v", u, err)
		}
	}
	for _, id := range []string{"", "0", "../1", "1/2", "local", "path-0123456789abcdef", "1.git", strings.Repeat("1", 30)} {
		r := remote
		r.Repo.ID = id
		if _, err := s.Fetch(context.Background(), r, main); !errors.Is(err, ErrRemote) {
			t.Errorf("id %q: %v", id, err)
		}
	}
	r := remote
	for _, token := range []string{"a\nX-Evil: 1", "a b", "ü", strings.Repeat("a", 5000)} {
		r.Token = func(context.Context, bool) (string, error) { return token, nil }
		if _, err := s.Fetch(context.Background(), r, main); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("token %.20q: %v", token, err)
		}
	}
	if n := h.requests.Load(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestASilentServerIsLeft(t *testing.T) {
	h := newGitHub(t)
	_, remote := h.repo("1")
	release := make(chan struct{})
	defer close(release)
	asked := make(chan struct{}, 100)
	h.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		<-release
		return true
	})
	s := open(t, Options{FetchTimeout: time.Second})
	if _, err := s.Fetch(context.Background(), remote, main); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	noProcesses(t, s.work)
	s = open(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	<-asked
	go func() { <-asked; cancel() }()
	if _, err := s.Fetch(ctx, remote, main); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	noProcesses(t, s.work)
	s.Close()
	if left, _ := os.ReadDir(s.work); len(left) != 0 {
		t.Errorf("workspaces are left: %v", left)
	}
}

// processes are those whose environment or command line names a directory, as far as this system tells.
func processes(dir string) (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		if filepath.Base(p) == fmt.Sprint(os.Getpid()) {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(p, "environ"))
		line, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		if strings.Contains(string(env), "GIT_DIR="+dir) || strings.Contains(string(line), dir) && strings.HasPrefix(string(line), "git") {
			found = append(found, p+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// noProcesses waits until no git process works in a directory; they end soon after they were told to.
func noProcesses(t *testing.T, dir string, except ...string) {
	t.Helper()
	var left []string
	for range 200 {
		left = slices.DeleteFunc(processes(dir), func(p string) bool {
			return slices.ContainsFunc(except, func(e string) bool { return strings.Contains(p, e) })
		})
		if len(left) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("git processes are left: %v", left)
}
