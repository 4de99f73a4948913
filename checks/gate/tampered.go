package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// tampered suspends what rests on a comment that was edited or deleted.
func (g *Gate) tampered(ctx context.Context, tenant *store.Tenant, c *store.Change, ev Event, known store.Command) error {
	r := ev.Remark
	if r.Action == "edited" && canon.Digest([]byte(r.Body)) == known.Digest {
		return nil // the text is the one that was acted on
	}
	d := g.hearingOf(tenant, c, ev, nil)
	cause, state := waiver.Edited, store.CommandEdited
	if r.Action == "deleted" {
		cause, state = waiver.Deleted, store.CommandDeleted
	}
	if known.State == state && state == store.CommandDeleted {
		return fmt.Errorf("remark: %w", store.ErrAlreadyDone)
	}
	command := known
	command.State = state
	var suspended []waiver.Waiver
	for _, id := range known.Waivers {
		row, err := tenant.WaiverByID(ctx, id)
		if err != nil {
			return err
		}
		w, err := readWaiver(row)
		if err != nil {
			return err
		}
		at := r.At
		if cause == waiver.Deleted {
			at = time.Time{} // GitHub tells when the comment last changed, not when it was deleted: that is now
		}
		next, err := waiver.Apply(w, waiver.Suspend{Cause: cause, Surface: d.place.Surface, Comment: r.ID, At: at}, waiver.Facts{Time: d.at})
		var no *waiver.Refusal
		switch {
		case errors.As(err, &no):
			continue // it has ended, or does not rest on it any more
		case err != nil:
			return err
		case next.Version == w.Version:
			continue
		}
		a := answer{}
		if err := d.keep(next, row.Version, "waiver.suspended", &a, map[string]any{"cause": cause}); err != nil {
			return err
		}
		suspended = append(suspended, next)
	}
	if err := d.record("command."+state, map[string]string{}, map[string]any{"acted": known.Digest, "by": ev.Sender}); err != nil {
		return err
	}
	if known.State != state {
		command.Answer, command.Reaction = fitting(suspensions(suspended, cause)), ""
		c.Command = &command
	}
	var about []string
	for _, w := range suspended {
		about = append(about, w.Document.Finding.Fingerprint)
	}
	return g.affected(ctx, tenant, c, known.Repository, about)
}

// unheard remembers that a command was edited or deleted that was not heard yet: webhooks overtake each other, and its
// own may wait until GitHub says what its author may do. Nothing ever rested on it, and nothing must come to.
func (g *Gate) unheard(ctx context.Context, tenant *store.Tenant, c *store.Change, ev Event, people People) error {
	r := ev.Remark
	commands := func(body string) bool {
		p := waiver.ParseComment(body)
		return len(p.Lines) > 0 || p.Refusal != nil
	}
	if !commands(r.Body) && !commands(r.Was) {
		return nil
	}
	state := store.CommandEdited
	if r.Action == "deleted" {
		state = store.CommandDeleted
	}
	c.Repositories = append(c.Repositories, repositoryOf(ev.Origin, true))
	d := g.hearingOf(tenant, c, ev, people)
	c.Command = &store.Command{
		Repository: d.repo(), Surface: r.Surface, ID: r.ID, Pull: r.Pull, Author: r.Author.ID, Digest: d.place.Body, State: state, Unheard: true, At: d.at,
	}
	return d.record("command."+state, map[string]string{}, map[string]any{"acted": "", "by": ev.Sender})
}
