package githubsim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// AppSpec says what a GitHub App is.
type AppSpec struct {
	Owner         string            // account that owns the App
	Name          string            // its slug is made from it
	Permissions   map[string]string // such as "checks": "write"; metadata is always readable
	Events        []string          // webhooks it asked for; installation events come always
	WebhookURL    string            // "": none are sent until SetWebhook
	WebhookSecret string
	Key           *rsa.PrivateKey // nil: one is made
	CallbackURLs  []string        // where people may be sent after they agreed to sign in
	UserTokensEnd bool            // people's tokens expire after eight hours
}

// App is a GitHub App with its credentials.
type App struct {
	ID            int64
	Slug          string
	Bot           string // login of its bot: SLUG[bot]
	ClientID      string
	ClientSecret  string
	PrivateKeyPEM []byte
	CallbackURLs  []string // where people may be sent after they agreed to sign in
}

type app struct {
	id                 int64
	owner, bot         *account
	name, slug         string
	key                *rsa.PublicKey
	permissions        map[string]string
	events             []string
	hookURL, secret    string
	clientID, password string
	callbacks          []string
	userTokensEnd      bool
	created            time.Time
}

type installation struct {
	id          int64
	app         *app
	account     *account
	all         bool // all repositories of the account, present and future
	repos       map[*repo]bool
	permissions map[string]string
	events      []string
	created     time.Time
	suspended   time.Time
	suspender   *account
}

// CreateApp registers a GitHub App.
func (s *Server) CreateApp(spec AppSpec) (App, error) {
	key := spec.Key
	if key == nil {
		var err error
		if key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return App{}, fmt.Errorf("app: %w", err)
		}
	}
	defer s.lock()()
	owner, err := s.account(spec.Owner)
	if err != nil {
		return App{}, err
	}
	slug := strings.ReplaceAll(strings.ToLower(spec.Name), " ", "-")
	for _, a := range s.apps {
		if a.slug == slug {
			return App{}, fmt.Errorf("app %s: exists already", slug)
		}
	}
	a := &app{id: s.newID(), owner: owner, name: spec.Name, slug: slug, key: &key.PublicKey, permissions: map[string]string{"metadata": "read"},
		events: slices.Clone(spec.Events), hookURL: spec.WebhookURL, secret: spec.WebhookSecret,
		clientID: "Iv1." + s.random(16), password: s.random(40), callbacks: slices.Clone(spec.CallbackURLs), userTokensEnd: spec.UserTokensEnd, created: s.now()}
	maps.Copy(a.permissions, spec.Permissions)
	a.bot = &account{id: s.newID(), login: slug + "[bot]", kind: "Bot", name: slug + "[bot]", email: slug + "[bot]@users.noreply.github.localhost", created: s.now()}
	s.accounts[a.bot.login] = a.bot
	s.apps[a.id] = a
	return App{ID: a.id, Slug: slug, Bot: a.bot.login, ClientID: a.clientID, ClientSecret: a.password,
		PrivateKeyPEM: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})}, nil
}

// SetWebhook says where an App's webhooks go, and with which secret they are signed.
func (s *Server) SetWebhook(appID int64, url, secret string) error {
	defer s.lock()()
	a := s.apps[appID]
	if a == nil {
		return fmt.Errorf("app %d: does not exist", appID)
	}
	a.hookURL, a.secret = url, secret
	return nil
}

// SetCallbacks says where people may be sent after they agreed to sign in to an App.
func (s *Server) SetCallbacks(appID int64, urls ...string) error {
	defer s.lock()()
	a := s.apps[appID]
	if a == nil {
		return fmt.Errorf("app %d: does not exist", appID)
	}
	a.callbacks = slices.Clone(urls)
	return nil
}

// InstallApp installs an App on an account: on the repositories named, or on all present and future ones when none is.
func (s *Server) InstallApp(by string, appID int64, account string, repos ...string) (installationID int64, err error) {
	defer s.lock()()
	sender, err := s.user(by)
	if err != nil {
		return 0, err
	}
	a := s.apps[appID]
	if a == nil {
		return 0, fmt.Errorf("app %d: does not exist", appID)
	}
	target, err := s.account(account)
	if err != nil {
		return 0, err
	}
	if sender != target && target.members[sender] != "admin" {
		return 0, fmt.Errorf("app %s: %s may not install it on %s", a.slug, by, account)
	}
	for _, i := range s.installations {
		if i.app == a && i.account == target {
			return 0, fmt.Errorf("app %s: installed on %s already", a.slug, account)
		}
	}
	i := &installation{app: a, account: target, all: len(repos) == 0, repos: map[*repo]bool{},
		permissions: maps.Clone(a.permissions), events: slices.Clone(a.events), created: s.now()}
	for _, name := range repos {
		r, err := s.repo(name)
		if err != nil {
			return 0, err
		}
		if r.owner != target {
			return 0, fmt.Errorf("app %s: %s does not belong to %s", a.slug, name, account)
		}
		i.repos[r] = true
	}
	i.id = s.newID()
	s.installations[i.id] = i
	s.emitTo(i, nil, sender, "installation", "created", object{"repositories": brief(s.reposOf(i))})
	return i.id, nil
}

// SuspendApp suspends an installation, or lifts the suspension.
func (s *Server) SuspendApp(by string, installationID int64, suspended bool) error {
	defer s.lock()()
	i, sender, err := s.installationBy(by, installationID)
	if err != nil {
		return err
	}
	if suspended {
		i.suspended, i.suspender = s.now(), sender
		s.emitTo(i, nil, sender, "installation", "suspend", object{"repositories": brief(s.reposOf(i))})
		return nil
	}
	i.suspended, i.suspender = time.Time{}, nil
	s.emitTo(i, nil, sender, "installation", "unsuspend", object{"repositories": brief(s.reposOf(i))})
	return nil
}

// UninstallApp ends an installation and its tokens.
func (s *Server) UninstallApp(by string, installationID int64) error {
	defer s.lock()()
	i, sender, err := s.installationBy(by, installationID)
	if err != nil {
		return err
	}
	s.emitTo(i, nil, sender, "installation", "deleted", object{"repositories": brief(s.reposOf(i))})
	delete(s.installations, i.id)
	maps.DeleteFunc(s.tokens, func(_ string, t *token) bool { return t.installation == i })
	return nil
}

// SetPermissions changes what an installation may do, as when its owner accepts new permissions or events.
func (s *Server) SetPermissions(by string, installationID int64, permissions map[string]string, events []string) error {
	defer s.lock()()
	i, sender, err := s.installationBy(by, installationID)
	if err != nil {
		return err
	}
	i.permissions, i.events = map[string]string{"metadata": "read"}, slices.Clone(events)
	maps.Copy(i.permissions, permissions)
	s.emitTo(i, nil, sender, "installation", "new_permissions_accepted", object{"repositories": brief(s.reposOf(i))})
	return nil
}

// AddRepositories adds repositories to an installation on selected ones.
func (s *Server) AddRepositories(by string, installationID int64, repos ...string) error {
	return s.selectRepos(by, installationID, repos, true)
}

// RemoveRepositories takes repositories from an installation on selected ones.
func (s *Server) RemoveRepositories(by string, installationID int64, repos ...string) error {
	return s.selectRepos(by, installationID, repos, false)
}

func (s *Server) selectRepos(by string, id int64, names []string, add bool) error {
	defer s.lock()()
	i, sender, err := s.installationBy(by, id)
	if err != nil {
		return err
	}
	if i.all {
		return fmt.Errorf("installation %d: on all repositories", id)
	}
	var changed []*repo
	for _, name := range names {
		r, err := s.repo(name)
		if err != nil {
			return err
		}
		if r.owner != i.account {
			return fmt.Errorf("installation %d: %s does not belong to %s", id, name, i.account.login)
		}
		changed = append(changed, r)
	}
	for _, r := range changed {
		if add {
			i.repos[r] = true
		} else {
			delete(i.repos, r)
		}
	}
	if add {
		s.emitTo(i, nil, sender, "installation_repositories", "added", s.selection(i, changed, nil))
	} else {
		s.emitTo(i, nil, sender, "installation_repositories", "removed", s.selection(i, nil, changed))
	}
	return nil
}

func (s *Server) selection(i *installation, added, removed []*repo) object {
	return object{"repository_selection": i.selected(), "repositories_added": brief(added), "repositories_removed": brief(removed), "requester": nil}
}

func (s *Server) installationBy(by string, id int64) (*installation, *account, error) {
	sender, err := s.user(by)
	if err != nil {
		return nil, nil, err
	}
	i := s.installations[id]
	if i == nil {
		return nil, nil, fmt.Errorf("installation %d: does not exist", id)
	}
	if sender != i.account && i.account.members[sender] != "admin" {
		return nil, nil, fmt.Errorf("installation %d: %s may not change it", id, by)
	}
	return i, sender, nil
}

func (i *installation) selected() string {
	if i.all {
		return "all"
	}
	return "selected"
}

// covers says whether the App is installed on a repository.
func (i *installation) covers(r *repo) bool {
	return i.account == r.owner && (i.all || i.repos[r])
}

// reposOf lists an installation's repositories by id.
func (s *Server) reposOf(i *installation) []*repo {
	var all []*repo
	for _, r := range s.repos {
		if i.covers(r) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *repo) int { return int(a.id - b.id) })
	return all
}

// installationsOf lists the installations that cover a repository, oldest first.
func (s *Server) installationsOf(r *repo) []*installation {
	var all []*installation
	for _, i := range s.installations {
		if i.covers(r) {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b *installation) int { return int(a.id - b.id) })
	return all
}
