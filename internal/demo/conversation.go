package demo

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// Answer is how the App answered a command: its reply and its reaction to the comment, such as "rocket".
type Answer struct {
	Reply    string
	Reaction string
}

// Say writes a command as somebody and waits for the App's reply and reaction.
func Say(ctx context.Context, sim *githubsim.Server, by, repo string, number int, body string) (Answer, error) {
	id, err := sim.Comment(by, repo, number, body)
	if err != nil {
		return Answer{}, err
	}
	return WaitForAnswer(ctx, sim, repo, number, id)
}

// WaitForAnswer waits for the App's reply and reaction to a comment.
func WaitForAnswer(ctx context.Context, sim *githubsim.Server, repo string, number int, id int64) (Answer, error) {
	for {
		all, err := sim.Comments(repo, number)
		if err != nil {
			return Answer{}, err
		}
		var a Answer
		for _, c := range all {
			if c.ID == id {
				for content := range c.Reactions {
					a.Reaction = content
				}
			}
			if c.ID > id && c.Author == AppName+"[bot]" && a.Reply == "" {
				a.Reply = c.Body
			}
		}
		if a.Reply != "" && a.Reaction != "" {
			return a, nil
		}
		select {
		case <-ctx.Done():
			return a, fmt.Errorf("%s#%d: a command was not answered: %w", repo, number, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// WaitForConclusion waits until the check on a commit has a conclusion.
func WaitForConclusion(ctx context.Context, sim *githubsim.Server, repo, sha, check, conclusion string) (githubsim.Check, error) {
	for {
		c, err := WaitForCheck(ctx, sim, repo, sha, check)
		if err != nil || c.Conclusion == conclusion {
			return c, err
		}
		select {
		case <-ctx.Done():
			return c, fmt.Errorf("the check %q on %s of %s stays %s: %w", check, sha[:7], repo, c.Conclusion, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var (
	findingName = regexp.MustCompile(`NX-[0-9A-Z]{6,}`)
	waiverName  = regexp.MustCompile(`W-[0-9A-Z]{6,}@[0-9a-f]{8}`)
)

// FindingIn is the id of the first finding that a check's text names, or "".
func FindingIn(text string) string { return findingName.FindString(text) }

// WaiverIn is the first waiver that a reply names, with its digest, or "".
func WaiverIn(text string) string { return waiverName.FindString(text) }

// talk is what people say to each other through the App: one asks for a waiver, another answers.
func (p Past) talk(ctx context.Context, s step, repo, sha string, number int) error {
	c, err := WaitForCheck(ctx, p.Sim, repo, sha, p.Check)
	if err != nil {
		return err
	}
	asked, err := Say(ctx, p.Sim, s.by, repo, number, "/noxaudit waive "+FindingIn(c.Summary)+" "+s.ask)
	if err != nil {
		return err
	}
	w := WaiverIn(asked.Reply)
	if w == "" {
		return fmt.Errorf("asking for a waiver was answered with %q", asked.Reply)
	}
	p.Clock.Jump(p.Clock.Now().Add(25 * time.Minute))
	switch {
	case s.approve != "":
		if _, err := Say(ctx, p.Sim, s.approve, repo, number, "/noxaudit approve "+w); err != nil {
			return err
		}
		_, err := WaitForConclusion(ctx, p.Sim, repo, sha, p.Check, "success")
		return err
	case s.reject != "":
		who, why, _ := strings.Cut(s.reject, " ")
		_, err := Say(ctx, p.Sim, who, repo, number, "/noxaudit reject "+w+" "+why)
		return err
	}
	return nil
}
