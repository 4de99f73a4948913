package github

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	gogithub "github.com/google/go-github/v62/github"
	"golang.org/x/sync/errgroup"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/name"
)

const (
	personPages    = 100    // of 100 repositories: what lies beyond in one account gives no rights
	personInstalls = 500    // installations that one person reaches
	personParallel = 8      // calls at a time for one person
	personRights   = 50_000 // repositories that one person administers, over all accounts
)

// Person is who a user token of this App belongs to, and which roles that person has where the App is installed and
// not suspended: owner of the organisation or of the user account, else admin of repositories that are not archived.
// What GitHub does not let the person see gives no right. A bot has none.
//
// It asks GET /user, /user/installations, /user/memberships/orgs/{org} (which takes members: read of the App), and for
// those who own nothing there /user/installations/{id}/repositories. access.ErrSignInEnded: GitHub does not take the
// token; gate.ErrGitHubUnavailable: it could not answer now.
func (r Rights) Person(ctx context.Context, token string) (access.Person, error) {
	t := r.app.transport("person")
	t.credential = func(context.Context) (string, error) { return "Bearer " + token, nil }
	t.refused = func(string) {} // asked once more with the same one: a single 401 may be a mishap
	client := r.app.client(t)

	calls, first := errgroup.WithContext(ctx)
	calls.SetLimit(personParallel)
	var user *gogithub.User
	var installs []*gogithub.Installation
	calls.Go(func() (err error) {
		user, _, err = client.Users.Get(first, "")
		return personal(err, "who signed in")
	})
	calls.Go(func() (err error) {
		installs, err = paged(personInstalls/100, func(o *gogithub.ListOptions) ([]*gogithub.Installation, *gogithub.Response, error) {
			return client.Apps.ListUserInstallations(first, o)
		})
		return personal(err, "the installations of a person")
	})
	if err := calls.Wait(); err != nil {
		return access.Person{}, err
	}
	p := access.Person{ID: user.GetID(), Login: user.GetLogin()}
	if p.ID <= 0 || p.Login == "" {
		return access.Person{}, &Unavailable{Cause: errors.New("who signed in: the answer names nobody")}
	}
	if user.GetType() != "User" {
		return p, nil
	}

	ask, second := errgroup.WithContext(ctx)
	ask.SetLimit(personParallel)
	grants := make([]access.Grant, len(installs))
	for i, in := range installs {
		if in.GetAppID() != r.app.id || in.SuspendedAt != nil || in.GetAccount().GetID() <= 0 {
			continue
		}
		ask.Go(func() (err error) {
			grants[i], err = grant(second, client, in, p.ID)
			return err
		})
	}
	if err := ask.Wait(); err != nil {
		return access.Person{}, err
	}
	total := 0
	for _, g := range grants {
		total += len(g.Repositories)
		if g.Role != access.Nobody && p.In(g.Account).Role == access.Nobody && total <= personRights {
			p.Grants = append(p.Grants, g)
		}
	}
	slices.SortFunc(p.Grants, func(x, y access.Grant) int { return strings.Compare(x.Account.String(), y.Account.String()) })
	return p, nil
}

// grant is a person's role in the account of one installation.
func grant(ctx context.Context, client *gogithub.Client, in *gogithub.Installation, person int64) (access.Grant, error) {
	account, err := name.ParseAccount(strconv.FormatInt(in.GetAccount().GetID(), 10))
	if err != nil {
		return access.Grant{}, nil
	}
	g := access.Grant{Account: account, Login: in.GetAccount().GetLogin()}
	switch in.GetTargetType() {
	case "User":
		if in.GetAccount().GetID() == person {
			g.Role = access.Owner
			return g, nil
		}
	case "Organization":
		m, _, err := client.Organizations.GetOrgMembership(ctx, "", g.Login)
		if err != nil && !denied(err) {
			return g, personal(err, "the role in an organisation")
		}
		// Asked by login, so the id has to be compared: a login may change hands between two calls.
		if err == nil && m.GetState() == "active" && m.GetRole() == "admin" && m.GetOrganization().GetID() == in.GetAccount().GetID() {
			g.Role = access.Owner
			return g, nil
		}
	default:
		return g, nil
	}
	repos, err := paged(personPages, func(o *gogithub.ListOptions) ([]*gogithub.Repository, *gogithub.Response, error) {
		l, resp, err := client.Apps.ListUserRepos(ctx, in.GetID(), o)
		if err != nil {
			return nil, resp, err
		}
		return l.Repositories, resp, nil
	})
	if denied(err) {
		return g, nil
	}
	if err != nil {
		return g, personal(err, "the repositories of a person")
	}
	for _, r := range repos {
		if r.GetPermissions()["admin"] && !r.GetArchived() && r.GetOwner().GetID() == in.GetAccount().GetID() {
			g.Repositories = append(g.Repositories, strconv.FormatInt(r.GetID(), 10))
		}
	}
	slices.Sort(g.Repositories)
	g.Repositories = slices.Compact(g.Repositories)
	if len(g.Repositories) > 0 {
		g.Role = access.RepositoryAdmin
	}
	return g, nil
}

// paged reads a list page by page, up to a number of pages.
func paged[T any](most int, read func(*gogithub.ListOptions) ([]T, *gogithub.Response, error)) ([]T, error) {
	var all []T
	o := &gogithub.ListOptions{PerPage: 100}
	for range most {
		some, resp, err := read(o)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if resp.NextPage == 0 {
			break
		}
		o.Page = resp.NextPage
	}
	return all, nil
}

// denied reports whether GitHub will not tell this person.
func denied(err error) bool {
	code := status(err)
	return code == http.StatusForbidden || code == http.StatusNotFound
}

func status(err error) int {
	var e *gogithub.ErrorResponse
	if errors.As(err, &e) && e.Response != nil {
		return e.Response.StatusCode
	}
	return 0
}

// personal maps an error of a call that a person's token made.
func personal(err error, doing string) error {
	switch {
	case err == nil:
		return nil
	case status(err) == http.StatusUnauthorized:
		return access.ErrSignInEnded
	}
	return mapped(err, doing, "a sign-in to this App")
}

// Rights asks GitHub, with a person's own token, what that person may reach.
type Rights struct {
	app                    *App
	clientID, clientSecret string
}

// Rights is how sign-in asks. The client id and secret are the App's.
func (a *App) Rights(clientID, clientSecret string) Rights {
	return Rights{a, clientID, clientSecret}
}

// Forget makes GitHub forget a user token of this App. A token that is gone already is no error.
func (r Rights) Forget(ctx context.Context, token string) error {
	t := r.app.transport("person")
	t.credential = func(context.Context) (string, error) {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(r.clientID+":"+r.clientSecret)), nil
	}
	t.refused = func(string) {}
	_, err := r.app.client(t).Authorizations.Revoke(ctx, url.PathEscape(r.clientID), token)
	if code := status(err); code == http.StatusNotFound || code == http.StatusUnprocessableEntity {
		return nil
	}
	return mapped(err, "forget a person's token", "the App's client id and secret")
}
