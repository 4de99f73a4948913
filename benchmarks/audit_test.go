// Package benchmarks measures what crosses several rooms: the targets of docs/benchmarks.md that no package can
// measure alone. Each benchmark states its scenario; ratios hold within one run.
package benchmarks

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/auditor/secrets"
	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/gittest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

const files = 10_000

// corpus is a repository of 10,000 files of Go's own sources, and a change of ten of them that plants a key.
type corpus struct {
	dir        string
	base, head string // commits
	bytes      int64
}

func newCorpus(b *testing.B) corpus {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	src := filepath.Join(strings.TrimSpace(string(out)), "src")
	repo := gittest.New(b)
	c := corpus{dir: repo.Dir}
	var paths []string
	err = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || len(paths) == files || filepath.Ext(path) != ".go" && filepath.Ext(path) != ".s" {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		paths = append(paths, filepath.ToSlash(rel))
		c.bytes += int64(len(body))
		full := filepath.Join(repo.Dir, rel)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		return os.WriteFile(full, body, 0o644)
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := len(paths); i < files; i++ { // this Go has fewer: the rest is copies with a line of their own
		body, err := os.ReadFile(filepath.Join(src, paths[i%len(paths)]))
		if err != nil {
			b.Fatal(err)
		}
		repo.Write(gittest.Files{fmt.Sprintf("copies/%d.go", i): fmt.Sprintf("// copy %d\n%s", i, body)})
		c.bytes += int64(len(body))
	}
	c.base = repo.Commit(gittest.Files{gate.PolicyPath: "policies:\n  keys: {focus: security, action: block, severity_minimum: high}\n"})
	change := gittest.Files{}
	for i := range 10 {
		path := paths[i*len(paths)/10]
		body, err := os.ReadFile(filepath.Join(src, path))
		if err != nil {
			b.Fatal(err)
		}
		change[path] = string(body) + fmt.Sprintf("\n// changed %d\n", i)
		if i == 5 {
			change[path] += "const token = \"" + "ghp" + "_" + "x7Kq2LmN9vRt4WzYb1Cd8Fg3Hj5Pn6TsQwE0\"\n"
		}
	}
	c.head = repo.Commit(change)
	return c
}

// cpu is the user and system time of this process and of its ended children (git).
func cpu() time.Duration {
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			panic(err)
		}
		total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return total
}

func newGate(b *testing.B) *gate.Gate {
	b.Helper()
	st, err := store.Open(context.Background(), filepath.Join(b.TempDir(), "bench.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	s, err := secrets.New(secrets.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return &gate.Gate{Store: st, Auditors: []audit.Auditor{s, gate.PolicyFile{}}, Now: time.Now, Rand: rand.Reader, Engine: "bench"}
}

// judge goes all the way: open, list, audit, judge, record.
func (c corpus) judge(b *testing.B, g *gate.Gate, head, base string) (gate.Judged, *gate.Audited) {
	b.Helper()
	ctx := context.Background()
	repo, err := source.Open(ctx, c.dir, source.DefaultLimits())
	if err != nil {
		b.Fatal(err)
	}
	defer repo.Close()
	snapshot := func(rev string) *source.Snapshot {
		commit, err := name.ParseCommit(rev)
		if err != nil {
			b.Fatal(err)
		}
		s, err := repo.Commit(ctx, commit)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	req := gate.Request{
		Repo: name.Repo{Account: name.Local, ID: "bench", FullName: "bench"}, Line: "default", Context: verdict.Local,
		Trigger: "benchmark", Actor: ledger.Actor{Kind: "cli"}, Head: snapshot(head),
	}
	from := req.Head
	if base != "" {
		req.Base = snapshot(base)
		from = req.Base
	}
	doc, _, err := gate.ReadPolicy(ctx, from)
	if err != nil {
		b.Fatal(err)
	}
	req.Policy = gate.Effective(doc)
	found, err := g.Audit(ctx, req)
	if err != nil {
		b.Fatal(err)
	}
	j, err := g.Judge(req, found.Report, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	if err := g.Record(ctx, req, found, j); err != nil {
		b.Fatal(err)
	}
	return j, found
}

// BenchmarkTenFilesOfTenThousand audits, judges and records a change of ten files that plants one key, in a
// repository of 10,000 files whose base was audited before, against a full audit of that base with nothing
// remembered. Process start and the engine's compilation are outside.
func BenchmarkTenFilesOfTenThousand(b *testing.B) {
	c := newCorpus(b)
	c.judge(b, newGate(b), c.base, "") // compiles the engine
	start := cpu()
	g := newGate(b)
	c.judge(b, g, c.base, "")
	full := cpu() - start
	var change, wall time.Duration
	b.ResetTimer()
	for i := range b.N {
		// Another head each time: a message of its own, so that nothing but the base is remembered.
		b.StopTimer()
		head := c.freshHead(b, i)
		b.StartTimer()
		start, begun := cpu(), time.Now()
		j, found := c.judge(b, g, head, c.base)
		change += cpu() - start
		wall += time.Since(begun)
		introduced := 0
		for _, f := range found.Findings {
			if f.Introduced {
				introduced++
			}
		}
		if j.Conclusion != verdict.Blocked || introduced != 1 {
			b.Fatalf("%s with %d introduced findings, want the planted key alone", j.Conclusion, introduced)
		}
	}
	n := time.Duration(b.N)
	b.ReportMetric(float64(full.Milliseconds()), "full-cpu-ms")
	b.ReportMetric(float64(change.Microseconds())/1000/float64(b.N), "change-cpu-ms")
	b.ReportMetric(100*float64(change/n)/float64(full), "%-of-full")
	b.ReportMetric(float64(c.bytes)/(1<<20)/full.Seconds(), "MB/cpu-s-full")
}

// freshHead is the head with one more line in one of its ten files.
func (c corpus) freshHead(b *testing.B, i int) string {
	b.Helper()
	git := func(args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Dir = c.dir
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.Fatalf("git %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	changed := strings.Split(git("diff", "--name-only", c.base, c.head), "\n")
	for n, path := range changed {
		f, err := os.OpenFile(filepath.Join(c.dir, path), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			b.Fatal(err)
		}
		fmt.Fprintf(f, "// round %d.%d\n", i, n)
		f.Close()
	}
	git("commit", "-qam", "round")
	return git("rev-parse", "HEAD")
}
