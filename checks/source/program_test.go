package source

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The commands that may reach another machine obey the same rules: what the repository, the user and the
// environment name is not run, and nothing but the given protocol is spoken.
func TestACommandThatReachesOutRunsNothingButGit(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("sent: %v", r.Header)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer srv.Close()

	s := setup(t, "--bare")
	ran, home := t.TempDir(), t.TempDir()
	evil := filepath.Join(home, "evil")
	for file, text := range map[string]string{
		evil:                                   "#!/bin/sh\n: >\"" + ran + "/evil-$1\"\n",
		filepath.Join(home, "git-remote-evil"): "#!/bin/sh\n: >\"" + ran + "/evil-helper\"\n",
		filepath.Join(home, ".netrc"):          "default login ada password secret\n",
		filepath.Join(home, ".gitconfig"):      "[credential]\n\thelper = !" + evil + " user\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for k, v := range map[string]string{
		"credential.helper":         "!" + evil + " credential",
		"core.askPass":              evil,
		"core.sshCommand":           evil + " ssh",
		"core.gitProxy":             evil,
		"core.hooksPath":            home,
		"core.fsmonitor":            evil + " fsmonitor",
		"core.alternateRefsCommand": evil + " refs",
		"protocol.allow":            "always",
		"protocol.ext.allow":        "always",
		"alias.fetch":               "!" + evil + " alias",
		"http.sslVerify":            "false",
	} {
		s.git("config", k, v)
	}
	t.Setenv("HOME", home)
	t.Setenv("PATH", home+":"+os.Getenv("PATH"))
	t.Setenv("GIT_ASKPASS", evil)
	t.Setenv("SSH_ASKPASS", evil)
	t.Setenv("GIT_SSH_COMMAND", evil+" ssh")
	t.Setenv("GIT_ALLOW_PROTOCOL", "ext:file:ssh")
	t.Setenv("GIT_EXEC_PATH", "") // git ignores an empty one

	p, err := FindProgram(t.Context(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{srv.URL + "/x.git", "ext::" + evil + " ext", "evil::x", "ssh://localhost/x", "file://" + s.dir, s.dir, "git://localhost/x"} {
		cmd, err := p.Remote(context.Background(), s.dir, "http", nil, "fetch", "--end-of-options", url, "refs/heads/main:refs/heads/x")
		if err != nil {
			t.Fatal(err)
		}
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%s: was fetched: %s", url, out)
		} else if url != srv.URL+"/x.git" && !strings.Contains(string(out), "not allowed") {
			t.Errorf("%s: %s", url, out)
		}
	}
	if asked == 0 {
		t.Error("the server was never asked")
	}
	if left, _ := os.ReadDir(ran); len(left) != 0 {
		t.Errorf("these were run: %v", left)
	}
}
