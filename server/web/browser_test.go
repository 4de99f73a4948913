package web_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/noxaudit/noxaudit/internal/store"
)

// The package axe-core of the npm registry, as this test was written against it.
const (
	axePackage   = "axe-core@4.14.1"
	axeIntegrity = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)

// axe is axe-core's script. It is fetched through npm once and kept among the user's caches; bytes of another digest
// are refused.
func axe(t *testing.T) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = t.TempDir()
	}
	dir = filepath.Join(dir, "noxaudit-test")
	file := filepath.Join(dir, "axe-core-4.14.1.tgz")
	archive, err := os.ReadFile(file)
	if err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("npm", "pack", "--silent", "--pack-destination", dir, axePackage).CombinedOutput()
		if err != nil {
			t.Skipf("NOT CHECKED FOR ACCESSIBILITY: npm pack %s: %v\n%s", axePackage, err, out)
		}
		if archive, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha512.Sum512(archive)
	if base64.StdEncoding.EncodeToString(sum[:]) != axeIntegrity {
		t.Fatalf("%s has another digest than %s had; delete it", file, axePackage)
	}
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("axe.min.js is not in %s: %v", file, err)
		}
		if h.Name == "package/axe.min.js" {
			body, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return string(body)
		}
	}
}

// browser is a Chromium of the test's own.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("NOT RUN IN A BROWSER: no Chromium is installed (Debian: apt-get install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU, chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Flag("hide-scrollbars", true), chromedp.WSURLReadTimeout(2*time.Minute))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("Chromium does not start: %v", err)
	}
	return ctx
}

// looks are the forms in which every page is looked at.
var looks = []struct {
	scheme string
	width  int64
}{{"light", 360}, {"light", 768}, {"light", 1440}, {"dark", 360}, {"dark", 768}, {"dark", 1440}}

// form makes the screen so wide, in this theme.
func form(scheme string, width int64) chromedp.Tasks {
	return chromedp.Tasks{
		emulation.SetDeviceMetricsOverride(width, 900, 1, false),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
	}
}

// show loads a page in a form.
func show(url, scheme string, width int64) chromedp.Tasks {
	return chromedp.Tasks{form(scheme, width), chromedp.Navigate(url), chromedp.WaitReady("main")}
}

// pages are all kinds of pages, with content and without.
func pages(s *site) map[string]string {
	return map[string]string{
		"overview":         "/orgs/northgate",
		"repositories":     "/orgs/northgate/repositories",
		"none in a state":  "/orgs/northgate/repositories?state=attention&after=none",
		"repository":       "/orgs/northgate/repositories/payments-api",
		"not audited":      "/orgs/northgate/repositories/legacy-soap-bridge",
		"pull-request":     "/orgs/northgate/repositories/payments-api/pulls/1482",
		"pull, clean":      "/orgs/northgate/repositories/payments-api/pulls/1480",
		"pull, stale":      "/orgs/northgate/repositories/payments-api/pulls/1479",
		"pull, not judged": "/orgs/northgate/repositories/payments-api/pulls/1483",
		"commit":           "/orgs/northgate/repositories/payments-api/commits/" + s.head("90001", 1482),
		"commit, pending":  "/orgs/northgate/repositories/payments-api/commits/" + s.head("90001", 1483),
		"findings":         "/orgs/northgate/findings",
		"resolved":         "/orgs/northgate/findings?state=resolved",
		"no findings":      "/orgs/northgate/findings?severity=info",
		"finding":          "/orgs/northgate/repositories/infra-terraform/findings/" + s.findingID("90004", "secrets/aws-access-key"),
		"finding, open":    "/orgs/northgate/repositories/payments-api/findings/" + s.findingID("90001", "secrets/stripe-secret-key"),
		"waivers":          "/orgs/northgate/waivers",
		"waivers, ended":   "/orgs/northgate/waivers?state=ended",
		"waiver":           "/orgs/northgate/waivers/" + s.waiver("pending"),
		"suspended":        "/orgs/northgate/waivers?state=suspended",
		"waiver, ended":    "/orgs/northgate/waivers/" + s.waiver("resolved"),
		"ledger":           "/orgs/northgate/ledger",
		"search":           "/orgs/northgate/find?q=er",
		"search, nothing":  "/orgs/northgate/find?q=zzz",
		"not found":        "/orgs/northgate/nothing",
	}
}

func (s *site) head(repository string, number int) string {
	p, err := s.Store.For(s.Account).Pull(context.Background(), repository, number)
	if err != nil {
		panic(err)
	}
	return p.Head.String()
}

func (s *site) waiver(state string) string {
	all, err := s.Store.For(s.Account).AllWaivers(context.Background(), 1000)
	if err != nil {
		panic(err)
	}
	for _, w := range all {
		if w.State == state {
			return w.ID
		}
	}
	panic("no waiver is " + state)
}

// findingID is a finding of this type on any line of the repository.
func (s *site) findingID(repository, kind string) string {
	for _, resolved := range []bool{false, true} {
		rows, err := s.Store.For(s.Account).Findings(context.Background(), store.FindingFilter{Repository: repository, Type: kind, Resolved: resolved}, 1)
		if err != nil {
			panic(err)
		}
		if len(rows) > 0 {
			return rows[0].Finding.ID
		}
	}
	panic("no finding of type " + kind)
}

func TestEveryPageIsAccessibleAndFitsInEveryForm(t *testing.T) {
	s := northgate(t)
	ctx := browser(t)
	script := axe(t)
	server := httptest.NewServer(s.h)
	t.Cleanup(server.Close)
	all := pages(s)
	check := func(name, path string) {
		tab, cancel := context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
		err := chromedp.Run(tab,
			cdppage.SetBypassCSP(true), // for axe-core; the pages themselves have no script
			show(server.URL+path, "light", 1440),
			chromedp.Evaluate(`document.querySelectorAll("details").forEach(d => { if (!d.classList.contains("menu")) d.open = true })`, nil),
			chromedp.Evaluate(script+"\n;0", nil),
		)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, look := range looks {
			var overflow int64
			var raw []byte
			err := chromedp.Run(tab, form(look.scheme, look.width),
				chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &overflow),
				chromedp.Evaluate(`axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations.map(v => ({id: v.id, nodes: v.nodes.slice(0, 4).map(n => n.html.slice(0, 160) + " · " + n.failureSummary.slice(0, 300))}))))`,
					&raw, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }),
			)
			if err != nil {
				t.Fatalf("%s (%s, %d): %v", name, look.scheme, look.width, err)
			}
			if overflow > 0 {
				t.Errorf("%s (%s, %d): %d pixels wider than the screen", name, look.scheme, look.width, overflow)
			}
			var text string
			if err := json.Unmarshal(raw, &text); err != nil {
				t.Fatal(err)
			}
			var violations []struct {
				ID    string
				Nodes []string
			}
			if err := json.Unmarshal([]byte(text), &violations); err != nil {
				t.Fatal(err)
			}
			for _, v := range violations {
				t.Errorf("%s (%s, %d): %s\n  %s", name, look.scheme, look.width, v.ID, strings.Join(v.Nodes, "\n  "))
			}
		}
	}
	for name, path := range all {
		check(name, path)
	}
	s.person = nil
	check("sign in", "/orgs/northgate")
}

// TestPictures takes pictures of the pages where NOXAUDIT_PICTURES names a folder.
func TestPictures(t *testing.T) {
	dir := os.Getenv("NOXAUDIT_PICTURES")
	if dir == "" {
		return // nothing to test: a tool for people
	}
	s := northgate(t)
	ctx := browser(t)
	server := httptest.NewServer(s.h)
	t.Cleanup(server.Close)
	only := os.Getenv("NOXAUDIT_PICTURES_ONLY")
	for name, path := range pages(s) {
		if only != "" && !strings.Contains(","+only+",", ","+name+",") {
			continue
		}
		for _, look := range []struct {
			scheme string
			width  int64
		}{{"light", 1440}, {"dark", 1440}, {"light", 360}} {
			var picture []byte
			if err := chromedp.Run(ctx, show(server.URL+path, look.scheme, look.width), chromedp.FullScreenshot(&picture, 100)); err != nil {
				t.Fatal(err)
			}
			file := fmt.Sprintf("%s-%d-%s.png", strings.ReplaceAll(strings.ReplaceAll(name, ", ", "-"), " ", "-"), look.width, look.scheme)
			if err := os.WriteFile(filepath.Join(dir, file), picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
