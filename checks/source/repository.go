package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/noxaudit/noxaudit/internal/name"
)

// Repository is a git repository that is open for reading. It is safe for concurrent use.
type Repository struct {
	git     *git
	root    string   // the working tree, or the bare repository
	files   *os.Root // of the working tree; nil in a bare repository
	common  string   // the directory of objects and refs; another than git's own in a linked working tree
	sha256  bool     // object ids are SHA-256, not SHA-1
	config  config
	objects *objects
	recent  *Listings
	closing sync.Once
}

// config is what the repository's configuration says about its working tree.
type config struct {
	noExecBit bool // the file system keeps no executable bit: the index's counts
	noLinks   bool // symbolic links are checked out as small files
	newlines  bool // git may have changed line endings at checkout
}

// Open opens the repository whose working tree holds dir, or the bare repository that dir is. Zero limits
// are the default ones. Close it when done: a git process may be waiting for questions.
func Open(ctx context.Context, dir string, l Limits) (*Repository, error) {
	l = l.filled()
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shown(dir, 200), err)
	}
	// The real path, so that a link on the way cannot make the same repository two.
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotRepository, err)
	}
	gitDir, tree, err := discover(abs)
	if err != nil {
		return nil, err
	}
	g, err := findGit(ctx, l)
	if err != nil {
		return nil, err
	}
	g.dir, g.tree = gitDir, tree
	r := &Repository{git: g, root: tree, recent: &Listings{}}
	if tree == "" {
		r.root = gitDir
	}
	if err := r.inspect(ctx); err != nil {
		return nil, err
	}
	if tree != "" {
		if r.files, err = os.OpenRoot(tree); err != nil {
			return nil, fmt.Errorf("working tree: %w", err)
		}
	}
	r.objects = newObjects(g)
	return r, nil
}

// discover finds the repository that dir lies in, without asking git: git would read the configuration of
// whatever it finds on the way, and refuse a repository of another owner. A bare repository is found only
// where dir points at it and no ".git" is in it: the files of a checkout can be made to look like one.
func discover(dir string) (gitDir, tree string, err error) {
	if fi, err := os.Stat(dir); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrNotRepository, err)
	} else if !fi.IsDir() {
		dir = filepath.Dir(dir)
	}
	if _, err := os.Lstat(filepath.Join(dir, ".git")); err != nil && looksBare(dir) {
		if filepath.Base(dir) == ".git" {
			return dir, filepath.Dir(dir), nil
		}
		return dir, "", nil
	}
	for d := dir; ; d = filepath.Dir(d) {
		dot := filepath.Join(d, ".git")
		if fi, err := os.Stat(dot); err == nil {
			if fi.IsDir() {
				return dot, d, nil
			}
			if linked, ok := readLink(dot); ok {
				return linked, d, nil
			}
			return "", "", fmt.Errorf("%w: %s points at no repository", ErrNotRepository, shown(dot, 200))
		}
		if d == filepath.Dir(d) {
			return "", "", fmt.Errorf("%w: %s is in none: run it inside a checkout, or create one with `git init`", ErrNotRepository, shown(dir, 200))
		}
	}
}

// looksBare is git's own rule for a repository's directory.
func looksBare(dir string) bool {
	if _, err := os.Lstat(filepath.Join(dir, "HEAD")); err != nil {
		return false
	}
	for _, sub := range []string{"objects", "refs"} {
		fi, err := os.Stat(filepath.Join(dir, sub))
		if err != nil || !fi.IsDir() {
			return false
		}
	}
	return true
}

// readLink reads the file ".git" of a linked working tree or a submodule: "gitdir: path".
func readLink(file string) (string, bool) {
	f, err := os.Open(file)
	if err != nil {
		return "", false
	}
	defer f.Close()
	line, _ := bufio.NewReaderSize(f, 16).ReadString('\n')
	p, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "gitdir: ")
	if !ok || p == "" {
		return "", false
	}
	if !filepath.IsAbs(p) {
		p = filepath.Join(filepath.Dir(file), p)
	}
	fi, err := os.Stat(p)
	return p, err == nil && fi.IsDir()
}

// inspect asks git where the objects are and how they are named, and for the few settings that matter here.
func (r *Repository) inspect(ctx context.Context) error {
	out, err := r.git.output(ctx, 64<<10, "rev-parse", "--git-common-dir", "--show-object-format")
	if err != nil {
		// The directory is there, so what git does not accept is a damaged repository.
		if errors.Is(err, ErrNotRepository) {
			return fmt.Errorf("%s: %w: %w", shown(r.root, 200), ErrCorrupt, err)
		}
		return err
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if len(lines) != 2 {
		return fmt.Errorf("git rev-parse: %d lines where 2 were expected", len(lines))
	}
	if r.common = lines[0]; !filepath.IsAbs(r.common) {
		base := r.git.dir
		if r.git.tree != "" {
			base = r.git.tree
		}
		r.common = filepath.Join(base, r.common)
	}
	r.sha256 = lines[1] == "sha256"
	out, err = r.git.output(ctx, 1<<20, "config", "-z", "--includes", "--get-regexp",
		`^(core\.(filemode|symlinks|autocrlf|eol)|extensions\.partialclone|remote\..*\.promisor)$`)
	if err != nil && exitCode(err) != 1 { // 1: none of them is set
		return err
	}
	for _, kv := range bytes.Split(out, []byte{0}) {
		k, v, _ := strings.Cut(string(kv), "\n")
		off := v == "false" || v == "no" || v == "off" || v == "0"
		switch {
		case k == "core.filemode":
			r.config.noExecBit = off
		case k == "core.symlinks":
			r.config.noLinks = off
		case k == "core.autocrlf":
			r.config.newlines = r.config.newlines || !off
		case k == "core.eol":
			r.config.newlines = true
		case k == "extensions.partialclone", strings.HasPrefix(k, "remote.") && !off:
			r.git.partial = true
		}
	}
	return nil
}

// Close ends the git processes and releases the working tree. Reads under way get ErrClosed.
func (r *Repository) Close() error {
	var err error
	r.closing.Do(func() {
		r.objects.close()
		if r.files != nil {
			err = r.files.Close()
		}
	})
	return err
}

// ShareListings has the repository remember its listings in l, before anything is listed. A listing goes by the
// id of its tree, so a repository that is opened again finds what it listed before.
func (r *Repository) ShareListings(l *Listings) { r.recent = l }

// Root is the absolute path of the working tree's top, or of the bare repository.
func (r *Repository) Root() string { return r.root }

// Bare reports whether there is no working tree.
func (r *Repository) Bare() bool { return r.git.tree == "" }

// Shallow reports whether the clone lacks part of its history.
func (r *Repository) Shallow(context.Context) (bool, error) {
	fi, err := os.Stat(filepath.Join(r.common, "shallow"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("shallow clone: %w", err)
	}
	return fi.Size() > 0, nil
}

const revisionBytes = 1024

// Resolve finds the commit that a revision names: a branch, a tag, an object id or its beginning, "HEAD~2".
func (r *Repository) Resolve(ctx context.Context, rev string) (name.Commit, error) {
	said := shown(rev, 80)
	switch {
	case rev == "":
		return name.Commit{}, fmt.Errorf("%w: the revision is empty", ErrUnknownRevision)
	case rev[0] == '-':
		return name.Commit{}, fmt.Errorf("%w: %q begins with a hyphen, no revision does", ErrUnknownRevision, said)
	case len(rev) > revisionBytes:
		return name.Commit{}, fmt.Errorf("%w: a revision of more than %d bytes", ErrUnknownRevision, revisionBytes)
	case strings.ContainsFunc(rev, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return name.Commit{}, fmt.Errorf("%w: %q holds a control character", ErrUnknownRevision, said)
	}
	full, err := r.branch(ctx, rev)
	if err != nil {
		return name.Commit{}, err
	}
	o, err := r.objects.info(ctx, full+"^{commit}")
	if err == nil {
		return name.ParseCommit(o.id)
	}
	if !errors.Is(err, errAbsent) {
		return name.Commit{}, err
	}
	if errors.Is(err, errAmbiguous) {
		return name.Commit{}, fmt.Errorf("%w: %q could be several, use more digits", ErrUnknownRevision, said)
	}
	if unborn, uerr := r.unborn(ctx); uerr != nil {
		return name.Commit{}, uerr
	} else if unborn && (rev == "HEAD" || rev == "@") {
		return name.Commit{}, fmt.Errorf("%w: make the first one, or audit the working tree", ErrUnborn)
	}
	if shallow, serr := r.Shallow(ctx); serr == nil && shallow {
		return name.Commit{}, fmt.Errorf("%w %q: %w", ErrUnknownRevision, said, ErrShallow)
	}
	if near := r.nearest(ctx, rev); near != "" {
		return name.Commit{}, fmt.Errorf("%w %q: did you mean %q?", ErrUnknownRevision, said, near)
	}
	return name.Commit{}, fmt.Errorf("%w %q: fetch it, or check the name", ErrUnknownRevision, said)
}

// branch writes out the full name of the branch that a revision begins with, "refs/remotes/origin/main~2" for
// "origin/main~2"; a revision that begins otherwise stays as it is. git itself prefers a tag of that name, and
// who may push a tag would choose what a change is compared with: such a name is refused as ambiguous.
func (r *Repository) branch(ctx context.Context, rev string) (string, error) {
	short := rev
	if i := strings.IndexAny(rev, "^~@:"); i >= 0 {
		short = rev[:i]
	}
	if short == "" || short == "HEAD" || strings.HasPrefix(short, "refs/") || isID(short) || strings.ContainsAny(short, " \\?*[") {
		return rev, nil
	}
	var found []string
	commits := map[string]bool{}
	for _, space := range []string{"refs/heads/", "refs/remotes/", "refs/tags/"} {
		o, err := r.objects.info(ctx, space+short+"^{commit}")
		switch {
		case errors.Is(err, errAbsent), errors.Is(err, errAmbiguous):
			continue
		case err != nil:
			return "", err
		}
		found = append(found, space+short)
		commits[o.id] = true
	}
	switch {
	case len(found) == 0, len(found) == 1 && strings.HasPrefix(found[0], "refs/tags/"):
		return rev, nil
	case len(commits) > 1:
		return "", fmt.Errorf("%w: %q is the name of several different commits: say which, %s", ErrAmbiguous, shown(short, 80), strings.Join(found, " or "))
	}
	return found[0] + rev[len(short):], nil
}

// unborn reports whether HEAD names a branch without a commit.
func (r *Repository) unborn(ctx context.Context) (bool, error) {
	_, err := r.objects.info(ctx, "HEAD")
	if errors.Is(err, errAbsent) {
		return true, nil
	}
	return false, err
}

// nearest is the branch or tag whose name is closest to rev, or "".
func (r *Repository) nearest(ctx context.Context, rev string) string {
	out, err := r.git.output(ctx, 1<<20, "for-each-ref", "--count=5000", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags", "refs/remotes")
	if err != nil {
		return "" // a hint is not worth an error
	}
	best, least := "", len(rev)/3+2
	for _, ref := range strings.Fields(string(out)) {
		if len(ref) > 200 || len(rev) > 200 {
			continue
		}
		d := distance(rev, ref)
		if strings.HasSuffix(ref, "/"+rev) {
			d = 1
		}
		if d < least {
			best, least = ref, d
		}
	}
	return shown(best, 200)
}

// distance is the number of edits between two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// MergeBase is the best common ancestor of two commits.
func (r *Repository) MergeBase(ctx context.Context, a, b name.Commit) (name.Commit, error) {
	if a.IsZero() || b.IsZero() {
		return name.Commit{}, fmt.Errorf("merge base: %w: one of the two is not given", ErrUnknownRevision)
	}
	out, err := r.git.output(ctx, 4096, "merge-base", "--end-of-options", a.String(), b.String())
	if err == nil {
		return name.ParseCommit(strings.TrimSpace(string(out)))
	}
	code := exitCode(err)
	if code != 1 && code != 128 {
		return name.Commit{}, err
	}
	if shallow, serr := r.Shallow(ctx); serr == nil && shallow {
		return name.Commit{}, fmt.Errorf("merge base of %s and %s: %w", a.Short(), b.Short(), ErrShallow)
	}
	if code == 1 {
		return name.Commit{}, fmt.Errorf("merge base of %s and %s: %w: choose another base", a.Short(), b.Short(), ErrNoMergeBase)
	}
	for _, c := range []name.Commit{a, b} {
		if _, ierr := r.objects.info(ctx, c.String()+"^{commit}"); errors.Is(ierr, errAbsent) {
			return name.Commit{}, fmt.Errorf("merge base: %w %s: fetch it", ErrUnknownRevision, c.Short())
		}
	}
	return name.Commit{}, err
}

// tree is the tree of a commit.
func (r *Repository) tree(ctx context.Context, c name.Commit) (string, error) {
	if c.IsZero() {
		return "", fmt.Errorf("%w: none is given", ErrUnknownRevision)
	}
	o, err := r.objects.info(ctx, c.String()+"^{tree}")
	switch {
	case err == nil:
		return o.id, nil
	case !errors.Is(err, errAbsent):
		return "", err
	}
	if _, err := r.objects.info(ctx, c.String()+"^{commit}"); err == nil {
		return "", fmt.Errorf("tree of commit %s: %w", c.Short(), r.lacking(errAbsent))
	}
	if shallow, serr := r.Shallow(ctx); serr == nil && shallow {
		return "", fmt.Errorf("%w %s: %w", ErrUnknownRevision, c.Short(), ErrShallow)
	}
	return "", fmt.Errorf("%w %s: fetch it", ErrUnknownRevision, c.Short())
}

// lacking says what the absence of an object means in this repository; other errors stay as they are.
func (r *Repository) lacking(err error) error {
	switch {
	case !errors.Is(err, errAbsent):
		return err
	case r.git.partial:
		return ErrMissing
	}
	return fmt.Errorf("%w: %w", ErrMissing, ErrCorrupt)
}
