package source

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Program is the git program under the rules of this package, for the package of mirrors: what it asks of git
// is more than reading, and none of it may escape the rules that reading is held to.
type Program struct {
	git       git
	companion func() (string, error) // the folder of the programs that git consists of, asked once
}

// FindProgram finds git. The error is ErrNoGit when there is none, or one too old.
func FindProgram(ctx context.Context, l Limits) (*Program, error) {
	g, err := findGit(ctx, l.filled())
	if err != nil {
		return nil, err
	}
	return &Program{*g, sync.OnceValues(g.execPath)}, nil
}

// Local is a command on the bare repository dir. It can start no other program and reach no other machine.
func (p *Program) Local(ctx context.Context, dir string, args ...string) *exec.Cmd {
	g := p.git
	g.dir = dir
	return g.command(ctx, args...)
}

// Remote is a command that may reach another machine by the given protocol, "https" or "http", and start the
// programs that git itself consists of: PATH still leads nowhere else. Redirects are not followed, and
// certificates are always checked. Further settings ("key=value") are added; a secret must not be among them,
// they are seen by every user of the machine: it goes into the command's Env.
func (p *Program) Remote(ctx context.Context, dir, protocol string, more []string, args ...string) (*exec.Cmd, error) {
	programs, err := p.companion()
	if err != nil {
		return nil, err
	}
	g := p.git
	g.dir = dir
	var all []string
	for _, s := range append([]string{
		"http.followRedirects=false",
		"http.sslVerify=true",
		"http.saveCookies=false",
		"http.cookieFile=",
		"fetch.recurseSubmodules=false",
		"protocol.version=2",
	}, more...) {
		all = append(all, "-c", s)
	}
	cmd := g.command(ctx, append(all, args...)...)
	// Of two equal names the later counts. HOME keeps curl from the .netrc of the user.
	cmd.Env = append(cmd.Env, "GIT_EXEC_PATH="+programs, "GIT_ALLOW_PROTOCOL="+protocol, "HOME=/dev/null")
	return cmd, nil
}

// Message is what git said on its standard error, in one line that is safe to show: a remote or a repository
// chooses part of the words.
func Message(stderr string) string { return firstLine(stderr) }

// execPath asks git where the programs lie that it consists of.
func (g *git) execPath() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), g.limits.Command)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.path, "--exec-path")
	for _, kv := range g.environment() {
		if !strings.HasPrefix(kv, "GIT_EXEC_PATH=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git --exec-path: %w", err)
	}
	dir := strings.TrimRight(string(out), "\r\n")
	if dir == "" {
		return "", errors.New("git --exec-path: git does not say where its programs are")
	}
	return dir, nil
}
