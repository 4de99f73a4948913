package github

import (
	"bytes"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

type manifest struct {
	Name           string
	URL            string
	Description    string
	Public         bool
	HookAttributes struct {
		URL    string
		Active bool
	} `yaml:"hook_attributes"`
	CallbackURLs   []string          `yaml:"callback_urls"`
	OAuthOnInstall bool              `yaml:"request_oauth_on_install"`
	Permissions    map[string]string `yaml:"default_permissions"`
	Events         []string          `yaml:"default_events"`
}

func readManifest(t *testing.T) (manifest, []byte) {
	t.Helper()
	src, err := os.ReadFile("../../app.yml")
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	d := yaml.NewDecoder(bytes.NewReader(src))
	d.KnownFields(true)
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m, src
}

func TestTheManifestAsksForTheEventsThatAreUnderstood(t *testing.T) {
	m, _ := readManifest(t)
	// These come to every App; a manifest that names them is refused.
	got := append(slices.Clone(m.Events), "installation", "installation_repositories")
	slices.Sort(got)
	if want := slices.Sorted(maps.Keys(handled)); !slices.Equal(got, want) {
		t.Errorf("app.yml: %q, ParseEvent: %q", got, want)
	}
}

func TestTheManifestAsksForNoMoreThanItNeeds(t *testing.T) {
	m, _ := readManifest(t)
	want := map[string]string{
		"metadata": "read", "contents": "read", "checks": "write", "pull_requests": "write",
		"issues": "read", "members": "read", "merge_queues": "read",
	}
	if !maps.Equal(m.Permissions, want) {
		t.Errorf("permissions %v, want %v", m.Permissions, want)
	}
	if m.Public || m.Name != CheckName || !strings.HasSuffix(m.HookAttributes.URL, "/github/hooks") {
		t.Errorf("%+v", m)
	}
}

// TestTheManifestSendsPeopleBackToSignInOnly: a callback elsewhere would be given people's codes.
func TestTheManifestSendsPeopleBackToSignInOnly(t *testing.T) {
	m, _ := readManifest(t)
	if want := []string{m.URL + "/auth/callback"}; !slices.Equal(m.CallbackURLs, want) || m.OAuthOnInstall {
		t.Errorf("%q, want %q; at installation: %v", m.CallbackURLs, want, m.OAuthOnInstall)
	}
}

func TestTheManifestGivesAReasonForEachPermissionAndEvent(t *testing.T) {
	m, src := readManifest(t)
	for noun := range m.Permissions {
		if !regexp.MustCompile(`(?m)^  ` + noun + `: \w+ +# .{20,}$`).Match(src) {
			t.Errorf("permission %s: no reason beside it", noun)
		}
	}
	for _, event := range m.Events {
		if !regexp.MustCompile(`(?m)^  - ` + event + ` +# .{15,}$`).Match(src) {
			t.Errorf("event %s: no reason beside it", event)
		}
	}
}
