package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/internal/escape"
)

// loginWithin is how long the person in front of the browser is waited for.
const loginWithin = 10 * time.Minute

func (p *program) loginCommand() *cobra.Command {
	var noBrowser bool
	cmd := &cobra.Command{
		Use:   "login",
		Short: "sign in at a noxaudit server, in the browser",
		Long: `Signs this command line in at a noxaudit server. A browser on this machine opens
the server's page; you agree there, and the command line gets a session of its own.
It is kept in your settings folder, readable by you only, and ends like any session:
when it is not used, after half a day at the latest, or when you end it.

Who may sign in is who may see the pages. Where there is no browser, set
NOXAUDIT_TOKEN or NOXAUDIT_TOKEN_FILE.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&noBrowser, "no-browser", false, "open no browser; only print the address")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if p.config.ServerURL == "" {
			return errors.New("where? Name the server with --server https://HOST")
		}
		server, err := serverAddress(p.config.ServerURL)
		if err != nil {
			return err
		}
		if _, err := p.sessionsDir(); err != nil {
			return err
		}
		s, err := p.signIn(cmd.Context(), server, noBrowser)
		if err != nil {
			return err
		}
		if err := p.keepSession(s); err != nil {
			return fmt.Errorf("you are signed in, but the session cannot be kept: %w", err)
		}
		fmt.Fprintf(p.stdout, "signed in at %s as %s, until %s at the latest\n", server, escape.Visible(s.Login), s.Ends.Local().Format("2006-01-02 15:04"))
		return nil
	}
	return cmd
}

// signIn waits on a port of this machine for what the browser brings from the server (RFC 8252), and turns it into a
// token. Only who holds the verifier can: the code alone, seen on the way, is of no use.
func (p *program) signIn(ctx context.Context, server string, noBrowser bool) (signedIn, error) {
	var secrets [2][32]byte
	for i := range secrets {
		if _, err := io.ReadFull(p.rand, secrets[i][:]); err != nil {
			return signedIn{}, fmt.Errorf("random source: %w", err)
		}
	}
	state, verifier := base64.RawURLEncoding.EncodeToString(secrets[0][:]), base64.RawURLEncoding.EncodeToString(secrets[1][:])
	listen, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return signedIn{}, fmt.Errorf("no port of this machine can be listened on: %w", err)
	}
	brought := make(chan url.Values, 1)
	srv := &http.Server{Handler: loopback(listen.Addr().String(), state, brought), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	go srv.Serve(listen)
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = srv.Shutdown(stop) // the browser gets its page; if it does not, nothing is lost
		srv.Close()
	}()
	sum := sha256.Sum256([]byte(verifier))
	address := server + "/auth/cli?" + url.Values{
		"port": {strconv.Itoa(listen.Addr().(*net.TCPAddr).Port)}, "state": {state}, "host": {p.hostname},
		"challenge": {base64.RawURLEncoding.EncodeToString(sum[:])},
	}.Encode()
	fmt.Fprintf(p.stderr, "Open this address in a browser on this machine, and agree there:\n\n  %s\n\n", address)
	if !noBrowser && p.browse != nil {
		p.browse(address)
	}
	ctx, cancel := context.WithTimeout(ctx, loginWithin)
	defer cancel()
	var q url.Values
	select {
	case q = <-brought:
	case <-ctx.Done():
		return signedIn{}, errors.New("nobody agreed in the browser within ten minutes; nothing was kept")
	}
	if q.Get("code") == "" {
		return signedIn{}, no(errors.New("you did not agree in the browser; you are not signed in"))
	}
	return p.exchange(ctx, newClient(server, ""), q.Get("code"), verifier)
}

// loopback hears the browser out. Other programs and pages can reach the port too: what does not hold the state is
// turned away and changes nothing.
func loopback(address, state string, brought chan<- url.Values) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Referrer-Policy", "no-referrer") // the address holds a code
		h.Set("X-Content-Type-Options", "nosniff")
		q := r.URL.Query()
		if r.Method != http.MethodGet || r.URL.Path != "/" || r.Host != address ||
			subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 || (q.Get("code") == "") == (q.Get("error") == "") {
			http.Error(w, "This is not what noxaudit's command line waits for; nothing happened.", http.StatusBadRequest)
			return
		}
		select {
		case brought <- q:
			fmt.Fprintln(w, "noxaudit's command line has the answer. You can close this page and go back to it.")
		default:
			http.Error(w, "The command line has its answer already; nothing happened.", http.StatusConflict)
		}
	})
}

func (p *program) exchange(ctx context.Context, c *client, code, verifier string) (signedIn, error) {
	form := url.Values{"code": {code}, "verifier": {verifier}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server+"/auth/cli/token", strings.NewReader(form.Encode()))
	if err != nil {
		return signedIn{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, b, err := c.do(req)
	if err != nil {
		return signedIn{}, err
	}
	var out struct {
		signedIn
		Description string `json:"error_description"`
	}
	if json.Unmarshal(b, &out) != nil {
		return signedIn{}, c.odd(status)
	}
	switch {
	case status == http.StatusOK && out.Token != "":
		out.Server = c.server
		return out.signedIn, nil
	case out.Description != "":
		return signedIn{}, errors.New(out.Description)
	}
	return signedIn{}, c.odd(status)
}

func (p *program) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "end this command line's session at a noxaudit server",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.session()
			if err != nil {
				return err
			}
			c := newClient(s.Server, s.Token)
			req, err := http.NewRequestWithContext(cmd.Context(), http.MethodPost, c.server+"/auth/cli/logout", nil)
			if err != nil {
				return err
			}
			status, _, err := c.do(req)
			if err == nil && status != http.StatusNoContent && status != http.StatusUnauthorized {
				err = fmt.Errorf("%s did not end the session (HTTP %d); try again, or end it on the server's page", c.server, status)
			}
			if err != nil {
				return err // the token is kept: it is still good
			}
			dir, err := p.sessionsDir()
			if err != nil {
				return err
			}
			if err := os.Remove(sessionFile(dir, s.Server)); err != nil {
				return err
			}
			fmt.Fprintln(p.stdout, "signed out at "+s.Server)
			return nil
		},
	}
}
