// Package simweb is the web pages of a simulated GitHub: repositories, pull requests with their checks and conversation,
// and the page that asks a person to agree to a sign-in. It shows what package githubsim knows and acts only through its
// people's API, so that what GitHub refuses is refused here as well.
//
// Whoever visits chooses whom to be: a simulation has no passwords, and every page says that it is one.
package simweb

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// Options say how the pages are made.
type Options struct {
	Server *githubsim.Server // required
	People []Person          // whom a visitor may be, in this order; nil: all people. The first is who a visitor is at first
	Links  []Link            // shown on every page: where else to look
	Now    func() time.Time  // time.Now
	Wait   time.Duration     // how long an act waits for the Apps' answer before the page is shown; 0: not at all
}

// Person is somebody a visitor may be.
type Person struct {
	Login string
	Note  string // what they are, in a few words
}

// Link is an address with its words.
type Link struct{ Text, URL string }

//go:embed pages
var pages embed.FS

type web struct {
	o     Options
	mux   *http.ServeMux
	pages map[string]*template.Template
	style []byte
}

// cookie remembers whom the visitor is. Its name is its own: cookies of one host are shared by all its ports.
const cookie = "simulated_github_user"

// maxForm is how much a form may send: a comment of 65,536 characters, or a file to edit.
const maxForm = 1 << 20

// New makes the pages. They are served as [githubsim.Options].Pages.
func New(o Options) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	w := &web{o: o, mux: http.NewServeMux(), pages: map[string]*template.Template{}}
	w.style, _ = pages.ReadFile("pages/style.css")
	for _, name := range []string{"home", "people", "repo", "file", "edit", "commits", "commit", "pulls", "pull", "files", "checks", "compare", "run", "authorize", "message"} {
		w.pages[name] = template.Must(template.New("layout.html").Funcs(w.funcs()).ParseFS(pages, "pages/layout.html", "pages/parts.html", "pages/"+name+".html"))
	}
	w.routes()
	return http.NewCrossOriginProtection().Handler(w.mux)
}

func (w *web) routes() {
	w.mux.HandleFunc("GET /static/style.css", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/css; charset=utf-8")
		rw.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(w.style))
	})
	get := func(pattern string, f func(*visit) (*view, error)) { w.mux.HandleFunc("GET "+pattern, w.handle(f)) }
	post := func(pattern string, f func(*visit) (*view, error)) { w.mux.HandleFunc("POST "+pattern, w.handle(f)) }
	const repo = "/{owner}/{repo}"
	get("/{$}", w.home)
	post("/switch", w.change)
	get("/{owner}", w.people)
	get("/orgs/{owner}/people", w.people)
	get("/orgs/{owner}/teams/{slug}", w.people)
	get("/login/oauth/authorize", w.authorize)
	post("/login/oauth/authorize", w.agree)
	get(repo, w.repo)
	get(repo+"/tree/{ref}/{path...}", w.repo)
	get(repo+"/blob/{ref}/{path...}", w.file)
	get(repo+"/edit/{ref}/{path...}", w.edit)
	post(repo+"/edit/{ref}/{path...}", w.save)
	get(repo+"/new/{ref}", w.edit)
	post(repo+"/new/{ref}", w.save)
	post(repo+"/fork", w.fork)
	get(repo+"/commits/{ref}", w.commits)
	get(repo+"/commit/{sha}", w.commit)
	get(repo+"/compare/{ref}", w.compare)
	post(repo+"/compare/{ref}", w.open)
	get(repo+"/pulls", w.pulls)
	get(repo+"/pull/{number}", w.pull)
	get(repo+"/pull/{number}/commits", w.pullCommits)
	get(repo+"/pull/{number}/files", w.files)
	get(repo+"/pull/{number}/checks", w.checks)
	post(repo+"/pull/{number}/{act}", w.act)
	get(repo+"/runs/{id}", w.run)
	post(repo+"/runs/{id}/{act}", w.press)
}

// visit is one request and who makes it.
type visit struct {
	*http.Request
	w    http.ResponseWriter
	sim  *githubsim.Server
	user string
	form url.Values
}

// view is a page to show, or where to go instead.
type view struct {
	page  string
	title string
	body  any
	to    string // redirect
	csp   string // more for the Content-Security-Policy
	fresh bool   // ask again in a moment: something is under way
}

// refused is an act that is not done, with the reason for the visitor.
type refused struct {
	status int
	reason string
}

func (r refused) Error() string { return r.reason }

var errMissing = refused{http.StatusNotFound, "There is no such page here, or the person you are may not see it."}

func (w *web) handle(f func(*visit) (*view, error)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(rw, r.Body, maxForm)
		v := &visit{Request: r, w: rw, sim: w.o.Server, user: w.visitor(r)}
		if r.Method == http.MethodPost {
			if err := r.ParseForm(); err != nil {
				w.fail(v, refused{http.StatusRequestEntityTooLarge, "That is too much, or not a form."})
				return
			}
			v.form = r.PostForm
		}
		p, err := f(v)
		switch {
		case err != nil:
			w.fail(v, err)
		case p.to != "":
			http.Redirect(rw, r, p.to, http.StatusSeeOther)
		default:
			w.show(v, http.StatusOK, p)
		}
	}
}

func (w *web) fail(v *visit, err error) {
	status := http.StatusUnprocessableEntity
	var no refused
	if errors.As(err, &no) {
		status = no.status
	}
	back := "/"
	if u, e := url.Parse(v.Referer()); e == nil && u.Host == v.Host && v.Method == http.MethodPost {
		back = u.RequestURI()
	}
	title := "Not done"
	if status == http.StatusNotFound {
		title = "Not found"
	}
	w.show(v, status, &view{page: "message", title: title, body: struct{ Title, Text, Back string }{title, sentence(err.Error()), back}})
}

// sentence begins with a capital and ends with a full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.ContainsAny(s[len(s)-1:], ".!?") {
		s += "."
	}
	return s
}

func (w *web) show(v *visit, status int, p *view) {
	var out bytes.Buffer
	data := struct {
		Title, User, Here string
		People            []Person
		Links             []Link
		Fresh             bool
		Body              any
	}{p.title, v.user, v.URL.RequestURI(), w.choices(), w.o.Links, p.fresh, p.body}
	if v.Method != http.MethodGet {
		data.Here = "/"
	}
	if err := w.pages[p.page].Execute(&out, data); err != nil {
		http.Error(v.w, "this page could not be drawn", http.StatusInternalServerError)
		return
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'"+p.csp+"; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	v.w.WriteHeader(status)
	v.w.Write(out.Bytes())
}

// choices are whom a visitor may be.
func (w *web) choices() []Person {
	if w.o.People != nil {
		return w.o.People
	}
	var all []Person
	for _, login := range w.o.Server.Users() {
		all = append(all, Person{Login: login})
	}
	return all
}

func (w *web) visitor(r *http.Request) string {
	people := w.choices()
	if c, err := r.Cookie(cookie); err == nil {
		for _, p := range people {
			if p.Login == c.Value {
				return p.Login
			}
		}
	}
	if len(people) > 0 {
		return people[0].Login
	}
	return ""
}

// change makes the visitor somebody else.
func (w *web) change(v *visit) (*view, error) {
	login := v.form.Get("user")
	for _, p := range w.choices() {
		if p.Login == login {
			http.SetCookie(v.w, &http.Cookie{Name: cookie, Value: login, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
			return &view{to: local(v.form.Get("to"))}, nil
		}
	}
	return nil, refused{http.StatusUnprocessableEntity, "There is nobody of that name here."}
}

// local is an address on this site; anything else becomes the first page.
func local(to string) string {
	if u, err := url.Parse(to); err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n") {
		return "/"
	}
	return to
}

// settle waits until done says so, or the visitor has waited long enough.
func (w *web) settle(ctx context.Context, done func() bool) {
	if w.o.Wait <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, w.o.Wait)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ago is a moment for people.
func (w *web) ago(t time.Time) string {
	d := w.o.Now().Sub(t)
	count := func(n int, what string) string {
		if n == 1 {
			return "1 " + what + " ago"
		}
		return fmt.Sprintf("%d %ss ago", n, what)
	}
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return count(int(d.Minutes()), "minute")
	case d < 24*time.Hour:
		return count(int(d.Hours()), "hour")
	case d < 60*24*time.Hour:
		return count(int(d.Hours()/24), "day")
	}
	return t.Format("2 Jan 2006")
}

func (w *web) funcs() template.FuncMap {
	return template.FuncMap{
		"markdown": markdown,
		"ago":      w.ago,
		"stamp":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
		"short":    func(sha string) string { return sha[:min(len(sha), 7)] },
		"subject":  func(s string) string { first, _, _ := strings.Cut(s, "\n"); return first },
		"escape":   url.PathEscape,
		"path":     escapePath,
		"initial": func(login string) string {
			if login == "" {
				return "?"
			}
			return strings.ToUpper(login[:1])
		},
		"hue":    hue,
		"plural": plural,
		"emoji":  func(content string) string { return emoji[content] },
		"add":    func(a, b int) int { return a + b },
		"dict": func(pairs ...any) map[string]any {
			m := map[string]any{}
			for i := 0; i+1 < len(pairs); i += 2 {
				m[pairs[i].(string)] = pairs[i+1]
			}
			return m
		},
	}
}

var emoji = map[string]string{"+1": "👍", "-1": "👎", "laugh": "😄", "confused": "😕", "heart": "❤️", "hooray": "🎉", "rocket": "🚀", "eyes": "👀"}

// hue is one of eight colours for a person.
func hue(login string) int {
	n := 0
	for _, c := range []byte(login) {
		n = n*31 + int(c)
	}
	return (n%8 + 8) % 8
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}
