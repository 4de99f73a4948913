package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxNext  = 512 // bytes of an address to come back to
	maxFlows = 4   // sign-ins under way in one browser: tabs that woke up together
	nonceLen = 16
	flowHead = nonceLen + 8
)

var raw64 = base64.RawURLEncoding.Strict()

// flow is a sign-in under way. It travels in a cookie of the browser that began it, under a MAC; state and verifier
// are derived from it with the same key, so that whoever sees the state, or the code, can do nothing with them.
type flow struct {
	nonce  [nonceLen]byte
	issued time.Time // whole seconds
	next   string
}

func (a *Auth) newFlow(next string) (flow, error) {
	f := flow{issued: a.opts.Now().Truncate(time.Second), next: next}
	if _, err := io.ReadFull(a.opts.Rand, f.nonce[:]); err != nil {
		return flow{}, fmt.Errorf("random source: %w", err)
	}
	return f, nil
}

func (f flow) head() []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(f.nonce[:]), uint64(f.issued.Unix()))
}

func (a *Auth) mac(purpose string, data []byte) []byte {
	m := hmac.New(sha256.New, a.flowKey)
	m.Write([]byte(purpose + "\x00"))
	m.Write(data)
	return m.Sum(nil)
}

// state is what GitHub sends back; verifier proves to GitHub that the code is ours (RFC 7636: 43 characters); id
// names the flow in the store.
func (a *Auth) state(f flow) string    { return raw64.EncodeToString(a.mac("state", f.head())) }
func (a *Auth) verifier(f flow) string { return raw64.EncodeToString(a.mac("verifier", f.head())) }
func (a *Auth) flowID(f flow) string   { return hex.EncodeToString(a.mac("id", f.head())) }

func (a *Auth) encodeFlow(f flow) string {
	payload := append(f.head(), f.next...)
	return raw64.EncodeToString(append(payload, a.mac("cookie", payload)...))
}

func (a *Auth) decodeFlow(s string) (flow, bool) {
	b, err := raw64.DecodeString(s)
	if err != nil || len(b) < flowHead+sha256.Size || len(b) > flowHead+maxNext+sha256.Size {
		return flow{}, false
	}
	payload, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(sum, a.mac("cookie", payload)) {
		return flow{}, false
	}
	f := flow{next: string(payload[flowHead:]), issued: time.Unix(int64(binary.BigEndian.Uint64(payload[nonceLen:flowHead])), 0)}
	copy(f.nonce[:], payload)
	return f, true
}

// flows are the sign-ins under way in a browser, oldest first, without those whose time is over.
func (a *Auth) flows(r *http.Request) []flow {
	var out []flow
	now := a.opts.Now()
	for part := range strings.SplitSeq(a.cookie(r, a.flowCookie()), ".") {
		f, ok := a.decodeFlow(part)
		if age := now.Sub(f.issued); ok && age > -time.Minute && age < a.limits.SignIn {
			out = append(out, f)
		}
		if len(out) == maxFlows {
			break
		}
	}
	return out
}

func (a *Auth) keepFlows(w http.ResponseWriter, flows []flow) {
	var parts []string
	for _, f := range flows {
		parts = append(parts, a.encodeFlow(f))
	}
	age := int(a.limits.SignIn / time.Second)
	if len(parts) == 0 {
		age = -1
	}
	a.setCookie(w, a.flowCookie(), strings.Join(parts, "."), age)
}

// The names begin with __Host- where cookies travel over https only: no other host, and no page over http, can then
// have set them.
func (a *Auth) sessionCookie() string { return a.prefix() + "noxaudit" }
func (a *Auth) flowCookie() string    { return a.prefix() + "noxaudit-sign-in" }

func (a *Auth) prefix() string {
	if a.secure {
		return "__Host-"
	}
	return ""
}

// cookie is the value of a cookie; one that comes twice counts as none.
func (a *Auth) cookie(r *http.Request, name string) string {
	all := r.CookiesNamed(name)
	if len(all) != 1 {
		return ""
	}
	return all[0].Value
}

// setCookie sets a cookie for age seconds, or takes it back with a negative age. Lax lets it come along where GitHub
// sends the browser back, and with no request that another site makes in the background or posts.
func (a *Auth) setCookie(w http.ResponseWriter, name, value string, age int) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: a.secure, SameSite: http.SameSiteLaxMode})
}

// safeNext is the address to come back to after signing in: one of this server's own, "/" for anything else.
func safeNext(s string) string {
	if len(s) > maxNext || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || !utf8.ValidString(s) {
		return "/"
	}
	for _, c := range s {
		// Browsers take a backslash for a slash and leave out tabs and line ends.
		if c <= ' ' || c == '\\' || c == 0x7f || c > 0x7e {
			return "/"
		}
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" || strings.HasPrefix(u.Path, "//") || strings.Contains(u.Path, "\\") {
		return "/"
	}
	if u.Path == "/auth" || strings.HasPrefix(u.Path, "/auth/") {
		return "/"
	}
	u.Fragment, u.RawFragment = "", ""
	if out := u.String(); strings.HasPrefix(out, "/") && !strings.HasPrefix(out, "//") {
		return out
	}
	return "/"
}
