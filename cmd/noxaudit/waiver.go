package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/policy/waiver"
	"github.com/noxaudit/noxaudit/server/api"
)

func (p *program) waiverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "waiver",
		Short: "ask for waivers and decide about them, at a noxaudit server",
		Long: `Does what the commands in a pull request's comments do, by the same rules and with
the same entries in the ledger: list, show, request, approve, reject, revoke.
"noxaudit login" signs in.

Exit codes: 0 done, 1 refused or invalid, 2 could not be done.`,
		Args: cobra.NoArgs,
		RunE: help,
	}
	cmd.AddCommand(p.waiverList(), p.waiverShow(),
		p.waiverOrder(waiver.VerbWaive, "request FINDING", "ask that a finding may stay for a time"),
		p.waiverOrder(waiver.VerbApprove, "approve WAIVER", "say yes to a waiver that somebody else asked for"),
		p.waiverOrder(waiver.VerbReject, "reject WAIVER", "say no to a request"),
		p.waiverOrder(waiver.VerbRevoke, "revoke WAIVER", "end a waiver before its time"),
		p.waiverOrder(waiver.VerbExtend, "extend WAIVER", "not in this version: ask for a new waiver"),
	)
	return cmd
}

// repository is --repo, and the address of the API that it gives.
type repository string

func (r *repository) String() string { return string(*r) }
func (r *repository) Type() string   { return "OWNER/NAME" }
func (r *repository) Set(v string) error {
	owner, name, ok := strings.Cut(v, "/")
	if !ok || owner == "" || name == "" || strings.Contains(name, "/") {
		return errors.New("want OWNER/NAME, as GitHub writes it")
	}
	*r = repository(v)
	return nil
}

func (r *repository) path() string {
	owner, name, _ := strings.Cut(string(*r), "/")
	return "/api/v1/orgs/" + url.PathEscape(owner) + "/repositories/" + url.PathEscape(name)
}

func repoFlag(cmd *cobra.Command) *repository {
	r := new(repository)
	cmd.Flags().Var(r, "repo", "the repository at GitHub")
	_ = cmd.MarkFlagRequired("repo") // the flag is there
	return r
}

func (p *program) waiverList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the waivers of a repository",
		Args:  cobra.NoArgs,
	}
	repo := repoFlag(cmd)
	state := &choice{"open", []string{"open", "all", "pending", "active", "rejected", "lapsed", "expired", "revoked", "resolved", "superseded"}}
	cmd.Flags().Var(state, "state", "which of them; open: pending and active")
	format := formatFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := p.client()
		if err != nil {
			return err
		}
		var out api.Waivers
		if err := c.ask(cmd.Context(), http.MethodGet, repo.path()+"/waivers?state="+url.QueryEscape(state.value), nil, &out); err != nil {
			return err
		}
		if format.value == "json" {
			return p.printJSON(out)
		}
		if len(out.Waivers) == 0 {
			fmt.Fprintln(p.stderr, "there are none")
			return nil
		}
		t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "WAIVER\tSTANDS\tUNTIL\tFINDING\tWHERE\tASKED BY")
		for _, w := range out.Waivers {
			d := w.Document
			row := []string{w.Name, stands(w), lastDay(d.Until), d.Finding.ID, d.Finding.Path, d.Requester.Login}
			for i := range row {
				row[i] = escape.Visible(row[i])
			}
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
		if out.More {
			fmt.Fprintf(p.stderr, "there are more than %d; the rest is on the server's pages\n", api.MaxWaivers)
		}
		return t.Flush()
	}
	return cmd
}

func lastDay(until string) string { return until[:min(len(until), len("2006-01-02"))] }

func stands(w api.Waiver) string {
	switch {
	case w.Suspended != nil:
		return "suspended"
	case w.State == waiver.Pending:
		return fmt.Sprintf("pending, %d to approve", w.Missing)
	}
	return string(w.State)
}

func (p *program) waiverShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show WAIVER",
		Short: "show a waiver: what it is for, who decided, and where it stands",
		Args:  cobra.ExactArgs(1),
	}
	repo := repoFlag(cmd)
	format := formatFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := waiver.ParseTarget(args[0])
		if err != nil {
			return no(err)
		}
		c, err := p.client()
		if err != nil {
			return err
		}
		var out api.Waiver
		if err := c.ask(cmd.Context(), http.MethodGet, repo.path()+"/waivers/"+url.PathEscape(t.String()), nil, &out); err != nil {
			return err
		}
		if format.value == "json" {
			return p.printJSON(out)
		}
		p.printWaiver(out, string(*repo))
		return nil
	}
	return cmd
}

// printWaiver writes a waiver for a terminal. Every text in it comes from outside.
func (p *program) printWaiver(w api.Waiver, repo string) {
	line := func(what string, format string, args ...any) {
		fmt.Fprintf(p.stdout, "%-10s %s\n", what, escape.Visible(fmt.Sprintf(format, args...)))
	}
	d := w.Document
	line("waiver", "%s", w.Name)
	line("stands", "%s", stands(w))
	line("finding", "%s %s %s %s", d.Finding.ID, d.Finding.Severity, d.Finding.Type, d.Finding.Path)
	line("kind", "%s", d.Kind)
	line("reason", "%s", d.Reason)
	if d.Ticket != "" {
		line("ticket", "%s", d.Ticket)
	}
	if d.Control != "" {
		line("control", "%s", d.Control)
	}
	line("until", "%s", d.Until)
	where := ""
	if d.Asked.Pull != 0 {
		where = fmt.Sprintf(" in #%d", d.Asked.Pull)
	}
	line("asked", "%s by %s%s (%s)", d.Requested, d.Requester.Login, where, d.Asked.Surface)
	for _, a := range w.Approvals {
		void := ""
		if a.Void != "" {
			void = ", void: its comment was " + string(a.Void)
		}
		line("approved", "%s by %s (%s, with %s permission)%s %s", a.Time, a.By.Login, a.Place.Surface, a.Permission, void, a.Note)
	}
	if e := w.End; e != nil {
		by := e.By.Login
		if e.By.ID == 0 {
			by = "noxaudit"
		}
		line("ended", "%s by %s: %s", e.Time, by, e.Reason)
	}
	for _, c := range w.Commands {
		line("next", "%s", asTyped(c, repo))
	}
}

// asTyped is a comment's command as it is typed here.
func asTyped(command, repo string) string {
	words := strings.Fields(strings.TrimPrefix(command, "/noxaudit "))
	if len(words) < 2 {
		return command
	}
	s := "noxaudit waiver " + words[0] + " " + words[1] + " --repo " + repo
	if strings.Contains(command, "reason=") {
		s += ` --reason "…"`
	}
	return s
}

// waiverOrder is a command that changes something: the flags are put into a command line of comments, and that is
// what the server is given.
func (p *program) waiverOrder(verb waiver.Verb, use, short string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1)}
	c := waiver.Command{Verb: verb}
	var pull int
	var kind, length string
	repo := repoFlag(cmd)
	flags := cmd.Flags()
	flags.IntVar(&pull, "pull", 0, "number of the pull request (default: the one in which the waiver was asked for)")
	text := func(to *string, name, what string) { flags.StringVar(to, name, "", what) }
	switch verb {
	case waiver.VerbWaive:
		flags.Lookup("pull").Usage = "number of the pull request that shows the finding"
		_ = cmd.MarkFlagRequired("pull") // the flag is there
		text(&c.Reason, "reason", fmt.Sprintf("why it may stay, in %d to %d characters", waiver.MinReason, waiver.MaxReason))
		text(&kind, "kind", "false-positive, accepted-risk (default), mitigated, test-code or deferred")
		text(&length, "for", "how long, such as 30d or 4w")
		text(&c.Until, "until", "last day, YYYY-MM-DD")
		text(&c.Ticket, "ticket", "where the work is tracked")
		text(&c.Control, "control", "what holds the risk down meanwhile")
	case waiver.VerbApprove:
		text(&c.SHA, "sha", "the head that you looked at; refused when it is another by now")
		text(&c.Note, "note", "a remark to keep")
	case waiver.VerbExtend:
		text(&c.Reason, "reason", "why")
		text(&length, "for", "how long, such as 30d or 4w")
		text(&c.Until, "until", "last day, YYYY-MM-DD")
	default:
		text(&c.Reason, "reason", fmt.Sprintf("why, in %d to %d characters", waiver.MinReason, waiver.MaxReason))
	}
	format := formatFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := c
		c.Kind = waiver.Kind(kind)
		var err error
		if c.Target, err = waiver.ParseTarget(args[0]); err == nil && length != "" {
			c.Days, err = waiver.ParseDays(length)
		}
		if err == nil {
			if c, err = c.Check(); err == nil {
				err = c.Supported()
			}
		}
		if err != nil {
			return no(err)
		}
		ask, err := p.client()
		if err != nil {
			return err
		}
		var out api.Receipt
		in := map[string]any{"pull": pull, "command": c.String()}
		if err := ask.ask(cmd.Context(), http.MethodPost, repo.path()+"/commands", in, &out); err != nil {
			return err
		}
		return p.printReceipt(out, string(*repo), format.value)
	}
	return cmd
}

func (p *program) printReceipt(r api.Receipt, repo, format string) error {
	if format == "json" {
		if err := p.printJSON(r); err != nil {
			return err
		}
		if r.Refused {
			return no(nil)
		}
		return nil
	}
	if r.Refused {
		return no(fmt.Errorf("refused: %s", r.Sentence))
	}
	if r.Waiver != nil {
		p.printWaiver(*r.Waiver, repo)
	}
	return nil
}
