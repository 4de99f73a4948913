package githubsim

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// gitDir is a bare repository on disk, driven through git's own commands.
type gitDir string

// zeroSHA stands for "no commit" in push events.
const zeroSHA = "0000000000000000000000000000000000000000"

// gitEnv keeps the user's and the machine's git settings out.
var gitEnv = []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C", "PATH=" + os.Getenv("PATH")}

func (g gitDir) command(args ...string) *exec.Cmd {
	cmd := exec.Command("git", args...)
	cmd.Dir = string(g)
	cmd.Env = append(slices.Clone(gitEnv), "GIT_DIR=.")
	return cmd
}

func (g gitDir) run(args ...string) (string, error) { return g.feed(nil, nil, args...) }

// feed runs git with input and more environment and returns what it printed, without the final newline.
func (g gitDir) feed(in []byte, env []string, args ...string) (string, error) {
	cmd := g.command(args...)
	cmd.Env = append(cmd.Env, env...)
	if in != nil {
		cmd.Stdin = bytes.NewReader(in)
	}
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		return strings.TrimSuffix(out.String(), "\n"), fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(msg.String()))
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

func gitInit(g gitDir, branch string) error {
	if err := os.MkdirAll(string(g), 0o755); err != nil {
		return err
	}
	if _, err := g.run("check-ref-format", "--branch", branch); err != nil {
		return fmt.Errorf("branch %q: not a name", branch)
	}
	if _, err := g.run("init", "-q", "--bare", "--initial-branch="+branch, "."); err != nil {
		return err
	}
	return g.configure()
}

// configure allows what GitHub allows: partial clones, and commits asked for by id.
func (g gitDir) configure() error {
	f, err := os.OpenFile(filepath.Join(string(g), "config"), os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString("[uploadpack]\n\tallowFilter = true\n\tallowAnySHA1InWant = true\n[gc]\n\tauto = 0\n[core]\n\tfsync = none\n")
	return errors.Join(err, f.Close())
}

// clone makes a bare copy of the branches and tags; pull requests stay behind.
func (g gitDir) clone(to gitDir) error {
	if err := os.MkdirAll(string(to), 0o755); err != nil {
		return err
	}
	head, err := g.run("symbolic-ref", "--short", "HEAD")
	if err != nil {
		return err
	}
	if err := gitInit(to, head); err != nil {
		return err
	}
	_, err = to.run("fetch", "-q", string(g), "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
	return err
}

// resolve is the commit of a ref or an id, or "".
func (g gitDir) resolve(rev string) string {
	if strings.HasPrefix(rev, "-") {
		return ""
	}
	sha, err := g.run("rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
	if err != nil {
		return ""
	}
	return sha
}

// branch is the tip of a branch, or "". These repositories never pack their refs, so reading the file nearly always does.
func (g gitDir) branch(name string) string {
	ref := "refs/heads/" + name
	if !strings.Contains(name, "..") {
		if raw, err := os.ReadFile(filepath.Join(string(g), filepath.FromSlash(ref))); err == nil && len(raw) == 41 {
			return string(raw[:40])
		}
	}
	return g.resolve(ref)
}

func (g gitDir) setRef(ref, sha string) error {
	_, err := g.run("update-ref", ref, sha)
	return err
}

func (g gitDir) deleteRef(ref string) error {
	_, err := g.run("update-ref", "-d", ref)
	return err
}

func (g gitDir) renameBranch(from, to string) error {
	if _, err := g.run("branch", "-m", "--", from, to); err != nil {
		return err
	}
	_, err := g.run("symbolic-ref", "HEAD", "refs/heads/"+to)
	return err
}

// signature is a person and a moment as git writes them.
func signature(a *account, at time.Time) string {
	clean := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r < ' ' || r == '<' || r == '>' {
				return -1
			}
			return r
		}, s)
	}
	return fmt.Sprintf("%s <%s> %d +0000", clean(a.name), clean(a.email), at.Unix())
}

// commitFiles writes one commit onto a ref: from is its parent, "" for a first commit.
func (g gitDir) commitFiles(ref, from, by, message string, files Files) (string, error) {
	var in bytes.Buffer
	in.WriteString("feature done\n")
	writeCommit(&in, ref, from, by, message, files)
	return g.importCommits(ref, &in)
}

// writeCommit writes a commit as fast-import reads it. With from "" it goes onto what was written before it.
func writeCommit(in *bytes.Buffer, ref, from, by, message string, files Files) {
	fmt.Fprintf(in, "commit %s\nauthor %s\ncommitter %s\ndata %d\n%s\n", ref, by, by, len(message), message)
	if from != "" {
		fmt.Fprintf(in, "from %s\n", from)
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(path) + `"`
		if body := files[path]; body == "" {
			fmt.Fprintf(in, "D %s\n", quoted)
		} else {
			fmt.Fprintf(in, "M 100644 inline %s\ndata %d\n%s\n", quoted, len(body), body)
		}
	}
}

// importCommits ends and runs a stream of commits, and returns the ref's new tip.
func (g gitDir) importCommits(ref string, in *bytes.Buffer) (string, error) {
	in.WriteString("done\n")
	if _, err := g.feed(in.Bytes(), nil, "fast-import", "--quiet", "--force", "--done"); err != nil {
		return "", err
	}
	if sha := g.branch(strings.TrimPrefix(ref, "refs/heads/")); sha != "" {
		return sha, nil
	}
	return "", fmt.Errorf("git: %s was not written", ref)
}

// merge makes the commit that merges head into base, without touching a ref. ok is false on a conflict.
func (g gitDir) merge(base, head, by, message string) (sha string, ok bool, err error) {
	tree, err := g.run("merge-tree", "--write-tree", base, head)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	name, rest, _ := strings.Cut(by, " <")
	mail, unix, _ := strings.Cut(rest, "> ")
	when := "@" + unix
	env := []string{"GIT_AUTHOR_NAME=" + name, "GIT_AUTHOR_EMAIL=" + mail, "GIT_AUTHOR_DATE=" + when,
		"GIT_COMMITTER_NAME=" + name, "GIT_COMMITTER_EMAIL=" + mail, "GIT_COMMITTER_DATE=" + when}
	tree, _, _ = strings.Cut(tree, "\n")
	sha, err = g.feed([]byte(message), env, "commit-tree", tree, "-p", base, "-p", head)
	return sha, err == nil, err
}

func (g gitDir) isAncestor(a, b string) bool {
	_, err := g.run("merge-base", "--is-ancestor", a, b)
	return err == nil
}

// between lists the commits reachable from head and not from base, oldest first; at most n of the newest.
func (g gitDir) between(base, head string, n int) ([]string, error) {
	args := []string{"rev-list", "--reverse", "--topo-order", "--max-count=" + strconv.Itoa(n), head}
	if base != "" && base != zeroSHA {
		args = append(args, "^"+base)
	}
	out, err := g.run(args...)
	if err != nil || out == "" {
		return nil, err
	}
	return strings.Split(out, "\n"), nil
}

// commit is what git knows of one.
type commit struct {
	sha, tree         string
	parents           []string
	author, committer person
	message           string
}

type person struct {
	name, email string
	at          time.Time
}

// show reads a commit. What it says never changes, so it is remembered.
func (s *Server) show(g gitDir, sha string) (*commit, error) {
	key := string(g) + ":" + sha
	if c := s.commits[key]; c != nil {
		return c, nil
	}
	raw, err := g.run("cat-file", "commit", sha)
	if err != nil {
		return nil, err
	}
	c := &commit{sha: sha}
	head, message, _ := strings.Cut(raw+"\n", "\n\n")
	c.message = strings.TrimSuffix(message, "\n")
	for line := range strings.Lines(head) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "tree":
			c.tree = value
		case "parent":
			c.parents = append(c.parents, value)
		case "author":
			c.author = parsePerson(value)
		case "committer":
			c.committer = parsePerson(value)
		}
	}
	s.commits[key] = c
	return c, nil
}

func parsePerson(line string) person {
	name, rest, _ := strings.Cut(line, " <")
	mail, when, _ := strings.Cut(rest, "> ")
	unix, _ := strconv.ParseInt(strings.Fields(when + " 0")[0], 10, 64)
	return person{name, mail, time.Unix(unix, 0).UTC()}
}

// fileChange is one file of a diff.
type fileChange struct {
	path, from     string // from: the old path of a rename
	status         string // added, removed, modified, renamed
	blob           string
	added, removed int
	patch          string
	binary         bool
}

// changes is the diff of two commits (of a commit against the empty tree when base is ""), with patches when asked for.
func (g gitDir) changes(base, head string, patches bool) ([]fileChange, error) {
	if base == "" {
		base = "4b825dc642cb6eb9a060e54bf8d69288fbee4904" // the empty tree
		if _, err := g.feed([]byte{}, nil, "hash-object", "-t", "tree", "-w", "--stdin"); err != nil {
			return nil, err
		}
	}
	raw, err := g.run("diff-tree", "-r", "-M", "-z", "--raw", "--numstat", "--no-commit-id", "--no-abbrev", base, head)
	if err != nil {
		return nil, err
	}
	fields := strings.Split(raw, "\x00")
	var all []fileChange
	stats := 0
	for i := 0; i < len(fields) && fields[i] != ""; {
		if meta, ok := strings.CutPrefix(fields[i], ":"); ok {
			f := strings.Fields(meta) // old mode, new mode, old blob, new blob, status
			c := fileChange{path: fields[i+1], blob: f[3]}
			switch f[4][0] {
			case 'A':
				c.status = "added"
			case 'D':
				c.status, c.blob = "removed", f[2]
			case 'R':
				c.status, c.from, c.path = "renamed", fields[i+1], fields[i+2]
				i++
			default:
				c.status = "modified"
			}
			all = append(all, c)
			i += 2
			continue
		}
		f := strings.SplitN(fields[i], "\t", 3) // added, removed, path ("" for a rename: two more fields)
		if f[2] == "" {
			i += 2
		}
		c := &all[stats]
		c.binary = f[0] == "-"
		c.added, _ = strconv.Atoi(f[0])
		c.removed, _ = strconv.Atoi(f[1])
		stats++
		i++
	}
	if patches && len(all) > 0 {
		text, err := g.run("diff-tree", "-r", "-M", "-p", "--no-commit-id", base, head)
		if err != nil {
			return nil, err
		}
		parts := strings.Split("\n"+text, "\ndiff --git ")[1:]
		for i := range min(len(parts), len(all)) {
			if at := strings.Index(parts[i], "\n@@ "); at >= 0 {
				all[i].patch = parts[i][at+1:]
			}
		}
	}
	return all, nil
}

// changed is changes without patches. What two commits differ in never changes, so it is remembered.
func (s *Server) changed(g gitDir, base, head string) ([]fileChange, error) {
	key := string(g) + ":" + base + ":" + head
	if known, ok := s.diffs[key]; ok {
		return known, nil
	}
	files, err := g.changes(base, head, false)
	if err == nil {
		s.diffs[key] = files
	}
	return files, err
}

// mergeBase is where two lines of history parted, or "".
func (g gitDir) mergeBase(a, b string) string {
	sha, err := g.run("merge-base", a, b)
	if err != nil {
		return ""
	}
	return sha
}
