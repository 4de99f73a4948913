package gate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/verdict"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

const helpText = `| command | what it does |
|---|---|
| ` + "`/noxaudit waive NX-… reason=\"…\"`" + ` | ask that a finding may stay for a time: ` + "`for=30d`, `until=2026-12-31`, `kind=accepted-risk`, `ticket=…`, `control=\"…\"`" + ` |
| ` + "`/noxaudit fp NX-… reason=\"…\"`" + ` | the same with ` + "`kind=false-positive`" + ` |
| ` + "`/noxaudit approve W-…`" + ` | say yes to a waiver: who neither asked for it nor wrote the change, with maintain or admin permission |
| ` + "`/noxaudit reject W-… reason=\"…\"`" + ` | say no to it |
| ` + "`/noxaudit revoke W-… reason=\"…\"`" + ` | end it before its time |
| ` + "`/noxaudit list`" + ` | the waivers of this repository: ` + "`pending`, `active`, `expiring`" + ` |
| ` + "`/noxaudit explain NX-…`" + ` | why a finding blocks, and who can unblock it |
| ` + "`/noxaudit recheck`" + ` | look at the head once more |

A command stands on a line of its own, at its beginning, and never acts from an edited comment.
`

// reply words what came of the commands of one remark.
func reply(as []answer) string {
	var b strings.Builder
	for i, a := range as {
		if i > 0 {
			b.WriteString("\n---\n\n")
		}
		if a.command != "" && len(as) > 1 {
			fmt.Fprintf(&b, "%s\n\n", escape.MarkdownCode(a.command))
		}
		switch {
		case a.refusal != nil:
			fmt.Fprintf(&b, "**Refused.** %s\n", escape.Markdown(a.refusal.Sentence))
			if a.waiver != nil {
				b.WriteString("\n")
				card(&b, *a.waiver)
			}
		case a.text != "":
			b.WriteString(a.text)
			b.WriteString("\n")
		case a.waiver != nil:
			card(&b, *a.waiver)
		}
	}
	return b.String()
}

// fitting shortens an answer to what is kept of one: what is decided must not fail for its wording.
func fitting(answer string) string {
	const rest = "\n\nThe rest did not fit here.\n"
	if len(answer) <= store.MaxAnswerBytes {
		return answer
	}
	return strings.ToValidUTF8(answer[:store.MaxAnswerBytes-len(rest)], "") + rest
}

// card shows a waiver: what it is about, where it stands, and the lines to copy.
func card(b *strings.Builder, w waiver.Waiver) {
	d := w.Document
	fmt.Fprintf(b, "**%s** · %s\n\n", escape.MarkdownCode(w.Name()), standing(w))
	where := d.Finding.Path
	if where == "" {
		where = "the repository"
	}
	fmt.Fprintf(b, "| | |\n|---|---|\n| finding | %s, %s, %s in %s |\n| kind | %s |\n| until | %s |\n| asked by | %s |\n| reason | %s |\n",
		escape.MarkdownCode(d.Finding.ID), d.Finding.Severity, escape.Markdown(d.Finding.Type), escape.MarkdownCode(where),
		d.Kind, day(d.Until), escape.Markdown(d.Requester.Login), escape.Markdown(d.Reason))
	if d.Ticket != "" {
		fmt.Fprintf(b, "| ticket | %s |\n", escape.Markdown(d.Ticket))
	}
	if d.Control != "" {
		fmt.Fprintf(b, "| held down by | %s |\n", escape.Markdown(d.Control))
	}
	for _, a := range w.Approvals {
		void := ""
		if a.Void != "" {
			void = ", void since its comment was " + string(a.Void)
		}
		fmt.Fprintf(b, "| approved by | %s (%s)%s |\n", escape.Markdown(a.By.Login), a.Permission, void)
	}
	if e := w.End; e != nil {
		who := "noxaudit"
		if e.By.ID != 0 {
			who = e.By.Login
		}
		fmt.Fprintf(b, "| ended by | %s: %s |\n", escape.Markdown(who), escape.Markdown(e.Reason))
	}
	lines := w.Lines()
	if len(lines) == 0 {
		return
	}
	if w.Missing() > 0 {
		fmt.Fprintf(b, "\n%s To decide, copy a line:\n", waivableBy(d.Terms))
	}
	b.WriteString("\n```\n")
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	b.WriteString("```\n")
}

// standing says in words where a waiver stands.
func standing(w waiver.Waiver) string {
	switch {
	case w.Suspended != nil:
		return fmt.Sprintf("suspended: a comment it rests on was %s. It covers nothing until it is approved anew", w.Suspended.Cause)
	case w.State == waiver.Pending:
		return fmt.Sprintf("waits for %s", plural(w.Missing(), "approval"))
	case w.State == waiver.Active:
		return "in force until " + day(w.Document.Until)
	}
	return string(w.State)
}

// waivableBy says who decides about a waiver under terms.
func waivableBy(t waiver.Terms) string {
	least := "maintain or admin"
	if t.Permission == waiver.Admin {
		least = "admin"
	}
	return fmt.Sprintf("It takes %s, from people with %s permission who neither asked for it nor have a part in the change.", plural(t.Approvals, "approval"), least)
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// day is a document's time as people read it.
func day(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return s
	}
	return t.UTC().Format("2 Jan 2006")
}

// suspensions tells that waivers no longer cover anything, and how they do again; "" for none.
func suspensions(ws []waiver.Waiver, cause waiver.Tampering) string {
	if len(ws) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "A command comment was %s, so what rested on it no longer counts. The record of what it said stays in the ledger.\n\n", cause)
	for _, w := range ws {
		card(&b, w)
		b.WriteString("\n")
	}
	return b.String()
}

// list shows the repository's waivers.
func (d *hearing) list(ctx context.Context, c waiver.Command, a *answer) error {
	rows, err := d.tenant.OpenWaivers(ctx, d.repo())
	if err != nil {
		return err
	}
	var b strings.Builder
	shown := 0
	for _, row := range rows {
		w, err := readWaiver(row)
		if err != nil {
			return err
		}
		switch c.Filter {
		case "pending":
			if w.State != waiver.Pending {
				continue
			}
		case "active":
			if w.State != waiver.Active || w.Suspended != nil {
				continue
			}
		case "expiring":
			if w.State != waiver.Active || row.Until.Sub(d.at) > 14*24*time.Hour {
				continue
			}
		}
		const most = 50
		if shown++; shown > most {
			continue
		}
		if shown == 1 {
			b.WriteString("| waiver | finding | where | stands | asked by |\n|---|---|---|---|---|\n")
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", escape.MarkdownCode(w.Name()), escape.MarkdownCode(w.Document.Finding.ID),
			escape.MarkdownCode(w.Document.Finding.Path), standing(w), escape.Markdown(w.Document.Requester.Login))
		if b.Len() > store.MaxAnswerBytes/2 {
			break
		}
	}
	if shown == 0 {
		filter := "open"
		if c.Filter != "" {
			filter = c.Filter
		}
		b.WriteString("This repository has no " + filter + " waivers.\n")
	}
	a.text = b.String()
	return nil
}

// explain tells why a finding acts, or where a waiver stands.
func (d *hearing) explain(ctx context.Context, c waiver.Command, a *answer) error {
	if c.Target.Kind == waiver.WaiverTarget {
		row, err := d.waiverOf(ctx, c.Target)
		if err != nil {
			return err
		}
		w, err := readWaiver(row)
		a.waiver = &w
		return err
	}
	f, err := d.find(ctx, c.Target)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** · %s · %s in %s\n\n%s\n", escape.MarkdownCode(f.ID), f.Severity, escape.Markdown(f.Title), escape.MarkdownCode(f.Place()), escape.Markdown(f.Message))
	acts := false
	for _, p := range d.last.Policies {
		for _, l := range []struct {
			refs []verdict.Ref
			does string
		}{{p.Blocking, "blocks"}, {p.Warning, "warns"}, {p.Waived, "is waived"}} {
			for _, r := range l.refs {
				if r.ID != f.ID {
					continue
				}
				acts = true
				does := l.does
				if r.Waiver != "" {
					does += " by " + escape.MarkdownCode(r.Waiver)
				}
				at := "built in"
				if p.Origin.Layer != "built-in" {
					at = escape.MarkdownCode(p.Origin.Path + ":" + strconv.Itoa(p.Origin.Line))
				}
				fmt.Fprintf(&b, "\n- It %s under policy %s (%s). %s\n", does, escape.MarkdownCode(p.Name), at, escape.Markdown(p.Message))
			}
		}
	}
	if !acts {
		b.WriteString("\nNo policy acts on it.\n")
	}
	if f.Remediation != "" {
		fmt.Fprintf(&b, "\n**To mend it.** %s\n", escape.Markdown(f.Remediation))
	}
	if acts && !onlyFloor(*d.last, f.ID) {
		fmt.Fprintf(&b, "\n**Or ask for a waiver.** %s\n\n```\n/noxaudit waive %s reason=\"\"\n```\n", waivableBy(waiver.DefaultTerms()), f.ID)
	}
	a.text = b.String()
	return nil
}

// Answer posts what is owed to who commanded: a reaction and a reply. It is safe to repeat.
func (g *Gate) Answer(ctx context.Context, key store.CommandKey, voice Voice) error {
	tenant := g.Store.For(key.Account)
	c, err := tenant.CommandByID(ctx, key.Repository, key.Surface, key.ID)
	if err != nil || c.Answered {
		return err
	}
	repo, err := tenant.Repository(ctx, key.Repository)
	if err != nil {
		return err
	}
	if repo.Origin == nil || !repo.Origin.Covered {
		return tenant.CommandAnswered(ctx, key.Repository, key.Surface, key.ID, true)
	}
	origin := originOf(key.Account, repo)
	retry := c.Tries > 0
	if err := tenant.CommandAnswered(ctx, key.Repository, key.Surface, key.ID, false); err != nil {
		return err
	}
	var reactErr, replyErr error
	if c.Reaction != "" {
		reactErr = voice.React(ctx, origin, c.Surface, c.ID, c.Reaction)
	}
	if c.Answer != "" {
		replyErr = voice.Reply(ctx, origin, c.Pull, fmt.Sprintf("noxaudit:%s:%d:%s", c.Surface, c.ID, c.State), c.Answer, retry)
	}
	for _, err := range []error{reactErr, replyErr} {
		if err != nil && !errors.Is(err, ErrGitHubGone) { // a comment that was deleted takes no reaction
			return err
		}
	}
	return tenant.CommandAnswered(ctx, key.Repository, key.Surface, key.ID, true)
}
