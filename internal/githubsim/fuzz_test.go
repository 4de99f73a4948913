package githubsim_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// FuzzAuthorization: whatever a stranger sends as credentials, it is refused and nothing breaks.
func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{"", "Bearer", "Bearer a.b.c", "token ghs_x", "Bearer ey" + "JhbGciOiJSUzI1NiJ9.eyJpc3MiOjEwMDN9.AAAA", "Bearer ey" + "JhbGciOiJub25lIn0.e30.", "Basic YTpi"} {
		f.Add(seed)
	}
	sim, err := githubsim.New(githubsim.Options{Dir: f.TempDir(), HourlyLimit: -1})
	must(f, err)
	f.Cleanup(func() { sim.Close() })
	must(f, sim.CreateUser("ada"))
	_, err = sim.CreateApp(githubsim.AppSpec{Owner: "ada", Name: "noxaudit", Key: key()})
	must(f, err)
	f.Fuzz(func(t *testing.T, header string) {
		if strings.ContainsAny(header, "\r\n") {
			return
		}
		for _, path := range []string{"/app", "/installation/repositories", "/user"} {
			r := httptest.NewRequest("GET", "/api/v3"+path, nil)
			r.Header.Set("User-Agent", "fuzz")
			r.Header.Set("Authorization", header)
			w := httptest.NewRecorder()
			sim.ServeHTTP(w, r)
			if w.Code < 400 || w.Code >= 500 {
				t.Errorf("%s with %q: %d", path, header, w.Code)
			}
			sim.ResetCalls()
		}
	})
}
