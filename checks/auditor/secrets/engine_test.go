package secrets

import (
	"context"
	"errors"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/internal/finding"
	gitleaks "github.com/zricethezav/gitleaks/v8/config"
)

func TestTheEngineIsTheOneThatInfoNames(t *testing.T) {
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "github.com/zricethezav/gitleaks/v8 "+engineVersion+"\n") {
		t.Errorf("go.mod pins another gitleaks than %s: set engineVersion", engineVersion)
	}
}

func TestEveryRuleOfTheEngineHasACard(t *testing.T) {
	e, err := newEngine(nil)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := parse([]byte(gitleaks.DefaultConfig))
	if err != nil {
		t.Fatal(err)
	}
	if len(rules.Rules) < 200 {
		t.Fatalf("%d rules", len(rules.Rules))
	}
	for _, r := range rules.Rules {
		c := e.card(r.ID)
		if c.title == "" || c.message == "" || c.remediation == "" || c.confidence == 0 || c.severity < finding.Low || len(c.cwe) == 0 {
			t.Errorf("%s: says too little: %+v", r.ID, c)
		}
		if len(c.title) > finding.MaxTitle {
			t.Errorf("%s: title of %d bytes", r.ID, len(c.title))
		}
	}
	for id, want := range map[string]string{
		"aws-access-token": "AWS access token in source", "github-pat": "GitHub personal access token in source",
		"slack-webhook-url": "Slack webhook URL in source", "new-relic-user-api-key": "New Relic user API key in source",
	} {
		if got := e.card(id).title; got != want {
			t.Errorf("%s: title %q, want %q", id, got, want)
		}
	}
}

func TestAnOperatorsRulesExtendTheBuiltInOnes(t *testing.T) {
	extra := `
[extend]
useDefault = true
disabledRules = ["github-oauth", "url-credentials"]
[[rules]]
id = "acme-token"
description = "A token of Acme's internal platform."
regex = '''acme_[a-z0-9]{16}'''
keywords = ["acme_"]
[[rules]]
id = "gitlab-pat"
[[rules.allowlists]]
regexes = ['''glpat-public.*''']
[[allowlists]]
paths = ['''^legacy/''']
[[allowlists]]
targetRules = ["slack-bot-token"]
stopwords = ["allowed"]
`
	a, err := New(Options{Extra: []byte(extra)})
	if err != nil {
		t.Fatal(err)
	}
	f := newForger(1)
	for _, c := range []struct{ path, text, want string }{
		{"a.go", "acme" + "_" + f.text(small, 16), "acme-token"},
		{"a.go", "gh" + "p_" + f.text(alnum, 36), "github-pat"},
		{"a.go", "gh" + "o_" + f.text(alnum, 36), ""},
		{"a.go", "gl" + "pat-" + f.text(alnum, 20), "gitlab-pat"},
		{"a.go", "gl" + "pat-public" + f.text(alnum, 14), ""},
		{"a.go", "amqp:" + "//app:" + f.password() + "@mq.acme.io/", ""},
		{"legacy/a.go", "gh" + "p_" + f.text(alnum, 36), ""},
	} {
		ds := auditText(t, a, c.path, "x "+c.text+" y\n")
		if c.want == "" && len(ds) != 0 || c.want != "" && (len(ds) != 1 || ds[0].Type != "secrets/"+c.want) {
			t.Errorf("%s in %s: got %+v", c.want, c.path, ds)
		}
	}
	if d := auditText(t, a, "a.go", "acme"+"_"+f.text(small, 16)+"\n")[0]; d.Message != "A token of Acme's internal platform." || d.Severity != finding.High {
		t.Errorf("an operator's rule says %+v", d)
	}
	if one, _ := a.Reads("a.go"); one != ":a.go" {
		t.Errorf("key %q: rules that look at paths must not share results between them", one)
	}
	if a.Info().Config == standard(t).Info().Config {
		t.Error("other rules, same configuration digest")
	}
}

func TestHostileRulesAreRefusedWithASentence(t *testing.T) {
	for name, c := range map[string]struct{ toml, want string }{
		"not TOML":          {"[[rules", "not valid TOML"},
		"unknown member":    {"[[rules]]\nid = \"x\"\nrgex = \"y\"", "not rules of gitleaks"},
		"bad pattern":       {"[[rules]]\nid = \"x\"\nregex = '''(['''", "not a valid regular expression"},
		"bad path":          {"[[allowlists]]\npaths = ['''(''']", "not a valid regular expression"},
		"reads a file":      {"[extend]\npath = \"/etc/passwd\"", "not followed"},
		"reads a URL":       {"[extend]\nurl = \"http://169.254.169.254/\"", "not followed"},
		"bad id":            {"[[rules]]\nid = \"../x\"\nregex = '''y'''", "rule id"},
		"an id of ours":     {"[[rules]]\nid = \"url-credentials\"\nregex = '''y'''", "choose another"},
		"no id":             {"[[rules]]\nregex = '''y'''", "rule id"},
		"group too high":    {"[[rules]]\nid = \"x\"\nregex = '''y'''\nsecretGroup = 5", "secret"},
		"empty allowlist":   {"[[allowlists]]\ndescription = \"all\"", "at least one"},
		"unknown target":    {"[[allowlists]]\ntargetRules = [\"nope\"]\nregexes = ['''x''']", "nope"},
		"unknown condition": {"[[allowlists]]\ncondition = \"xor\"\nregexes = ['''x''']", "condition"},
		"too long":          {strings.Repeat("# padding\n", maxExtra/10+1), "at most"},
		"memory":            {"[[rules]]\nid = \"x\"\nregex = '''((a{1,900}){1,900}){1,900}'''", "not a valid regular expression"},
	} {
		_, err := New(Options{Extra: []byte(c.toml)})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "secret rules: ") {
			t.Errorf("%s: error %v, want one about %q", name, err, c.want)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%s: error of %d bytes", name, len(err.Error()))
		}
	}
}

// failing stands in for the engine.
type failing struct{ err error }

func (f failing) find(context.Context, string, string, bool) ([]match, error) { return nil, f.err }

func TestAFailingEngineIsNotAClean(t *testing.T) {
	a := standard(t)
	a.finder = failing{errors.New("broken")}
	_, err := a.AuditBlob(context.Background(), audit.Blob{Path: "a.go", Bytes: []byte("x"), Seal: testSeal})
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("error %v", err)
	}
}

func corpus() map[string]string {
	files := map[string]string{}
	for i, p := range plants() {
		f := newForger(uint64(i))
		files[p.path] += strings.ReplaceAll(p.line, "%s", p.secret(f)) + "\nplain text between them\n"
	}
	return files
}

func TestEightGoroutinesFindWhatOneFinds(t *testing.T) {
	a := standard(t)
	files := corpus()
	want := map[string][]finding.Draft{}
	for path, text := range files {
		want[path] = auditText(t, a, path, text)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3 {
				for path, text := range files {
					got, err := a.AuditBlob(context.Background(), audit.Blob{Path: path, Bytes: []byte(text), Seal: testSeal})
					if err != nil || !reflect.DeepEqual(got, want[path]) {
						t.Errorf("%s: other result in a goroutine: %v", path, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestMemoryDoesNotGrowWithTheBlobsSeen(t *testing.T) {
	a := standard(t)
	files := corpus()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	pass := func(n int) {
		for seen := 0; seen < n; {
			for path, text := range files {
				auditText(t, a, path, text)
				seen++
			}
		}
	}
	pass(500)
	before := heap()
	pass(2000)
	if after := heap(); after > before+2<<20 {
		t.Errorf("heap grew from %d to %d bytes over 2,000 blobs", before, after)
	}
}
