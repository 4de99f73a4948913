package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// TestMain lets the test binary be the program too, so that tests can kill it.
func TestMain(m *testing.M) {
	if os.Getenv("NOXAUDIT_TEST_PROGRAM") != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a real "noxaudit serve" that can be killed.
type process struct {
	h       *hub
	address string
	cmd     *exec.Cmd
	log     bytes.Buffer
}

// ofHub replaces the App inside the test by a process of its own, at a fixed address.
func ofHub(h *hub) *process {
	h.t.Helper()
	h.stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	p := &process{h: h, address: l.Addr().String()}
	h.must(l.Close())
	h.must(h.sim.SetWebhook(h.app.ID, "http://"+p.address+"/github/hooks", hookSecret))
	h.t.Cleanup(p.kill)
	return p
}

func (p *process) start() {
	p.h.t.Helper()
	c := p.h.prog.config
	p.log.Reset()
	p.cmd = exec.Command(os.Args[0], "serve")
	p.cmd.Stderr = &p.log
	p.cmd.Env = append(os.Environ(), "NOXAUDIT_TEST_PROGRAM=1", "NOXAUDIT_LISTEN="+p.address, "NOXAUDIT_DATA_DIR="+c.DataDir,
		"NOXAUDIT_DATABASE_URL="+c.DatabaseURL, "NOXAUDIT_LEDGER_DATABASE_URL="+c.LedgerDatabaseURL, "NOXAUDIT_LEDGER_KEY_FILE="+c.LedgerKeyFile,
		"NOXAUDIT_DEPLOYMENT="+c.Deployment, "NOXAUDIT_GITHUB_API_URL="+c.GitHubAPIURL, "NOXAUDIT_GITHUB_WEB_URL="+c.GitHubWebURL,
		"NOXAUDIT_GITHUB_APP_ID="+c.GitHubAppID, "NOXAUDIT_GITHUB_PRIVATE_KEY_FILE="+c.GitHubPrivateKeyFile, "NOXAUDIT_GITHUB_WEBHOOK_SECRET="+c.GitHubWebhookSecret)
	p.h.must(p.cmd.Start())
}

// kill ends the process as a power cut would, wherever it is.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// end lets the process finish, as SIGTERM does.
func (p *process) end() {
	p.h.t.Helper()
	p.h.must(p.cmd.Process.Signal(os.Interrupt))
	if err := p.cmd.Wait(); err != nil {
		p.h.t.Errorf("serve ended with %v:\n%s", err, p.log.String())
	}
	p.cmd = nil
}

func TestNoVerdictIsLostDoubledOrWrongWhenWebhooksMisbehaveAndTheProcessIsKilled(t *testing.T) {
	pulls := 200
	if testing.Short() {
		pulls = 20
	}
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			var urls []string
			if engine == "postgres" {
				urls = []string{dbtest.Postgres(t), dbtest.Postgres(t)}
			}
			h := newHub(t, urls...)
			p := ofHub(h)
			rng, pause := rand.New(rand.NewPCG(3, 1)), rand.New(rand.NewPCG(3, 2))
			h.sim.Inject(
				githubsim.Fault{Kind: githubsim.Lost, On: "webhook", Rate: 0.05},
				githubsim.Fault{Kind: githubsim.Doubled, On: "webhook", Rate: 0.1},
				githubsim.Fault{Kind: githubsim.Late, On: "webhook", Rate: 0.1, Delay: 700 * time.Millisecond},
				githubsim.Fault{Kind: githubsim.Reordered, On: "webhook", Rate: 0.1},
				githubsim.Fault{Kind: githubsim.ErrorAfter, On: "POST /repos/{owner}/{repo}/check-runs", Rate: 0.03},
				githubsim.Fault{Kind: githubsim.ResetAfter, On: "PATCH /repos/{owner}/{repo}/check-runs/{check_run_id}", Rate: 0.03},
				githubsim.Fault{Kind: githubsim.Reset, On: "git upload-pack", Rate: 0.03},
			)

			var killing sync.WaitGroup
			quiet, kills := make(chan struct{}), 0
			p.start()
			killing.Go(func() {
				for {
					select {
					case <-quiet:
						p.kill()
						return
					case <-time.After(time.Duration(200+rng.IntN(1500)) * time.Millisecond):
						p.kill()
						kills++
						p.start()
					}
				}
			})

			want := map[string]string{} // per head
			for i := range pulls {
				time.Sleep(time.Duration(pause.IntN(200)) * time.Millisecond)
				name, branch := fmt.Sprintf("f%d.go", i), fmt.Sprintf("b%d", i)
				clean := githubsim.Files{name: fmt.Sprintf("package main // %d\n", i)}
				files, conclusion := clean, "success"
				if i%2 == 0 {
					files, conclusion = leaking(name), "failure"
				}
				_, sha := h.pull(branch, files)
				if i%5 == 0 { // the newest head wins
					next, err := h.sim.Push("ada", repoName, branch, "again", clean)
					h.must(err)
					sha, conclusion = next, "success"
				}
				want[sha] = conclusion
			}
			close(quiet)
			killing.Wait()

			h.sim.Heal()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			h.must(h.sim.Flush(ctx))
			p.start()
			t.Cleanup(func() {
				if t.Failed() {
					p.kill()
					t.Logf("the last process said:\n%s", p.log.String())
				}
			})
			for sha, conclusion := range want {
				if c := h.checkUntil(sha, func(githubsim.Check) bool { return true }); c.Conclusion != conclusion {
					t.Errorf("%s: %s (%s), want %s", sha, c.Conclusion, c.Title, conclusion)
				}
			}
			h.settled()
			p.end()
			if code := h.command("ledger", "verify"); code != exitPassed {
				t.Errorf("ledger verify ends with %d", code)
			}
			if kills == 0 {
				t.Error("the process was never killed")
			}
			t.Logf("%d heads, %d kills", len(want), kills)
		})
	}
}

func TestABurstOf300DeliveriesIsTakenInAndWorkedOff(t *testing.T) {
	eachStore(t, func(t *testing.T, h *hub) {
		heads := map[string]bool{}
		h.stop() // the simulated webhooks meet nobody; they are sent from here, all at once
		for i := range 30 {
			_, sha := h.pull(fmt.Sprintf("b%d", i), leaking(fmt.Sprintf("f%d.go", i)))
			heads[sha] = true
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		h.must(h.sim.Flush(ctx))
		var opened []githubsim.Delivery
		for _, d := range h.sim.Deliveries() {
			if d.Event == "pull_request" && d.Action == "opened" {
				opened = append(opened, d)
			}
		}
		if len(opened) != 30 {
			t.Fatalf("%d pull requests were announced", len(opened))
		}
		h.start()
		codes := make(chan int, 300)
		var senders sync.WaitGroup
		for i := range 300 {
			d := opened[i%len(opened)]
			senders.Go(func() { codes <- h.deliver(fmt.Sprintf("00000000-0000-4000-8000-%012d", i), d.Event, d.Payload) })
		}
		senders.Wait()
		close(codes)
		for code := range codes {
			if code != http.StatusOK {
				t.Errorf("a delivery was answered with %d", code)
			}
		}
		for sha := range heads {
			if c := h.check(sha); c.Conclusion != "failure" {
				t.Errorf("%s: %s", sha, c.Title)
			}
		}
	})
}

// deliver sends a signed webhook and returns the answer's status.
func (h *hub) deliver(guid, event string, body []byte) int {
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write(body)
	r, err := http.NewRequest(http.MethodPost, "http://"+h.address+"/github/hooks", bytes.NewReader(body))
	if err != nil {
		h.t.Error(err)
		return 0
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Delivery", guid)
	r.Header.Set("X-GitHub-Event", event)
	r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
