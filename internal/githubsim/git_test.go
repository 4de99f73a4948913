package githubsim_test

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// git runs git in a new folder with the token as password.
func (w *world) git(token string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = w.TempDir()
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0")
	if token != "" {
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth("x-access-token", token)
		cmd.Env = append(cmd.Env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: "+r.Header.Get("Authorization"))
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestGitFetchesEveryRefWithTheInstallationsToken(t *testing.T) {
	w := newWorld(t)
	must(t, w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Queue: &githubsim.MergeQueue{}}))
	p := w.openPull("feature")
	group := get(w.sim.Enqueue("bob", "acme/shop", 1))(t)
	other := w.openPull("other")
	url := w.url + "/acme/shop.git"
	for _, protocol := range []string{"0", "1", "2"} {
		out, err := w.git(w.token, "-c", "protocol.version="+protocol, "ls-remote", url)
		must(t, err)
		if !strings.Contains(out, group+"\trefs/heads/main") {
			t.Errorf("protocol %s: nothing is required, so the group %s is merged at once:\n%s", protocol, group, out)
		}
		for _, want := range []string{other.HeadSHA + "\trefs/pull/2/head", p.HeadSHA + "\trefs/heads/feature", "\trefs/pull/2/merge"} {
			if !strings.Contains(out, want) {
				t.Errorf("protocol %s: no %s in\n%s", protocol, want, out)
			}
		}
	}
	dir := t.TempDir()
	if out, err := w.git(w.token, "clone", "-q", "--bare", "--filter=blob:none", "--depth=1", url, dir+"/partial"); err != nil {
		t.Error(out)
	}
	if out, err := w.git(w.token, "clone", "-q", "--bare", url, dir+"/full"); err != nil {
		t.Error(out)
	}
	if out, err := w.git(w.token, "-C", dir+"/full", "fetch", "-q", url, other.HeadSHA); err != nil {
		t.Errorf("a commit by its id: %s", out)
	}
	var fetches int
	for _, c := range w.sim.Calls() {
		if strings.HasPrefix(c.Route, "git ") && c.Installation == w.installation && c.Status == 200 {
			fetches++
		}
	}
	if fetches == 0 {
		t.Error("fetches are not in the log of calls")
	}
}

func TestGitRefusesWhoeverMayNotRead(t *testing.T) {
	w := newWorld(t)
	get(w.sim.CreateRepo("eve", "eve/private", githubsim.RepoSpec{Private: true, Files: githubsim.Files{"a": "a"}}))(t)
	get(w.sim.CreateRepo("eve", "eve/public", githubsim.RepoSpec{Files: githubsim.Files{"a": "a"}}))(t)
	narrow := w.newToken(map[string]any{"permissions": map[string]string{"checks": "write"}})
	for name, c := range map[string]struct {
		token, repo, want string
	}{
		"a bad token":                 {"ghs_nothing", "acme/shop", "could not read Username"},
		"no token":                    {"", "acme/shop", "could not read Username"},
		"outside of the installation": {w.token, "eve/private", "not found"},
		"without contents: read":      {narrow, "acme/shop", "403"},
		"public, without a token":     {"", "eve/public", ""},
		"public, with another's":      {w.token, "eve/public", ""},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.git(c.token, "ls-remote", w.url+"/"+c.repo+".git")
			if (err == nil) != (c.want == "") || !strings.Contains(out, c.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	must(t, w.sim.SuspendApp("ada", w.installation, true))
	if out, err := w.git(w.token, "ls-remote", w.url+"/acme/shop.git"); err == nil {
		t.Errorf("suspended: %s", out)
	}
}

func TestGitFollowsARename(t *testing.T) {
	w := newWorld(t)
	get(w.sim.RenameRepo("ada", "acme/shop", "store"))(t)
	if out, err := w.git(w.token, "ls-remote", w.url+"/acme/shop.git"); err != nil || !strings.Contains(out, "refs/heads/main") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestGitFetchesFailOnDemand(t *testing.T) {
	w := newWorld(t)
	url := w.url + "/acme/shop.git"
	for _, f := range []githubsim.Fault{
		{Kind: githubsim.ErrorBefore, On: "git", Times: 1},
		{Kind: githubsim.Reset, On: "git info/refs", Times: 1},
	} {
		w.sim.Inject(f)
		if out, err := w.git(w.token, "ls-remote", url); err == nil {
			t.Errorf("%s: %s", f.Kind, out)
		}
		if out, err := w.git(w.token, "ls-remote", url); err != nil {
			t.Errorf("after %s: %s", f.Kind, out)
		}
	}
}
