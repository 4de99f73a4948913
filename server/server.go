// Package server is the HTTP front of noxaudit: webhooks, probes, and the pages.
package server

import (
	"context"
	"net/http"
	"time"
)

// Options are what the front is made of.
type Options struct {
	Hooks http.Handler                    // webhooks; see internal/github
	Ready func(ctx context.Context) error // nil error: the process can do its work now
	Auth  http.Handler                    // /auth/…; see server/auth. nil: nobody can sign in, and there are no pages
	API   http.Handler                    // /api/…; see server/api. nil: there is none
	Pages http.Handler                    // everything else; see server/web. nil: there are none
	// Require lets signed-in people through to Pages; it is there whenever Auth and Pages are.
	Require func(http.Handler) http.Handler
}

// readyTimeout bounds a readiness probe: a database that does not answer is not ready.
const readyTimeout = 3 * time.Second

// Handler serves everything but metrics, which have a listener of their own.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/github/hooks", o.Hooks)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		if err := o.Ready(ctx); err != nil {
			// The cause is in the log; it may name hosts that are nobody's business here.
			plain(w, http.StatusServiceUnavailable, "not ready")
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	if o.Auth != nil {
		mux.Handle("/auth/", o.Auth)
	}
	if o.API != nil {
		mux.Handle("/api/", o.API)
	}
	if o.Auth != nil && o.Pages != nil {
		mux.Handle("/assets/", o.Pages) // the page that asks for a sign-in has a style sheet too
		mux.Handle("/", o.Require(o.Pages))
	}
	return mux
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the client is gone: nobody is left to tell
}

// New is an http.Server with limits on how long a client may take.
func New(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 60 * time.Second,
		WriteTimeout: 60 * time.Second, IdleTimeout: 120 * time.Second, MaxHeaderBytes: 64 << 10,
	}
}
