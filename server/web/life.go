package web

import (
	"cmp"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/waiver"
	"github.com/noxaudit/noxaudit/report/figures"
)

type findingView struct {
	frame
	Finding   finding.Finding
	State     mark
	Class     string
	Place     string
	GitHub    string
	Rule      string // address of the rule's own page; https only
	Code      []codeLine
	Life      template.HTML
	LifeParts []lifePart
	Moments   []momentView
	Where     []whereRow
	Waivers   []waiverRow
	Copy      copyLine
	CWE       []int
	At        time.Time
	Open      bool
}

type lifePart struct {
	Mark mark
	Text string
}

type momentView struct {
	At      time.Time
	Mark    mark
	What    string // bold
	By      string // after it
	Text    string
	Quote   string
	Entry   entryView
	Links   []link
	Verdict string
}

type whereRow struct {
	Name, Address string
	Mark          mark
	Since         time.Time
}

func (h *Web) finding(w http.ResponseWriter, q *request) error {
	s, err := h.o.Figures.Story(q.Context(), q.account.ID, q.repo.ID, q.PathValue("finding"))
	home := repoPath(q.account, *q.repo)
	var several *figures.AmbiguousError
	if errors.As(err, &several) {
		v := chooseView{frame: h.framed(q, "Which finding?", "findings", crumb{q.repo.ShortName(), home}), Text: "The id is the start of several findings."}
		for _, id := range several.IDs {
			v.Links = append(v.Links, link{id, home + "/findings/" + url.PathEscape(id)})
		}
		render(h, w, q.Request, http.StatusOK, choosePage, v)
		return nil
	}
	if err != nil {
		return err
	}
	f := s.Finding
	crumbs := []crumb{{q.repo.ShortName(), home}}
	if q.all {
		crumbs = append(crumbs, crumb{"Findings", with(base(q.account)+"/findings", "repository", q.repo.ID)})
	}
	v := findingView{
		frame:   h.framed(q, cmp.Or(f.Title, f.Type), "findings", append(crumbs, crumb{f.ID, ""})...),
		Finding: f, Class: evidence(f), Place: f.Place(), Code: code(f, f.Introduced, true), CWE: f.CWE, At: s.At, Open: s.Open,
	}
	if strings.HasPrefix(f.Link, "https://") {
		v.Rule = f.Link
	}
	v.State = openMark(s)
	for _, m := range s.Moments {
		v.Moments = append(v.Moments, momentOf(m, f, home, base(q.account)))
	}
	for _, r := range s.Lines {
		row := whereRow{Name: sentence(lineName(r.Line)), Address: lineAddress(home, r.Line), Mark: blocked.as("Open"), Since: r.FirstSeen}
		if row.Mark = warned.as("Open"); !r.Open {
			row.Mark, row.Since = resolved, r.Resolved
		}
		v.Where = append(v.Where, row)
	}
	for _, x := range s.Waivers {
		v.Waivers = append(v.Waivers, h.waiverRowOf(q.account, x, q.repo.ShortName(), s.At))
	}
	if s.Open {
		v.Copy = copyLine{"To ask for a waiver: copy, fill in the reason", `/noxaudit waive ` + f.ID + ` reason="…"`}
	}
	v.Life, v.LifeParts = life(s)
	render(h, w, q.Request, http.StatusOK, findingPage, v)
	return nil
}

func openMark(s figures.Story) mark {
	if !s.Open {
		return resolved
	}
	for _, w := range s.Waivers {
		if w.Counts() {
			return waived
		}
	}
	if s.Late() > 0 {
		return blocked.as("Open, past its limit")
	}
	return warned.as("Open")
}

// life is the time of a finding to scale: open, waived, resolved, and what was left of its time limit.
func life(s figures.Story) (template.HTML, []lifePart) {
	end := s.At
	if !s.Open {
		end = s.Resolved
	}
	whole := end
	if s.Limit.After(whole) {
		whole = s.Limit
	}
	minutes := func(d time.Duration) int { return max(0, int(d.Minutes())) }
	all := max(1, minutes(whole.Sub(s.Since)))
	var segments []part
	var told []lifePart
	openUntil := end
	for _, w := range s.Waivers {
		from, err := time.Parse(time.RFC3339Nano, w.Since)
		if err != nil { // it never was active
			continue
		}
		to := end
		for _, t := range []time.Time{w.Until, w.EndedAt} {
			if !t.IsZero() && t.Before(to) {
				to = t
			}
		}
		segments = append(segments, part{"f-danger", minutes(from.Sub(s.Since))}, part{"f-waive", minutes(to.Sub(from))}, part{"f-danger", minutes(end.Sub(to))})
		told = append(told, lifePart{blocked.as("Open"), day(s.Since) + ", for " + age(from.Sub(s.Since))}, lifePart{waived, day(from) + ", for " + age(to.Sub(from))})
		openUntil = time.Time{}
		break
	}
	if !openUntil.IsZero() {
		segments = append(segments, part{"f-danger", minutes(openUntil.Sub(s.Since))})
		m := warned.as("Open")
		if s.Late() > 0 {
			m = blocked.as("Open")
		}
		told = append(told, lifePart{m, "since " + day(s.Since) + ", for " + age(end.Sub(s.Since))})
		if s.Late() == 0 {
			segments[0].Class = "f-warn"
		}
	}
	limit := ""
	if !s.Limit.IsZero() {
		limit = "time limit for " + s.Finding.Severity.String() + ": " + day(s.Limit)
		if late := s.Late(); late > 0 {
			limit += ", missed by " + age(late)
		}
	}
	if !s.Open {
		segments = append(segments, part{"f-ok", max(1, all/150)})
		text := day(s.Resolved)
		if limit != "" {
			text += " · " + limit
		}
		told = append(told, lifePart{resolved.as("Resolved after " + age(s.Resolved.Sub(s.Since))), text})
	} else if limit != "" {
		told = append(told, lifePart{mark{"clock", "is-none", "Time limit"}, strings.TrimPrefix(limit, "time limit for ")})
	}
	return bar(10, 3, all+max(1, all/150), segments...), told
}

func momentOf(m figures.Moment, f finding.Finding, home, org string) momentView {
	v := momentView{At: m.Entry.Time, Entry: entryOf(m.Entry)}
	where := "on the " + lineName(m.Line)
	if strings.HasPrefix(m.Line, "pull/") {
		where = "in " + lineName(m.Line)
	}
	if to := lineAddress(home, m.Line); to != "" {
		v.Links = append(v.Links, link{sentence(lineName(m.Line)), to})
	}
	at := ""
	if len(m.Head) >= 7 {
		at = " at " + m.Head[:7]
	}
	switch m.Kind {
	case figures.MomentFound:
		v.Mark, v.What, v.By = mark{"search", "is-warn", ""}, "Found", where
		v.Text = "Rule " + f.Type + " matched " + f.Place() + at + "."
	case figures.MomentChanged:
		v.Mark, v.What, v.By, v.Text = mark{"search", "is-none", ""}, "Said differently", where, "The same finding, in other words or at another line"+at+"."
	case figures.MomentResolved:
		v.Mark, v.What, v.By, v.Text = resolved, "Resolved", where, "The audit"+at+" looked for it and it was gone."
	case figures.MomentBlocked:
		v.Mark, v.What, v.By, v.Text = blocked, "Blocked", where+" by policy "+m.Policy, m.Note
	case figures.MomentWarned:
		v.Mark, v.What, v.By, v.Text = warned, "Warned", where+" by policy "+m.Policy, m.Note
	}
	if m.Verdict != "" {
		id := store.ShortVerdict(m.Verdict)
		v.Links = append(v.Links, link{"Verdict " + id, home + "/verdicts/" + url.PathEscape(id)})
	}
	if x := m.Waiver; x != nil {
		v.Links = []link{{x.ID, org + "/waivers/" + url.PathEscape(x.ID)}}
		by := "by " + m.Entry.Actor.Name
		if m.Entry.Actor.Kind == "user" {
			by = "by @" + m.Entry.Actor.Name
		}
		switch m.Kind {
		case figures.MomentAsked:
			v.Mark, v.What, v.By, v.Quote = mark{"comment", "is-none", ""}, "Waiver asked for", by, x.Document.Reason
		case figures.MomentApproved:
			v.Mark, v.What, v.By, v.Quote = mark{"passed", "is-ok", ""}, "Approved", by, m.Note
		case figures.MomentWaived:
			v.Mark, v.What, v.By, v.Quote = waived, "Waived until "+day(x.Until), by, m.Note
			v.Text = "Every approval that it needs is there, with the permission that GitHub reported at that moment. While it lasts the finding does not block."
		case figures.MomentRefused:
			v.Mark, v.What, v.By, v.Text = mark{"ended", "is-danger", ""}, "Refused", by, m.Note
		case figures.MomentSuspended:
			v.Mark, v.What, v.By, v.Text = warned, "Suspended", by, "A comment that it rests on was "+m.Note+". It covers nothing until it is approved anew."
		case figures.MomentEnded:
			v.Mark, v.What, v.By, v.Quote = ended, "Waiver "+strings.TrimPrefix(m.Entry.Type, "waiver."), by, m.Note
		}
	}
	return v
}

// waiverStates are how the states of a waiver are drawn.
var waiverStates = map[waiver.State]mark{
	waiver.Pending: pending, waiver.Active: waived.as("Active"), waiver.Rejected: ended.as("Rejected"), waiver.Lapsed: ended.as("Lapsed"),
	waiver.Expired: ended.as("Expired"), waiver.Revoked: ended.as("Revoked"), waiver.Superseded: ended.as("Superseded"), waiver.Resolved: ended.as("Resolved"),
}

type waiverRow struct {
	ID, Name, Digest, Address string
	Title                     string
	Severity                  finding.Severity
	Repo                      string
	Pull                      int
	Kind                      string
	Mark                      mark
	Suspended                 string
	Given, Needed             int
	Approvals                 []approval
	Missing                   string // who may, when something is missing
	Until                     time.Time
	Ends                      string // "in 2 d"
	Lapses                    string
	Reason, Asker             string
	Asked                     string // age
	Copy                      []copyLine
}

type approval struct {
	Login, With string
	At          time.Time
	Note        string
}

func (h *Web) waiverRowOf(a figures.Account, x figures.Waiver, repo string, now time.Time) waiverRow {
	d := x.Document
	r := waiverRow{
		ID: x.ID, Name: x.Name(), Digest: x.Digest, Address: base(a) + "/waivers/" + url.PathEscape(x.ID), Title: x.Title, Severity: x.Severity,
		Repo: repo, Pull: d.Asked.Pull, Kind: sentence(strings.ReplaceAll(string(d.Kind), "-", " ")), Mark: waiverStates[x.State], Given: len(x.Given), Needed: d.Terms.Approvals,
		Until: x.Until, Reason: d.Reason, Asker: d.Requester.Login, Asked: ago(now, x.Asked),
	}
	for _, p := range x.Given {
		at, err := time.Parse(time.RFC3339Nano, p.Time)
		if err != nil {
			at = x.Asked // a stored waiver has times that parse; an approval is never older than this
		}
		r.Approvals = append(r.Approvals, approval{p.By.Login, string(p.Permission), at, p.Note})
	}
	if x.Suspended != nil && x.Open() {
		r.Mark, r.Suspended = warned.as("Suspended"), "A command comment that it rests on was "+string(x.Suspended.Cause)+". It covers nothing until it is approved anew."
	}
	switch {
	case x.Open():
		r.Ends = "in " + age(max(0, x.Until.Sub(now)))
	case !x.EndedAt.IsZero():
		r.Ends = ago(now, x.EndedAt) + " ago"
	}
	if !x.Lapses.IsZero() {
		r.Lapses = "in " + age(max(0, x.Lapses.Sub(now))) + " if nobody decides"
	}
	if n := x.Missing(); n > 0 && x.Open() {
		who := "somebody"
		if n > 1 {
			who = figures.Number(n) + " people"
		}
		r.Missing = sentence(who) + " with " + string(d.Terms.Permission) + " permission or more, not @" + d.Requester.Login
		if d.Asked.Pull > 0 {
			r.Missing += " and nobody with a part in pull request #" + strconv.Itoa(d.Asked.Pull)
		}
	}
	if x.State == x.Waiver.State { // else it has ended, and nothing can be done about it
		for _, text := range x.Lines() {
			verb, _, _ := strings.Cut(strings.TrimPrefix(text, "/noxaudit "), " ")
			caption := "Comment to copy, to " + verb
			if verb != "approve" {
				caption += "; fill in the reason"
			}
			r.Copy = append(r.Copy, copyLine{caption, text})
		}
	}
	return r
}

type waiversView struct {
	frame
	Tabs      []option
	Tab       string
	Pending   []waiverRow
	Active    []waiverRow
	Ended     []waiverRow
	Suspended []waiverRow
	Days      []calendarDay
	Within    int
	Summary   figures.WaiverSummary
	Pages     pager
	At        time.Time
}

// calendarDay is a day of the strip.
type calendarDay struct {
	Label   string
	Month   string // said where a month or the strip begins
	Weekend bool
	Today   bool
	Marks   []template.HTML
	Name    string // accessible
	Address string
	Class   string
}

const stripDays = 42

func (h *Web) waivers(w http.ResponseWriter, q *request) error {
	in := q.URL.Query()
	tab := cmp.Or(in.Get("state"), "open")
	severity := in.Get("severity")
	var only *finding.Severity
	if severity != "" {
		s, err := finding.ParseSeverity(severity)
		if err != nil {
			return errRefused
		}
		only = &s
	}
	now := h.now()
	all, err := h.o.Figures.OpenWaivers(q.Context(), q.account.ID)
	if err != nil {
		return err
	}
	v := waiversView{frame: h.framed(q, "Waivers", "waivers"), Tab: tab, At: now, Summary: h.o.Figures.Summarise(all)}
	here := base(q.account) + "/waivers"
	for _, t := range []struct {
		key, name string
		n         int
	}{{"open", "Open", len(all)}, {"pending", "Pending", v.Summary.Pending}, {"active", "Active", v.Summary.Active}, {"suspended", "Suspended", v.Summary.Suspended}, {"ended", "Ended", -1}} {
		o := option{Name: t.name, Address: with(here, "state", strings.TrimPrefix(t.key, "open"), "severity", severity), On: tab == t.key}
		if t.n >= 0 {
			o.N = figures.Number(t.n)
		}
		v.Tabs = append(v.Tabs, o)
	}
	repos := map[string]string{}
	row := func(x figures.Waiver) (waiverRow, error) {
		if _, known := repos[x.Repository()]; !known {
			r, err := h.o.Figures.Repository(q.Context(), q.account.ID, x.Repository())
			if err != nil {
				return waiverRow{}, err
			}
			repos[x.Repository()] = r.ShortName()
		}
		return h.waiverRowOf(q.account, x, repos[x.Repository()], now), nil
	}
	switch tab {
	case "open", "pending", "active", "suspended":
		for _, x := range all {
			if only != nil && x.Severity != *only {
				continue
			}
			r, err := row(x)
			if err != nil {
				return err
			}
			switch {
			case x.State == waiver.Pending && (tab == "open" || tab == "pending"):
				v.Pending = append(v.Pending, r)
			case x.State == waiver.Active && x.Suspended != nil && tab != "pending":
				v.Suspended = append(v.Suspended, r)
			case x.State == waiver.Active && (tab == "open" || tab == "active"):
				v.Active = append(v.Active, r)
			}
		}
		v.Days, v.Within = calendar(all, here, now)
	case "ended":
		var after *store.WaiverKey
		if a := in.Get("after"); a != "" {
			if after = new(store.WaiverKey); !cursor(a, after) {
				return errRefused
			}
		}
		ws, more, err := h.o.Figures.EndedWaivers(q.Context(), q.account.ID, after, pageSize)
		if err != nil {
			return err
		}
		for _, x := range ws {
			r, err := row(x)
			if err != nil {
				return err
			}
			v.Ended = append(v.Ended, r)
		}
		if in.Get("after") != "" {
			v.Pages.First = with(here, "state", "ended")
		}
		if more {
			v.Pages.Next = with(here, "state", "ended", "after", cursorOf(store.WaiverKey{Changed: ws[len(ws)-1].Changed.UnixMicro(), ID: ws[len(ws)-1].ID}))
		}
	default:
		return errRefused
	}
	const mostOpen = 200 // a page, not a list of thousands; the tabs narrow it
	v.Pending, v.Active = v.Pending[:min(len(v.Pending), mostOpen)], v.Active[:min(len(v.Active), mostOpen)]
	render(h, w, q.Request, http.StatusOK, waiversPage, v)
	return nil
}

// calendar is the next six weeks and what ends in them.
func calendar(all []figures.Waiver, here string, now time.Time) ([]calendarDay, int) {
	today := store.Day(now)
	ends := map[int64][]figures.Waiver{}
	within := 0
	for _, x := range all {
		if d := store.Day(x.Until); x.State == waiver.Active && d >= today && d < today+stripDays {
			ends[d] = append(ends[d], x)
			within++
		}
	}
	var out []calendarDay
	// On a narrow screen the strip is a table of weeks, which begins with the names of the days and those that are past.
	for _, d := range []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"} {
		out = append(out, calendarDay{Label: d, Class: "dow"})
	}
	for range (int(time.Unix(today*86400, 0).UTC().Weekday()) + 6) % 7 {
		out = append(out, calendarDay{Class: "dow blank"})
	}
	for i := range int64(stripDays) {
		t := time.Unix((today+i)*86400, 0).UTC()
		d := calendarDay{Label: t.Format("2"), Today: i == 0, Weekend: t.Weekday() == time.Saturday || t.Weekday() == time.Sunday, Name: t.Format("Monday 2 January")}
		if d.Weekend {
			d.Class = "weekend"
		}
		if d.Today {
			d.Class += " today"
		}
		if i == 0 || t.Day() == 1 {
			d.Month = t.Format("Jan")
		}
		for n, x := range ends[today+i] {
			if n < 3 {
				d.Marks = append(d.Marks, template.HTML(`<span class="sev sev-`+x.Severity.String()+`">`+sevMark(x.Severity)+`</span>`))
			}
		}
		if n := len(ends[today+i]); n > 0 {
			d.Name += ": " + figures.Count(n, "waiver ends", "waivers end")
			d.Address = here + "/" + url.PathEscape(ends[today+i][0].ID)
			if n > 1 {
				d.Address = here + "?state=active#" + t.Format("2006-01-02")
			}
		}
		out = append(out, d)
	}
	return out, within
}

type waiverView struct {
	frame
	Row     waiverRow
	Waiver  figures.Waiver
	Repo    string
	Home    string
	Finding string // address
	Moments []momentView
	Pull    string // address
	At      time.Time
}

func (h *Web) waiver(w http.ResponseWriter, q *request) error {
	x, err := h.o.Figures.Waiver(q.Context(), q.account.ID, q.PathValue("waiver"))
	if err != nil {
		return err
	}
	r, err := h.o.Figures.Repository(q.Context(), q.account.ID, x.Repository())
	if err != nil {
		return err
	}
	if !q.sees(x.Repository()) {
		return errRefused
	}
	story, err := h.o.Figures.WaiverStory(q.Context(), q.account.ID, x)
	if err != nil {
		return err
	}
	list := base(q.account) + "/waivers"
	if !q.all {
		list = ""
	}
	v := waiverView{
		frame:  h.framed(q, x.Title, "waivers", crumb{"Waivers", list}, crumb{x.ID, ""}),
		Waiver: x, At: h.now(), Repo: r.ShortName(), Home: repoPath(q.account, r), Row: h.waiverRowOf(q.account, x, r.ShortName(), h.now()),
	}
	v.Finding = v.Home + "/findings/" + url.PathEscape(x.Document.Finding.ID)
	if n := x.Document.Asked.Pull; n > 0 {
		v.Pull = lineAddress(v.Home, figures.PullLine(n))
	}
	for _, m := range story {
		mv := momentOf(m, finding.Finding{}, v.Home, base(q.account))
		mv.Links = nil
		v.Moments = append(v.Moments, mv)
	}
	render(h, w, q.Request, http.StatusOK, waiverPage, v)
	return nil
}

// ledgerLine is the record in one row.
type ledgerLine struct {
	figures.LedgerState
	Mark mark
	Root string // short
}

func ledgerLineOf(s figures.LedgerState) ledgerLine {
	l := ledgerLine{LedgerState: s, Root: s.Root}
	if len(s.Root) > 14 {
		l.Root = s.Root[:6] + "…" + s.Root[len(s.Root)-6:]
	}
	switch {
	case !s.Kept:
		l.Mark = notAssessed.as("No ledger here")
	case s.Problem != "":
		l.Mark = blocked.as("Ledger does not agree")
	case s.Stale():
		l.Mark = warned.as("Ledger is behind")
	case s.Agrees:
		l.Mark = passed.as("Checkpoint verified")
	default:
		l.Mark = notAssessed.as("Nothing signed yet")
	}
	return l
}

type ledgerView struct {
	frame
	Line     ledgerLine
	Commands []copyLine
	Checked  string
	Account  string
}

func (h *Web) ledger(w http.ResponseWriter, q *request) error {
	s, err := h.o.Figures.LedgerState(q.Context(), q.account.ID)
	if err != nil {
		return err
	}
	v := ledgerView{frame: h.framed(q, "Ledger", "ledger"), Line: ledgerLineOf(s), Checked: strings.Join(s.Checked, " · "), Account: q.account.ID.String()}
	verify := "noxaudit ledger verify --account " + v.Account
	v.Commands = []copyLine{{"To read and check every entry, with the settings that lead the server to the ledger (--data-dir and --deployment, or the database's URL)", verify}}
	if len(h.o.Figures.Keys) > 0 && s.Note != "" {
		v.Commands = append(v.Commands, copyLine{"The same against the key and a checkpoint that you kept", verify + " --key " + h.o.Figures.Keys[0] + " --checkpoint FILE"})
	}
	render(h, w, q.Request, http.StatusOK, ledgerPage, v)
	return nil
}
