package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/checks/source/mirror"
	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/github"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/report/figures"
	"github.com/noxaudit/noxaudit/server"
	"github.com/noxaudit/noxaudit/server/api"
	"github.com/noxaudit/noxaudit/server/auth"
	"github.com/noxaudit/noxaudit/server/web"
	"github.com/noxaudit/noxaudit/server/work"
)

func (p *program) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "run the GitHub App: webhooks in, one check run per commit out",
		Long: `Runs the GitHub App: hears webhooks at /github/hooks, audits and judges what they
are about, and publishes one check run, "noxaudit", on every head commit.

Answers /healthz and /readyz; metrics have a listener of their own. SIGTERM ends it
after the jobs under way; what they did not finish is taken up by the next process.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.newService(cmd.Context(), serviceOptions{})
			if err != nil {
				return err
			}
			return s.run(cmd.Context())
		},
	}
}

// service is a running App.
type service struct {
	log     zerolog.Logger
	http    *http.Server
	metrics *http.Server
	listen  net.Listener
	measure net.Listener // nil: no metrics
	worker  *work.Worker
	mirrors *mirror.Mirrors
	record  record
}

// serviceOptions are what tests change.
type serviceOptions struct {
	pace                   github.Pace
	look, sweep, reconcile time.Duration
	sleep                  func(ctx context.Context, d time.Duration) error     // between the calls to GitHub
	pause                  func(attempt int, asked time.Duration) time.Duration // between the tries of a job
	quiet                  bool
}

// stopWithin is how long jobs under way are waited for.
const stopWithin = 30 * time.Second

func (p *program) newService(ctx context.Context, o serviceOptions) (_ *service, err error) {
	s := &service{log: zerolog.New(p.stderr).With().Timestamp().Logger()}
	if o.quiet {
		s.log = zerolog.Nop()
	} else {
		zerolog.SetGlobalLevel(zerolog.InfoLevel)
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	app, err := p.githubApp(s.log, registry, o)
	if err != nil {
		return nil, err
	}
	if s.record, err = p.openRecord(ctx, false); err != nil {
		return nil, err
	}
	if s.mirrors, err = mirror.Open(mirror.Options{Dir: filepath.Join(p.config.DataDir, "mirrors"), Now: p.now}); err != nil {
		return nil, fmt.Errorf("mirrors: %w", err)
	}
	auditors, mask, err := builtinAuditors(nil)
	if err != nil {
		return nil, err
	}
	g := &gate.Gate{Store: s.record.store, Auditors: auditors, Options: audit.Options{Mask: mask}, Now: p.now, Rand: p.rand, Engine: engineVersion()}
	s.worker, err = work.Start(ctx, work.Options{
		Gate: g, Hub: gate.Hub{Publisher: app, Fetcher: fetcher{s.mirrors, app}, People: app, Voice: app, Details: p.details()}, Forge: app, Parse: github.ParseEvent,
		Jobs: p.config.JobsDSN(), Log: s.log, Look: o.look, Sweep: o.sweep, Reconcile: o.reconcile, Pause: o.pause,
		Sequence: func(ctx context.Context, a name.Account) error { return s.record.sequence(ctx, a) },
	})
	if err != nil {
		return nil, err
	}
	hooks, err := github.NewHandler(github.HandlerOptions{
		Secret: p.config.GitHubWebhookSecret, Inbox: inbox{g, s.worker}, Now: p.now, Log: s.log, Registerer: registry,
	})
	if err != nil {
		return nil, fmt.Errorf("NOXAUDIT_GITHUB_WEBHOOK_SECRET: %w", err)
	}
	front := server.Options{Hooks: hooks, Ready: s.record.store.Ping}
	if p.config.GitHubClientID != "" || p.config.GitHubClientSecret != "" {
		if err := p.addPages(&front, s, g, app); err != nil {
			return nil, err
		}
	}
	s.http = server.New(server.Handler(front))
	if s.listen, err = net.Listen("tcp", p.config.Listen); err != nil {
		return nil, fmt.Errorf("NOXAUDIT_LISTEN: %w", err)
	}
	if p.config.MetricsListen != "" {
		if s.measure, err = net.Listen("tcp", p.config.MetricsListen); err != nil {
			return nil, fmt.Errorf("NOXAUDIT_METRICS_LISTEN: %w", err)
		}
		s.metrics = server.New(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	}
	return s, nil
}

// addPages adds the report pages and the sign-in that leads to them.
func (p *program) addPages(front *server.Options, s *service, g *gate.Gate, app *github.App) error {
	pages, err := web.New(web.Options{
		Figures: &figures.Figures{
			Store: s.record.store, Now: p.now, Keys: []string{s.record.key.Public()},
			Ledger: func(a name.Account) figures.Ledger { return s.record.log.For(a) },
		},
		Person: func(ctx context.Context) (access.Person, bool) {
			c, signedIn := auth.From(ctx)
			return c.Person, signedIn
		},
		SignIn: "/auth/login", SignOut: "/auth/logout", BaseURL: p.config.BaseURL, GitHubURL: p.config.GitHubWebURL, Version: engineVersion(), Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("NOXAUDIT_GITHUB_WEB_URL: %w", err)
	}
	signIn, err := auth.New(auth.Options{
		Store: s.record.store, Rights: app.Rights(p.config.GitHubClientID, p.config.GitHubClientSecret),
		ClientID: p.config.GitHubClientID, ClientSecret: p.config.GitHubClientSecret, BaseURL: p.config.BaseURL, GitHubWebURL: p.config.GitHubWebURL,
		Pages: func(w http.ResponseWriter, r *http.Request, page auth.Page) {
			pages.Message(w, r, page.Status, page.Title, page.Sentence, page.Link, page.LinkText)
		},
		Ask: func(w http.ResponseWriter, r *http.Request, q auth.Question) {
			out := web.Question{Heading: q.Title, Text: q.Sentences, Action: "/auth/cli", Yes: q.Yes, No: q.No}
			for _, f := range q.Fields {
				out.Fields = append(out.Fields, [2]string{f.Name, f.Value})
			}
			pages.Ask(w, r, out)
		},
		Now: p.now, Rand: p.rand, Log: s.log,
	})
	if err != nil {
		return err
	}
	front.Auth, front.Pages, front.Require = signIn.Handler(), pages, signIn.Require
	front.API = api.New(api.Options{Who: signIn.Bearer, Gate: g, People: app, Wake: s.worker.Ordered, Log: s.log})
	return nil
}

// details is the address of a commit's page, for check runs; nil where nobody could open it.
func (p *program) details() func(name.Account, string, name.Commit) string {
	if p.config.BaseURL == "" || p.config.GitHubClientID == "" {
		return nil
	}
	return func(account name.Account, repository string, head name.Commit) string {
		return strings.TrimSuffix(p.config.BaseURL, "/") + web.CommitPath(account, repository, head)
	}
}

func (p *program) githubApp(log zerolog.Logger, registry prometheus.Registerer, o serviceOptions) (*github.App, error) {
	if p.config.GitHubWebhookSecret == "" {
		return nil, errors.New("NOXAUDIT_GITHUB_WEBHOOK_SECRET: required; without it anybody could send webhooks")
	}
	id, err := strconv.ParseInt(p.config.GitHubAppID, 10, 64)
	if err != nil || id <= 0 {
		return nil, errors.New("NOXAUDIT_GITHUB_APP_ID: want the App's numeric id, from its settings page")
	}
	if p.config.GitHubPrivateKeyFile == "" {
		return nil, errors.New("NOXAUDIT_GITHUB_PRIVATE_KEY_FILE: required; GitHub gives the key on the App's settings page")
	}
	pem, err := readFile(p.config.GitHubPrivateKeyFile, 1<<16)
	if err != nil {
		return nil, fmt.Errorf("NOXAUDIT_GITHUB_PRIVATE_KEY_FILE: %w", err)
	}
	return github.NewApp(github.AppOptions{
		ID: id, PrivateKeyPEM: pem, APIURL: p.config.GitHubAPIURL, WebURL: p.config.GitHubWebURL,
		UserAgent: "noxaudit/" + engineVersion(), Now: p.now, Log: log, Registerer: registry, Pace: o.pace, Sleep: o.sleep,
	})
}

// run serves until ctx ends, then lets the work under way end.
func (s *service) run(ctx context.Context) error {
	defer s.close()
	failed := make(chan error, 2)
	go func() { failed <- s.http.Serve(s.listen) }()
	if s.metrics != nil {
		go func() { failed <- s.metrics.Serve(s.measure) }()
	}
	s.log.Info().Str("address", s.listen.Addr().String()).Msg("listening")
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	err = errors.Join(err, s.http.Shutdown(stop))
	if s.metrics != nil {
		err = errors.Join(err, s.metrics.Shutdown(stop))
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	err = errors.Join(err, s.worker.Stop(stop))
	s.worker = nil
	return err
}

// close gives everything back that is still held.
func (s *service) close() {
	if s.worker != nil {
		stop, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		if err := s.worker.Stop(stop); err != nil {
			s.log.Warn().Err(err).Msg("stop")
		}
		s.worker = nil
	}
	for _, l := range []net.Listener{s.listen, s.measure} {
		if l != nil {
			l.Close()
		}
	}
	if s.mirrors != nil {
		if err := s.mirrors.Close(); err != nil {
			s.log.Warn().Err(err).Msg("mirrors")
		}
		s.mirrors = nil
	}
	if s.record.close != nil {
		s.record.close()
		s.record.close = nil
	}
}

// inbox keeps deliveries in the store and wakes a worker.
type inbox struct {
	gate   *gate.Gate
	worker *work.Worker
}

func (i inbox) Receive(ctx context.Context, d github.Delivery) error {
	account := d.Account
	if account.IsZero() {
		account = name.Deployment
	}
	err := i.gate.Receive(ctx, account, store.Delivery{
		GUID: d.GUID, Event: d.Event, Action: d.Action, Installation: d.Installation, Received: d.Received, Body: d.Body,
	})
	if err != nil {
		return err
	}
	i.worker.Delivered(store.DeliveryKey{Account: account, GUID: d.GUID})
	return nil
}

// fetcher reads code through mirrors with the installation's token.
type fetcher struct {
	mirrors *mirror.Mirrors
	app     *github.App
}

func (f fetcher) Fetch(ctx context.Context, o gate.Origin, refs ...string) (gate.Lease, error) {
	lease, err := f.mirrors.Fetch(ctx, mirror.Remote{
		Repo: o.Repo, URL: f.app.CloneURL(o),
		Token: func(ctx context.Context, fresh bool) (string, error) { return f.app.Token(ctx, o.Installation, fresh) },
	}, refs...)
	if err == nil {
		return lease, nil
	}
	var missing *mirror.NotFoundError
	switch {
	case errors.As(err, &missing) && missing.Ref != "":
		return nil, fmt.Errorf("%w: %w", gate.ErrRefGone, err)
	case errors.Is(err, mirror.ErrNotFound), errors.Is(err, mirror.ErrTooLarge), errors.Is(err, mirror.ErrRef):
		return nil, fmt.Errorf("%w: %w", gate.ErrGitHubGone, err)
	case errors.Is(err, gate.ErrGitHubGone), ctx.Err() != nil:
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", gate.ErrGitHubUnavailable, err)
}
