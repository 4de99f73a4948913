package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the reference page anew")

const reference = "../../docs/configuration.md"

// settings is the generated part of the reference page.
func settings() string {
	var b strings.Builder
	b.WriteString("| environment | flag | in the file | what it is |\n|---|---|---|---|\n")
	for _, s := range Table {
		help := strings.ReplaceAll(s.Help, "|", `\|`)
		help = strings.ToUpper(help[:1]) + help[1:] + "."
		if s.Secret {
			help += " A secret: also read from the file that `" + s.Env + "_FILE` names."
		}
		fmt.Fprintf(&b, "| `%s` | `--%s` | `%s` | %s |\n", s.Env, s.Flag(), s.key(), help)
	}
	return b.String()
}

func TestTheReferencePageListsEverySetting(t *testing.T) {
	page, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), "<!-- settings -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- /settings -->")
	if !ok || !ok2 {
		t.Fatal("docs/configuration.md has no marks for the settings")
	}
	want := before + "<!-- settings -->\n" + settings() + "<!-- /settings -->" + after
	if *update {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(page) {
		t.Error(`docs/configuration.md differs from the table: run "go test ./internal/config -update" and look at the difference`)
	}
}

// TestTheReferencePageSpeaksOfNoOtherSetting: an example with a name that nothing reads would be copied.
func TestTheReferencePageSpeaksOfNoOtherSetting(t *testing.T) {
	known := map[string]bool{"NOXAUDIT_TEST_POSTGRES_URL": true}
	for _, s := range Table {
		known[s.Env] = true
		if s.Secret {
			known[s.Env+"_FILE"] = true
		}
	}
	for _, page := range []string{"configuration.md", "install.md", "operations.md", "permissions.md", "threat-model.md"} {
		b, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range strings.FieldsFunc(string(b), func(r rune) bool {
			return (r < 'A' || r > 'Z') && r != '_'
		}) {
			if strings.HasPrefix(word, "NOXAUDIT_") && !known[word] {
				t.Errorf("docs/%s speaks of %s, which is no setting", page, word)
			}
		}
	}
}
