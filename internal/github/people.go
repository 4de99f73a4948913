package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"regexp"
	"slices"
	"strconv"
	"strings"

	gogithub "github.com/google/go-github/v62/github"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// commitsMost is how many commits of a pull request GitHub lists (docs.github.com, REST API for pull requests, "List
// commits on a pull request").
const commitsMost = 250

// Permission asks what a person may do in a repository now. The role is the finest that GitHub tells: "maintain" is
// "write" in the older field.
func (a *App) Permission(ctx context.Context, o gate.Origin, login string) (int64, waiver.Permission, error) {
	n, err := a.installation(o.Installation)
	if err != nil {
		return 0, "", err
	}
	doing := fmt.Sprintf("ask for the permission of %s on %s/%s", clip(login, 60), o.Owner, o.Name)
	if !plainName(o.Owner) || !plainName(o.Name) || !plainName(login) {
		return 0, "", fmt.Errorf("%s: no name that GitHub gives", doing)
	}
	level, _, err := n.client.Repositories.GetPermissionLevel(ctx, o.Owner, o.Name, login)
	if err != nil {
		var answer *gogithub.ErrorResponse
		if errors.As(err, &answer) && answer.Response != nil && answer.Response.StatusCode == http.StatusNotFound {
			return 0, waiver.None, nil
		}
		return 0, "", mapped(err, doing, "metadata: read")
	}
	return level.GetUser().GetID(), permissionOf(level), nil
}

// permissionOf reads what the answer grants. A custom role is as much as the built-in one that it contains.
func permissionOf(level *gogithub.RepositoryPermissionLevel) waiver.Permission {
	granted := level.GetUser().GetPermissions()
	for _, p := range []struct {
		flag string
		is   waiver.Permission
	}{{"admin", waiver.Admin}, {"maintain", waiver.Maintain}, {"push", waiver.Write}, {"triage", waiver.Triage}, {"pull", waiver.Read}} {
		if granted[p.flag] {
			return p.is
		}
	}
	if len(granted) > 0 {
		return waiver.None
	}
	switch p := waiver.Permission(level.GetPermission()); p { // Enterprise Server of before roles
	case waiver.Admin, waiver.Write, waiver.Read, waiver.None:
		return p
	}
	return ""
}

// Pull asks for a pull request as it is now, and who has a part in it. A commit that GitHub can attribute to nobody
// counts as unattributed, and so does one beyond the 250 that it lists.
func (a *App) Pull(ctx context.Context, o gate.Origin, number int) (gate.PullNow, error) {
	n, err := a.installation(o.Installation)
	if err != nil {
		return gate.PullNow{}, err
	}
	if !plainName(o.Owner) || !plainName(o.Name) {
		return gate.PullNow{}, errors.New("pull request: no repository to ask in")
	}
	doing := fmt.Sprintf("ask for pull request %s/%s#%d", o.Owner, o.Name, number)
	pull, _, err := n.client.PullRequests.Get(ctx, o.Owner, o.Name, number)
	if err != nil {
		return gate.PullNow{}, mapped(err, doing, "pull requests: read")
	}
	head, err := name.ParseCommit(pull.GetHead().GetSHA())
	if err != nil {
		return gate.PullNow{}, fmt.Errorf("%s: its head: %w", doing, err)
	}
	now := gate.PullNow{Open: pull.GetState() == "open", Head: head, Author: pull.GetUser().GetID()}
	listed := 0
	add := func(id int64) {
		if id > 0 && !slices.Contains(now.Contributors, id) {
			now.Contributors = append(now.Contributors, id)
		}
	}
	for page := 1; page != 0 && listed < commitsMost; {
		commits, resp, err := n.client.PullRequests.ListCommits(ctx, o.Owner, o.Name, number, &gogithub.ListOptions{Page: page, PerPage: perPage})
		if err != nil {
			return gate.PullNow{}, mapped(err, doing, "pull requests: read")
		}
		for _, c := range commits {
			listed++
			if c.GetAuthor().GetID() == 0 || c.GetCommitter().GetID() == 0 {
				now.Unattributed++
			}
			add(c.GetAuthor().GetID())
			add(c.GetCommitter().GetID())
			ids, named := coAuthors(c.GetCommit().GetMessage())
			for _, id := range ids {
				add(id)
			}
			for _, who := range named {
				if !slices.Contains(now.Named, who) {
					now.Named = append(now.Named, who)
				}
			}
		}
		page = resp.NextPage
	}
	if beyond := pull.GetCommits() - listed; beyond > 0 {
		now.Unattributed += beyond
	}
	return now, nil
}

var (
	coAuthor = regexp.MustCompile(`(?mi)^co-authored-by:[ \t]*(.{1,500}?)[ \t\r]*$`)
	private  = regexp.MustCompile(`^(\d{1,19})\+[a-z0-9-]+(?:\[bot\])?@users\.noreply\.`)
)

// coAuthors reads the trailers of a commit message: the numeric ids of those who use the address that GitHub made for
// them, and the names and mailboxes of all others.
func coAuthors(message string) (ids []int64, named []string) {
	for _, m := range coAuthor.FindAllStringSubmatch(message, 100) {
		address, err := mail.ParseAddress(m[1])
		if err != nil {
			continue
		}
		at := strings.ToLower(address.Address)
		if p := private.FindStringSubmatch(at); p != nil {
			if id, err := strconv.ParseInt(p[1], 10, 64); err == nil {
				ids = append(ids, id)
				continue
			}
		}
		named = append(named, strings.ToLower(address.Name))
		if box, _, ok := strings.Cut(at, "@"); ok {
			named = append(named, box)
		}
	}
	return ids, named
}

// React puts a reaction on a comment. GitHub has none for reviews in its REST API.
func (a *App) React(ctx context.Context, o gate.Origin, surface string, id int64, reaction string) error {
	n, err := a.installation(o.Installation)
	if err != nil {
		return err
	}
	switch surface {
	case store.SurfaceComment:
		_, _, err = n.client.Reactions.CreateIssueCommentReaction(ctx, o.Owner, o.Name, id, reaction)
	case store.SurfaceReviewComment:
		_, _, err = n.client.Reactions.CreatePullRequestCommentReaction(ctx, o.Owner, o.Name, id, reaction)
	}
	return mapped(err, fmt.Sprintf("react on a comment in %s/%s", o.Owner, o.Name), "pull requests: write")
}

// bodyMost is how many characters a comment may have.
const bodyMost = 65536

// Reply writes a comment on a pull request. The marker is an HTML comment at its end, which nobody sees.
func (a *App) Reply(ctx context.Context, o gate.Origin, pull int, marker, body string, retry bool) error {
	n, err := a.installation(o.Installation)
	if err != nil {
		return err
	}
	hidden := "\n<!-- " + marker + " -->\n"
	doing := fmt.Sprintf("answer on %s/%s#%d", o.Owner, o.Name, pull)
	if retry {
		found := false
		err := pages("comments", func(page int) (*gogithub.Response, error) {
			list, resp, err := n.client.Issues.ListComments(ctx, o.Owner, o.Name, pull, &gogithub.IssueListCommentsOptions{ListOptions: gogithub.ListOptions{Page: page, PerPage: perPage}})
			for _, c := range list {
				// Of our own only: the marker can be written by anybody.
				found = found || c.GetUser().GetType() == "Bot" && strings.HasSuffix(strings.TrimSpace(c.GetBody()), strings.TrimSpace(hidden))
			}
			return resp, err
		})
		if err != nil || found {
			return mapped(err, doing, "pull requests: write")
		}
	}
	if r := []rune(body); len(r) > bodyMost-len(hidden)-200 {
		body = string(r[:bodyMost-len(hidden)-200]) + "\n\nThe rest did not fit here.\n"
	}
	call := context.WithValue(ctx, notTwice{}, true) // a comment that was written twice cannot be taken back
	_, _, err = n.client.Issues.CreateComment(call, o.Owner, o.Name, pull, &gogithub.IssueComment{Body: gogithub.String(body + hidden)})
	return mapped(err, doing, "pull requests: write")
}
