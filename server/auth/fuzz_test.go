package auth

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fixed is an Auth for the parsers alone.
func fixed() *Auth {
	now := time.Unix(1_800_000_000, 0)
	return &Auth{opts: Options{Now: func() time.Time { return now }, Rand: bytes.NewReader(make([]byte, 1<<16))}, limits: Limits{}.withDefaults(), flowKey: make([]byte, 32)}
}

// Wherever a person is sent after signing in, it is on this server, as browsers read addresses.
func FuzzTheWayBackStaysOnThisServer(f *testing.F) {
	for _, s := range []string{"/", "/a?b=c#d", "//evil.example", `/\evil.example`, "/\t/evil.example", "https://evil.example", "/%2f/x", "/a/..//evil.example", "/.//x", "/auth/logout", "/?x=//y"} {
		f.Add(s)
	}
	base, err := url.Parse("https://noxaudit.example/auth/callback")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rec := httptest.NewRecorder()
		http.Redirect(rec, httptest.NewRequest("GET", "/auth/callback", nil), safeNext(s), http.StatusSeeOther)
		to := rec.Header().Get("Location")
		if !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\t\r\n\x00 ") {
			t.Fatalf("%q leads to %q", s, to)
		}
		at, err := base.Parse(to)
		if err != nil || at.Host != base.Host || at.Scheme != base.Scheme || at.User != nil || at.Path == "/auth" || strings.HasPrefix(at.Path, "/auth/") {
			t.Fatalf("%q leads to %v, %v", s, at, err)
		}
	})
}

// A flow is read back as it was written, and nothing else is read at all.
func FuzzOnlyOurOwnFlowsAreRead(f *testing.F) {
	a := fixed()
	one, err := a.newFlow("/acme?x=1")
	if err != nil {
		f.Fatal(err)
	}
	good := a.encodeFlow(one)
	f.Add(good)
	f.Add(good[:len(good)-1] + "A")
	f.Add("")
	f.Add(strings.Repeat("A", 75))
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := a.decodeFlow(s)
		if ok != (s == good) || ok && got != one {
			t.Fatalf("%q is read as %+v", s, got)
		}
	})
}

func FuzzOnlyTokensAreRead(f *testing.F) {
	f.Add(token(sha256.Sum256(nil)).String())
	f.Add("nxs_")
	f.Fuzz(func(t *testing.T, s string) {
		if got, ok := parseToken(s); ok && got.String() != s {
			t.Fatalf("%q is read as %q", s, got)
		}
	})
}

func TestAFlowFromAnotherKeyOrTimeIsNotRead(t *testing.T) {
	a := fixed()
	one, err := a.newFlow("/")
	if err != nil {
		t.Fatal(err)
	}
	value := a.encodeFlow(one)
	with := func(change func(*Auth)) int {
		b := fixed()
		change(b)
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: b.flowCookie(), Value: value})
		return len(b.flows(r))
	}
	at := a.opts.Now()
	for what, c := range map[string]struct {
		change func(*Auth)
		want   int
	}{
		"at once":            {func(*Auth) {}, 1},
		"another key":        {func(b *Auth) { b.flowKey = bytes.Repeat([]byte{1}, 32) }, 0},
		"just in time":       {func(b *Auth) { b.opts.Now = func() time.Time { return at.Add(10*time.Minute - 1) } }, 1},
		"too late":           {func(b *Auth) { b.opts.Now = func() time.Time { return at.Add(10 * time.Minute) } }, 0},
		"from the future":    {func(b *Auth) { b.opts.Now = func() time.Time { return at.Add(-2 * time.Minute) } }, 0},
		"clocks that differ": {func(b *Auth) { b.opts.Now = func() time.Time { return at.Add(-30 * time.Second) } }, 1},
	} {
		if got := with(c.change); got != c.want {
			t.Errorf("%s: %d", what, got)
		}
	}
	if len(a.verifier(one)) != 43 || a.state(one) == a.verifier(one) || strings.Contains(value, a.state(one)) || strings.Contains(value, a.verifier(one)) {
		t.Error("state and verifier are not apart from what the browser holds")
	}
}

// What is remembered stays bounded, and is forgotten when its time is over.
func TestMemoryIsBounded(t *testing.T) {
	var m memory
	now := time.Unix(0, 0)
	for i := range memoryKeys + 1000 {
		if m.add(strconv.Itoa(i), now, now.Add(time.Minute)) {
			t.Fatalf("%d is known", i)
		}
	}
	if len(m.keys) > memoryKeys {
		t.Errorf("%d keys", len(m.keys))
	}
	if m.add("x", now, now.Add(time.Minute)) || !m.add("x", now.Add(30*time.Second), now.Add(time.Minute)) || m.add("x", now.Add(time.Minute), now.Add(2*time.Minute)) {
		t.Error("time is not kept")
	}
	m.drop("x")
	if m.has("x", now) {
		t.Error("it was dropped")
	}
}

func TestStrangersCauseFewEntries(t *testing.T) {
	var s strangers
	now := time.Unix(1_800_000_000, 0)
	n := 0
	for i := range int64(500) {
		for range 3 {
			if s.worthAnEntry(i, now) {
				n++
			}
		}
	}
	if n != strangerMost {
		t.Errorf("%d entries", n)
	}
	if !s.worthAnEntry(7, now.Add(strangerPause)) {
		t.Error("an hour later it is no longer told")
	}
}
