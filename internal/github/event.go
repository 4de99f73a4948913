package github

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// handled says which actions of which events ask something of the gate; an event without actions lists "".
// Everything else is answered and forgotten: our own check runs alone would otherwise fill the inbox.
var handled = map[string][]string{
	"pull_request":                {"opened", "synchronize", "reopened", "edited", "ready_for_review", "converted_to_draft", "closed"},
	"issue_comment":               {"created", "edited", "deleted"},
	"pull_request_review":         {"submitted", "edited"},
	"pull_request_review_comment": {"created", "edited", "deleted"},
	"push":                        {""},
	"merge_group":                 {"checks_requested", "destroyed"},
	"check_run":                   {"rerequested", "requested_action"},
	"check_suite":                 {"rerequested"},
	"installation":                {"created", "deleted", "suspend", "unsuspend", "new_permissions_accepted"},
	"installation_repositories":   {"added", "removed"},
	"repository":                  {"renamed", "transferred", "archived", "unarchived", "deleted", "edited", "privatized", "publicized"},
	"member":                      {"added", "edited", "removed"},
	"membership":                  {"added", "removed"},
	"team":                        {"created", "edited", "deleted", "added_to_repository", "removed_from_repository"},
	"organization":                {"member_added", "member_removed", "renamed", "deleted"},
}

// What is read of GitHub's payloads. Fields that are not needed are not named, so that their shape cannot matter.
type (
	wireAccount struct {
		ID    int64  `json:"id"`
		Login string `json:"login"`
		Slug  string `json:"slug"` // an enterprise has no login
		Type  string `json:"type"`
	}
	wireRepo struct {
		ID            int64       `json:"id"`
		Name          string      `json:"name"`
		FullName      string      `json:"full_name"`
		Private       bool        `json:"private"`
		Archived      bool        `json:"archived"`
		DefaultBranch string      `json:"default_branch"`
		Owner         wireAccount `json:"owner"`
	}
	wireBranch struct {
		Ref  string    `json:"ref"`
		SHA  string    `json:"sha"`
		Repo *wireRepo `json:"repo"` // null when the fork is gone
	}
	wirePull struct {
		Number    int         `json:"number"`
		State     string      `json:"state"`
		Draft     bool        `json:"draft"`
		Title     string      `json:"title"`
		UpdatedAt time.Time   `json:"updated_at"`
		User      wireAccount `json:"user"`
		Head      wireBranch  `json:"head"`
		Base      wireBranch  `json:"base"`
	}
	wireEvent struct {
		Action       string       `json:"action"`
		Sender       *wireAccount `json:"sender"`
		Repository   *wireRepo    `json:"repository"`
		Organization *wireAccount `json:"organization"`
		Installation struct {
			ID      int64       `json:"id"`
			Account wireAccount `json:"account"`
		} `json:"installation"`
	}
)

// ParseEvent reads the payload of a webhook that has been verified. What an event needs must be there and well
// formed (ids, object ids, numbers); the rest may be missing or odd. An event that asks nothing of the gate has
// none of its pointers set. Event.Delivery is left to the caller, who knows it.
func ParseEvent(event string, body []byte) (gate.Event, error) {
	e, err := parseEvent(event, body)
	if err != nil {
		return gate.Event{}, fmt.Errorf("%s event: %w", clip(event, 40), err)
	}
	return e, nil
}

func parseEvent(event string, body []byte) (gate.Event, error) {
	var w wireEvent
	if err := json.Unmarshal(body, &w); err != nil {
		return gate.Event{}, err
	}
	e := gate.Event{Sender: sender(w.Sender)}
	if w.Repository != nil {
		o, err := origin(w.Installation.ID, *w.Repository, w.Repository.Owner)
		if err != nil {
			return gate.Event{}, err
		}
		e.Origin = o
	}
	if !asks(event, w.Action) {
		return e, nil
	}
	if w.Installation.ID <= 0 {
		return gate.Event{}, errors.New("no installation: this webhook belongs to a repository or organization, not to the App")
	}
	switch event {
	case "pull_request", "push", "merge_group", "check_run", "check_suite", "repository", "member",
		"issue_comment", "pull_request_review", "pull_request_review_comment":
		if w.Repository == nil {
			return gate.Event{}, errors.New("no repository")
		}
	}
	var err error
	switch event {
	case "pull_request":
		e.Pull, err = pullEvent(w, body)
	case "issue_comment", "pull_request_review", "pull_request_review_comment":
		e.Remark, err = remarkEvent(event, w.Action, body)
	case "push":
		e.Push, err = pushEvent(body)
	case "merge_group":
		e.MergeGroup, err = mergeGroupEvent(w.Action, body)
	case "check_run", "check_suite":
		e.Rerun, err = rerunEvent(body)
	case "installation", "installation_repositories":
		e.Installation, err = installationEvent(w, body)
	case "repository":
		e.Repository, err = repositoryEvent(w, body)
	default:
		e.Membership = &gate.MembershipEvent{Kind: event, Action: w.Action}
	}
	if err != nil {
		return gate.Event{}, err
	}
	return e, nil
}

// asks reports whether the gate has something to do for an action of an event.
func asks(event, action string) bool {
	for _, a := range handled[event] {
		if a == action || a == "" {
			return true
		}
	}
	return false
}

func pullEvent(w wireEvent, body []byte) (*gate.PullEvent, error) {
	var p struct {
		Pull    wirePull `json:"pull_request"`
		Before  string   `json:"before"`
		Changes struct {
			Base *struct{} `json:"base"`
		} `json:"changes"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	// A new title or text changes nothing that is judged.
	if w.Action == "edited" && p.Changes.Base == nil {
		return nil, nil
	}
	if p.Pull.Base.Repo != nil && p.Pull.Base.Repo.ID != w.Repository.ID {
		return nil, errors.New("the base of the pull request is in another repository")
	}
	pull, err := p.Pull.parse()
	if err != nil {
		return nil, err
	}
	ev := &gate.PullEvent{Action: w.Action, Pull: pull}
	if w.Action == "synchronize" && p.Before != "" {
		if ev.Before, err = name.ParseCommit(p.Before); err != nil {
			return nil, fmt.Errorf("the head before: %w", err)
		}
	}
	return ev, nil
}

// wireRemark is a comment, a comment on a line, or a review.
type wireRemark struct {
	ID        int64        `json:"id"`
	Body      string       `json:"body"` // null for a review without words
	User      *wireAccount `json:"user"` // null when the account is gone
	App       *struct{}    `json:"performed_via_github_app"`
	Created   time.Time    `json:"created_at"`
	Updated   time.Time    `json:"updated_at"`
	Submitted time.Time    `json:"submitted_at"`
}

// author is who wrote it. What an account wrote that is gone counts as a robot's: it commands nothing.
func (r wireRemark) author() waiver.Actor {
	if r.User == nil {
		return waiver.Actor{Bot: true}
	}
	return waiver.Actor{Person: waiver.Person{ID: r.User.ID, Login: r.User.Login}, Bot: r.User.Type != "User", App: r.App != nil}
}

// remarkEvent reads what somebody wrote; nil for a comment on an issue.
func remarkEvent(event, action string, body []byte) (*gate.RemarkEvent, error) {
	var p struct {
		Issue struct {
			Number int       `json:"number"`
			Pull   *struct{} `json:"pull_request"`
		} `json:"issue"`
		Pull struct {
			Number int `json:"number"`
		} `json:"pull_request"`
		Comment *wireRemark `json:"comment"`
		Review  *wireRemark `json:"review"`
		Changes struct {
			Body struct {
				From string `json:"from"`
			} `json:"body"`
		} `json:"changes"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	r := &gate.RemarkEvent{Action: action, Surface: store.SurfaceComment, Pull: p.Issue.Number}
	from := p.Comment
	switch event {
	case "issue_comment":
		if p.Issue.Pull == nil {
			return nil, nil
		}
	case "pull_request_review":
		r.Surface, r.Pull, from = store.SurfaceReview, p.Pull.Number, p.Review
		if action == "submitted" {
			r.Action = "created"
		}
	default:
		r.Surface, r.Pull = store.SurfaceReviewComment, p.Pull.Number
	}
	switch {
	case r.Pull <= 0:
		return nil, errors.New("no number of a pull request")
	case from == nil || from.ID <= 0:
		return nil, errors.New("no comment with an id")
	}
	r.ID, r.Body, r.Was = from.ID, from.Body, p.Changes.Body.From
	r.Author = from.author()
	r.At = from.Updated.UTC()
	// A review has no time of its creation; GitHub may say when it changed, which is when it was submitted.
	r.Touched = action == "created" && !from.Created.IsZero() && from.Updated.After(from.Created)
	if from.Updated.IsZero() {
		r.At = from.Submitted.UTC()
	}
	return r, nil
}

func (p wirePull) parse() (gate.Pull, error) {
	if p.Number <= 0 {
		return gate.Pull{}, errors.New("pull request without a number")
	}
	head, err := name.ParseCommit(p.Head.SHA)
	if err != nil {
		return gate.Pull{}, fmt.Errorf("head: %w", err)
	}
	base, err := name.ParseCommit(p.Base.SHA)
	if err != nil {
		return gate.Pull{}, fmt.Errorf("base: %w", err)
	}
	if p.Base.Ref == "" {
		return gate.Pull{}, errors.New("pull request without a base branch")
	}
	if p.State != "open" && p.State != "closed" {
		return gate.Pull{}, fmt.Errorf("pull request in state %q", clip(p.State, 20))
	}
	pull := gate.Pull{
		Number: p.Number, Head: head, HeadRef: p.Head.Ref, BaseRef: p.Base.Ref, Base: base,
		Draft: p.Draft, Open: p.State == "open", Title: p.Title,
		AuthorID: p.User.ID, Author: p.User.Login, UpdatedAt: p.UpdatedAt.UTC(),
	}
	if p.Head.Repo != nil {
		pull.HeadRepo = p.Head.Repo.ID
	}
	return pull, nil
}

// What GitHub puts into one push payload at most.
const (
	pushCommits = 2048
	pushFiles   = 3000
)

func pushEvent(body []byte) (*gate.PushEvent, error) {
	var w struct {
		Ref     string `json:"ref"`
		Before  string `json:"before"`
		After   string `json:"after"`
		Created bool   `json:"created"`
		Deleted bool   `json:"deleted"`
		Forced  bool   `json:"forced"`
		Commits []struct {
			Added    []string `json:"added"`
			Removed  []string `json:"removed"`
			Modified []string `json:"modified"`
		} `json:"commits"`
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(w.Ref, "refs/") {
		return nil, fmt.Errorf("ref %q", clip(w.Ref, 80))
	}
	before, err := commitOrNone(w.Before)
	if err != nil {
		return nil, fmt.Errorf("before: %w", err)
	}
	after, err := commitOrNone(w.After)
	if err != nil {
		return nil, fmt.Errorf("after: %w", err)
	}
	p := &gate.PushEvent{Ref: w.Ref, Before: before, After: after, Created: w.Created, Deleted: w.Deleted, Forced: w.Forced}
	if after.IsZero() != p.Deleted || before.IsZero() && after.IsZero() {
		return nil, errors.New("deleted and after contradict each other")
	}
	seen := map[string]bool{}
	for _, c := range w.Commits {
		for _, paths := range [][]string{c.Added, c.Removed, c.Modified} {
			for _, path := range paths {
				if len(seen) < pushFiles && !seen[path] {
					seen[path] = true
					p.Paths = append(p.Paths, path)
				}
			}
		}
	}
	// A new branch and a forced push name their own commits only, not what they took away.
	p.PathsComplete = len(w.Commits) > 0 && len(w.Commits) < pushCommits && len(seen) < pushFiles && !p.Created && !p.Forced && !p.Deleted
	return p, nil
}

// commitOrNone reads the side of a push; all zeros means that there is no commit on it.
func commitOrNone(s string) (name.Commit, error) {
	if name.IsObjectID(s) && strings.Trim(s, "0") == "" {
		return name.Commit{}, nil
	}
	return name.ParseCommit(s)
}

func mergeGroupEvent(action string, body []byte) (*gate.MergeGroupEvent, error) {
	var w struct {
		Group struct {
			HeadSHA string `json:"head_sha"`
			HeadRef string `json:"head_ref"`
			BaseSHA string `json:"base_sha"`
			BaseRef string `json:"base_ref"`
		} `json:"merge_group"`
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return nil, err
	}
	head, err := name.ParseCommit(w.Group.HeadSHA)
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	base, err := name.ParseCommit(w.Group.BaseSHA)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	if !strings.HasPrefix(w.Group.HeadRef, "refs/") || !strings.HasPrefix(w.Group.BaseRef, "refs/") {
		return nil, errors.New("merge group without refs")
	}
	return &gate.MergeGroupEvent{Action: action, Head: head, HeadRef: w.Group.HeadRef, Base: base, BaseRef: w.Group.BaseRef}, nil
}

func rerunEvent(body []byte) (*gate.RerunEvent, error) {
	var w struct {
		Run *struct {
			ID      int64  `json:"id"`
			HeadSHA string `json:"head_sha"`
		} `json:"check_run"`
		Suite *struct {
			HeadSHA string `json:"head_sha"`
		} `json:"check_suite"`
		Requested struct {
			Identifier string `json:"identifier"`
		} `json:"requested_action"`
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return nil, err
	}
	r := &gate.RerunEvent{Action: w.Requested.Identifier}
	var sha string
	switch {
	case w.Run != nil:
		if w.Run.ID <= 0 {
			return nil, errors.New("check run without an id")
		}
		r.Check, sha = w.Run.ID, w.Run.HeadSHA
	case w.Suite != nil:
		sha = w.Suite.HeadSHA
	}
	var err error
	if r.Head, err = name.ParseCommit(sha); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	return r, nil
}

func installationEvent(w wireEvent, body []byte) (*gate.InstallationEvent, error) {
	var p struct {
		All     []wireRepo `json:"repositories"`
		Added   []wireRepo `json:"repositories_added"`
		Removed []wireRepo `json:"repositories_removed"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	account := w.Installation.Account
	i, err := installation(w.Action, w.Installation.ID, account)
	if err != nil {
		return nil, err
	}
	switch w.Action {
	case "created":
		p.Added = p.All
	case "deleted":
		p.Removed = p.All
	}
	if i.Added, err = origins(i.ID, p.Added, account); err != nil {
		return nil, err
	}
	if i.Removed, err = origins(i.ID, p.Removed, account); err != nil {
		return nil, err
	}
	return &i, nil
}

func installation(action string, id int64, account wireAccount) (gate.InstallationEvent, error) {
	a, err := account.parse()
	if err != nil {
		return gate.InstallationEvent{}, err
	}
	if id <= 0 {
		return gate.InstallationEvent{}, errors.New("installation without an id")
	}
	login := account.Login
	if login == "" {
		login = account.Slug
	}
	return gate.InstallationEvent{Action: action, ID: id, Account: a, Login: login}, nil
}

// origins reads a list of repositories that does not repeat their owner.
func origins(installation int64, repos []wireRepo, owner wireAccount) ([]gate.Origin, error) {
	var all []gate.Origin
	for _, r := range repos {
		o, err := origin(installation, r, owner)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

func repositoryEvent(w wireEvent, body []byte) (*gate.RepositoryEvent, error) {
	r := &gate.RepositoryEvent{Action: w.Action}
	if w.Action != "renamed" && w.Action != "transferred" {
		return r, nil
	}
	var p struct {
		Changes struct {
			Repository struct {
				Name struct {
					From string `json:"from"`
				} `json:"name"`
			} `json:"repository"`
			Owner struct {
				From struct {
					User         wireAccount `json:"user"`
					Organization wireAccount `json:"organization"`
				} `json:"from"`
			} `json:"owner"`
		} `json:"changes"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	from := p.Changes.Owner.From
	switch {
	case w.Action == "renamed" && p.Changes.Repository.Name.From != "":
		r.From = w.Repository.Owner.Login + "/" + p.Changes.Repository.Name.From
	case from.Organization.Login != "":
		r.From = from.Organization.Login
	default:
		r.From = from.User.Login
	}
	return r, nil
}

func sender(a *wireAccount) ledger.Actor {
	if a == nil || a.ID <= 0 {
		return ledger.Actor{Kind: "system", Via: "webhook"}
	}
	kind := "user"
	if a.Type == "Bot" {
		kind = "app"
	}
	return ledger.Actor{Kind: kind, ID: strconv.FormatInt(a.ID, 10), Name: a.Login, Via: "webhook"}
}

func (a wireAccount) parse() (name.Account, error) {
	account, err := name.ParseAccount(strconv.FormatInt(a.ID, 10))
	if err != nil {
		return name.Account{}, fmt.Errorf("owner: %w", err)
	}
	return account, nil
}

func origin(installation int64, r wireRepo, owner wireAccount) (gate.Origin, error) {
	account, err := owner.parse()
	if err != nil {
		return gate.Origin{}, err
	}
	login, repo := owner.Login, r.Name
	if before, after, ok := strings.Cut(r.FullName, "/"); ok && (login == "" || repo == "") {
		login, repo = before, after
	}
	if r.ID <= 0 || !plainName(login) || !plainName(repo) {
		return gate.Origin{}, fmt.Errorf("repository %d %q of %q: want an id and two names", r.ID, clip(repo, 120), clip(login, 60))
	}
	return gate.Origin{
		Installation: installation,
		Repo:         name.Repo{Account: account, ID: strconv.FormatInt(r.ID, 10), FullName: login + "/" + repo},
		Owner:        login, Name: repo,
		DefaultBranch: r.DefaultBranch, Private: r.Private, Archived: r.Archived,
	}, nil
}

// plainName reports whether s can be an owner or repository: both become part of addresses.
func plainName(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > 100 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// clip shortens text of outside origin for an error or a log line.
func clip(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "�")
}
