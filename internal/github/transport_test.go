package github

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"github.com/rs/zerolog"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/name"
)

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func keyPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(testKey())})
}

const installationToken = "ghs_0123456789abcdefghijklmnopqrstuvwxyz"

// script is a GitHub in memory, which works inside synctest: it hands out tokens and answers everything else by
// play, which gets the number of the call (from 1).
type script struct {
	mu     sync.Mutex
	calls  []string // "POST /repos/…", tokens left out
	tokens int
	at     []time.Time
	agents map[string]bool
	auth   []string
	play   func(n int, r *http.Request) (*http.Response, error)
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	if s.agents == nil {
		s.agents = map[string]bool{}
	}
	s.agents[r.Header.Get("User-Agent")] = true
	if strings.HasSuffix(r.URL.Path, "/access_tokens") {
		s.tokens++
		n := s.tokens
		s.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		return reply(201, fmt.Sprintf(`{"token":"%s%d","expires_at":%q}`, installationToken, n, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))), nil
	}
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	s.at = append(s.at, time.Now())
	s.auth = append(s.auth, r.Header.Get("Authorization"))
	n := len(s.calls)
	s.mu.Unlock()
	return s.play(n, r)
}

func reply(code int, body string, headers ...string) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: h, Body: io.NopCloser(strings.NewReader(body)), ProtoMajor: 1, ProtoMinor: 1}
}

var refusedConnection = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

func newApp(t testing.TB, tr http.RoundTripper, change ...func(*AppOptions)) *App {
	t.Helper()
	o := AppOptions{ID: 7, PrivateKeyPEM: keyPEM(), Transport: tr, UserAgent: "noxaudit/test", Log: zerolog.Nop()}
	for _, f := range change {
		f(&o)
	}
	a, err := NewApp(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func someOrigin() gate.Origin {
	account, _ := name.ParseAccount("42")
	return gate.Origin{Installation: 5, Repo: name.Repo{Account: account, ID: "99", FullName: "acme/shop"}, Owner: "acme", Name: "shop", DefaultBranch: "main"}
}

func someCheck() gate.Check {
	head, _ := name.ParseCommit(strings.Repeat("a1", 20))
	return gate.Check{Origin: someOrigin(), Head: head, ExternalID: "run-1", Title: "Auditing", Summary: "…"}
}

const madeRun = `{"id":11,"external_id":"run-1"}`

// What is repeated: answer × method × whether repeating does the same thing twice.
func TestRepetitionFollowsWhatTheFailureSaysAboutItsEffect(t *testing.T) {
	get := func(a *App) error { _, err := a.OpenPulls(context.Background(), someOrigin()); return err }
	post := func(a *App) error { _, err := a.Publish(context.Background(), someCheck(), false); return err }
	patch := func(a *App) error {
		c := someCheck()
		c.ID = 11
		_, err := a.Publish(context.Background(), c, false)
		return err
	}
	app := func(a *App) error { _, err := a.Installations(context.Background()); return err }
	redeliver := func(a *App) error { return a.Redeliver(context.Background(), 3) }
	for _, c := range []struct {
		what  string
		do    func(*App) error
		first func() (*http.Response, error) // then everything is well
		calls int
		ok    bool
	}{
		{"GET 500", get, func() (*http.Response, error) { return reply(500, "{}"), nil }, 2, true},
		{"GET 502", get, func() (*http.Response, error) { return reply(502, "<html>"), nil }, 2, true},
		{"GET cut", get, func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, 2, true},
		{"GET unreachable", get, func() (*http.Response, error) { return nil, refusedConnection }, 2, true},
		{"GET 429", get, func() (*http.Response, error) { return reply(429, "{}", "Retry-After", "2"), nil }, 2, true},
		{"GET 404", get, func() (*http.Response, error) { return reply(404, `{"message":"Not Found"}`), nil }, 1, false},
		{"PATCH 500", patch, func() (*http.Response, error) { return reply(500, "{}"), nil }, 2, true},
		{"PATCH cut", patch, func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, 2, true},
		{"PATCH 422", patch, func() (*http.Response, error) { return reply(422, `{"message":"Validation Failed"}`), nil }, 1, false},
		{"POST 500 may have been done", post, func() (*http.Response, error) { return reply(500, "{}"), nil }, 1, false},
		{"POST cut may have been done", post, func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, 1, false},
		{"POST unreachable was not done", post, func() (*http.Response, error) { return nil, refusedConnection }, 2, true},
		{"POST 429 was not done", post, func() (*http.Response, error) { return reply(429, "{}", "Retry-After", "2"), nil }, 2, true},
		{"POST secondary limit was not done", post, func() (*http.Response, error) {
			return reply(403, `{"message":"You have exceeded a secondary rate limit."}`, "Retry-After", "2"), nil
		}, 2, true},
		{"POST 401 was not done", post, func() (*http.Response, error) { return reply(401, `{"message":"Bad credentials"}`), nil }, 2, true},
		{"POST 403 is final", post, func() (*http.Response, error) {
			return reply(403, `{"message":"Resource not accessible by integration"}`), nil
		}, 1, false},
		{"App 503", app, func() (*http.Response, error) { return reply(503, "{}"), nil }, 2, true},
		{"App 401 has no other token", app, func() (*http.Response, error) { return reply(401, "{}"), nil }, 1, false},
		{"redelivery 502", redeliver, func() (*http.Response, error) { return reply(502, "{}"), nil }, 1, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{play: func(n int, r *http.Request) (*http.Response, error) {
					if n == 1 {
						return c.first()
					}
					if r.Method == http.MethodGet {
						return reply(200, "[]"), nil
					}
					return reply(200, madeRun), nil
				}}
				err := c.do(newApp(t, s))
				if len(s.calls) != c.calls || (err == nil) != c.ok {
					t.Errorf("%d calls, want %d; error %v", len(s.calls), c.calls, err)
				}
			})
		})
	}
}

func TestPersistentFailureEndsAsUnavailableAfterFourAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{play: func(int, *http.Request) (*http.Response, error) { return reply(500, "{}"), nil }}
		_, err := newApp(t, s).OpenPulls(t.Context(), someOrigin())
		if !errors.Is(err, gate.ErrGitHubUnavailable) || errors.Is(err, gate.ErrGitHubGone) || len(s.calls) != attempts {
			t.Fatalf("%d calls, %v", len(s.calls), err)
		}
		for i, pause := 1, firstPause; i < len(s.at); i, pause = i+1, pause*2 {
			if d := s.at[i].Sub(s.at[i-1]); d < pause/2 || d > pause {
				t.Errorf("pause %d: %v, want between %v and %v", i, d, pause/2, pause)
			}
		}
	})
}

func TestPatienceIsWhatGitHubAsksFor(t *testing.T) {
	for _, c := range []struct {
		what    string
		code    int
		body    string
		headers []string
		wait    time.Duration // 0: GitHub is not asked again
	}{
		{"Retry-After", 403, "{}", []string{"Retry-After", "7"}, 7 * time.Second},
		{"429 with Retry-After", 429, "{}", []string{"Retry-After", "3"}, 3 * time.Second},
		{"hour used up", 403, `{"message":"API rate limit exceeded"}`, []string{"X-RateLimit-Limit", "5000", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "+20"}, 21 * time.Second},
		{"503 with Retry-After", 503, "{}", []string{"Retry-After", "4"}, 4 * time.Second},
		{"longer than our patience", 403, "{}", []string{"Retry-After", "600"}, 0},
		{"secondary limit without a time", 403, `{"message":"You have exceeded a secondary rate limit"}`, nil, 0}, // a minute
		{"hour used up for long", 403, "{}", []string{"X-RateLimit-Limit", "5000", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "+1800"}, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{play: func(n int, r *http.Request) (*http.Response, error) {
					if n > 1 {
						return reply(201, madeRun), nil
					}
					headers := append([]string{}, c.headers...)
					for i, h := range headers {
						if after, ok := strings.CutPrefix(h, "+"); ok {
							s, _ := strconv.ParseInt(after, 10, 64)
							headers[i] = strconv.FormatInt(time.Now().Unix()+s, 10)
						}
					}
					return reply(c.code, c.body, headers...), nil
				}}
				a := newApp(t, s)
				began := time.Now()
				_, err := a.Publish(t.Context(), someCheck(), false)
				if c.wait > 0 {
					if err != nil || len(s.at) != 2 || s.at[1].Sub(s.at[0]) < c.wait || s.at[1].Sub(s.at[0]) > c.wait+time.Second {
						t.Errorf("%v; calls at %v", err, s.at)
					}
					return
				}
				var u *Unavailable
				if !errors.As(err, &u) || !errors.Is(err, gate.ErrGitHubUnavailable) || u.RetryAt().Sub(began) < time.Minute || time.Since(began) > time.Second || u.Ambiguous {
					t.Fatalf("%v after %v", err, time.Since(began))
				}
				// Nobody else asks meanwhile, either.
				if _, err := a.OpenPulls(t.Context(), someOrigin()); !errors.Is(err, gate.ErrGitHubUnavailable) || len(s.calls) != 1 {
					t.Errorf("%d calls, %v", len(s.calls), err)
				}
				time.Sleep(time.Until(u.RetryAt()))
				if _, err := a.Publish(t.Context(), someCheck(), false); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

func TestTheLastTenthOfTheHourIsSpreadOverIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reset := time.Now().Add(100 * time.Second)
		left := 12
		s := &script{play: func(int, *http.Request) (*http.Response, error) {
			left--
			return reply(200, "[]", "X-RateLimit-Limit", "100", "X-RateLimit-Remaining", strconv.Itoa(left), "X-RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10)), nil
		}}
		a := newApp(t, s)
		for range 8 {
			if _, err := a.OpenPulls(t.Context(), someOrigin()); err != nil {
				t.Fatal(err)
			}
		}
		if d := s.at[2].Sub(s.at[0]); d > time.Second {
			t.Errorf("calls are slowed before the last tenth: %v", d)
		}
		if d := s.at[7].Sub(s.at[3]); d < 20*time.Second {
			t.Errorf("four of the last calls took %v of 100 s", d)
		}
	})
}

func TestCreatingCallsAreSpacedOnceGitHubCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{play: func(n int, _ *http.Request) (*http.Response, error) {
			return reply(201, fmt.Sprintf(`{"id":%d}`, n), "X-RateLimit-Limit", "5000", "X-RateLimit-Remaining", "4900", "X-RateLimit-Reset", strconv.FormatInt(time.Now().Unix()+3000, 10)), nil
		}}
		a := newApp(t, s)
		var wg sync.WaitGroup
		refused := 0
		var mu sync.Mutex
		for i := range 120 {
			wg.Go(func() {
				c := someCheck()
				c.ExternalID = strconv.Itoa(i)
				if _, err := a.Publish(t.Context(), c, false); errors.Is(err, gate.ErrGitHubUnavailable) {
					mu.Lock()
					refused++
					mu.Unlock()
				} else if err != nil {
					t.Error(err)
				}
			})
			if i == 0 {
				wg.Wait() // the first tells that there are limits
			}
		}
		wg.Wait()
		if len(s.at)+refused != 120 || refused == 0 {
			t.Errorf("%d calls, %d told to come later", len(s.at), refused)
		}
		for i := range s.at {
			n := 0
			for _, at := range s.at[i:] {
				if at.Sub(s.at[i]) < time.Minute {
					n++
				}
			}
			if n > 81 { // the one before the limits were known
				t.Fatalf("%d creating calls in one minute", n)
			}
		}
	})
}

func TestNothingIsPacedWhereNothingIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{play: func(int, *http.Request) (*http.Response, error) { return reply(201, madeRun), nil }}
		a := newApp(t, s, func(o *AppOptions) { o.APIURL, o.WebURL = "https://ghe.example.com/api/v3", "https://ghe.example.com" })
		began := time.Now()
		for range 200 {
			if _, err := a.Publish(t.Context(), someCheck(), false); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("200 calls took %v", d)
		}
		if s.calls[0] != "POST /api/v3/repos/acme/shop/check-runs" {
			t.Error(s.calls[0])
		}
	})
}

func TestFiftyCallersShareOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		a := newApp(t, s)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if token, err := a.Token(t.Context(), 5, false); err != nil || token != installationToken+"1" {
					t.Errorf("%q, %v", token, err)
				}
			})
		}
		wg.Wait()
		if s.tokens != 1 {
			t.Errorf("%d tokens were made", s.tokens)
		}
		if token, _ := a.Token(t.Context(), 6, false); token != installationToken+"2" {
			t.Error("another installation has the same token")
		}
	})
}

func TestATokenIsRenewedFiveMinutesBeforeItsEndOrOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		a := newApp(t, s)
		ask := func(fresh bool, want int) {
			t.Helper()
			if token, err := a.Token(t.Context(), 5, fresh); err != nil || token != installationToken+strconv.Itoa(want) {
				t.Errorf("%q, %v; want number %d", token, err, want)
			}
		}
		ask(false, 1)
		time.Sleep(54 * time.Minute)
		ask(false, 1)
		time.Sleep(2 * time.Minute)
		ask(false, 2)
		ask(true, 3)
		ask(false, 3)
	})
}

func TestACallerWhoGivesUpDoesNotTakeTheTokenFromTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		a := newApp(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(time.Millisecond); cancel() }()
		if _, err := a.Token(ctx, 5, false); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := a.Token(t.Context(), 5, false); err != nil || s.tokens != 1 {
			t.Errorf("%v, %d tokens", err, s.tokens)
		}
	})
}

func TestARefusedTokenIsDroppedOnceForAllWhoHadIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.play = func(n int, r *http.Request) (*http.Response, error) {
			if r.Header.Get("Authorization") == "token "+installationToken+"1" {
				time.Sleep(time.Duration(n) * 2 * time.Millisecond) // some hear of it when there is another one
				return reply(401, `{"message":"Bad credentials"}`), nil
			}
			return reply(200, "[]"), nil
		}
		a := newApp(t, s)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := a.OpenPulls(t.Context(), someOrigin()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s.tokens != 2 {
			t.Errorf("%d tokens were made", s.tokens)
		}
	})
}

func TestAClockThatIsWrongIsNamed(t *testing.T) {
	for _, c := range []struct {
		off  time.Duration
		want string
	}{{5 * time.Minute, "5m0s behind"}, {-3 * time.Minute, "3m0s ahead"}, {10 * time.Second, ""}} {
		s := &script{play: func(int, *http.Request) (*http.Response, error) {
			return reply(401, `{"message":"'Issued at' claim ('iat') must be an Integer"}`, "Date", hookTime.Add(c.off).UTC().Format(http.TimeFormat)), nil
		}}
		_, err := newApp(t, s, func(o *AppOptions) { o.Now = func() time.Time { return hookTime } }).Installations(t.Context())
		if err == nil || !errors.Is(err, gate.ErrGitHubUnavailable) || (c.want != "") != strings.Contains(err.Error(), "clock") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v off: %v", c.off, err)
		}
	}
}

func TestTheJWTIsAMinuteOldAndEndsWithinNine(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	var token string
	s := &script{play: func(_ int, r *http.Request) (*http.Response, error) {
		token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		return reply(200, "[]"), nil
	}}
	if _, err := newApp(t, s, func(o *AppOptions) { o.Now = func() time.Time { return now } }).Installations(t.Context()); err != nil {
		t.Fatal(err)
	}
	var claims jwt.RegisteredClaims
	if _, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return &testKey().PublicKey, nil }); err != nil {
		t.Fatal(err)
	}
	if claims.Issuer != "7" || !claims.IssuedAt.Equal(now.Add(-time.Minute)) || claims.ExpiresAt.Sub(now) > 9*time.Minute {
		t.Errorf("%+v at %v", claims, now)
	}
}

func TestEveryCallNamesUs(t *testing.T) {
	s := &script{play: func(int, *http.Request) (*http.Response, error) { return reply(200, "[]"), nil }}
	newApp(t, s).OpenPulls(t.Context(), someOrigin())
	if len(s.agents) != 1 || !s.agents["noxaudit/test"] {
		t.Errorf("%v", s.agents)
	}
}

func TestAMovedRepositoryIsFollowedWithTheSameMethodAndNeverToAnotherHost(t *testing.T) {
	s := &script{play: func(n int, r *http.Request) (*http.Response, error) {
		if n == 1 {
			return reply(301, "{}", "Location", "https://api.github.com/repositories/99/check-runs"), nil
		}
		body, _ := io.ReadAll(r.Body)
		if !bytes.Contains(body, []byte("run-1")) {
			t.Errorf("body %q", body)
		}
		return reply(201, madeRun), nil
	}}
	if _, err := newApp(t, s).Publish(t.Context(), someCheck(), false); err != nil || len(s.calls) != 2 || s.calls[1] != "POST /repositories/99/check-runs" {
		t.Errorf("%q, %v", s.calls, err)
	}
	evil := &script{play: func(int, *http.Request) (*http.Response, error) {
		return reply(307, "{}", "Location", "https://evil.example/steal"), nil
	}}
	if _, err := newApp(t, evil).Publish(t.Context(), someCheck(), false); err == nil || len(evil.calls) != 1 {
		t.Errorf("%q, %v", evil.calls, err)
	}
}

func TestARepositoryThatMovesInACircleIsLeftWithoutChangingTheMethod(t *testing.T) {
	s := &script{play: func(int, *http.Request) (*http.Response, error) {
		return reply(301, "{}", "Location", "https://api.github.com/repositories/99/check-runs"), nil
	}}
	_, err := newApp(t, s).Publish(t.Context(), someCheck(), false)
	if err == nil || len(s.calls) != 1+hops || strings.Contains(strings.Join(s.calls, " "), "GET") {
		t.Errorf("%q, %v", s.calls, err)
	}
}

func TestAnswersThatOvertakeEachOtherDoNotGiveRequestsBack(t *testing.T) {
	l := newLimiter(Pace{}, func() time.Time { return hookTime }, sleep)
	told := func(remaining int, reset time.Duration) int {
		n, _ := l.hear(http.Header{"X-Ratelimit-Limit": {"5000"}, "X-Ratelimit-Remaining": {strconv.Itoa(remaining)},
			"X-Ratelimit-Reset": {strconv.FormatInt(hookTime.Add(reset).Unix(), 10)}})
		return n
	}
	for _, c := range []struct {
		remaining int
		reset     time.Duration
		want      int
	}{{100, time.Hour, 100}, {90, time.Hour, 90}, {95, time.Hour, 90}, {4999, 2 * time.Hour, 4999}, {80, time.Hour, 4999}} {
		if got := told(c.remaining, c.reset); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

func TestAnAttemptThatHangsEndsAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{play: func(n int, r *http.Request) (*http.Response, error) {
			if n == 1 {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return reply(200, "[]"), nil
		}}
		if _, err := newApp(t, s).OpenPulls(t.Context(), someOrigin()); err != nil || s.at[1].Sub(s.at[0]) < callTimeout {
			t.Errorf("%v, %v", s.at, err)
		}
	})
}

func TestRefusalsSayWhatIsMissingOrGone(t *testing.T) {
	for what, c := range map[string]struct {
		resp func() *http.Response
		gone bool
		says string
	}{
		"permission": {func() *http.Response {
			return reply(403, `{"message":"Resource not accessible by integration"}`)
		}, true, "checks: write"},
		"permission that GitHub names": {func() *http.Response {
			return reply(403, `{"message":"Resource not accessible by integration"}`, "X-Accepted-GitHub-Permissions", "checks=write")
		}, true, "checks: write"},
		"suspended": {func() *http.Response { return reply(403, `{"message":"This installation has been suspended"}`) }, true, "suspended"},
		"archived": {func() *http.Response {
			return reply(403, `{"message":"Repository was archived so is read-only."}`)
		}, true, "archived"},
		"deleted": {func() *http.Response { return reply(404, `{"message":"Not Found"}`) }, true, "not found"},
		"blocked": {func() *http.Response { return reply(451, `{"message":"Repository access blocked"}`) }, true, "451"},
		"410":     {func() *http.Response { return reply(410, `{"message":"Gone"}`) }, true, "410"},
		"invalid": {func() *http.Response {
			return reply(422, `{"message":"Validation Failed","errors":[{"resource":"CheckRun","field":"head_sha","code":"custom","message":"No commit found for SHA"}]}`)
		}, false, "CheckRun.head_sha custom No commit found for SHA"},
	} {
		s := &script{play: func(int, *http.Request) (*http.Response, error) { return c.resp(), nil }}
		_, err := newApp(t, s).Publish(t.Context(), someCheck(), false)
		if err == nil || errors.Is(err, gate.ErrGitHubGone) != c.gone || errors.Is(err, gate.ErrGitHubUnavailable) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAnInstallationThatIsGoneOrSuspendedIsGone(t *testing.T) {
	for message, code := range map[string]int{"Not Found": 404, "This installation has been suspended": 403, "The permissions requested are not granted to this installation.": 422} {
		tr := roundTripper(func(r *http.Request) (*http.Response, error) {
			return reply(code, fmt.Sprintf(`{"message":%q}`, message)), nil
		})
		a := newApp(t, tr)
		_, direct := a.Token(t.Context(), 5, false)
		_, through := a.Publish(t.Context(), someCheck(), false)
		for _, err := range []error{direct, through} {
			if !errors.Is(err, gate.ErrGitHubGone) || errors.Is(err, gate.ErrGitHubUnavailable) {
				t.Errorf("%s: %v", message, err)
			}
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A server that repeats credentials in what it says, in every way to fail, must not make us repeat them.
func TestNoSecretIsInAnErrorOrALogLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var shown []string
		fails := []func(*http.Request) (*http.Response, error){
			func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
			func(*http.Request) (*http.Response, error) { return nil, refusedConnection },
		}
		for _, code := range []int{301, 400, 401, 403, 404, 410, 422, 429, 500, 503} {
			fails = append(fails, func(r *http.Request) (*http.Response, error) {
				told := r.Header.Get("Authorization")
				b, _ := json.Marshal(map[string]any{"message": "I heard " + told, "errors": []map[string]string{{"message": told, "field": told}}})
				return reply(code, string(b), "Location", "https://x/?"+told), nil
			})
		}
		for _, fail := range fails {
			for _, tokensFail := range []bool{false, true} {
				s := &script{play: func(_ int, r *http.Request) (*http.Response, error) {
					shown = append(shown, r.Header.Get("Authorization"))
					return fail(r)
				}}
				tr := roundTripper(func(r *http.Request) (*http.Response, error) {
					if tokensFail {
						shown = append(shown, r.Header.Get("Authorization"))
						return fail(r)
					}
					return s.RoundTrip(r)
				})
				a := newApp(t, tr, func(o *AppOptions) { o.Log = zerolog.New(&log) })
				c := someCheck()
				c.ID = 11
				_, e1 := a.Publish(t.Context(), someCheck(), true)
				_, e2 := a.Publish(t.Context(), c, false)
				_, e3 := a.Installations(t.Context())
				_, e4 := a.Token(t.Context(), 5, true)
				fmt.Fprintln(&log, e1, e2, e3, e4)
			}
		}
		if len(shown) == 0 {
			t.Fatal("nothing was shown")
		}
		secrets := []string{installationToken, "PRIVATE KEY", "eyJ"}
		for _, s := range secrets {
			if i := strings.Index(log.String(), s); i >= 0 {
				t.Errorf("%q is in: …%s", s, log.String()[max(0, i-200):min(log.Len(), i+60)])
			}
		}
	})
}

func TestAKeyThatCannotBeReadIsNotRepeated(t *testing.T) {
	for _, o := range []AppOptions{
		{ID: 1, PrivateKeyPEM: []byte("-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----\n")},
		{ID: 0, PrivateKeyPEM: keyPEM()},
		{ID: 1, PrivateKeyPEM: keyPEM(), APIURL: "ftp://x"},
		{ID: 1, PrivateKeyPEM: keyPEM(), WebURL: "https://user:c2VjcmV0@x"},
	} {
		if _, err := NewApp(o); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%v", err)
		}
	}
}

func TestTheCloneAddressHoldsNoCredentialAndKeepsToTheHost(t *testing.T) {
	a := newApp(t, &script{}, func(o *AppOptions) { o.WebURL = "https://ghe.example.com/" })
	if got := a.CloneURL(someOrigin()); got != "https://ghe.example.com/acme/shop.git" {
		t.Error(got)
	}
	if got := a.CloneURL(gate.Origin{Owner: "../x@y", Name: "a/b?c#d"}); strings.ContainsAny(strings.TrimPrefix(got, "https://ghe.example.com/"), "?#") || !strings.HasPrefix(got, "https://ghe.example.com/..%2F") {
		t.Error(got)
	}
}

// GitHub that is down when noxaudit starts must not keep it from starting.
func TestMakingAnAppCallsNobody(t *testing.T) {
	newApp(t, roundTripper(func(*http.Request) (*http.Response, error) { t.Error("a call"); return nil, io.EOF }))
}

func TestTheListOfDeliveriesIsReadBackToATimeAndNoFurther(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		if r.URL.Query().Get("per_page") != "100" || page > 2 {
			t.Errorf("%s", r.URL)
		}
		w.Header().Set("Link", fmt.Sprintf(`<http://%s%s?per_page=100&cursor=%d>; rel="next"`, r.Host, r.URL.Path, page+1))
		var list []map[string]any
		for i := range 100 {
			at := now.Add(-time.Duration(page*100+i) * time.Minute)
			list = append(list, map[string]any{"id": page*100 + i + 1, "guid": someGUID, "delivered_at": at, "event": "push", "status_code": 200 + i%2*300, "status": "OK"})
		}
		json.NewEncoder(w).Encode(list)
	}))
	defer srv.Close()
	a := newApp(t, http.DefaultTransport, func(o *AppOptions) { o.APIURL = srv.URL + "/api/v3" })
	all, err := a.Deliveries(t.Context(), now.Add(-249*time.Minute))
	if err != nil || len(all) != 250 || !all[0].OK || all[1].OK || all[249].ID != 250 || all[3].GUID != someGUID {
		t.Errorf("%d, %v", len(all), err)
	}
}
