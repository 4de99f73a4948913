package gate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/policy/verdict"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// Limits of what one person is heard with in one repository within an hour. Beyond answersPerHour there is a reaction
// and no reply; beyond commandsPerHour nothing, and nothing is acted on.
const (
	answersPerHour   = 30
	strangersPerHour = 3 // answers to somebody who may not even ask
	commandsPerHour  = 60
)

// recheckEvery is how often a commit may be looked at again by command.
const recheckEvery = time.Minute

// The reactions, in GitHub's names.
const (
	reactApplied = "rocket"
	reactNoted   = "+1"
	reactRefused = "confused"
	reactIgnored = "-1"
)

// remarked hears what a person wrote on a pull request: commands act, and what rested on a command that was edited or
// deleted is suspended.
func (g *Gate) remarked(ctx context.Context, tenant *store.Tenant, c *store.Change, ev Event, content map[string]any, people People) error {
	r := ev.Remark
	content["surface"], content["remark"], content["pull"] = r.Surface, strconv.FormatInt(r.ID, 10), r.Pull
	known, err := tenant.CommandByID(ctx, ev.Origin.Repo.ID, r.Surface, r.ID)
	switch {
	case err == nil && r.Action == "created" && known.State == store.CommandDone && canon.Digest([]byte(r.Body)) != known.Digest:
		// GitHub's times are whole seconds: one that a list shows as never edited was edited in the second of its creation.
		edited := *r
		edited.Action = "edited"
		ev.Remark = &edited
		return g.tampered(ctx, tenant, c, ev, known)
	case err == nil && r.Action == "created":
		return fmt.Errorf("remark: %w", store.ErrAlreadyDone)
	case err == nil:
		return g.tampered(ctx, tenant, c, ev, known)
	case !errors.Is(err, store.ErrNotFound):
		return err
	case r.Action != "created":
		return g.unheard(ctx, tenant, c, ev, people)
	}
	parsed := waiver.ParseComment(r.Body)
	if len(parsed.Lines) == 0 && parsed.Refusal == nil {
		return nil
	}
	c.Repositories = append(c.Repositories, repositoryOf(ev.Origin, true))
	return g.hearingOf(tenant, c, ev, people).remark(ctx, r, ev.Sender, parsed)
}

// hearingOf is the hearing of a remark.
func (g *Gate) hearingOf(tenant *store.Tenant, c *store.Change, ev Event, people People) *hearing {
	r := ev.Remark
	d := g.hearing(tenant, c, ev.Origin, people)
	d.who, d.via = r.Author, r.Surface
	d.place = waiver.Place{Surface: waiver.Comment, Pull: r.Pull, Comment: r.ID, Body: canon.Digest([]byte(r.Body))}
	if r.Surface == store.SurfaceReview {
		d.place.Surface = waiver.Review
	}
	return d
}

func (g *Gate) hearing(tenant *store.Tenant, c *store.Change, origin Origin, people People) *hearing {
	return &hearing{
		g: g, tenant: tenant, c: c, origin: origin, people: people, at: c.Time,
		pulls: map[int]*waiver.Pull{}, named: map[int][]string{}, touched: map[string]waiver.Waiver{},
	}
}

// hearing is what is decided at once: the commands of one remark, or one command from elsewhere.
type hearing struct {
	g      *Gate
	tenant *store.Tenant
	c      *store.Change
	origin Origin
	people People
	at     time.Time

	who   waiver.Actor
	place waiver.Place // without the head; its pull request is the one in which it is said, 0 for none
	via   string       // the surface, for the ledger

	standing waiver.Permission
	pulls    map[int]*waiver.Pull
	named    map[int][]string
	last     *verdict.Verdict // on the pull request; nil: none yet
	findings []finding.Finding
	answers  []answer
	touched  map[string]waiver.Waiver // waivers as this remark leaves them
}

// answer is what came of one command.
type answer struct {
	command string // the line as it was understood; "" where it was not
	refusal *waiver.Refusal
	waiver  *waiver.Waiver // to show
	applied bool           // something is in force, or ended, by it
	text    string         // Markdown, for commands that only tell
}

func (d *hearing) repo() string { return d.origin.Repo.ID }

// ask finds out what the person may do now.
func (d *hearing) ask(ctx context.Context) error {
	id, standing, err := d.people.Permission(ctx, d.origin, d.who.Login)
	if err != nil && !errors.Is(err, ErrGitHubGone) {
		return err
	}
	if id != d.who.ID { // renamed or registered anew meanwhile: GitHub's answer is about somebody else
		standing = ""
	}
	d.standing = standing
	return nil
}

func (d *hearing) remark(ctx context.Context, r *RemarkEvent, sender ledger.Actor, parsed waiver.Parsed) error {
	command := &store.Command{
		Repository: d.repo(), Surface: r.Surface, ID: r.ID, Pull: r.Pull, Author: r.Author.ID, Digest: canon.Digest([]byte(r.Body)),
		State: store.CommandDone, At: d.at,
	}
	d.c.Command = command
	if r.Author.Bot || r.Author.App || sender.ID != strconv.FormatInt(r.Author.ID, 10) {
		// No reply: two robots would talk for ever.
		return d.record("command.refused", map[string]string{}, map[string]any{"code": waiver.Robot, "reason": "bots, Apps and people who speak for others command nothing"})
	}
	before, err := d.tenant.CommandsSince(ctx, d.repo(), r.Author.ID, d.at.Add(-time.Hour))
	if err != nil {
		return err
	}
	if before >= commandsPerHour {
		return d.record("command.refused", map[string]string{}, map[string]any{"code": waiver.TooMany, "reason": fmt.Sprintf("more than %d commands of one person within an hour", commandsPerHour)})
	}
	if err := d.ask(ctx); err != nil {
		return err
	}
	if r.Touched {
		parsed = waiver.Parsed{Refusal: refusal(waiver.Misplaced, "This comment was edited before it was read, so nothing in it acts. Write the command in a new comment.")}
	}
	if parsed.Refusal != nil {
		if err := d.refuse(answer{refusal: parsed.Refusal}); err != nil {
			return err
		}
	}
	for _, line := range parsed.Lines {
		if line.Refusal != nil {
			err = d.refuse(answer{refusal: line.Refusal})
		} else {
			err = d.command(ctx, line.Command)
		}
		if err != nil {
			return err
		}
	}
	return d.conclude(ctx, command, before)
}

// conclude makes the answer, and has the heads judged again that the waivers are about.
func (d *hearing) conclude(ctx context.Context, command *store.Command, before int) error {
	applied, refused := false, false
	for _, a := range d.answers {
		applied, refused = applied || a.applied, refused || a.refusal != nil
	}
	switch {
	case applied:
		command.Reaction = reactApplied
	case !refused:
		command.Reaction = reactNoted
	case !d.standing.AtLeast(waiver.Triage):
		command.Reaction = reactIgnored
	default:
		command.Reaction = reactRefused
	}
	most := answersPerHour
	if !d.standing.AtLeast(waiver.Triage) {
		most = strangersPerHour
	}
	if before < most {
		command.Answer = fitting(reply(d.answers))
	}
	command.Waivers = slices.Sorted(maps.Keys(d.touched))
	return d.rejudge(ctx)
}

// rejudge has the heads judged again that the touched waivers are about.
func (d *hearing) rejudge(ctx context.Context) error {
	var about []string
	for _, id := range slices.Sorted(maps.Keys(d.touched)) {
		if d.touched[id].Since == "" { // never in force: nothing is judged otherwise by it, and its own check tells of it
			if p := d.pulls[d.touched[id].Document.Asked.Pull]; p != nil && p.Open {
				wantRejudged(d.c, d.repo(), p.Head)
			}
			continue
		}
		about = append(about, d.touched[id].Document.Finding.Fingerprint)
	}
	return d.g.affected(ctx, d.tenant, d.c, d.repo(), about)
}

func refusal(code waiver.Code, format string, args ...any) *waiver.Refusal {
	return &waiver.Refusal{Code: code, Sentence: fmt.Sprintf(format, args...)}
}

// refuse records a refusal. It is an entry like a grant is.
func (d *hearing) refuse(a answer) error {
	d.answers = append(d.answers, a)
	subject := map[string]string{}
	if a.waiver != nil {
		subject["waiver"] = a.waiver.ID
	}
	return d.record("command.refused", subject, map[string]any{"command": a.command, "code": a.refusal.Code, "reason": a.refusal.Sentence})
}

// record adds an entry about this remark.
func (d *hearing) record(event string, subject map[string]string, content map[string]any) error {
	subject["repository"] = d.repo()
	if d.place.Pull != 0 {
		subject["pull"] = strconv.Itoa(d.place.Pull)
	}
	content["surface"], content["permission"] = d.via, string(d.standing)
	if d.place.Comment != 0 {
		content["remark"], content["body"] = strconv.FormatInt(d.place.Comment, 10), d.place.Body
	}
	source := "repository/" + d.repo() + "/commands"
	if id := subject["waiver"]; id != "" {
		source = "waiver/" + id
	}
	return d.g.entry(d.c, d.at, d.tenant.Account(), source, event, d.actor(), subject, content)
}

func (d *hearing) actor() ledger.Actor {
	return ledger.Actor{Kind: "user", ID: strconv.FormatInt(d.who.ID, 10), Name: d.who.Login, Via: d.via}
}

// command does one command.
func (d *hearing) command(ctx context.Context, c waiver.Command) error {
	a := answer{command: c.String()}
	err := c.Supported()
	if err == nil {
		err = d.stranger(c.Verb)
	}
	if err == nil {
		switch c.Verb {
		case waiver.VerbWaive:
			err = d.waive(ctx, c, &a)
		case waiver.VerbApprove, waiver.VerbReject, waiver.VerbRevoke:
			err = d.act(ctx, c, &a)
		case waiver.VerbList:
			err = d.list(ctx, c, &a)
		case waiver.VerbExplain:
			err = d.explain(ctx, c, &a)
		case waiver.VerbRecheck:
			err = d.recheck(ctx, &a)
		default:
			a.text = helpText
		}
	}
	if errors.As(err, &a.refusal) {
		return d.refuse(a)
	}
	if err != nil {
		return err
	}
	d.answers = append(d.answers, a)
	return nil
}

// stranger refuses those who may do nothing with a waiver, before anything more is asked of GitHub for them: in a
// public repository everybody can comment. Who asked for a waiver may take it back, whatever became of the permission.
func (d *hearing) stranger(v waiver.Verb) error {
	if v == waiver.VerbHelp || v == waiver.VerbRevoke || d.standing == "" || d.standing.AtLeast(waiver.Triage) {
		return nil
	}
	return refusal(waiver.NoPermission, "This takes at least triage permission on %s, and deciding takes maintain or admin; yours is %s.", d.origin.Repo.FullName, d.standing)
}

// facts are what is known now of who acts, and of the pull request that the waiver is of.
func (d *hearing) facts(ctx context.Context, pull int) (waiver.Facts, error) {
	f := waiver.Facts{Time: d.at, Actor: d.who, Permission: d.standing, Place: d.place}
	if d.place.Pull != 0 {
		here, err := d.pull(ctx, d.place.Pull)
		if err != nil {
			return waiver.Facts{}, err
		}
		f.Place.Head = here.Head
	}
	if pull == 0 {
		return f, nil
	}
	of, err := d.pull(ctx, pull)
	if err != nil {
		return waiver.Facts{}, err
	}
	own := *of
	for _, who := range d.named[pull] { // a co-author by another address than GitHub knows: by name
		if who == strings.ToLower(d.who.Login) {
			own.Contributors = append(slices.Clone(own.Contributors), d.who.ID)
		}
	}
	f.Pull = &own
	return f, nil
}

// pull asks GitHub for a pull request, once for one remark.
func (d *hearing) pull(ctx context.Context, number int) (*waiver.Pull, error) {
	if p := d.pulls[number]; p != nil {
		return p, nil
	}
	now, err := d.people.Pull(ctx, d.origin, number)
	if err != nil {
		return nil, err
	}
	p := &waiver.Pull{
		Number: number, Open: now.Open, Head: now.Head, Author: now.Author, Contributors: now.Contributors, Unattributed: now.Unattributed,
	}
	// GitHub does not say who pushed, only its webhooks do: of another head, or where none told, it is not known. It is
	// not taken for the author, since a commit's author is whoever the pusher says.
	if row, err := d.tenant.Pull(ctx, d.repo(), number); err == nil && row.Head == now.Head {
		p.LastPusher = row.Pusher
	} else if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	d.pulls[number], d.named[number] = p, now.Named
	return p, nil
}

// load reads the last verdict on this pull request at its head, and the findings that it was reached from.
func (d *hearing) load(ctx context.Context) error {
	if d.last != nil {
		return nil
	}
	if d.place.Pull == 0 {
		return refusal(waiver.NotFound, "Say which pull request it is about.")
	}
	here, err := d.pull(ctx, d.place.Pull)
	if err != nil {
		return err
	}
	if d.last, err = d.g.lastVerdict(ctx, d.tenant, d.repo(), "pull/"+strconv.Itoa(here.Number), here.Head); err != nil {
		return err
	}
	if d.last == nil {
		return refusal(waiver.NotFound, "The head %s of this pull request has not been judged yet. Wait for its check, then write the command again.", here.Head.Short())
	}
	in, err := loadInput(ctx, d.tenant, *d.last)
	d.findings = in.Findings
	return err
}

// find is the finding that a target names.
func (d *hearing) find(ctx context.Context, t waiver.Target) (finding.Finding, error) {
	if err := d.load(ctx); err != nil {
		return finding.Finding{}, err
	}
	prints := make([]string, len(d.findings))
	for i, f := range d.findings {
		prints[i] = f.Fingerprint
	}
	at, err := waiver.Find(t, prints)
	if no := (*waiver.Refusal)(nil); errors.As(err, &no) && no.Code == waiver.NotFound { // what blocks helps more than all ids
		if blocking := blockers(*d.last); len(blocking) > 0 {
			return finding.Finding{}, refusal(waiver.NotFound, "%s is no finding of this pull request's head. What blocks it: %s.", t.ID, some(blocking))
		}
		return finding.Finding{}, refusal(waiver.NotFound, "%s is no finding of this pull request's head, and nothing blocks it.", t.ID)
	}
	if err != nil {
		return finding.Finding{}, err
	}
	var places []string
	for _, f := range d.findings {
		if f.Fingerprint == prints[at] {
			places = append(places, f.ID+" in "+f.Place())
		}
	}
	if len(places) > 1 { // several secrets in one place
		return finding.Finding{}, refusal(waiver.Ambiguous, "%s names %d findings: %s. A waiver covers exactly one.", t.ID, len(places), some(places))
	}
	return d.findings[at], nil
}

// some names a few of many.
func some(ids []string) string {
	const most = 8
	if n := len(ids) - most; n > 0 {
		return strings.Join(ids[:most], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(ids, ", ")
}

// waive asks for a waiver.
func (d *hearing) waive(ctx context.Context, c waiver.Command, a *answer) error {
	f, err := d.find(ctx, c.Target)
	if err != nil {
		return err
	}
	if onlyFloor(*d.last, f.ID) {
		return refusal(waiver.NotApplicable, "%s stands for a rule that keeps the gate itself in place; nobody can waive it. Mend it in the policy file.", f.ID)
	}
	facts, err := d.facts(ctx, d.place.Pull)
	if err != nil {
		return err
	}
	doc, err := waiver.NewDocument(waiver.Asking{
		Command: c, Account: d.tenant.Account(), Repo: d.origin.Repo, Place: facts.Place, Terms: waiver.DefaultTerms(),
		Finding: waiver.Finding{ID: f.ID, Fingerprint: f.Fingerprint, Content: f.Content, Type: f.Type, Severity: f.Severity.String(), Path: f.Path},
	}, facts)
	if err != nil {
		return err
	}
	w, err := waiver.Apply(waiver.Waiver{}, waiver.Request{Document: doc}, facts)
	if err != nil {
		return err
	}
	open, err := d.tenant.WaiversOfFinding(ctx, d.repo(), f.Fingerprint)
	if err != nil {
		return err
	}
	for _, row := range open {
		other, err := readWaiver(row)
		if err != nil {
			return err
		}
		if other.State.Final() || other.Key() != w.Key() {
			continue
		}
		a.waiver = &other
		return refusal(waiver.NotApplicable, "%s is %s for this finding already. Decide about that one; a second would only hide it.", other.ID, other.State)
	}
	for _, other := range d.touched {
		if other.Key() == w.Key() {
			return refusal(waiver.NotApplicable, "%s asks for the same in this comment already.", other.ID)
		}
	}
	return d.keep(w, 0, "waiver.requested", a, map[string]any{"document": w.Document, "digest": w.Digest})
}

// onlyFloor reports whether a finding acts under the floor's policies and no other.
func onlyFloor(v verdict.Verdict, id string) bool {
	under := false
	for _, p := range v.Policies {
		for _, r := range slices.Concat(p.Blocking, p.Warning) {
			if r.ID != id {
				continue
			}
			if p.Waivable() {
				return false
			}
			under = true
		}
	}
	return under
}

// keep puts a waiver into the change, with its entry.
func (d *hearing) keep(w waiver.Waiver, from int64, event string, a *answer, content map[string]any) error {
	row, err := waiverRow(w, from)
	if err != nil {
		return err
	}
	d.c.Waivers = append(d.c.Waivers, row)
	d.touched[w.ID] = w
	a.waiver = &w
	content["state"] = w.State
	return d.record(event, map[string]string{"waiver": w.ID, "finding": w.Document.Finding.ID}, content)
}

// act approves, rejects or revokes a waiver.
func (d *hearing) act(ctx context.Context, c waiver.Command, a *answer) error {
	row, err := d.waiverOf(ctx, c.Target)
	if err != nil {
		return err
	}
	w, err := readWaiver(row)
	if err != nil {
		return err
	}
	a.waiver = &w
	if _, ok := d.touched[w.ID]; ok {
		return refusal(waiver.NotApplicable, "Another command of this comment is about %s already. Write one command for a waiver in a comment.", w.ID)
	}
	if d.place.Pull == 0 && d.place.Comment == 0 { // from elsewhere: it is about where the waiver was asked for
		d.place.Pull = w.Document.Asked.Pull
	}
	facts, err := d.facts(ctx, w.Document.Asked.Pull)
	if err != nil {
		return err
	}
	var act waiver.Act
	var event string
	switch c.Verb {
	case waiver.VerbApprove:
		act, event = waiver.Approve{Digest: c.Target.Digest, SHA: c.SHA, Note: c.Note}, "waiver.approved"
	case waiver.VerbReject:
		act, event = waiver.Reject{Digest: c.Target.Digest, Reason: c.Reason}, "waiver.rejected"
	default:
		act, event = waiver.Revoke{Digest: c.Target.Digest, Reason: c.Reason}, "waiver.revoked"
	}
	next, err := waiver.Apply(w, act, facts)
	if err != nil {
		return err
	}
	if c.Verb == waiver.VerbApprove {
		if err := d.elsewhere(ctx, w); err != nil {
			return err
		}
	}
	if next.Version == w.Version {
		a.text = "You had approved " + w.Name() + " already; nothing changed."
		return nil
	}
	a.applied = next.State != waiver.Pending
	content := map[string]any{"digest": w.Digest, "head": facts.Place.Head.String(), "missing": next.Missing()}
	if c.Reason != "" {
		content["reason"] = c.Reason
	}
	if c.Note != "" {
		content["note"] = c.Note
	}
	return d.keep(next, row.Version, event, a, content)
}

// askedElsewhere is how many other pull requests GitHub is asked about for one approval; of more it is known who opened
// them and who pushed last.
const askedElsewhere = 10

// elsewhere refuses who has a part in another open pull request that shows the finding: the waiver would hold there too,
// so it would be asked for where one has none, and approved for one's own.
func (d *hearing) elsewhere(ctx context.Context, w waiver.Waiver) error {
	open, err := d.tenant.OpenPulls(ctx, d.repo())
	if err != nil {
		return err
	}
	asked := 0
	for _, row := range open {
		if row.Number == w.Document.Asked.Pull {
			continue
		}
		last, err := d.g.lastVerdict(ctx, d.tenant, d.repo(), "pull/"+strconv.Itoa(row.Number), row.Head)
		if err != nil {
			return err
		}
		if last == nil || !mentions(*last, []string{w.Document.Finding.Fingerprint}) {
			continue
		}
		part := row.AuthorID == d.who.ID || row.Pusher == d.who.ID
		if asked++; !part && asked <= askedElsewhere {
			p, err := d.pull(ctx, row.Number)
			if err != nil {
				return err
			}
			part = p.Author == d.who.ID || slices.Contains(p.Contributors, d.who.ID) || slices.Contains(d.named[row.Number], strings.ToLower(d.who.Login))
		}
		if part {
			return refusal(waiver.OwnWork, "You have a part in pull request #%d, where %s would hold too. Somebody without a part in it decides.", row.Number, w.ID)
		}
	}
	return nil
}

// waiverOf is the waiver of this repository that a target names.
func (d *hearing) waiverOf(ctx context.Context, t waiver.Target) (store.Waiver, error) {
	rows, err := d.tenant.WaiversByPrefix(ctx, d.repo(), t.ID, 10)
	if err != nil {
		return store.Waiver{}, err
	}
	if len(rows) == 1 {
		return rows[0], nil
	}
	var ids []string
	if len(rows) > 1 {
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		return store.Waiver{}, refusal(waiver.Ambiguous, "%s begins %d waivers: %s.", t.ID, len(rows), some(ids))
	}
	open, err := d.tenant.OpenWaivers(ctx, d.repo())
	if err != nil {
		return store.Waiver{}, err
	}
	for _, r := range open {
		ids = append(ids, r.ID)
	}
	if len(ids) == 0 {
		return store.Waiver{}, refusal(waiver.NotFound, "%s is no waiver of this repository, and none is open.", t.ID)
	}
	return store.Waiver{}, refusal(waiver.NotFound, "%s is no waiver of this repository. Open ones: %s.", t.ID, some(ids))
}

// recheck has the head looked at once more.
func (d *hearing) recheck(ctx context.Context, a *answer) error {
	if !d.standing.AtLeast(waiver.Read) {
		return refusal(waiver.NoPermission, "Who cannot read the repository cannot have it looked at.")
	}
	if d.place.Pull == 0 {
		return refusal(waiver.NotFound, "Say which pull request is to be looked at.")
	}
	here, err := d.pull(ctx, d.place.Pull)
	if err != nil {
		return err
	}
	if !here.Open {
		return refusal(waiver.PullClosed, "Pull request #%d is closed: there is nothing to look at.", here.Number)
	}
	h, err := d.tenant.Head(ctx, d.repo(), here.Head)
	if err == nil && h.Wanted == h.Done && d.at.Sub(h.Changed) < recheckEvery {
		return refusal(waiver.NotApplicable, "%s was looked at within the last minute. Wait a little, then ask again.", here.Head.Short())
	} else if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	want(d.c, d.repo(), here.Head)
	a.text = "Looking at " + here.Head.Short() + " again. The check tells what comes of it."
	return d.record("command.recheck", map[string]string{"head": here.Head.String()}, map[string]any{})
}
