package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/report/figures"
)

//go:embed assets/* templates/*.html
var files embed.FS

// page is a template and the type of what it shows.
type page[T any] struct{ template *template.Template }

func parse[T any](file string) page[T] {
	t := template.New("page").Option("missingkey=error").Funcs(template.FuncMap{
		"icon": icon, "sev": anySev, "n": figures.Number, "date": date, "day": day, "clock": clock, "ago": ago, "age": age, "exact": exact,
		"count": figures.Count, "short": short, "title": sentence, "state": func(m mark) mark { return m }, "pct": percent,
		"command":     func(text string) copyLine { return copyLine{"Command to copy", text} },
		"word":        func(icon, class, word string) mark { return mark{icon, class, word} },
		"titled":      func(title string, rows []historyRow) titledRows { return titledRows{title, rows} },
		"findinglist": func(rows []findingRow, resolved, repo bool) findingTable { return findingTable{rows, resolved, repo} },
	})
	return page[T]{template.Must(t.ParseFS(files, "templates/layout.html", "templates/parts.html", "templates/"+file))}
}

// One template per page, each with a type of its own.
var (
	messagePage      = parse[messageView]("message.html")
	accountsPage     = parse[accountsView]("accounts.html")
	overviewPage     = parse[overviewView]("overview.html")
	repositoriesPage = parse[repositoriesView]("repositories.html")
	repositoryPage   = parse[repositoryView]("repository.html")
	pullPage         = parse[pullView]("pull.html")
	commitPage       = parse[commitView]("commit.html")
	verdictPage      = parse[verdictPageView]("verdict.html")
	findingsPage     = parse[findingsView]("findings.html")
	findingPage      = parse[findingView]("finding.html")
	choosePage       = parse[chooseView]("choose.html")
	waiversPage      = parse[waiversView]("waivers.html")
	waiverPage       = parse[waiverView]("waiver.html")
	ledgerPage       = parse[ledgerView]("ledger.html")
)

// assets are served under the hash of their content, for ever.
var assets = func() map[string]asset {
	out := map[string]asset{}
	for file, kind := range map[string]string{"noxaudit.css": "text/css; charset=utf-8", "mark.svg": "image/svg+xml"} {
		body, err := fs.ReadFile(files, "assets/"+file)
		if err != nil {
			panic(err) // it is embedded
		}
		sum := sha256.Sum256(body)
		base, ext, _ := strings.Cut(file, ".")
		hashed := base + "." + hex.EncodeToString(sum[:6]) + "." + ext
		out[hashed] = asset{kind, body}
		assetPaths[file] = "/assets/" + hashed
	}
	return out
}()

var assetPaths = map[string]string{}

type asset struct {
	kind string
	body []byte
}

func (h *Web) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := assets[r.PathValue("file")]
	if !ok {
		h.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.body)
	}
}

// frame is what every page has around it.
type frame struct {
	Title   string
	Org     string // "" for pages of no account
	Base    string // of the account
	Whole   bool   // the reader sees the whole account
	Nav     string // the entry of the menu that this page belongs to
	Crumbs  []crumb
	Who     string // login of the reader, "" for nobody
	SignOut string
	Host    string
	Version string
	CSS     string
	Mark    string
	Query   string // of the search field
	Refresh bool
}

type crumb struct{ Text, Address string }

// Initials stand for the reader.
func (f frame) Initials() string {
	r := []rune(f.Who)
	return strings.ToUpper(string(r[:min(2, len(r))]))
}

func (h *Web) frame(r *http.Request, q *request, title string) frame {
	f := frame{Title: title, Version: h.o.Version, CSS: assetPaths["noxaudit.css"], Mark: assetPaths["mark.svg"], SignOut: h.o.SignOut}
	if u, err := url.Parse(h.o.BaseURL); err == nil {
		f.Host = u.Host
	}
	if p, signedIn := h.o.Person(r.Context()); signedIn {
		f.Who = p.Login
	}
	if q != nil {
		f.Org, f.Base, f.Whole = q.title(), base(q.account), q.all
	}
	return f
}

// framed is frame for a page of an account, with its place in it.
func (h *Web) framed(q *request, title, nav string, crumbs ...crumb) frame {
	f := h.frame(q.Request, q, title)
	f.Nav = nav
	if len(crumbs) > 0 {
		f.Crumbs = append([]crumb{{q.title(), f.Base}}, crumbs...)
	}
	return f
}

// visible makes characters that a reader would not see, or that would turn the text around them, plain to see. Our
// own markup has none, so it is done to the whole page, and no field can be forgotten. Printable ASCII, which is nearly
// all of a page, is passed over.
func visible(page []byte) []byte {
	plain := func(c byte) bool { return c >= 0x20 && c < 0x7f || c == '\n' }
	out := make([]byte, 0, len(page)+64)
	for i := 0; i < len(page); {
		j := i
		for j < len(page) && plain(page[j]) {
			j++
		}
		out = append(out, page[i:j]...)
		for i = j; j < len(page) && !plain(page[j]); {
			j++
		}
		if i < j {
			out = append(out, escape.Visible(string(page[i:j]))...)
		}
		i = j
	}
	return out
}

// mark is a state: an icon, a word, and a colour last.
type mark struct{ Icon, Class, Word string }

var (
	blocked     = mark{"blocked", "is-danger", "Blocked"}
	warned      = mark{"warned", "is-warn", "Warned"}
	passed      = mark{"passed", "is-ok", "Passed"}
	waived      = mark{"waived", "is-waive", "Waived"}
	notAssessed = mark{"unknown", "is-none", "Not assessed"}
	pending     = mark{"pending", "is-warn", "Pending"}
	ended       = mark{"ended", "is-none", "Ended"}
	reported    = mark{"report", "is-none", "Reported"}
	resolved    = mark{"passed", "is-ok", "Resolved"}
	notJudged   = mark{"unknown", "is-none", "Not yet audited"}
)

func (m mark) as(word string) mark { m.Word = word; return m }

func healthMark(s figures.State) mark {
	switch s {
	case figures.Critical:
		return blocked.as("Critical")
	case figures.Attention:
		return warned.as("Needs attention")
	case figures.Healthy:
		return passed.as("Healthy")
	}
	return notJudged
}

func icon(name string) template.HTML {
	return template.HTML(`<svg class="i i-` + name + `" aria-hidden="true"><use href="#` + name + `"></use></svg>`)
}

// titledRows and findingTable are what shared parts are given.
type titledRows struct {
	Title string
	Rows  []historyRow
}

type findingTable struct {
	Rows           []findingRow
	Resolved, Repo bool
}

// anySev also takes a number, which is what a key in a template has.
func anySev(s any) template.HTML {
	switch s := s.(type) {
	case finding.Severity:
		return sev(s)
	case int:
		return sev(finding.Severity(s))
	}
	return ""
}

// sev is a severity: its mark and its word.
func sev(s finding.Severity) template.HTML {
	return template.HTML(`<span class="sev sev-` + s.String() + `">` + sevMark(s) + sentence(s.String()) + `</span>`)
}

func sevMark(s finding.Severity) string {
	return `<svg viewBox="0 0 14 14" aria-hidden="true"><use href="#sev-` + s.String() + `"></use></svg>`
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func date(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04") }
func day(t time.Time) string  { return t.UTC().Format("2 Jan 2006") }
func clock(t time.Time) string {
	return t.UTC().Format("15:04")
}
func exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// age writes how long: "8 min", "6 h", "3 d".
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "under 1 min"
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return figures.Number(int(d/(24*time.Hour))) + " d"
}

// ago is the age of a time as of now.
func ago(now, t time.Time) string { return age(max(0, now.Sub(t))) }

// short is the start of a digest.
func short(digest string) string {
	prefix, rest, ok := strings.Cut(digest, ":")
	if !ok {
		return digest[:min(len(digest), 12)]
	}
	return prefix + ":" + rest[:min(len(rest), 8)] + "…"
}

func percent(part, all int) int {
	if all == 0 {
		return 0
	}
	return part * 100 / all
}
