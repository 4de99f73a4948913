package web

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/report/figures"
)

// pageSize is how many rows a page of a list has.
const pageSize = 50

type messageView struct {
	frame
	Heading, Text, Icon string
	Button, Address     string
	Plain               bool
	Question            *Question // instead of a button
}

type accountsView struct {
	frame
	Accounts []accountRow
}

type accountRow struct{ Name, Address string }

func (h *Web) accounts(w http.ResponseWriter, q *request) error {
	v := accountsView{frame: h.frame(q.Request, nil, "Organisations")}
	for _, g := range q.person.Grants {
		if !access.Can(q.person, access.SeeAccount, access.On{Account: g.Account}) {
			continue
		}
		a, err := h.o.Figures.Account(q.Context(), g.Account)
		if err != nil {
			return err
		}
		v.Accounts = append(v.Accounts, accountRow{cmp.Or(a.Login, g.Login, a.ID.String()), base(a)})
	}
	if len(v.Accounts) == 1 {
		http.Redirect(w, q.Request, v.Accounts[0].Address, http.StatusFound)
		return nil
	}
	render(h, w, q.Request, http.StatusOK, accountsPage, v)
	return nil
}

// spans are the lengths of a trend that can be asked for.
var spans = []struct {
	Key, Name string
	Days      int
}{{"30", "30 days", 30}, {"90", "90 days", 90}, {"365", "1 year", 365}}

type overviewView struct {
	frame
	At           time.Time
	Audited, All int
	Open         int
	Spans        []option
	SpanName     string
	Strip        []stripItem
	Share        template.HTML
	Worst        []repoRow
	Joined       int // repositories that became known meanwhile
	AllNeed      int // that need work
	Squares      template.HTML
	Trend        []trendRow
	Table        []weekRow
	TrendStart   string // left end of the charts
	TrendFrom    string // first day that anything is known of
	TrendTo      string
	TrendKnown   bool
	Change       trendRow // of all severities
	Types        []typeRow
	Verdicts     []historyRow
	Waivers      figures.WaiverSummary
	Ending       []waiverRow
	Ledger       ledgerLine
}

type option struct {
	Name, Address string
	On            bool
	N             string
}

type stripItem struct {
	Mark    mark
	N       int
	Note    string
	Address string
}

type typeRow struct {
	store.TypeCount
	Address string
	Bar     template.HTML
}

type repoRow struct {
	Name, Address string
	Mark          mark
	Score         int
	Audited       bool
	Why, Second   string
	Open          figures.BySeverity
	Total         int
	At            time.Time // of the newest verdict or audit on the default branch
	Verdict       mark
	VerdictAt     string // address
	Gone          string // why it is not looked at any more
	Sq            square
}

type square struct {
	Class, Sign, Name, Address string
}

func (h *Web) repoRowOf(a figures.Account, r figures.Repo) repoRow {
	home := repoPath(a, r.Repository)
	row := repoRow{
		Name: r.ShortName(), Address: home, Mark: healthMark(r.State), Score: r.Score, Audited: r.State != figures.NotAudited,
		Open: r.Open, Total: r.Open.Total(), At: r.Line.AuditedAt, Verdict: conclusionMark(r.Line.Conclusion),
	}
	if r.Line.Verdict != "" {
		row.At = r.Line.JudgedAt
		row.VerdictAt = home + "/verdicts/" + url.PathEscape(store.ShortVerdict(r.Line.Verdict))
	}
	row.Why = r.Why(h.o.Figures.LimitsInForce())
	var parts []string
	for _, s := range []finding.Severity{finding.Critical, finding.High} {
		if r.Open[s] > 0 {
			parts = append(parts, figures.Number(r.Open[s])+" "+s.String())
		}
	}
	parts = append(parts, figures.Number(row.Total)+" open in all")
	row.Second = strings.Join(parts, " · ")
	if o := r.Origin; o != nil && o.Archived {
		row.Gone = "Archived"
	} else if o != nil && !o.Covered {
		row.Gone = "No longer covered by the App"
	}
	row.Sq = squareOf(row, r)
	return row
}

func squareOf(row repoRow, r figures.Repo) square {
	s := square{Address: row.Address}
	switch {
	case r.State == figures.NotAudited:
		s.Class, s.Sign, s.Name = "sq-none", "?", row.Name+": not yet audited"
		return s
	case r.State == figures.Critical:
		s.Class, s.Sign = "sq-critical", "!"
	case r.State == figures.Attention:
		s.Class, s.Sign = "sq-attention", "△"
	case r.Score < 95:
		s.Class, s.Sign = "sq-good", "·"
	default:
		s.Class = "sq-best"
	}
	s.Name = row.Name + ": " + strings.ToLower(row.Mark.Word) + ", score " + strconv.Itoa(r.Score)
	return s
}

const mostWorst = 8

func (h *Web) overview(w http.ResponseWriter, q *request) error {
	if !q.all { // sums would tell of what this reader does not see
		http.Redirect(w, q.Request, base(q.account)+"/repositories", http.StatusFound)
		return nil
	}
	span := spans[1]
	for _, s := range spans {
		if s.Key == q.URL.Query().Get("days") {
			span = s
		}
	}
	o, err := h.o.Figures.Overview(q.Context(), q.account.ID, span.Days)
	if err != nil {
		return err
	}
	state, err := h.o.Figures.LedgerState(q.Context(), q.account.ID)
	if err != nil {
		return err
	}
	home := base(q.account)
	v := overviewView{frame: h.framed(q, "Organisation health", "overview"), At: o.At, All: len(o.Repositories), Audited: len(o.Repositories) - o.States[figures.NotAudited], Open: o.Open.Total(), SpanName: span.Name, Waivers: o.Waivers}
	for _, s := range spans {
		v.Spans = append(v.Spans, option{Name: s.Name, Address: home + "?days=" + s.Key, On: s.Days == span.Days})
	}
	var parts []part
	for _, s := range []struct {
		state figures.State
		class string
		note  string
	}{
		{figures.Healthy, "f-ok", "Score 80 and above"}, {figures.Attention, "f-warn", "Below 80, or blocked"},
		{figures.Critical, "f-danger", "Below 60, or an open critical"}, {figures.NotAudited, "f-hatch", "Counted in no other figure here"},
	} {
		v.Strip = append(v.Strip, stripItem{healthMark(s.state), o.States[s.state], s.note, home + "/repositories?state=" + url.QueryEscape(s.state.String())})
		parts = append(parts, part{s.class, o.States[s.state]})
	}
	v.Share = bar(8, 5, v.All, parts...)
	squares := make([]square, 0, len(o.Repositories))
	for _, r := range o.Repositories {
		row := h.repoRowOf(q.account, r)
		squares = append(squares, row.Sq)
		if r.State >= figures.Attention && len(v.Worst) < mostWorst {
			v.Worst = append(v.Worst, row)
		}
	}
	v.Squares, v.Joined = heat(squares), o.Joined
	v.AllNeed = o.States[figures.Attention] + o.States[figures.Critical]
	v.Trend = trendRows(o.Trend, o.Open)
	v.Table = trendTable(o.Trend, v.Trend)
	if v.TrendKnown = o.Trend.Known < o.Trend.Days; v.TrendKnown {
		v.TrendStart, v.TrendTo = o.Trend.Date(0).Format("2 Jan"), o.At.UTC().Format("2 Jan")
		v.TrendFrom = o.Trend.Date(o.Trend.Known).Format("2 Jan")
	}
	for _, r := range v.Trend {
		v.Change.Change += r.Change
		v.Change.From += r.From
	}
	most := 1
	for _, t := range o.Types {
		most = max(most, t.Open)
	}
	for _, t := range o.Types {
		v.Types = append(v.Types, typeRow{t, home + "/findings?type=" + url.QueryEscape(t.Type), bar(6, 0, most, part{"f-grey", t.Open})})
	}
	for _, r := range o.Verdicts {
		row := historyOf([]store.Verdict{r.Verdict}, repoPath(q.account, r.Repository), true)[0]
		row.Repo = r.Repository.ShortName()
		v.Verdicts = append(v.Verdicts, row)
	}
	for _, x := range o.Waivers.EndingSoon[:min(len(o.Waivers.EndingSoon), 5)] {
		v.Ending = append(v.Ending, h.waiverRowOf(q.account, x, "", o.At))
	}
	v.Ledger = ledgerLineOf(state)
	render(h, w, q.Request, http.StatusOK, overviewPage, v)
	return nil
}

type repositoriesView struct {
	frame
	Rows   []repoRow
	States []option
	All    int
	Shown  int
	Pages  pager
}

// pager leads through a list.
type pager struct{ First, Next string }

func (h *Web) repositories(w http.ResponseWriter, q *request) error {
	all, err := h.o.Figures.Repositories(q.Context(), q.account.ID)
	if err != nil {
		return err
	}
	if !q.all {
		all = slices.DeleteFunc(all, func(r figures.Repo) bool { return !q.sees(r.ID) })
		if len(all) == 0 {
			return errRefused
		}
	}
	here := base(q.account) + "/repositories"
	want := q.URL.Query().Get("state")
	v := repositoriesView{frame: h.framed(q, "Repositories", "repositories"), All: len(all)}
	counts := map[string]int{}
	for _, r := range all {
		counts[r.State.String()]++
	}
	v.States = []option{{Name: "All", Address: here, On: want == "", N: figures.Number(len(all))}}
	for _, s := range []figures.State{figures.Critical, figures.Attention, figures.Healthy, figures.NotAudited} {
		v.States = append(v.States, option{Name: healthMark(s).Word, Address: here + "?state=" + url.QueryEscape(s.String()), On: want == s.String(), N: figures.Number(counts[s.String()])})
	}
	if want != "" {
		if !slices.ContainsFunc(v.States[1:], func(o option) bool { return o.On }) {
			return errRefused // there is no such state
		}
		all = slices.DeleteFunc(all, func(r figures.Repo) bool { return r.State.String() != want })
	}
	v.Shown = len(all)
	if after := q.URL.Query().Get("after"); after != "" {
		i := slices.IndexFunc(all, func(r figures.Repo) bool { return r.ID == after })
		all = all[i+1:] // from the start when it is gone
		v.Pages.First = with(here, "state", want)
	}
	if len(all) > pageSize {
		all = all[:pageSize]
		v.Pages.Next = with(here, "state", want, "after", all[pageSize-1].ID)
	}
	for _, r := range all {
		v.Rows = append(v.Rows, h.repoRowOf(q.account, r))
	}
	render(h, w, q.Request, http.StatusOK, repositoriesPage, v)
	return nil
}

// with adds parameters that are not empty.
func with(address string, pairs ...string) string {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	if len(values) == 0 {
		return address
	}
	return address + "?" + values.Encode()
}

type repositoryView struct {
	frame
	Row      repoRow
	At       time.Time
	GitHub   string
	Branch   string
	Private  bool
	Costs    []costRow
	Tree     *verdictView
	Pulls    []pullRow
	MorePull bool
	Findings []findingRow
	All      string // address of all findings of it
	History  []historyRow
}

type costRow struct {
	Severity finding.Severity
	Open     int
	Points   int
	Late     string
}

type pullRow struct {
	Number         int
	Title, Address string
	Author, Into   string
	Draft          bool
	Mark           mark
	Note           string
	At             time.Time
}

func (h *Web) repository(w http.ResponseWriter, q *request) error {
	r, err := h.o.Figures.RepositoryReport(q.Context(), q.account.ID, *q.repo)
	if err != nil {
		return err
	}
	home := repoPath(q.account, *q.repo)
	v := repositoryView{
		frame: h.framed(q, q.repo.ShortName(), "repositories", crumb{"Repositories", base(q.account) + "/repositories"}, crumb{q.repo.ShortName(), ""}),
		Row:   h.repoRowOf(q.account, r.Repo), At: r.At, GitHub: h.githubRepo(*q.repo), MorePull: r.MorePull, History: historyOf(r.Verdicts, home, true),
	}
	if o := q.repo.Origin; o != nil {
		v.Branch, v.Private = o.DefaultBranch, o.Private
	}
	for _, c := range r.Costs {
		row := costRow{Severity: c.Severity, Open: c.Open, Points: c.Points + c.LateCost}
		if c.Late > 0 {
			row.Late = "the oldest is " + age(c.Late) + " past its limit"
		}
		v.Costs = append(v.Costs, row)
	}
	if r.Newest != nil {
		set, err := h.setting(q, home, "")
		if err != nil {
			return err
		}
		t := tree(*r.Newest, set)
		v.Tree = &t
	}
	for _, p := range r.Pulls {
		row := pullRow{Number: p.Number, Title: p.Title, Address: home + "/pulls/" + strconv.Itoa(p.Number), Author: p.Author, Into: p.BaseRef, Draft: p.Draft, Mark: conclusionMark(p.Line.Conclusion), At: p.UpdatedAt}
		if p.Line.Verdict == "" {
			row.Mark = notJudged.as("Not yet judged")
		}
		if p.Line.Verdict != "" && !p.Current() {
			row.Mark, row.Note = pending, "at an earlier head: "+strings.ToLower(conclusionMark(p.Line.Conclusion).Word)
		}
		v.Pulls = append(v.Pulls, row)
	}
	v.Findings = h.findingRows(q.account, r.Findings, map[string]store.Repository{q.repo.ID: *q.repo}, r.At)
	if q.all {
		v.All = with(base(q.account)+"/findings", "repository", q.repo.ID)
	}
	render(h, w, q.Request, http.StatusOK, repositoryPage, v)
	return nil
}

// setting is what verdicts of the request's repository are shown with now.
func (h *Web) setting(q *request, home, author string) (setting, error) {
	ws, err := h.o.Figures.OpenWaiversOf(q.Context(), q.account.ID, q.repo.ID)
	if err != nil {
		return setting{}, err
	}
	set := setting{account: q.account.ID.String(), home: home, author: author, waivers: map[figures.Named]*waiverRow{}}
	for _, w := range ws {
		row := h.waiverRowOf(q.account, w, q.repo.ShortName(), h.now())
		f := w.Document.Finding
		set.waivers[figures.Named{Fingerprint: f.Fingerprint, Content: f.Content}] = &row
	}
	return set, nil
}

// githubRepo is the repository's page at GitHub; "" for one that is not there.
func (h *Web) githubRepo(r store.Repository) string {
	if h.github == "" || r.Origin == nil || r.Origin.Owner == "" || r.Origin.Name == "" {
		return ""
	}
	return h.github + "/" + url.PathEscape(r.Origin.Owner) + "/" + url.PathEscape(r.Origin.Name)
}

func below(address, path string) string {
	if address == "" {
		return ""
	}
	return address + path
}

type pullView struct {
	frame
	Pull    store.Pull
	At      time.Time
	GitHub  string
	Stale   string // what to say when the verdict is about an earlier head
	Fork    bool
	Tree    *verdictView
	History []historyRow
	Commit  string // address
}

func (h *Web) pull(w http.ResponseWriter, q *request) error {
	number, err := strconv.Atoi(q.PathValue("number"))
	if err != nil || number < 1 || strconv.Itoa(number) != q.PathValue("number") {
		return errRefused
	}
	p, err := h.o.Figures.Pull(q.Context(), q.account.ID, q.repo.ID, number)
	if err != nil {
		return err
	}
	home := repoPath(q.account, *q.repo)
	v := pullView{
		frame: h.framed(q, cmp.Or(p.Title, "Pull request #"+strconv.Itoa(number)), "repositories", crumb{q.repo.ShortName(), home}, crumb{"Pull request #" + strconv.Itoa(number), ""}),
		Pull:  p.Pull, At: p.At, GitHub: below(h.githubRepo(*q.repo), "/pull/"+strconv.Itoa(number)), Commit: home + "/commits/" + p.Head.String(),
		Fork: p.HeadRepo != 0 && strconv.FormatInt(p.HeadRepo, 10) != q.repo.ID, History: historyOf(p.History, home, false),
	}
	if p.Verdict != nil {
		set, err := h.setting(q, home, p.Author)
		if err != nil {
			return err
		}
		t := tree(*p.Verdict, set)
		v.Tree = &t
		if p.Stale() {
			v.Stale = "This verdict is about " + p.Verdict.Row.Head.Short() + ". The head is " + p.Head.Short() + " now, and its verdict is on the way."
		}
	}
	render(h, w, q.Request, http.StatusOK, pullPage, v)
	return nil
}

type commitView struct {
	frame
	SHA     string
	Short   string
	At      time.Time
	GitHub  string
	Check   string // what became of the check run
	Pending bool
	Worst   *verdictView
	Trees   []occasionView
	Pulls   []link
}

type link struct{ Text, Address string }

type occasionView struct {
	Name, Address string
	Tree          verdictView
}

func (h *Web) commit(w http.ResponseWriter, q *request) error {
	sha, err := name.ParseCommit(q.PathValue("sha"))
	if err != nil {
		return errRefused
	}
	c, err := h.o.Figures.Commit(q.Context(), q.account.ID, q.repo.ID, sha)
	if err != nil {
		return err
	}
	home := repoPath(q.account, *q.repo)
	v := commitView{
		frame: h.framed(q, "Commit "+sha.Short(), "repositories", crumb{q.repo.ShortName(), home}, crumb{"Commit " + sha.Short(), ""}),
		SHA:   sha.String(), Short: sha.Short(), At: c.At, GitHub: below(h.githubRepo(*q.repo), "/commit/"+sha.String()),
	}
	authors := map[string]string{}
	for _, p := range c.Pulls {
		n := strconv.Itoa(p.Number)
		authors[figures.PullLine(p.Number)] = p.Author
		v.Pulls = append(v.Pulls, link{"#" + n + " " + p.Title, home + "/pulls/" + n})
	}
	set, err := h.setting(q, home, "")
	if err != nil {
		return err
	}
	for _, x := range c.Verdicts {
		set.author = authors[x.Row.Line]
		v.Trees = append(v.Trees, occasionView{sentence(lineName(x.Row.Line)), lineAddress(home, x.Row.Line), tree(x, set)})
	}
	if len(v.Trees) > 0 {
		v.Worst = &v.Trees[0].Tree
	}
	if c.Head != nil {
		v.Pending = c.Head.Done < c.Head.Wanted
		switch {
		case v.Pending:
			v.Check = "Being looked at since " + ago(c.At, c.Head.Changed) + "."
		case c.Head.State == store.CheckCompleted:
			v.Check = "The check run carries the worst of these verdicts, published " + date(c.Head.Changed) + "."
		}
	}
	render(h, w, q.Request, http.StatusOK, commitPage, v)
	return nil
}

type verdictPageView struct {
	frame
	Tree    verdictView
	Head    string
	Line    string
	LineTo  string
	Newer   string // address of what replaced it
	At      time.Time
	Commit  string
	Subject string
}

func (h *Web) verdict(w http.ResponseWriter, q *request) error {
	x, err := h.o.Figures.Verdict(q.Context(), q.account.ID, q.PathValue("verdict"))
	var several *store.AmbiguousError
	if errors.As(err, &several) {
		v := chooseView{frame: h.framed(q, "Which verdict?", "repositories"), Text: "The id is the start of several verdicts."}
		for _, id := range several.Candidates {
			v.Links = append(v.Links, link{id, repoPath(q.account, *q.repo) + "/verdicts/" + url.PathEscape(id)})
		}
		render(h, w, q.Request, http.StatusOK, choosePage, v)
		return nil
	}
	if err != nil {
		return err
	}
	if x.Row.Repository != q.repo.ID {
		return errRefused
	}
	home := repoPath(q.account, *q.repo)
	v := verdictPageView{ // as it was decided: without what was asked for since

		frame: h.framed(q, "Verdict "+x.Row.Short, "repositories", crumb{q.repo.ShortName(), home}, crumb{"Verdict " + x.Row.Short, ""}),
		Tree:  tree(x, setting{account: q.account.ID.String(), home: home}), Line: lineName(x.Row.Line), LineTo: lineAddress(home, x.Row.Line), At: x.Row.Time,
	}
	if !x.Row.Head.IsZero() {
		v.Head, v.Commit = x.Row.Head.Short(), home+"/commits/"+x.Row.Head.String()
	}
	render(h, w, q.Request, http.StatusOK, verdictPage, v)
	return nil
}

type findingsView struct {
	frame
	At        time.Time
	Rows      []findingRow
	States    []option
	Severity  []option
	On        []filterOn
	Pages     pager
	Resolved  bool
	Filtered  bool
	TotalNote string
}

type filterOn struct{ Name, Value, Without string }

type findingRow struct {
	Title, ID, Address string
	Severity           finding.Severity
	Type               string
	Repo, RepoAddress  string
	Place              string
	Class              string
	Model              bool
	Seen               time.Time
	Age                string
	Late               string
	Resolved           time.Time
}

func (h *Web) findingRows(a figures.Account, rows []store.FindingRow, repos map[string]store.Repository, now time.Time) []findingRow {
	limits := h.o.Figures.LimitsInForce()
	var out []findingRow
	for _, r := range rows {
		repo := repos[r.Repository]
		home := repoPath(a, repo)
		f := findingRow{
			Title: cmp.Or(r.Finding.Title, r.Finding.Type), ID: r.Finding.ID, Address: home + "/findings/" + url.PathEscape(r.Finding.ID), Severity: r.Finding.Severity,
			Type: r.Finding.Type, Repo: repo.ShortName(), RepoAddress: home, Place: r.Finding.Place(), Class: evidence(r.Finding), Model: r.Finding.Evidence == finding.Model,
			Seen: r.FirstSeen, Age: ago(now, r.FirstSeen), Resolved: r.Resolved,
		}
		if r.Open {
			if late := limits.Late(r.Finding.Severity, r.FirstSeen, now); late > 0 {
				f.Late = age(late) + " past its limit"
			}
		}
		out = append(out, f)
	}
	return out
}

func (h *Web) findings(w http.ResponseWriter, q *request) error {
	in := q.URL.Query()
	f := store.FindingFilter{Repository: in.Get("repository"), Type: in.Get("type")}
	state, severity := in.Get("state"), in.Get("severity")
	switch state {
	case "", "open":
		state = ""
	case "resolved":
		f.Resolved = true
	default:
		return errRefused
	}
	if severity != "" {
		s, err := finding.ParseSeverity(severity)
		if err != nil {
			return errRefused
		}
		f.Severity = &s
	}
	if after := in.Get("after"); after != "" {
		if f.After = new(store.FindingKey); !cursor(after, f.After) {
			return errRefused
		}
	}
	l, err := h.o.Figures.Findings(q.Context(), q.account.ID, f, pageSize)
	if err != nil {
		return err
	}
	here := base(q.account) + "/findings"
	at := func(state, severity, kind, repository, after string) string {
		return with(here, "state", state, "severity", severity, "type", kind, "repository", repository, "after", after)
	}
	v := findingsView{frame: h.framed(q, "Findings", "findings"), At: h.now(), Resolved: f.Resolved, Filtered: severity != "" || f.Type != "" || f.Repository != ""}
	v.States = []option{{Name: "Open", Address: at("", severity, f.Type, f.Repository, ""), On: !f.Resolved}, {Name: "Resolved", Address: at("resolved", severity, f.Type, f.Repository, ""), On: f.Resolved}}
	v.Severity = []option{{Name: "All severities", Address: at(state, "", f.Type, f.Repository, ""), On: severity == ""}}
	for _, s := range finding.Severities() {
		v.Severity = append(v.Severity, option{Name: sentence(s.String()), Address: at(state, s.String(), f.Type, f.Repository, ""), On: severity == s.String()})
	}
	repos := map[string]store.Repository{}
	ids := []string{f.Repository}
	for _, r := range l.Rows {
		ids = append(ids, r.Repository)
	}
	for _, id := range ids {
		if _, known := repos[id]; known || id == "" {
			continue
		}
		if repos[id], err = h.o.Figures.Repository(q.Context(), q.account.ID, id); err != nil {
			return err
		}
	}
	if f.Type != "" {
		v.On = append(v.On, filterOn{"Type", f.Type, at(state, severity, "", f.Repository, "")})
	}
	if f.Repository != "" {
		v.On = append(v.On, filterOn{"Repository", repos[f.Repository].ShortName(), at(state, severity, f.Type, "", "")})
	}
	v.Rows = h.findingRows(q.account, l.Rows, repos, v.At)
	if f.After != nil {
		v.Pages.First = at(state, severity, f.Type, f.Repository, "")
	}
	if l.More {
		v.Pages.Next = at(state, severity, f.Type, f.Repository, cursorOf(l.Rows[len(l.Rows)-1].Key()))
	}
	render(h, w, q.Request, http.StatusOK, findingsPage, v)
	return nil
}

// cursorOf is a place in a list as an address has it.
func cursorOf(key any) string {
	raw, err := json.Marshal(key)
	if err != nil {
		panic(err) // keys are numbers and texts
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// cursor reads what cursorOf wrote, or says that it is something else.
func cursor(text string, key any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && json.Unmarshal(raw, key) == nil
}

type chooseView struct {
	frame
	Text  string
	Links []link
}

// find leads to what a reader typed: a finding's, waiver's or verdict's id, or a part of a repository's name.
func (h *Web) find(w http.ResponseWriter, q *request) error {
	typed := strings.TrimSpace(q.URL.Query().Get("q"))
	home := base(q.account)
	v := chooseView{frame: h.framed(q, "Search", "")}
	v.Query = typed
	upper := strings.ToUpper(typed)
	switch {
	case strings.HasPrefix(upper, "NX-"):
		repos, err := h.o.Figures.RepositoriesOfFinding(q.Context(), q.account.ID, upper)
		if err != nil {
			return err
		}
		for _, r := range repos {
			if q.all || q.sees(r.ID) {
				v.Links = append(v.Links, link{upper + " in " + r.ShortName(), repoPath(q.account, r) + "/findings/" + url.PathEscape(upper)})
			}
		}
	case strings.HasPrefix(upper, "W-") && q.all:
		if x, err := h.o.Figures.Waiver(q.Context(), q.account.ID, upper); err == nil {
			v.Links = append(v.Links, link{x.ID, home + "/waivers/" + url.PathEscape(x.ID)})
		} else if !errors.Is(err, figures.ErrNotFound) {
			return err
		}
	case typed != "":
		all, err := h.o.Figures.Repositories(q.Context(), q.account.ID)
		if err != nil {
			return err
		}
		for _, r := range all {
			if strings.Contains(strings.ToLower(r.ShortName()), strings.ToLower(typed)) && (q.all || q.sees(r.ID)) && len(v.Links) < pageSize {
				v.Links = append(v.Links, link{r.ShortName(), repoPath(q.account, r.Repository)})
			}
		}
	}
	if len(v.Links) == 1 {
		http.Redirect(w, q.Request, v.Links[0].Address, http.StatusFound)
		return nil
	}
	v.Text = "Nothing is called so here. Search takes a part of a repository's name, or an id that begins with NX- or W-."
	if len(v.Links) > 0 {
		v.Text = figures.Count(len(v.Links), "match", "matches") + "."
	}
	render(h, w, q.Request, http.StatusOK, choosePage, v)
	return nil
}
