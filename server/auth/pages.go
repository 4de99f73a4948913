package auth

import (
	"html/template"
	"net/http"
)

// Page is what a person reads where a request ends here.
type Page struct {
	Status         int
	Title          string
	Sentence       string // what happened, what it means, what to do next
	Link, LinkText string // a way on, on this server or on the person's own machine; "" for none
}

// Pages shows a page. It sets the status; some headers are set already.
type Pages func(w http.ResponseWriter, r *http.Request, p Page)

var plain = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Title}} · noxaudit</title>
<main><h1>{{.Title}}</h1><p>{{.Sentence}}</p>{{if .Link}}<p><a href="{{.Link}}">{{.LinkText}}</a></p>{{end}}</main></html>
`))

func plainPages(w http.ResponseWriter, _ *http.Request, p Page) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_ = plain.Execute(w, p) // the client is gone: nobody is left to tell
}
