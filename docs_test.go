package noxaudit_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated parts of documents anew")

// asked is a line of the manifest with its reason.
type asked struct{ noun, level, why string }

// manifest reads what app.yml asks for, and why: the comments are the reasons, so they are read as text.
func manifest(t *testing.T) (permissions, events []asked) {
	t.Helper()
	src, err := os.ReadFile("app.yml")
	if err != nil {
		t.Fatal(err)
	}
	permission := regexp.MustCompile(`^  ([a-z_]+): +(read|write) +# (.+)$`)
	event := regexp.MustCompile(`^  - ([a-z_]+) +# (.+)$`)
	section := ""
	for line := range strings.Lines(string(src)) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] >= 'a' && line[0] <= 'z' {
			section, _, _ = strings.Cut(line, ":")
			continue
		}
		inside := strings.HasPrefix(line, "  ")
		switch m, e := permission.FindStringSubmatch(line), event.FindStringSubmatch(line); {
		case section == "default_permissions" && m != nil:
			permissions = append(permissions, asked{m[1], m[2], m[3]})
		case section == "default_events" && e != nil:
			events = append(events, asked{noun: e[1], why: e[2]})
		case inside && (section == "default_permissions" || section == "default_events"):
			t.Errorf("app.yml: %q: want a name and, after #, its reason", line)
		}
	}
	if len(permissions) == 0 || len(events) == 0 {
		t.Fatal("app.yml: no permissions or no events")
	}
	return permissions, events
}

// cell makes a text fit for a table's cell.
func cell(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "|", `\|`)
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// replaceBetween puts text between the marks of one name, each on a line of its own.
func replaceBetween(t *testing.T, doc, name, text string) string {
	t.Helper()
	before, rest, ok := strings.Cut(doc, "<!-- "+name+" -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- /"+name+" -->")
	if !ok || !ok2 {
		t.Fatalf("the document has no marks %q", name)
	}
	return before + "<!-- " + name + " -->\n" + text + "<!-- /" + name + " -->" + after
}

func TestThePermissionsPageSaysWhatTheManifestAsksFor(t *testing.T) {
	const path = "docs/permissions.md"
	permissions, events := manifest(t)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| permission | level | why |\n|---|---|---|\n")
	for _, p := range permissions {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", p.noun, p.level, cell(p.why))
	}
	want := replaceBetween(t, string(b), "permissions", table.String())
	table.Reset()
	table.WriteString("| event | why |\n|---|---|\n")
	for _, e := range events {
		fmt.Fprintf(&table, "| `%s` | %s |\n", e.noun, cell(e.why))
	}
	want = replaceBetween(t, want, "events", table.String())
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(b) {
		t.Errorf("%s does not say what app.yml says: run \"go test . -run TestThePermissionsPage -update\" and look at the difference", path)
	}
}

// TestTheInstallationGuideNamesEveryPermissionAndEvent: the form at GitHub is filled in by hand from it.
func TestTheInstallationGuideNamesEveryPermissionAndEvent(t *testing.T) {
	b, err := os.ReadFile("docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	_, form, ok := strings.Cut(string(b), "<!-- form -->")
	form, _, ok2 := strings.Cut(form, "<!-- /form -->")
	if !ok || !ok2 {
		t.Fatal("docs/install.md: no form")
	}
	permissions, events := manifest(t)
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z_]+(?:: (?:read|write))?)`").FindAllStringSubmatch(form, -1) {
		named[m[1]] = true
	}
	for _, p := range permissions {
		if key := p.noun + ": " + p.level; !named[key] {
			t.Errorf("docs/install.md: the form lacks %s", key)
		} else {
			delete(named, key)
		}
	}
	for _, e := range events {
		if !named[e.noun] {
			t.Errorf("docs/install.md: the form lacks the event %s", e.noun)
		}
		delete(named, e.noun)
	}
	for name := range named {
		t.Errorf("docs/install.md: the form asks for %s, and app.yml does not", name)
	}
}

// TestDocumentsNameTestsThatExist: a claim that points to a test which is gone holds nothing.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	exists := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(src, -1) {
			exists[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w+)`")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(text, -1) {
			if !exists[string(m[1])] {
				t.Errorf("%s names %s, which is no test here", page, m[1])
			}
		}
	}
}
