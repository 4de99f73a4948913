package render

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func commit(digit string) name.Commit {
	c, err := name.ParseCommit(strings.Repeat(digit, 40))
	if err != nil {
		panic(err)
	}
	return c
}

func story() Story {
	draft := finding.Draft{
		Type: "secrets/aws-access-token", Focus: "security", Severity: finding.High, Confidence: 950, Evidence: finding.Deterministic,
		Title: "AWS access key in the code", Message: "Whoever has read the code has the key, and the history keeps it after it is deleted.",
		Remediation: "Deactivate the key in IAM, then read it from the environment.", Context: "aws_access_key_id = ***",
		Region: finding.Region{StartLine: 12, StartColumn: 21}, CWE: []int{798},
	}
	fs := finding.Assemble("secrets", "deploy/prod.tf", []finding.Draft{draft})
	draft.Severity, draft.Title = finding.Medium, "Generic API key"
	draft.Type = "secrets/generic-api-key"
	fs = append(fs, finding.Assemble("secrets", "app/legacy.py", []finding.Draft{draft})...)
	fs[1].Introduced = false
	ref := func(f finding.Finding) verdict.Ref {
		return verdict.Ref{ID: f.ID, Fingerprint: f.Fingerprint, Type: f.Type, Severity: f.Severity, Path: f.Path, Line: f.Region.StartLine, Introduced: f.Introduced}
	}
	v := verdict.Verdict{
		Schema: verdict.SchemaName, Conclusion: verdict.Blocked,
		Subject: verdict.Subject{Account: "local", Repository: verdict.Repository{ID: "1", FullName: "octo-org/payments"}, Head: commit("a"), Base: commit("b"), Context: verdict.Local, Tree: "t"},
		Inputs:  verdict.Inputs{Policy: "sha256:" + strings.Repeat("c", 64), Engine: "1.0.0"},
		Policies: []verdict.Result{
			{Name: "doc-freshness", Action: verdict.Report, Outcome: verdict.OutcomePassed, Effect: verdict.EffectNone, Reason: "Nothing found.", Origin: verdict.Origin{Layer: "repository", Path: ".noxaudit/policies.yml", Line: 17}},
			{Name: "no-hardcoded-secrets", Action: verdict.Block, Outcome: verdict.OutcomeBlocked, Effect: verdict.EffectBlock, Reason: "1 introduced finding blocks.",
				Message: "Hardcoded secrets are not permitted. Use environment variables.", Origin: verdict.Origin{Layer: "repository", Path: ".noxaudit/policies.yml", Line: 3},
				Blocking: []verdict.Ref{ref(fs[0])}, Counts: verdict.Tally{Matched: 2, Introduced: 1, Existing: 1, Blocking: 1}},
			{Name: "test-coverage", Action: verdict.Block, Outcome: verdict.OutcomeNotAssessed, Effect: verdict.EffectNone, Reason: "No auditor here decides it.", Origin: verdict.Origin{Layer: "repository", Path: ".noxaudit/policies.yml", Line: 13}},
		},
		NotAssessed: []verdict.Gap{{Auditor: "secrets", Path: "assets/big.json", Reason: "larger than 5 MiB", Introduced: true}},
		Counts:      verdict.Counts{NotAssessed: 1},
	}
	for _, f := range fs {
		v.Counts.Findings.Add(f.Severity)
		if f.Introduced {
			v.Counts.Introduced.Add(f.Severity)
		}
	}
	return Story{Verdict: v, ID: "V-7F3K2QAB", Findings: fs, Resolved: 3, Notes: []string{"Judged under .noxaudit/policies.yml of the base, bbbbbbb."}}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (go test -update accepts it):\n%s", path, diff)
	}
}

func TestTextTellsWhatWhereWhyAndHowToFix(t *testing.T) {
	for file, style := range map[string]Style{"blocked.txt": {}, "blocked-narrow.txt": {Width: 60, All: true}, "blocked-color.txt": {Color: true}} {
		var b bytes.Buffer
		if err := Text(&b, story(), style); err != nil {
			t.Fatal(err)
		}
		golden(t, file, b.Bytes())
	}
}

func TestMarkdownTellsTheSameStory(t *testing.T) {
	golden(t, "blocked.md", []byte(Markdown(story(), 0)))
}

func TestAPassSaysSo(t *testing.T) {
	s := story()
	s.Verdict.Conclusion, s.Verdict.Policies, s.Verdict.NotAssessed, s.Verdict.Counts = verdict.Pass, nil, nil, verdict.Counts{}
	s.Findings = nil
	if got := s.Headline(); got != "Pass · nothing found" {
		t.Errorf("headline %q", got)
	}
}

func TestMarkdownStaysWithinItsLimitAndClosesWhatItOpens(t *testing.T) {
	s := story()
	p := &s.Verdict.Policies[1]
	f := s.Findings[0]
	for i := range 500 {
		f.Region.StartLine = i + 100
		f.Fingerprint = fmt.Sprintf("%064x", i)
		s.Findings = append(s.Findings, f)
		p.Blocking = append(p.Blocking, verdict.Ref{ID: f.ID, Fingerprint: f.Fingerprint, Severity: f.Severity})
		s.Verdict.NotAssessed = append(s.Verdict.NotAssessed, verdict.Gap{Path: fmt.Sprintf("f%d", i), Reason: "too large"})
	}
	p.Counts.Blocking, s.Verdict.Counts.NotAssessed = 501, 501
	for _, limit := range []int{700, 1500, 3000, 20_000, 0} {
		md := Markdown(s, limit)
		most := limit
		if most == 0 {
			most = MaxMarkdown
		}
		if n := utf8.RuneCountInString(md); n > most {
			t.Errorf("%d characters, limit %d", n, most)
		}
		if strings.Count(md, "<details>") != strings.Count(md, "</details>") {
			t.Errorf("limit %d: details are not closed", limit)
		}
		if !strings.Contains(md, "Blocked") || !strings.Contains(md, s.ID) {
			t.Errorf("limit %d: the verdict or its id is missing", limit)
		}
	}
}

func TestNothingOfOutsideOriginActs(t *testing.T) {
	s := story()
	evil := "\x1b[31m<img src=x>](javascript:x) @octocat | `x`\n### Approved\u202e"
	s.Verdict.Subject.Repository.FullName = evil
	for i := range s.Findings {
		f := &s.Findings[i]
		f.Title, f.Message, f.Remediation, f.Context, f.Path, f.Link = evil, evil, evil, evil, evil, evil
	}
	for i := range s.Verdict.Policies {
		p := &s.Verdict.Policies[i]
		p.Name, p.Message, p.Reason, p.Origin.Path = evil, evil, evil, evil
	}
	s.Verdict.NotAssessed = []verdict.Gap{{Path: evil, Reason: evil}}
	s.Notes = []string{evil}
	var b bytes.Buffer
	if err := Text(&b, s, Style{All: true}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\u202e") {
		t.Error("an escape sequence reaches the terminal")
	}
	// What a reader's browser gets: GitHub's dialect, raw HTML let through.
	var page bytes.Buffer
	gfm := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(html.WithUnsafe()))
	if err := gfm.Convert([]byte(Markdown(s, 0)), &page); err != nil {
		t.Fatal(err)
	}
	seen := regexp.MustCompile(`(?s)<code>.*?</code>`).ReplaceAllString(page.String(), "") // inside code GitHub acts on nothing
	for _, bad := range []string{"<img", "<h3>Approved", "<a ", "@octocat", "<code"} {
		if strings.Contains(seen, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if tables := strings.Count(page.String(), "<table>"); tables != 1 {
		t.Errorf("%d tables, want 1: a cell was left", tables)
	}
}
