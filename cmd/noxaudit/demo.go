package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/internal/config"
	"github.com/noxaudit/noxaudit/internal/demo"
	"github.com/noxaudit/noxaudit/internal/github"
	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/internal/githubsim/simweb"
)

// Where the demo listens unless told otherwise; on other ports when these are taken.
const (
	demoListen       = "127.0.0.1:8300"
	demoGitHubListen = "127.0.0.1:8301"
)

func (p *program) demoCommand() *cobra.Command {
	var githubListen string
	var script, open bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "the whole product on this machine: a simulated GitHub with an organisation to play with",
		Long: `Starts noxaudit and a simulated GitHub in one process, with an organisation that has
some weeks behind it and a few open pull requests. It needs no credentials and no
network, only git. It prints the addresses and what to try.

Everything is kept in a temporary folder that is removed at the end, or in --data-dir,
where the next start goes on. Settings of a real noxaudit (environment, --config) are
not looked at.

With --script the story is played by itself, each step narrated and checked.

Exit codes: 0 all is well, 1 a step of the script failed, 2 could not do it.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&githubListen, "github-listen", demoGitHubListen, "address of the simulated GitHub")
	cmd.Flags().BoolVar(&script, "script", false, "play the story unattended, check every step, and end")
	cmd.Flags().BoolVar(&open, "open", true, "open the simulated GitHub in a browser, when there is a terminal")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o := demoOptions{listen: demoListen, githubListen: githubListen}
		// Only flags count: the environment may be that of a real noxaudit, whose data the demo must never touch.
		if f := cmd.Flags().Lookup("data-dir"); f.Changed {
			o.dir = f.Value.String()
		}
		if f := cmd.Flags().Lookup("listen"); f.Changed {
			o.listen = f.Value.String()
		} else {
			o.listen = freePort(o.listen)
		}
		if !cmd.Flags().Changed("github-listen") {
			o.githubListen = freePort(o.githubListen)
		}
		if script {
			o.listen, o.githubListen = "127.0.0.1:0", "127.0.0.1:0"
		}
		return p.demo(cmd.Context(), o, script, open && p.stdoutTerminal)
	}
	cmd.AddCommand(p.demoTamperCommand())
	return cmd
}

// demo runs the demo until ctx ends, or its script.
func (p *program) demo(ctx context.Context, o demoOptions, script, open bool) error {
	temporary := o.dir == ""
	if temporary {
		dir, err := os.MkdirTemp("", "noxaudit-demo-")
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}
	if script {
		return p.demoScript(ctx, o)
	}
	began := time.Now()
	d, err := p.startDemo(ctx, o)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer d.stop()
	d.welcome(p.stdout, time.Since(began), temporary)
	if open {
		browse(d.github)
	}
	return d.wait(ctx)
}

// freePort is the address, or any port of its host when somebody else listens there.
func freePort(address string) string {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "127.0.0.1:0"
	}
	l.Close()
	return address
}

// knownPort is the address with a port that is free now, where any would do: pages and sign-in need to know it before
// anybody listens there.
func knownPort(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != "0" {
		return address, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err = net.SplitHostPort(l.Addr().String())
	return net.JoinHostPort(host, port), err
}

// browse opens an address in the visitor's browser. Where that does not work the address is on the screen anyway.
func browse(url string) {
	name, args := "xdg-open", []string{url}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	}
	cmd := exec.Command(name, args...)
	if cmd.Start() == nil {
		go cmd.Wait()
	}
}

// demoOptions say where a demo keeps its things and where it listens.
type demoOptions struct {
	dir                  string
	listen, githubListen string
}

// running is a demo under way.
type running struct {
	prog        *program // noxaudit as the demo configures it
	sim         *githubsim.Server
	app         githubsim.App
	dir         string
	github, web string // addresses
	ended       chan error
	end         context.CancelFunc
	closeLog    func() error
}

// mark is the file that tells a demo's folder from others.
const demoMark = "demo.json"

type demoState struct {
	App   int64 `json:"app"`
	Ready bool  `json:"ready"` // the past has been lived through
}

// startDemo starts everything. In a folder without a demo it founds the organisation and lives through its past first.
func (p *program) startDemo(ctx context.Context, o demoOptions) (_ *running, err error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, errors.New("demo: git is not installed, and the simulated GitHub serves real repositories")
	}
	state, err := openDemoDir(o.dir)
	if err != nil {
		return nil, err
	}
	d := &running{dir: o.dir, end: func() {}, closeLog: func() error { return nil }}
	defer func() {
		if err != nil {
			d.stop()
		}
	}()
	clock := demo.NewClock(p.now)
	now := p.now()
	if !state.Ready {
		clock.Begin(now.Add(-demo.Begin))
	}
	var pages atomic.Pointer[http.Handler]
	d.sim, err = githubsim.New(githubsim.Options{Dir: filepath.Join(o.dir, "github"), Now: clock.Now, HookWorkers: 4, HourlyLimit: -1,
		Pages: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if h := pages.Load(); h != nil {
				(*h).ServeHTTP(w, r)
				return
			}
			w.Header().Set("Retry-After", "1")
			http.Error(w, "the demo is starting", http.StatusServiceUnavailable)
		})})
	if err != nil {
		return nil, err
	}
	if d.github, err = d.sim.Listen(o.githubListen); err != nil {
		return nil, fmt.Errorf("--github-listen: %w", err)
	}
	key := filepath.Join(o.dir, "app.pem")
	if !state.Ready {
		if err := demo.Found(d.sim, now); err != nil {
			return nil, err
		}
		if d.app, err = d.sim.CreateApp(demo.App()); err != nil {
			return nil, err
		}
		if err := os.WriteFile(key, d.app.PrivateKeyPEM, 0o600); err != nil {
			return nil, err
		}
	} else if d.app, err = d.sim.FindApp(demo.AppName); err != nil {
		return nil, err
	}
	hookSecret := make([]byte, 24)
	if _, err := io.ReadFull(p.rand, hookSecret); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(o.dir, "noxaudit.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	d.closeLog = log.Close
	if o.listen, err = knownPort(o.listen); err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	d.web = "http://" + o.listen
	if err := d.sim.SetCallbacks(d.app.ID, d.web+"/auth/callback"); err != nil {
		return nil, err
	}
	own := *p
	d.prog = &own
	own.now, own.stderr, own.environ = clock.Now, log, nil
	own.config = config.Config{DataDir: filepath.Join(o.dir, "data"), Deployment: "demo", Server: config.Server{
		Listen: o.listen, BaseURL: d.web, GitHubClientID: d.app.ClientID, GitHubClientSecret: d.app.ClientSecret, GitHubAPIURL: d.github + "/api/v3", GitHubWebURL: d.github, GitHubAppID: strconv.FormatInt(d.app.ID, 10),
		GitHubPrivateKeyFile: key, GitHubWebhookSecret: fmt.Sprintf("%x", hookSecret),
	}}
	s, err := own.newService(ctx, serviceOptions{pace: github.Pace{Points: -1, Creates: -1, Parallel: -1}})
	if err != nil {
		return nil, err
	}
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	d.end, d.ended = end, make(chan error, 1)
	go func() { d.ended <- s.run(serving) }()
	if err := d.sim.SetWebhook(d.app.ID, d.web+"/github/hooks", own.config.GitHubWebhookSecret); err != nil {
		return nil, err
	}
	if !state.Ready {
		if err := d.past(ctx, clock, now); err != nil {
			return nil, err
		}
		if err := writeDemoState(o.dir, demoState{App: d.app.ID, Ready: true}); err != nil {
			return nil, err
		}
	}
	links := []simweb.Link{{Text: "noxaudit's report", URL: d.web + "/"}}
	h := simweb.New(simweb.Options{Server: d.sim, People: visitors(), Links: links, Now: clock.Now, Wait: 3 * time.Second})
	pages.Store(&h)
	return d, nil
}

// past installs the App some weeks ago and lives through the time since.
func (d *running) past(ctx context.Context, clock *demo.Clock, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if _, err := d.sim.InstallApp(demo.Owner, d.app.ID, demo.Org); err != nil {
		return err
	}
	if err := demo.Protect(d.sim, d.app.ID, github.CheckName); err != nil {
		return err
	}
	err := demo.Past{Sim: d.sim, Clock: clock, Now: now, Check: github.CheckName, App: d.app.ID}.Live(ctx)
	if err != nil {
		return fmt.Errorf("demo: %w; %s says more", err, filepath.Join(d.dir, "noxaudit.log"))
	}
	return d.sim.Save()
}

func visitors() []simweb.Person {
	var all []simweb.Person
	for _, p := range demo.People {
		all = append(all, simweb.Person{Login: p.Login, Note: p.Note})
	}
	return all
}

// openDemoDir makes the folder, or finds a demo in it. It refuses a folder with anything else in it.
func openDemoDir(dir string) (demoState, error) {
	var state demoState
	raw, err := os.ReadFile(filepath.Join(dir, demoMark))
	switch {
	case err == nil:
		if err := json.Unmarshal(raw, &state); err != nil {
			return state, fmt.Errorf("demo: %s: %w", filepath.Join(dir, demoMark), err)
		}
		if state.Ready {
			return state, nil
		}
		for _, begun := range []string{"github", "data"} { // an earlier start was ended half-way
			if err := os.RemoveAll(filepath.Join(dir, begun)); err != nil {
				return state, fmt.Errorf("demo: %w", err)
			}
		}
	case errors.Is(err, fs.ErrNotExist):
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			return state, fmt.Errorf("demo: %s is not empty and holds no demo; name a new folder with --data-dir", dir)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return state, fmt.Errorf("demo: %w", err)
		}
	default:
		return state, fmt.Errorf("demo: %w", err)
	}
	return state, writeDemoState(dir, state)
}

func writeDemoState(dir string, s demoState) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, demoMark), raw, 0o600); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// saveEvery is how much of the simulated GitHub a killed demo may lose.
const saveEvery = 5 * time.Second

// wait serves until ctx ends.
func (d *running) wait(ctx context.Context) error {
	saved := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.ended:
			d.ended <- err
			return err
		case <-time.After(saveEvery):
			// Whatever happens sends webhooks, so without a new one there is nothing to save.
			if n := len(d.sim.Deliveries()); n != saved {
				saved = n
				if err := d.sim.Save(); err != nil {
					return err
				}
			}
		}
	}
}

// stop ends everything and keeps the state. It says what went wrong.
func (d *running) stop() error {
	var errs []error
	d.end()
	if d.ended != nil {
		errs = append(errs, <-d.ended)
		d.ended = nil
	}
	if d.sim != nil {
		errs = append(errs, d.sim.Close())
		if _, err := os.Stat(d.dir); err == nil {
			errs = append(errs, d.sim.Save())
		}
		d.sim = nil
	}
	errs = append(errs, d.closeLog())
	d.closeLog = func() error { return nil }
	return errors.Join(errs...)
}

// welcome says where everything is and what to try.
func (d *running) welcome(w io.Writer, took time.Duration, temporary bool) {
	at := func(key string) string {
		q, err := demo.Find(d.sim, key)
		if err != nil {
			return d.github
		}
		return fmt.Sprintf("%s/%s/pull/%d", d.github, q.Repo, q.Number)
	}
	kept := d.dir
	if temporary {
		kept += " (removed at the end; --data-dir DIR keeps it)"
	}
	report := fmt.Sprintf("  8. Open the report       %s/ and sign in as %s.\n", d.web, demo.Owner)
	fmt.Fprintf(w, `noxaudit demo, ready after %.1f s

  Simulated GitHub  %s
  noxaudit          %s
  Data              %s

What to try. On the simulated GitHub you choose at the top right whom you are.

  1. See a red check       %s
                           Somebody left a key in the code. Files says where, and how to get rid of it.
  2. Try to merge it       as %s, who maintains the repository: the button is off and says why. %s, who owns
                           the organisation, sees what GitHub lets owners do.
  3. Ask to keep it        as %s, its author. Comment, with the finding's name from the check:
                           /noxaudit waive NX-… reason="The vault is ready next week." for=14d
                           Then try to approve it yourself: /noxaudit approve W-…
  4. Approve one           as %s, security engineer: copy the line from the answer on
                           %s
                           Watch the check turn green, and merge.
  5. Or fix it             as %s: Files, Edit file, take the key out, commit.
  6. Use the merge queue   %s
                           as %s: "Merge when ready". The group is audited before it lands.
  7. Take from a fork      %s
                           from an outsider, judged without access to the fork.
%s  9. Verify the ledger     %s ledger verify --data-dir %s --deployment demo
 10. Tamper with it        %s demo tamper --data-dir %s
                           and verify again: the entry is named. --undo puts it back.

Ctrl-C ends it.
`, took.Seconds(), d.github, d.web, kept,
		at(demo.Leak), demo.Lead, demo.Owner, demo.Author, demo.Security, at(demo.Waived), demo.Author, at(demo.Clean), demo.Security, at(demo.Fork),
		report, os.Args[0], filepath.Join(d.dir, "data"), os.Args[0], d.dir)
}
