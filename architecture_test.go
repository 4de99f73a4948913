// Package noxaudit_test holds the tests about the module as a whole.
package noxaudit_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/noxaudit/noxaudit/"

// values may be imported by every room.
var values = []string{"internal/finding", "internal/name", "internal/access", "internal/canon", "internal/escape", "policy/verdict", "policy/waiver"}

// forTests may be imported by every room's tests, and by nothing else.
var forTests = []string{"internal/dbtest", "internal/gittest", "internal/githubsim", "internal/seedtest", "server/auth/authtest"}

// arrows reads the table of docs/architecture.md: room → rooms that it may import.
func arrows(t *testing.T) map[string][]string {
	t.Helper()
	doc, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(doc), "<!-- arrows -->")
	table, _, ok2 := strings.Cut(table, "<!-- /arrows -->")
	if !ok || !ok2 {
		t.Fatal("docs/architecture.md: no table of arrows")
	}
	code := regexp.MustCompile("`([^`]+)`")
	rooms := map[string][]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[1], "`") {
			continue
		}
		room := code.FindStringSubmatch(cells[1])[1]
		allowed := []string{}
		if strings.TrimSpace(cells[2]) == "everything" {
			allowed = append(allowed, "*")
		}
		for _, m := range code.FindAllStringSubmatch(cells[2], -1) {
			allowed = append(allowed, m[1])
		}
		rooms[room] = allowed
	}
	return rooms
}

// roomOf is the deepest room that holds the package.
func roomOf(rooms map[string][]string, pkg string) string {
	for p := pkg; p != "." && p != "/"; p = path.Dir(p) {
		if _, ok := rooms[p]; ok {
			return p
		}
	}
	return ""
}

func TestRoomsImportOnlyWhatTheArchitectureAllows(t *testing.T) {
	rooms := arrows(t)
	used := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && file != ".") {
			return filepath.SkipDir
		}
		if filepath.Ext(file) != ".go" || filepath.Dir(file) == "." {
			return nil
		}
		pkg := filepath.ToSlash(filepath.Dir(file))
		room := roomOf(rooms, pkg)
		if room == "" {
			t.Errorf("%s is in no room of docs/architecture.md", pkg)
			return nil
		}
		used[room] = true
		src, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range src.Imports {
			target, _ := strconv.Unquote(imp.Path.Value)
			rel, ours := strings.CutPrefix(target, module)
			if room == "ledger" && !ours && strings.Contains(strings.Split(target, "/")[0], ".") && !strings.HasPrefix(target, "golang.org/x/mod/") && !strings.HasSuffix(file, "_test.go") {
				t.Errorf("%s imports %s: the ledger stands on the standard library and golang.org/x/mod alone", file, target)
			}
			if !ours {
				continue
			}
			to := roomOf(rooms, rel)
			switch {
			case to == room, slices.Contains(values, to), slices.Contains(rooms[room], "*"):
			case slices.Contains(forTests, to) && strings.HasSuffix(file, "_test.go"):
			case slices.Contains(rooms[room], to):
			default:
				t.Errorf("%s (room %s) imports %s (room %s), which docs/architecture.md does not allow", file, room, rel, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for room := range rooms {
		if !used[room] {
			t.Errorf("docs/architecture.md names the room %s, which holds no Go file", room)
		}
	}
}
