package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/gittest"
)

// noise is text that does not compress well.
func noise(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(' ' + r.IntN(95))
	}
	return string(b)
}

// generations are the folders of a mirror.
func generations(t *testing.T, s *Mirrors, key string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(s.opt.Dir, key, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAMirrorThatIsDamagedIsMadeAnew(t *testing.T) {
	pack := func(t *testing.T, dir, ext string) string {
		all, _ := filepath.Glob(filepath.Join(dir, "objects/pack/*"+ext))
		if len(all) == 0 {
			t.Fatal("no pack")
		}
		return all[0]
	}
	write := func(file, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			file := filepath.Join(dir, file)
			os.Chmod(file, 0o600)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	must := func(t *testing.T, err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]func(t *testing.T, dir string){
		"pack deleted":    func(t *testing.T, dir string) { must(t, os.Remove(pack(t, dir, ".pack"))) },
		"index deleted":   func(t *testing.T, dir string) { must(t, os.Remove(pack(t, dir, ".idx"))) },
		"pack truncated":  func(t *testing.T, dir string) { must(t, os.Truncate(pack(t, dir, ".pack"), 100)) },
		"pack emptied":    func(t *testing.T, dir string) { must(t, os.Truncate(pack(t, dir, ".pack"), 0)) },
		"HEAD garbage":    write("HEAD", "\x00\xffgarbage"),
		"HEAD deleted":    func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "HEAD"))) },
		"config garbage":  write("config", "[core\n"),
		"config changed":  write("config", "[core]\n\tbare = true\n[remote \"origin\"]\n\turl = https://evil.example/x\n"),
		"shallow":         write("shallow", strings.Repeat("a", 40)+"\n"),
		"alternates":      write("objects/info/alternates", "/etc\n"),
		"refs deleted":    func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "refs"))) },
		"objects deleted": func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "objects"))) },
		"index garbage": func(t *testing.T, dir string) {
			write(strings.TrimPrefix(pack(t, dir, ".idx"), dir), strings.Repeat("x", 2000))(t, dir)
		},
		"all deleted": func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
	}
	stateCases := map[string]func(t *testing.T, dir string){
		"state deleted":          func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, stateFile))) },
		"state empty":            write(stateFile, ""),
		"state cut":              write(stateFile, `{"version":1,"origin":`),
		"state hostile":          write(stateFile, `{"version":1,"format":"sha1","refs":{"../../x":{"id":"`+strings.Repeat("a", 40)+`"}}}`),
		"state of later version": write(stateFile, `{"version":99,"format":"sha1"}`),
		"refs to nowhere": func(t *testing.T, dir string) {
			g, err := load(dir)
			must(t, err)
			g.state.Refs[keyOf("refs/heads/x")] = held{ID: strings.Repeat("ab", 20), Used: time.Now()}
			must(t, g.save())
		},
		"other server": func(t *testing.T, dir string) {
			g, err := load(dir)
			must(t, err)
			g.state.Origin = "https://github.example.com"
			must(t, g.save())
		},
	}
	run := func(name string, damage func(*testing.T, string), restart bool) {
		t.Run(fmt.Sprintf("%s, restart %v", name, restart), func(t *testing.T) {
			h := newGitHub(t)
			repo, remote := h.repo("1")
			repo.Commit(gittest.Files{"a.txt": noise(1, 3000)})
			s := open(t, Options{Dir: filepath.Join(t.TempDir(), "mirrors")})
			l, err := s.Fetch(context.Background(), remote, main)
			must(t, err)
			l.Release()
			dir := s.all["42/1"].gen.dir
			if restart {
				must(t, s.Close())
			}
			damage(t, dir)
			repo.Commit(gittest.Files{"b.txt": "later\n"})
			if restart {
				s = open(t, Options{Dir: s.opt.Dir})
			}
			l = fetch(t, s, remote, main)
			if got := content(t, l, main, "a.txt"); got != noise(1, 3000) {
				t.Error("a.txt is not what it was")
			}
			if got := content(t, l, main, "b.txt"); got != "later\n" {
				t.Error("b.txt is not what it was")
			}
			if all := generations(t, s, "42/1"); len(all) != 1 || all[0] == dir {
				t.Errorf("generations: %v", all)
			}
		})
	}
	for name, damage := range cases {
		if name != "index garbage" { // noticed by a reader only while nothing restarts
			run(name, damage, false)
		}
		if name != "all deleted" { // then there is no mirror
			run(name, damage, true)
		}
	}
	for name, damage := range stateCases {
		run(name, damage, true)
	}
}

func TestDamageThatShowsWhileReadingIsHealedWhenTold(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	repo.Commit(gittest.Files{"a.txt": noise(1, 30_000)})
	s := open(t, Options{})
	fetch(t, s, remote, main).Release()
	s.Close()
	s = open(t, Options{Dir: s.opt.Dir})
	all, _ := filepath.Glob(filepath.Join(s.opt.Dir, "42/1/*/objects/pack/*.pack"))
	os.Chmod(all[0], 0o600)
	f, err := os.OpenFile(all[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fi, _ := f.Stat()
	if _, err := f.WriteAt(make([]byte, 1000), fi.Size()/2); err != nil {
		t.Fatal(err)
	}
	f.Close()
	l := fetch(t, s, remote, main)
	if _, err := read(l, main, "a.txt"); !errors.Is(err, source.ErrCorrupt) && !errors.Is(err, source.ErrMissing) {
		t.Fatalf("reading gave %v", err)
	}
	l.Damaged()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			healed, err := s.Fetch(context.Background(), remote, main)
			if err != nil {
				t.Error(err)
				return
			}
			defer healed.Release()
			if got, err := read(healed, main, "a.txt"); err != nil || got != noise(1, 30_000) {
				t.Errorf("after healing: %v", err)
			}
		})
	}
	wg.Wait()
	if s.last != 2 {
		t.Errorf("it was made anew %d times", s.last-1)
	}
	if n := len(generations(t, s, "42/1")); n != 2 {
		t.Errorf("%d generations while the damaged one is leased", n)
	}
	l.Release()
	if n := len(generations(t, s, "42/1")); n != 1 {
		t.Errorf("%d generations after the lease", n)
	}
}

func TestLockFilesLeftByAnybodyBlockNothing(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	s := open(t, Options{})
	fetch(t, s, remote, main).Release()
	dir := s.all["42/1"].gen.dir
	s.Close()
	for _, f := range []string{"shallow.lock", "HEAD.lock", "packed-refs.lock", "config.lock", "gc.pid", "refs/heads.lock", "objects/pack/tmp_pack_abc",
		"objects/pack/.tmp-1-pack-abc.pack", "mirror.json.new", "FETCH_HEAD", "objects/info/commit-graph.lock"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(s.work, "work-left", "objects"), 0o700); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: s.opt.Dir})
	if left, _ := os.ReadDir(s.work); len(left) != 0 {
		t.Errorf("workspaces are left: %v", left)
	}
	second := repo.Commit(gittest.Files{"b.txt": "later\n"})
	wantCommit(t, fetch(t, s, remote, main), main, second)
	if s.all["42/1"].gen.dir != dir {
		t.Error("it was made anew")
	}
}

func TestOneProcessHasTheDirectory(t *testing.T) {
	s := open(t, Options{})
	if _, err := Open(Options{Dir: s.opt.Dir, Maintain: -1}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one: %v", err)
	}
	s.Close()
	open(t, Options{Dir: s.opt.Dir})
}

const helperVariable = "NOXAUDIT_TEST_MIRROR_HELPER"

func TestMain(m *testing.M) {
	if job := os.Getenv(helperVariable); job != "" {
		helper(job)
		return
	}
	os.Exit(m.Run())
}

// helper is another process that fetches until it is killed.
func helper(job string) {
	var r struct{ Dir, URL string }
	if err := json.Unmarshal([]byte(job), &r); err != nil {
		panic(err)
	}
	s, err := Open(Options{Dir: r.Dir, Maintain: -1})
	if err != nil {
		panic(err)
	}
	remote := remoteAt("", "1")
	remote.URL = r.URL
	_, err = s.Fetch(context.Background(), remote, main)
	panic(fmt.Sprint("not killed in time: ", err))
}

func TestAKilledProcessLeavesNothingThatBlocksTheNext(t *testing.T) {
	for _, known := range []bool{false, true} {
		for _, after := range []int{0, 200, 100_000} {
			t.Run(fmt.Sprintf("mirror there %v, after %d bytes", known, after), func(t *testing.T) {
				h := newGitHub(t)
				repo, remote := h.repo("1")
				dir := filepath.Join(t.TempDir(), "mirrors")
				if known {
					s := open(t, Options{Dir: dir})
					fetch(t, s, remote, main).Release()
					s.Close()
				}
				head := repo.Commit(gittest.Files{"big.txt": noise(3, 400_000)})
				stalled := h.stall(after)
				job, _ := json.Marshal(map[string]string{"Dir": dir, "URL": remote.URL})
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), helperVariable+"="+string(job))
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				<-stalled
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait()
				// What waits for the silent server writes nothing, and ends with it.
				noProcesses(t, dir, "remote-http")
				h.flow()
				s := open(t, Options{Dir: dir})
				if left, _ := os.ReadDir(s.work); len(left) != 0 {
					t.Errorf("workspaces are left: %v", left)
				}
				l := fetch(t, s, remote, main)
				wantCommit(t, l, main, head)
				if got := content(t, l, main, "big.txt"); got != noise(3, 400_000) {
					t.Error("big.txt is not what it was")
				}
			})
		}
	}
}

func TestTheBudgetIsKeptAndLeasedMirrorsStay(t *testing.T) {
	h := newGitHub(t)
	var remotes []Remote
	for i := range 5 {
		repo, remote := h.repo(fmt.Sprint(i + 1))
		repo.Commit(gittest.Files{"big.txt": noise(uint64(i), 400_000)}) // about 340 kB packed
		remotes = append(remotes, remote)
	}
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, Options{MaxBytes: 800_000, Now: func() time.Time { now = now.Add(time.Minute); return now }})
	there := func() (keys string) {
		all, _ := filepath.Glob(filepath.Join(s.opt.Dir, "42/*"))
		for _, p := range all {
			keys += filepath.Base(p)
		}
		return keys
	}
	first := fetch(t, s, remotes[0], main)
	fetch(t, s, remotes[1], main).Release()
	fetch(t, s, remotes[2], main).Release()
	if got := there(); got != "13" {
		t.Errorf("mirrors %s, want 13: the leased one and the latest", got)
	}
	third := fetch(t, s, remotes[2], main)
	if _, err := s.Fetch(context.Background(), remotes[3], main); !errors.Is(err, ErrNoSpace) {
		t.Errorf("all are leased: %v", err)
	}
	if got := content(t, first, main, "big.txt"); got != noise(0, 400_000) {
		t.Error("a leased mirror lost its content")
	}
	third.Release()
	fetch(t, s, remotes[3], main).Release()
	if got := there(); got != "14" {
		t.Errorf("mirrors %s, want 14", got)
	}
	first.Release()
	s.Close()
	s = open(t, Options{Dir: s.opt.Dir, MaxBytes: 400_000})
	fetch(t, s, remotes[4], main)
	if got := there(); got != "5" {
		t.Errorf("mirrors %s after a restart with half the budget, want 5", got)
	}
}

func TestARepositoryLargerThanTheBudgetIsStoppedOnTheWay(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	small := repo.Git("rev-parse", "HEAD")
	repo.Commit(gittest.Files{"big.txt": noise(3, 4_000_000)})
	h.stall(2_000_000) // it would never end
	s := open(t, Options{MaxBytes: 1_000_000})
	if _, err := s.Fetch(context.Background(), remote, main); !errors.Is(err, ErrTooLarge) {
		t.Errorf("first fetch: %v", err)
	}
	fetch(t, s, remote, small)
	if _, err := s.Fetch(context.Background(), remote, main); !errors.Is(err, ErrTooLarge) {
		t.Errorf("later fetch: %v", err)
	}
	noProcesses(t, s.work)
	fetch(t, s, remote, small)
	h.flow()
	if _, err := s.Fetch(context.Background(), remote, main); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too fast to be watched: %v", err)
	}
}

func TestAFullDiskIsToldAndLeavesTheMirror(t *testing.T) {
	err := classify("error: file write error: No space left on device\nfatal: fetch-pack: invalid index-pack output\n", remoteAt("", "1").Repo, []string{main}, true)
	if !errors.Is(err, ErrNoSpace) {
		t.Errorf("what git says: %v", err)
	}
	if err := diskError("write", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("what the system says: %v", err)
	}
	dir := t.TempDir()
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir).Run(); err != nil {
		t.Log("no small file system can be mounted here; the messages above stand in for it")
		return
	}
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	h := newGitHub(t)
	repo, remote := h.repo("1")
	small := repo.Git("rev-parse", "HEAD")
	s := open(t, Options{Dir: filepath.Join(dir, "mirrors")})
	fetch(t, s, remote, main).Release()
	repo.Commit(gittest.Files{"big.txt": noise(3, 4_000_000)})
	for range 2 {
		if _, err := s.Fetch(context.Background(), remote, main); !errors.Is(err, ErrNoSpace) {
			t.Errorf("full: %v", err)
		}
	}
	repo.Git("reset", "-q", "--hard", small)
	next := repo.Commit(gittest.Files{"small.txt": "small\n"})
	wantCommit(t, fetch(t, s, remote, main), main, next)
	// What nobody reads goes for what somebody wants, although the budget is not reached.
	second, another := h.repo("2")
	second.Commit(gittest.Files{"big.txt": noise(5, 500_000)})
	fetch(t, s, another, main).Release()
	third, yetAnother := h.repo("3")
	third.Commit(gittest.Files{"big.txt": noise(6, 800_000)})
	content(t, fetch(t, s, yetAnother, main), main, "big.txt")
	if left := generations(t, s, "42/2"); len(left) != 0 {
		t.Errorf("still there: %v", left)
	}
	s.Close()
}

func TestEachCallerOfASharedFetchIsToldOfItsOwnRefs(t *testing.T) {
	h := newGitHub(t)
	_, remote := h.repo("1")
	asked, release := make(chan struct{}, 100), make(chan struct{})
	h.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		<-release
		return false
	})
	s := open(t, Options{Parallel: 1})
	_, other := h.repo("2")
	var wg sync.WaitGroup
	wg.Go(func() { fetch(t, s, other, main) }) // it has the only slot
	<-asked
	for i := range 4 {
		ref := fmt.Sprintf("refs/heads/nowhere%d", i)
		wg.Go(func() {
			_, err := s.Fetch(context.Background(), remote, ref)
			if gone := (*NotFoundError)(nil); !errors.As(err, &gone) || gone.Ref != ref {
				t.Errorf("%s: %v", ref, err)
			}
		})
	}
	for waiting(s) < 4 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	fetch(t, s, remote, main)
}

// A remote that sends what cannot be used, time and again, costs two attempts and leaves no mirror behind.
func TestARemoteThatIsDamagedItselfIsTold(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	repo.Commit(gittest.Files{"a.txt": noise(1, 3000)})
	blob := repo.Git("rev-parse", "HEAD:a.txt")
	s := open(t, Options{})
	if err := os.Remove(filepath.Join(repo.Dir, ".git/objects", blob[:2], blob[2:])); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetch(context.Background(), remote, main); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if left := generations(t, s, "42/1"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// waiting is the number of callers whose fetch of repository 1 has not started.
func waiting(s *Mirrors) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.all["42/1"]; m != nil && m.next != nil {
		return m.next.waiting
	}
	return 0
}

func TestCallersShareAFetchThatHasNotStarted(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	log := wrapGit(t)
	asked, release := make(chan struct{}, 100), make(chan struct{})
	h.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		<-release
		return false
	})
	s := open(t, Options{})
	var wg sync.WaitGroup
	wg.Go(func() { fetch(t, s, remote, main) })
	<-asked
	head := repo.Commit(gittest.Files{"new.txt": "after the first had started\n"})
	for i := range 15 {
		pull := fmt.Sprintf("refs/pull/%d/head", i)
		repo.Git("update-ref", pull, head)
		wg.Go(func() {
			l := fetch(t, s, remote, main, pull)
			wantCommit(t, l, main, head)
			wantCommit(t, l, pull, head)
		})
	}
	for waiting(s) < 15 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if n := strings.Count(log(), " fetch "); n != 2 {
		t.Errorf("%d git processes for 16 callers", n)
	}
}

func TestRepositoriesAreFetchedSideBySideUpToACap(t *testing.T) {
	h := newGitHub(t)
	var remotes []Remote
	for i := range 6 {
		_, r := h.repo(fmt.Sprint(i + 1))
		remotes = append(remotes, r)
	}
	s := open(t, Options{Parallel: 2})
	both := make(chan struct{}, 2)
	var once sync.Once
	meet := make(chan struct{})
	h.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		s.mu.Lock()
		n := len(s.slots)
		s.mu.Unlock()
		if n > 2 {
			t.Errorf("%d at a time", n)
		}
		select {
		case both <- struct{}{}:
			if len(both) == 2 {
				once.Do(func() { close(meet) })
			}
		default:
		}
		<-meet // the first is answered only when a second one asks
		return false
	})
	var wg sync.WaitGroup
	for _, r := range remotes {
		wg.Go(func() { fetch(t, s, r, main) })
	}
	wg.Wait()
}

// wrapGit puts a program before git, and before the ones git starts, that writes down command lines. What it
// returns reads them.
func wrapGit(t *testing.T) (log func() string) {
	t.Helper()
	real, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(real, "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	programs := strings.TrimSpace(string(out))
	dir := t.TempDir()
	file := filepath.Join(dir, "log")
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	script := func(path, program, extra string) {
		text := "#!/bin/sh\n" + extra + `[ -n "$GIT_CONFIG_VALUE_0" ] && echo "has a secret" >>"` + file + "\"\n" +
			`echo "$0 $*" >>"` + file + "\"\nexec \"" + program + "\" \"$@\"\n"
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script(filepath.Join(dir, "git"), real, `if [ "$*" = --exec-path ]; then echo "`+inner+`"; exit; fi`+"\n")
	for _, p := range []string{"git", "git-remote-http", "git-remote-https", "git-index-pack"} {
		script(filepath.Join(inner, p), filepath.Join(programs, p), "")
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		b, _ := os.ReadFile(file)
		return string(b)
	}
}

func TestTheTokenIsSeenByNobody(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	log := wrapGit(t)
	s := open(t, Options{})
	fetch(t, s, remote, main)
	repo.Commit(gittest.Files{"a.txt": "more\n"})
	fetch(t, s, remote, main)
	if err := s.Maintain(context.Background()); err != nil {
		t.Error(err)
	}
	// While a fetch runs, its workspace and the command lines of all its processes.
	stalled := h.stall(0)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error)
	go func() {
		_, err := s.Fetch(ctx, remote, main)
		done <- err
	}()
	<-stalled
	noToken(t, s, nil)
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range lines {
		b, _ := os.ReadFile(p)
		if strings.Contains(string(b), goodToken) || strings.Contains(string(b), basic(goodToken)) {
			t.Errorf("a command line holds the token: %s", p)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	noToken(t, s, nil)
	said := log()
	if !strings.Contains(said, "has a secret") || !strings.Contains(said, "git-remote-http") && !strings.Contains(said, "remote-http") {
		t.Fatalf("the log of programs shows no fetch:\n%s", said)
	}
	for _, secret := range []string{goodToken, basic(goodToken), "Authorization"} {
		if strings.Contains(said, secret) {
			t.Errorf("a command line holds %q", secret)
		}
	}
}

func TestARepositoryOfSHA256Ids(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1", "--object-format=sha256")
	s := open(t, Options{})
	first := repo.Git("rev-parse", "HEAD")
	l := fetch(t, s, remote, main)
	wantCommit(t, l, main, first)
	second := repo.Commit(gittest.Files{"a.txt": "more\n"})
	l = fetch(t, s, remote, main)
	wantCommit(t, l, main, second)
	if got := content(t, l, main, "a.txt"); got != "more\n" {
		t.Errorf("a.txt is %q", got)
	}
}

func TestManyPacksBecomeOneWhileSomebodyReads(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, Options{Now: func() time.Time { return now }})
	pull := repo.Commit(gittest.Files{"pull.txt": "of a pull request\n"})
	repo.Git("update-ref", "refs/pull/1/head", pull)
	repo.Git("reset", "-q", "--hard", "HEAD~1")
	fetch(t, s, remote, "refs/pull/1/head", main).Release()
	for i := range manyPacks {
		repo.Commit(gittest.Files{fmt.Sprintf("%d.txt", i): noise(uint64(i), 500)})
		fetch(t, s, remote, main).Release()
	}
	reader := fetch(t, s, remote, main, "refs/pull/1/head")
	ctx := context.Background()
	if err := s.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	if n := s.all["42/1"].gen.state.packs(); n != 1 {
		t.Errorf("%d packs", n)
	}
	if got := content(t, reader, "refs/pull/1/head", "pull.txt"); got != "of a pull request\n" {
		t.Errorf("a reader of before gets %q", got)
	}
	if n := len(generations(t, s, "42/1")); n != 2 {
		t.Errorf("%d generations while the former is read", n)
	}
	reader.Release()
	if n := len(generations(t, s, "42/1")); n != 1 {
		t.Errorf("%d generations", n)
	}
	before := h.requests.Load()
	l := fetch(t, s, remote, main)
	if n := h.requests.Load() - before; n > 2 {
		t.Errorf("%d requests after packing, where nothing is new", n)
	}
	if got := content(t, l, main, "3.txt"); got != noise(3, 500) {
		t.Error("3.txt is not what it was")
	}
	l.Release()
	// Fifteen days later nobody asked for the pull request again.
	now = now.Add(15 * 24 * time.Hour)
	fetch(t, s, remote, main).Release()
	if err := s.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	l = fetch(t, s, remote, main)
	if _, err := l.Repository().Resolve(ctx, pull); !errors.Is(err, source.ErrUnknownRevision) {
		t.Errorf("the commit of a forgotten pull request: %v", err)
	}
	wantCommit(t, fetch(t, s, remote, "refs/pull/1/head"), "refs/pull/1/head", pull)
}

func TestFetchesGoOnDuringMaintenance(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	s := open(t, Options{})
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if err := s.Maintain(context.Background()); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for i := range 2*manyPacks + 5 {
		head := repo.Commit(gittest.Files{"a.txt": noise(uint64(i), 500)})
		l := fetch(t, s, remote, main)
		wantCommit(t, l, main, head)
		if got := content(t, l, main, "a.txt"); got != noise(uint64(i), 500) {
			t.Error("a.txt is not what it was")
		}
		l.Release()
	}
	close(done)
	wg.Wait()
}

func TestAForgottenRepositoryIsGoneAfterItsLeases(t *testing.T) {
	h := newGitHub(t)
	_, remote := h.repo("1")
	s := open(t, Options{})
	ctx := context.Background()
	if err := s.Forget(ctx, remote.Repo); err != nil {
		t.Errorf("one that was never fetched: %v", err)
	}
	l := fetch(t, s, remote, main)
	hurried, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Forget(hurried, remote.Repo); !errors.Is(err, context.Canceled) {
		t.Errorf("in a hurry: %v", err)
	}
	content(t, l, main, "README.md")
	again := fetch(t, s, remote, main)
	l.Release()
	if n := len(generations(t, s, "42/1")); n != 1 {
		t.Errorf("%d generations, want that of the later fetch", n)
	}
	forgotten := make(chan error)
	go func() { forgotten <- s.Forget(ctx, remote.Repo) }()
	leaving := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.leaving)
	}
	for leaving() == 0 {
		time.Sleep(time.Millisecond)
	}
	if got := content(t, again, main, "README.md"); got != "repository 1\n" {
		t.Errorf("a lease of a forgotten repository reads %q", got)
	}
	again.Release()
	if err := <-forgotten; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(s.opt.Dir, "42")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}

func TestClosingEndsFetchesAndReaders(t *testing.T) {
	h := newGitHub(t)
	repo, remote := h.repo("1")
	s := open(t, Options{})
	l := fetch(t, s, remote, main)
	repo.Commit(gittest.Files{"big.txt": noise(3, 400_000)})
	stalled := h.stall(100_000)
	done := make(chan error)
	go func() {
		_, err := s.Fetch(context.Background(), remote, main)
		done <- err
	}()
	<-stalled
	s.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("the fetch under way: %v", err)
	}
	if _, err := read(l, main, "README.md"); !errors.Is(err, source.ErrClosed) {
		t.Errorf("a reader: %v", err)
	}
	if _, err := s.Fetch(context.Background(), remote, main); !errors.Is(err, ErrClosed) {
		t.Errorf("a later fetch: %v", err)
	}
	l.Release()
	noProcesses(t, s.opt.Dir)
}
