package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	gogithub "github.com/google/go-github/v62/github"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/escape"
)

// Unavailable says that GitHub could not do it now, and wraps [gate.ErrGitHubUnavailable].
type Unavailable struct {
	Cause error
	Until time.Time // GitHub asked for patience until then; zero when it named no time

	// Ambiguous: the request may have had its effect although no answer says so.
	Ambiguous bool
}

func (u *Unavailable) Error() string {
	s := fmt.Sprintf("%v: %v", gate.ErrGitHubUnavailable, u.Cause)
	if !u.Until.IsZero() {
		s += "; try again after " + u.Until.UTC().Format(time.RFC3339)
	}
	if u.Ambiguous {
		s += "; it may have been done all the same"
	}
	return s
}

func (u *Unavailable) Unwrap() []error { return []error{gate.ErrGitHubUnavailable, u.Cause} }

// RetryAt is when it makes sense to ask again; zero when GitHub named no time. A caller finds it with errors.As
// and an interface of its own.
func (u *Unavailable) RetryAt() time.Time { return u.Until }

// gone wraps gate.ErrGitHubGone.
func gone(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{gate.ErrGitHubGone}, args...)...)
}

// mapped turns what a call ended with into what the gate can act on. doing says what was tried ("create the
// check run"), needs which permission it takes ("checks: write").
func mapped(err error, doing, needs string) error {
	if err == nil {
		return nil
	}
	var u *Unavailable
	var answer *gogithub.ErrorResponse
	switch {
	case errors.As(err, &u):
		return fmt.Errorf("%s: %w", doing, u)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, &Unavailable{Cause: inner(err), Ambiguous: true})
	case errors.As(err, &answer):
		return fmt.Errorf("%s: %w", doing, refusal(answer, needs))
	}
	return fmt.Errorf("%s: %w", doing, inner(err))
}

// inner takes away net/http's wrapping, which repeats the address.
func inner(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// refusal reads an answer that no repetition would change.
func refusal(e *gogithub.ErrorResponse, needs string) error {
	code := 0
	if e.Response != nil {
		code = e.Response.StatusCode
	}
	message := said(e)
	lower := strings.ToLower(message)
	switch {
	case code == http.StatusUnauthorized:
		return &Unavailable{Cause: errors.New("credentials refused: " + message)}
	case strings.Contains(lower, "suspended"):
		return gone("the installation is suspended (%s)", message)
	case strings.Contains(lower, "archived"):
		return gone("the repository is archived (%s)", message)
	case code == http.StatusForbidden && strings.Contains(lower, "not accessible"):
		if p := accepted(e.Response); p != "" {
			needs = p
		}
		return gone("the App lacks a permission: it needs %s; grant it in the settings of the App and accept it in the installation (%s)", needs, message)
	case code == http.StatusForbidden:
		return gone("forbidden; this takes %s (%s)", needs, message)
	case code == http.StatusNotFound:
		return gone("not found: it does not exist any more, or the installation does not cover it with %s (%s)", needs, message)
	case code == http.StatusGone, code == http.StatusUnavailableForLegalReasons:
		return gone("%d %s", code, message)
	case code >= 500:
		return &Unavailable{Cause: fmt.Errorf("answer %d: %s", code, message)}
	}
	return fmt.Errorf("GitHub answers %d: %s", code, message)
}

// said is GitHub's message with its details, short, in one line and without anything like a credential.
func said(e *gogithub.ErrorResponse) string {
	var b strings.Builder
	b.WriteString(e.Message)
	for i, d := range e.Errors {
		if i == 5 {
			fmt.Fprintf(&b, "; and %d more", len(e.Errors)-i)
			break
		}
		b.WriteString("; ")
		if d.Field != "" {
			b.WriteString(d.Resource + "." + d.Field + " ")
		}
		b.WriteString(strings.TrimSpace(d.Code + " " + d.Message))
	}
	if b.Len() == 0 && e.Response != nil {
		b.WriteString(http.StatusText(e.Response.StatusCode))
	}
	return clip(escape.Visible(scrub(b.String())), 600)
}

// credential matches what GitHub's tokens and our own JWTs look like.
var credential = regexp.MustCompile(`(gh[a-z]_|github_pat_)[A-Za-z0-9_]+|eyJ[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|(?i:bearer|token) [A-Za-z0-9._~+/=-]{20,}`)

func scrub(s string) string { return credential.ReplaceAllString(s, "[credential]") }

// accepted is what GitHub says would have been enough ("checks=write"), where it says so.
func accepted(r *http.Response) string {
	var all []string
	for _, p := range strings.Split(r.Header.Get("X-Accepted-GitHub-Permissions"), ",") {
		if noun, level, ok := strings.Cut(strings.TrimSpace(p), "="); ok && eventName.MatchString(noun) && eventName.MatchString(level) {
			all = append(all, noun+": "+level)
		}
	}
	return strings.Join(all, ", ")
}
