package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	gogithub "github.com/google/go-github/v62/github"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/store"
)

const (
	perPage   = 100
	pagesMost = 500 // of any list: 50,000 things
)

// pages calls list until it says that there is no next page.
func pages(what string, list func(page int) (*gogithub.Response, error)) error {
	page := 1
	for range pagesMost {
		resp, err := list(page)
		if err != nil {
			return err
		}
		if resp.NextPage == 0 {
			return nil
		}
		page = resp.NextPage
	}
	return fmt.Errorf("%s: more than %d", what, pagesMost*perPage)
}

// Comments lists comments on pull requests that were written or changed since a time. What was written on lines and in
// reviews is not among them: GitHub lists those apart.
func (a *App) Comments(ctx context.Context, o gate.Origin, since time.Time) ([]gate.RemarkEvent, error) {
	n, err := a.installation(o.Installation)
	if err != nil {
		return nil, err
	}
	if !plainName(o.Owner) || !plainName(o.Name) {
		return nil, errors.New("comments: no repository to list them of")
	}
	var all []gate.RemarkEvent
	err = pages("comments", func(page int) (*gogithub.Response, error) {
		// By hand: go-github's type does not say that an App wrote in a person's name.
		path := fmt.Sprintf("repos/%s/%s/issues/comments?since=%s&per_page=%d&page=%d", o.Owner, o.Name, url.QueryEscape(since.UTC().Format(time.RFC3339)), perPage, page)
		req, err := n.client.NewRequest(http.MethodGet, path, nil)
		if err != nil {
			return nil, err
		}
		var list []struct {
			wireRemark
			HTMLURL string `json:"html_url"`
		}
		resp, err := n.client.Do(ctx, req, &list)
		if err != nil {
			return nil, mapped(err, fmt.Sprintf("list the comments of %s/%s", o.Owner, o.Name), "pull requests: read")
		}
		for _, c := range list {
			pull := onPull.FindStringSubmatch(c.HTMLURL)
			if pull == nil || c.ID <= 0 || c.User == nil || c.User.ID <= 0 {
				continue
			}
			number, err := strconv.Atoi(pull[1])
			if err != nil {
				continue
			}
			r := gate.RemarkEvent{
				Action: "created", Surface: store.SurfaceComment, ID: c.ID, Pull: number, Body: c.Body, At: c.Updated.UTC(), Author: c.author(),
			}
			if c.Updated.After(c.Created) {
				r.Action = "edited" // heard only where it commanded before
			}
			all = append(all, r)
		}
		return resp, nil
	})
	return all, err
}

var onPull = regexp.MustCompile(`/pull/(\d{1,9})#issuecomment-`)

// skipped says that one thing of a list could not be read; the others must not suffer for it.
func (a *App) skipped(what string, id int64, err error) {
	a.opts.Log.Error().Str("what", what).Int64("id", id).Err(err).Msg("GitHub lists something that cannot be read")
}

// Installations lists the App's installations, suspended ones left out. Their Action is empty.
func (a *App) Installations(ctx context.Context) ([]gate.InstallationEvent, error) {
	var all []gate.InstallationEvent
	err := pages("installations", func(page int) (*gogithub.Response, error) {
		list, resp, err := a.asApp.Apps.ListInstallations(ctx, &gogithub.ListOptions{Page: page, PerPage: perPage})
		if err != nil {
			return nil, mapped(err, "list the App's installations", "the App's own key")
		}
		for _, i := range list {
			if i.SuspendedAt != nil {
				continue
			}
			account := wireAccount{ID: i.GetAccount().GetID(), Login: i.GetAccount().GetLogin()}
			one, err := installation("", i.GetID(), account)
			if err != nil {
				a.skipped("installation", i.GetID(), err)
				continue
			}
			all = append(all, one)
		}
		return resp, nil
	})
	return all, err
}

// Repositories lists what an installation covers.
func (a *App) Repositories(ctx context.Context, installation int64) ([]gate.Origin, error) {
	n, err := a.installation(installation)
	if err != nil {
		return nil, err
	}
	doing := fmt.Sprintf("list the repositories of installation %d", installation)
	var all []gate.Origin
	err = pages("repositories", func(page int) (*gogithub.Response, error) {
		list, resp, err := n.client.Apps.ListRepos(ctx, &gogithub.ListOptions{Page: page, PerPage: perPage})
		if err != nil {
			return nil, mapped(err, doing, "metadata: read")
		}
		for _, r := range list.Repositories {
			o, err := origin(installation, wireRepo{
				ID: r.GetID(), Name: r.GetName(), FullName: r.GetFullName(), Private: r.GetPrivate(),
				Archived: r.GetArchived(), DefaultBranch: r.GetDefaultBranch(),
			}, wireAccount{ID: r.GetOwner().GetID(), Login: r.GetOwner().GetLogin()})
			if err != nil {
				a.skipped("repository", r.GetID(), err)
				continue
			}
			all = append(all, o)
		}
		return resp, nil
	})
	return all, err
}

// OpenPulls lists a repository's open pull requests, oldest first: one that is opened meanwhile moves no page.
func (a *App) OpenPulls(ctx context.Context, o gate.Origin) ([]gate.Pull, error) {
	n, err := a.installation(o.Installation)
	if err != nil {
		return nil, err
	}
	doing := fmt.Sprintf("list the pull requests of %s/%s", o.Owner, o.Name)
	if !plainName(o.Owner) || !plainName(o.Name) {
		return nil, fmt.Errorf("%s: not the name of a repository", doing)
	}
	var all []gate.Pull
	err = pages("open pull requests", func(page int) (*gogithub.Response, error) {
		list, resp, err := n.client.PullRequests.List(ctx, o.Owner, o.Name, &gogithub.PullRequestListOptions{
			State: "open", Sort: "created", Direction: "asc", ListOptions: gogithub.ListOptions{Page: page, PerPage: perPage},
		})
		if err != nil {
			return nil, mapped(err, doing, "pull_requests: read")
		}
		for _, p := range list {
			pull, err := wirePull{
				Number: p.GetNumber(), State: p.GetState(), Draft: p.GetDraft(), Title: p.GetTitle(), UpdatedAt: p.GetUpdatedAt().Time,
				User: wireAccount{ID: p.GetUser().GetID(), Login: p.GetUser().GetLogin()},
				Head: branch(p.GetHead()), Base: branch(p.GetBase()),
			}.parse()
			if err != nil {
				a.skipped("pull request", p.GetID(), err)
				continue
			}
			all = append(all, pull)
		}
		return resp, nil
	})
	return all, err
}

func branch(b *gogithub.PullRequestBranch) wireBranch {
	w := wireBranch{Ref: b.GetRef(), SHA: b.GetSHA()}
	if id := b.GetRepo().GetID(); id > 0 {
		w.Repo = &wireRepo{ID: id}
	}
	return w
}

// Deliveries lists the App's webhook deliveries since a time, newest first; one that was sent again is there once
// for each attempt. GitHub keeps about three days. Beyond 50,000 there is an error, with what was read.
func (a *App) Deliveries(ctx context.Context, since time.Time) ([]gate.DeliveryRecord, error) {
	opts := &gogithub.ListCursorOptions{PerPage: perPage}
	var all []gate.DeliveryRecord
	for range pagesMost {
		list, resp, err := a.asApp.Apps.ListHookDeliveries(ctx, opts)
		if err != nil {
			return all, mapped(err, "list webhook deliveries", "the App's own key")
		}
		for _, d := range list {
			at := d.GetDeliveredAt().Time.UTC()
			if at.Before(since) {
				return all, nil
			}
			code := d.GetStatusCode()
			all = append(all, gate.DeliveryRecord{
				ID: d.GetID(), GUID: d.GetGUID(), Delivered: at, Event: d.GetEvent(), OK: code >= 200 && code < 300,
			})
		}
		if resp.Cursor == "" {
			return all, nil
		}
		opts.Cursor = resp.Cursor
	}
	return all, fmt.Errorf("list webhook deliveries: more than %d since %s", pagesMost*perPage, since.UTC().Format(time.RFC3339))
}

// Redeliver asks GitHub to send a delivery once more.
func (a *App) Redeliver(ctx context.Context, id int64) error {
	_, _, err := a.asApp.Apps.RedeliverHookDelivery(ctx, id)
	var accepted *gogithub.AcceptedError
	if errors.As(err, &accepted) {
		return nil
	}
	return mapped(err, fmt.Sprintf("ask for delivery %d again", id), "the App's own key")
}
