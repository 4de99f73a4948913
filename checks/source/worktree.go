package source

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// WorkTree lists the working tree as it lies on disk: tracked files and untracked ones that are not ignored.
// What a sparse checkout leaves out counts with what the index has for it. It works before the first commit.
func (r *Repository) WorkTree(ctx context.Context) (*Snapshot, error) {
	if r.files == nil {
		return nil, ErrNoWorkTree
	}
	w := &worktree{Repository: r, ctx: ctx}
	// Taken before git reads the index: should it be written in between, fewer files are trusted, not more.
	if fi, err := os.Stat(filepath.Join(r.git.dir, "index")); err == nil {
		s, _ := statOf(fi)
		w.indexed = s.mtime
	}
	items, err := w.candidates()
	if err != nil {
		return nil, fmt.Errorf("list the working tree: %w", err)
	}
	w.inspect(items)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := w.fillSizes(items); err != nil {
		return nil, fmt.Errorf("list the working tree: %w", err)
	}
	l := lister{limits: r.git.limits}
	disk := map[string]bool{}
	for i := range items {
		it := &items[i]
		if it.gone {
			continue
		}
		if it.disk && it.reason == "" {
			disk[it.Raw] = true
		}
		if err := l.add(it.Entry, it.reason); err != nil {
			return nil, err
		}
	}
	s := &Snapshot{repo: r, listing: *l.done(), disk: disk}
	h := sha256.New()
	for _, e := range s.entries {
		h.Write([]byte(e.Mode.String() + " " + e.Blob + " " + e.Raw + "\x00"))
	}
	// What was not assessed belongs to the state, too: a remembered result tells of it.
	for _, sk := range s.skipped {
		h.Write([]byte("skipped " + sk.Reason + "\x00" + sk.Path + "\x00"))
	}
	s.id = "worktree-" + hex.EncodeToString(h.Sum(nil))
	return s, nil
}

// worktree is one listing of the working tree under way.
type worktree struct {
	*Repository
	ctx        context.Context
	indexed    instant // when the index was written
	attributes bool    // git may have converted files at checkout, so that sizes on disk are not the blobs'
}

// item is a path that may become an entry.
type item struct {
	tracked
	untracked bool
	gone      bool   // not there any more
	disk      bool   // its content is on disk only
	vouched   bool   // the index's blob holds
	reason    string // to be skipped
}

// candidates asks git for the paths: the index's and, at the same time, the untracked ones.
func (w *worktree) candidates() ([]item, error) {
	var inIndex, others []item
	var otherErr error
	count := func(n int) error {
		if n > w.git.limits.Files {
			return &TooLargeError{What: "files", Size: -1, Limit: int64(w.git.limits.Files)}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		otherErr = w.git.stream(ctx, func(r io.Reader) error {
			return parsePaths(r, func(raw string) error {
				others = append(others, item{tracked: tracked{Entry: Entry{Raw: raw, Size: -1}}, untracked: true})
				return count(len(others))
			})
		}, "ls-files", "-z", "--others", "--exclude-standard")
		if otherErr != nil {
			cancel()
		}
	})
	err := w.git.stream(ctx, func(r io.Reader) error {
		return parseIndex(r, func(t tracked) error {
			if n := len(inIndex); n > 0 && inIndex[n-1].Raw == t.Raw {
				inIndex[n-1].stage = '1' // the sides of an unresolved merge are one file on disk
				return nil
			}
			if path.Base(t.Raw) == ".gitattributes" {
				w.attributes = true
			}
			inIndex = append(inIndex, item{tracked: t})
			return count(len(inIndex))
		})
	}, "ls-files", "-z", "--stage", "--debug")
	if err != nil {
		cancel()
	}
	wg.Wait()
	if err == nil || errors.Is(err, context.Canceled) && w.ctx.Err() == nil {
		err = cmpErr(otherErr, err)
	}
	if err != nil {
		return nil, err
	}
	for _, it := range others {
		w.attributes = w.attributes || path.Base(it.Raw) == ".gitattributes"
	}
	if _, err := os.Stat(filepath.Join(w.common, "info", "attributes")); err == nil || w.config.newlines {
		w.attributes = true
	}
	return append(inIndex, others...), nil
}

// cmpErr is the first of two errors that there is.
func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// inspect looks at every candidate on disk, on a few cores.
func (w *worktree) inspect(items []item) {
	workers := min(max(runtime.GOMAXPROCS(0), 1), 4)
	const chunk = 512
	next := make(chan []item)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			folders := map[string]bool{}
			for part := range next {
				for i := range part {
					if w.ctx.Err() == nil {
						w.look(&part[i], folders)
					}
				}
			}
		})
	}
	for part := range slices.Chunk(items, chunk) {
		next <- part
	}
	close(next)
	wg.Wait()
}

// look decides about one candidate. folders remembers which folders are real, not links.
func (w *worktree) look(it *item, folders map[string]bool) {
	if it.untracked && strings.HasSuffix(it.Raw, "/") {
		it.reason = "another git repository that lies in this one"
		return
	}
	if !it.untracked && it.Mode == 0 {
		it.reason = "neither a file, a symbolic link nor a submodule"
		return
	}
	if it.Mode == Submodule {
		return
	}
	// A path that is kept out anyway is not to be touched: it may lead outside.
	if it.Path, it.reason = screen(it.Raw, w.git.limits); it.reason != "" {
		return
	}
	if !w.folder(path.Dir(it.Raw), folders) {
		w.absent(it)
		return
	}
	fi, err := os.Lstat(w.root + "/" + it.Raw)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		w.absent(it)
		return
	case err != nil:
		it.reason = "cannot be looked at: " + cause(err)
		return
	}
	switch fi.Mode().Type() {
	case fs.ModeSymlink:
		w.link(it, fi)
	case 0:
		w.file(it, fi)
	case fs.ModeDir:
		w.absent(it) // a folder took its place; what is in it is listed by itself
	default:
		it.reason = "neither a file, a folder nor a symbolic link"
	}
}

// folder reports whether a folder and all above it are folders, not symbolic links: git, too, takes a file
// behind a link for deleted.
func (w *worktree) folder(dir string, known map[string]bool) bool {
	if dir == "." {
		return true
	}
	real, ok := known[dir]
	if !ok {
		if real = w.folder(path.Dir(dir), known); real {
			fi, err := os.Lstat(w.root + "/" + dir)
			// One that cannot be looked at is not absent: the file in it will tell.
			real = err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) || err == nil && fi.IsDir()
		}
		known[dir] = real
	}
	return real
}

// absent is a path that is not on disk: deleted, unless a sparse checkout left it out.
func (w *worktree) absent(it *item) {
	it.gone = it.untracked || it.flags&skipWorktree == 0
	it.vouched = !it.gone
}

// vouches reports whether the index's blob is what the file holds: nothing about the file changed since git
// read it, and it was not written in the same moment as the index, when a change could have gone unseen.
func (w *worktree) vouches(it *item, fi fs.FileInfo) bool {
	if it.untracked || it.stage != '0' {
		return false
	}
	s, ok := statOf(fi)
	i := it.stat
	return ok && s.size == i.size && s.ino == i.ino && s.mtime.same(i.mtime) && s.ctime.same(i.ctime) &&
		s.mtime.before(w.indexed) &&
		(s.size != 0 || it.Blob == w.blobID(nil)) // git writes size 0 for a file it is not sure of
}

func (w *worktree) link(it *item, fi fs.FileInfo) {
	if it.Mode == Symlink && w.vouches(it, fi) {
		it.vouched, it.Size = true, fi.Size()
		return
	}
	target, err := w.files.Readlink(filepath.FromSlash(it.Raw))
	if err != nil {
		it.reason = "cannot be read: " + cause(err)
		return
	}
	it.Mode, it.Blob, it.Size, it.disk = Symlink, w.blobID([]byte(target)), int64(len(target)), true
}

func (w *worktree) file(it *item, fi fs.FileInfo) {
	known, blob := it.Mode, it.Blob
	it.Mode = Regular
	switch {
	case w.config.noLinks && known == Symlink, w.config.noExecBit && known == Executable:
		it.Mode = known
	case !w.config.noExecBit && fi.Mode()&0o100 != 0:
		it.Mode = Executable
	}
	if (known == Symlink) == (it.Mode == Symlink) && w.vouches(it, fi) {
		it.vouched, it.Size = true, fi.Size()
		return
	}
	if it.Size = fi.Size(); it.Size > w.git.limits.BlobBytes {
		return // will be skipped: no id needed
	}
	body, err := w.content(it.Raw, it.Size)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.absent(it)
		return
	case err != nil:
		it.reason = "cannot be read: " + cause(err)
		return
	}
	it.Size, it.Blob, it.disk = int64(len(body)), w.blobID(body), true
	if it.untracked || it.stage != '0' || it.Blob == blob || !bytes.Contains(body, []byte("\r\n")) {
		return
	}
	if plain := bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")); w.blobID(plain) == blob {
		it.Blob, it.Size, it.disk, it.vouched = blob, int64(len(plain)), false, true
	}
}

// content reads a file of the working tree that has about size bytes, and at most the limit.
func (r *Repository) content(raw string, size int64) ([]byte, error) {
	native := filepath.FromSlash(raw)
	// A pipe that took the file's place would otherwise keep us waiting.
	f, err := r.files.OpenFile(native, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	opened, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Between listing and opening, a link may have taken the file's place, or a folder's above it.
	if !opened.Mode().IsRegular() || !r.unlinked(native, opened) {
		return nil, ErrChanged
	}
	limit := r.git.limits.BlobBytes
	body := make([]byte, 0, min(size, limit)+1)
	for {
		n, err := f.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if int64(len(body)) > limit {
			return nil, ErrChanged
		}
		if err == io.EOF {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		if len(body) == cap(body) {
			body = slices.Grow(body, 4096)
		}
	}
}

// unlinked reports whether path leads to the opened file without a symbolic link.
func (r *Repository) unlinked(native string, opened fs.FileInfo) bool {
	last, err := r.files.Lstat(native)
	if err != nil || !os.SameFile(last, opened) {
		return false
	}
	for dir := filepath.Dir(native); dir != "."; dir = filepath.Dir(dir) {
		if fi, err := r.files.Lstat(dir); err != nil || !fi.IsDir() {
			return false
		}
	}
	return true
}

// readDisk reads an entry whose content is on disk only, and compares it with what was listed.
func (r *Repository) readDisk(ctx context.Context, e Entry) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	var body []byte
	var err error
	if e.Mode == Symlink {
		var target string
		target, err = r.files.Readlink(filepath.FromSlash(e.Raw))
		body = []byte(target)
	} else {
		body, err = r.content(e.Raw, e.Size)
	}
	switch {
	case errors.Is(err, os.ErrClosed):
		return nil, fmt.Errorf("%s: %w", e.Path, ErrClosed)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: cannot be read: %s", e.Path, cause(err))
	case err != nil, int64(len(body)) != e.Size, r.blobID(body) != e.Blob:
		return nil, fmt.Errorf("%s: %w", e.Path, ErrChanged)
	}
	return body, nil
}

// fillSizes asks the object store where the disk does not tell a blob's size.
func (w *worktree) fillSizes(items []item) error {
	var at []int
	var ids []string
	for i := range items {
		if it := &items[i]; it.vouched && it.reason == "" && (it.Size < 0 || w.attributes) {
			at, ids = append(at, i), append(ids, it.Blob)
		}
	}
	sizes, err := w.Repository.sizes(w.ctx, ids)
	if err != nil {
		return err
	}
	for j, i := range at {
		items[i].Size = sizes[j]
	}
	return nil
}

// blobID is the object id that git would give these very bytes.
func (r *Repository) blobID(body []byte) string {
	var h hash.Hash
	if r.sha256 {
		h = sha256.New()
	} else {
		h = sha1.New() // the repository's own naming, no protection of ours
	}
	var head [32]byte
	b := strconv.AppendInt(append(head[:0], "blob "...), int64(len(body)), 10)
	h.Write(append(b, 0))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// cause is an error without the path it is about: the path stands next to it.
func cause(err error) string {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return shown(err.Error(), 120)
}
