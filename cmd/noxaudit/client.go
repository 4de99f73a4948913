package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/server/api"
)

const (
	clientTimeout = time.Minute
	maxAnswer     = 16 << 20 // bytes of a server's answer
)

// client asks a server as somebody.
type client struct {
	http   *http.Client
	server string // "https://HOST", without a path
	token  string
}

func newClient(server, token string) *client {
	return &client{server: server, token: token, http: &http.Client{
		Timeout: clientTimeout,
		// A token goes where it is for, and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// serverAddress is a server's address as sessions are kept under it.
func serverAddress(s string) (string, error) {
	u, err := url.Parse(strings.TrimSuffix(s, "/"))
	switch {
	case err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		return "", errors.New("NOXAUDIT_SERVER: want https://HOST, without a path")
	case u.Scheme == "http" && !thisMachine(u.Hostname()):
		return "", errors.New("NOXAUDIT_SERVER: want https: over http anybody on the way could take over a session; http is for this machine only")
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

func thisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// ask makes a request of the API and reads its answer into out. An error is one of the API's table where the server
// told one.
func (c *client) ask(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	status, b, err := c.do(req)
	if err != nil {
		return err
	}
	if status == http.StatusOK && json.Unmarshal(b, out) == nil {
		return nil
	}
	var p api.Problem
	if json.Unmarshal(b, &p) != nil || p.Kind == "" || p.Detail == "" {
		return c.odd(status)
	}
	if api.Of(p.Kind).Exit == exitBlocked {
		return no(&p)
	}
	return &p
}

func (c *client) odd(status int) error {
	return fmt.Errorf("%s does not answer as noxaudit does (HTTP %d): is it the address of a noxaudit server with people's sign-in set up?", c.server, status)
}

// do sends a request with the token, and returns an answer in JSON; nothing for one of another type.
func (c *client) do(req *http.Request) (status int, body []byte, err error) {
	req.Header.Set("User-Agent", "noxaudit/"+engineVersion())
	req.Header.Set("Accept", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // its text holds the address, and with it a code
			err = u.Err
		}
		return 0, nil, fmt.Errorf("%s cannot be reached: %w", c.server, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("%s: its answer ended early: %w", c.server, err)
	}
	if t, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil || t != "application/json" && t != "application/problem+json" {
		b = nil
	}
	return res.StatusCode, b, nil
}

// signedIn is what is kept of a sign-in at a server.
type signedIn struct {
	Server string    `json:"server"`
	Token  string    `json:"token"`
	Login  string    `json:"login"`
	Ends   time.Time `json:"ends"`
}

func (p *program) sessionsDir() (string, error) {
	if p.settings == "" {
		return "", errors.New("this user has no folder for settings, where sign-ins are kept; set HOME or XDG_CONFIG_HOME, or hand in a token with NOXAUDIT_TOKEN")
	}
	return filepath.Join(p.settings, "noxaudit", "sessions"), nil
}

func sessionFile(dir, server string) string {
	return filepath.Join(dir, strings.NewReplacer("://", "_", ":", "_", "[", "", "]", "").Replace(server)+".json")
}

func (p *program) keepSession(s signedIn) error {
	dir, err := p.sessionsDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".session-*") // 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(b, '\n'))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), sessionFile(dir, s.Server))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

func readSession(path string) (signedIn, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return signedIn{}, err
	}
	if !info.Mode().IsRegular() || runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return signedIn{}, fmt.Errorf("%s can be read by others (mode %04o), so it is not used: sign out and in again", path, info.Mode().Perm())
	}
	b, err := readFile(path, 1<<16)
	if err != nil {
		return signedIn{}, err
	}
	var s signedIn
	if json.Unmarshal(b, &s) != nil || s.Token == "" || s.Server == "" {
		return signedIn{}, fmt.Errorf("%s holds no sign-in: remove it and sign in again", path)
	}
	return s, nil
}

// session is the sign-in at the server of the settings, or at the only one there is.
func (p *program) session() (signedIn, error) {
	dir, err := p.sessionsDir()
	if err != nil {
		return signedIn{}, err
	}
	if p.config.ServerURL == "" {
		all, err := filepath.Glob(filepath.Join(dir, "*.json"))
		switch {
		case err != nil:
			return signedIn{}, err
		case len(all) == 0:
			return signedIn{}, errors.New("you are signed in at no server: noxaudit login --server https://HOST")
		case len(all) > 1:
			return signedIn{}, errors.New("you are signed in at several servers: name one with --server or NOXAUDIT_SERVER")
		}
		return readSession(all[0])
	}
	server, err := serverAddress(p.config.ServerURL)
	if err != nil {
		return signedIn{}, err
	}
	s, err := readSession(sessionFile(dir, server))
	if errors.Is(err, os.ErrNotExist) {
		return signedIn{}, fmt.Errorf("you are not signed in at %s: noxaudit login --server %s", server, server)
	}
	if err == nil && s.Server != server {
		err = fmt.Errorf("%s holds a sign-in at another server: remove it and sign in again", sessionFile(dir, server))
	}
	return s, err
}

// client asks the server of the settings, with the token of the settings or that of the sign-in.
func (p *program) client() (*client, error) {
	if p.config.Token != "" {
		if p.config.ServerURL == "" {
			return nil, errors.New("NOXAUDIT_TOKEN: for which server? Name it with NOXAUDIT_SERVER")
		}
		server, err := serverAddress(p.config.ServerURL)
		if err != nil {
			return nil, err
		}
		return newClient(server, p.config.Token), nil
	}
	s, err := p.session()
	if err != nil {
		return nil, err
	}
	return newClient(s.Server, s.Token), nil
}
