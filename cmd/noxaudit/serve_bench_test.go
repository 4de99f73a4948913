package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// percentile is the p-th of times, which it sorts.
func percentile(times []time.Duration, p int) float64 {
	slices.Sort(times)
	return float64(times[min(len(times)-1, len(times)*p/100)].Microseconds()) / 1000
}

// BenchmarkVerdict measures from a push of ten files to a pull request in a repository of 10,000 until the check run
// is completed at GitHub, warm, one after the other, with GitHub answering at once and after 50 ms a call.
func BenchmarkVerdict(b *testing.B) {
	for _, latency := range []time.Duration{0, 50 * time.Millisecond} {
		b.Run(fmt.Sprintf("github=%s", latency), func(b *testing.B) {
			h := newBenchHub(b, 10_000)
			_, sha := h.pull("warm", githubsim.Files{"w.go": "package main\n"})
			h.check(sha)
			if latency > 0 {
				h.sim.Inject(githubsim.Fault{Kind: githubsim.Slow, Delay: latency}, githubsim.Fault{Kind: githubsim.Slow, On: "git", Delay: latency})
			}
			var times []time.Duration
			calls := 0
			round := 0
			b.ResetTimer()
			for b.Loop() {
				round++
				files := githubsim.Files{}
				for i := range 10 {
					files[fmt.Sprintf("d%d/f%d.go", i, round%7)] = fmt.Sprintf("package d%d // round %d\n", i, round)
				}
				h.settled()
				h.sim.ResetCalls()
				sha, err := h.sim.Push("ada", repoName, "warm", "round", files)
				h.must(err)
				start := time.Now()
				h.check(sha)
				times = append(times, time.Since(start))
				h.settled()
				for _, c := range h.sim.Calls() {
					if !strings.HasPrefix(c.Route, "git") {
						calls++
					}
				}
			}
			b.ReportMetric(percentile(times, 50), "p50-ms")
			b.ReportMetric(percentile(times, 95), "p95-ms")
			b.ReportMetric(float64(calls)/float64(len(times)), "REST-calls/event")
		})
	}
}

// newBenchHub is a hub whose repository holds Go's own sources.
func newBenchHub(b *testing.B, files int) *hub {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	src := filepath.Join(strings.TrimSpace(string(out)), "src")
	all := githubsim.Files{gate.PolicyPath: blockSecrets}
	err = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || len(all) > files || filepath.Ext(path) != ".go" {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		all[filepath.ToSlash(rel)] = string(body)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := len(all); i <= files; i++ {
		all[fmt.Sprintf("more/%d.go", i)] = fmt.Sprintf("package more // %d\n", i)
	}
	return newHubOf(b, all)
}

// BenchmarkWebhookAnswer measures how long GitHub waits for an answer, beside a bare commit of one row in the same
// kind of database.
func BenchmarkWebhookAnswer(b *testing.B) {
	h := newHubOf(b, githubsim.Files{"a.go": "package a\n"})
	url := "http://" + h.address + "/github/hooks"
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "bare.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)"); err != nil {
		b.Fatal(err)
	}
	body := []byte(`{"action":"added","repository":{"id":77,"name":"x","full_name":"octo/x","owner":{"id":4242,"login":"octo"}},"installation":{"id":9},"padding":"` + strings.Repeat("x", 20_000) + `"}`)
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write(body)
	signature := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	var answers, bare []time.Duration
	n := 0
	for b.Loop() {
		n++
		start := time.Now()
		if _, err := db.Exec("INSERT INTO t (b) VALUES (?)", body); err != nil {
			b.Fatal(err)
		}
		bare = append(bare, time.Since(start))
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-GitHub-Event", "member")
		req.Header.Set("X-GitHub-Delivery", fmt.Sprintf("00000000-0000-4000-8000-%012d", n))
		req.Header.Set("X-Hub-Signature-256", signature)
		start = time.Now()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
		answers = append(answers, time.Since(start))
		if resp.StatusCode/100 != 2 {
			b.Fatalf("status %d", resp.StatusCode)
		}
	}
	b.ReportMetric(percentile(answers, 50), "p50-ms")
	b.ReportMetric(percentile(answers, 99), "p99-ms")
	b.ReportMetric(percentile(bare, 50), "bare-p50-ms")
	b.ReportMetric(percentile(bare, 99), "bare-p99-ms")
}
