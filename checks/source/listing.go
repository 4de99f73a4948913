package source

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/noxaudit/noxaudit/internal/name"
)

// listing is what a snapshot holds.
type listing struct {
	entries []Entry   // sorted by Path, then Raw
	skipped []Skipped // sorted by Path
	notes   []Skipped // sorted by Path
	left    []Entry   // what is in skipped, as it was found
	twice   bool      // something is listed twice
}

// lister makes a listing of what git or the disk tells, within the limits.
type lister struct {
	limits Limits
	list   listing
	seen   int
	names  int64 // bytes of all paths
	bytes  int64 // of all files that are entries
}

// most bytes that the paths of one snapshot may take: a repository is not to win by names alone.
const namesBytes = 256 << 20

// add takes an entry; one whose path was not screened has no Path yet. A reason keeps it out.
func (l *lister) add(e Entry, reason string) error {
	if l.seen++; l.seen > l.limits.Files {
		return l.tooMany()
	}
	if l.names += int64(len(e.Raw)); l.names > namesBytes {
		return &TooLargeError{What: "bytes of paths", Size: -1, Limit: namesBytes}
	}
	if e.Path == "" {
		var bad string
		if e.Path, bad = screen(e.Raw, l.limits); reason == "" {
			reason = bad
		}
	}
	if reason == "" && e.Size > l.limits.BlobBytes {
		reason = "larger than " + bytesText(l.limits.BlobBytes)
	}
	if reason != "" {
		l.skip(e, reason)
		return nil
	}
	if e.Size > 0 {
		if l.bytes += e.Size; l.bytes > l.limits.TotalBytes {
			return &TooLargeError{What: "bytes", Size: -1, Limit: l.limits.TotalBytes}
		}
	}
	l.list.entries = append(l.list.entries, e)
	return nil
}

func (l *lister) tooMany() error {
	return &TooLargeError{What: "files", Size: -1, Limit: int64(l.limits.Files)}
}

func (l *lister) skip(e Entry, reason string) {
	path := e.Path
	if path == "" {
		path = e.Raw
		if n := len(path); n > 400 {
			path = path[:200] + "…" + path[n-200:] // the end tells what kind of file it is
		}
		path = strings.ToValidUTF8(shown(path, 500), "")
	}
	l.list.skipped = append(l.list.skipped, Skipped{path, reason, e.Blob})
	e.Path = ""
	l.list.left = append(l.list.left, e)
}

// done sorts, and takes out what is listed twice: such a tree is damaged or hostile, and tools disagree on
// which of the two they see.
func (l *lister) done() *listing {
	if !slices.IsSortedFunc(l.list.entries, compareEntries) {
		slices.SortStableFunc(l.list.entries, compareEntries)
	}
	entries := l.list.entries
	kept := entries[:0]
	folded := make(map[string]string, len(entries))
	for _, e := range entries {
		if n := len(kept); n > 0 && kept[n-1].Raw == e.Raw {
			l.list.twice = true
			l.skip(e, "listed twice in its tree: only the first is assessed")
			continue
		}
		kept = append(kept, e)
		fold := strings.ToLower(e.Path)
		other, taken := folded[fold]
		switch {
		case !taken:
			folded[fold] = e.Path
		case other == e.Path:
			l.list.notes = append(l.list.notes, Skipped{Path: e.Path, Reason: "another file's name looks the same when its unprintable bytes are written out"})
		default:
			l.list.notes = append(l.list.notes, Skipped{Path: e.Path, Reason: "name differs only in case from " + other})
		}
	}
	l.list.entries = slices.Clip(kept)
	if len(kept) == 0 {
		l.list.entries = nil
	}
	slices.SortFunc(l.list.skipped, func(a, b Skipped) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Blob, b.Blob))
	})
	return &l.list
}

func compareEntries(a, b Entry) int {
	if c := strings.Compare(a.Path, b.Path); c != 0 {
		return c
	}
	return strings.Compare(a.Raw, b.Raw)
}

// screen gives the form of a path that is safe to show, or the reason to keep it out.
func screen(raw string, l Limits) (path, reason string) {
	if len(raw) > l.PathBytes {
		return "", fmt.Sprintf("path is longer than %d bytes", l.PathBytes)
	}
	if raw == "" {
		return "", "path is empty"
	}
	if raw[0] == '/' {
		return "", "path is absolute"
	}
	depth := 0
	for rest, more := raw, true; more; {
		var element string
		element, rest, more = strings.Cut(rest, "/")
		depth++
		switch {
		case element == "":
			return "", "path has an empty element"
		case element == "." || element == "..":
			return "", "path leaves its folder: it has a \"" + element + "\" element"
		case (element[0] == '.' || element[0] == 'g' || element[0] == 'G' || element[0] >= 0x80 || strings.IndexByte(element, '\\') >= 0) && isDotGit(element):
			return "", "path goes into git's own folder"
		}
	}
	path, err := name.CleanPath(raw)
	if err != nil {
		return "", strings.TrimPrefix(err.Error(), name.ErrPath.Error()+": ")
	}
	if depth > l.Depth {
		return path, fmt.Sprintf("deeper than %d folders", l.Depth)
	}
	return path, ""
}

// isDotGit reports whether some file system takes the element for ".git": those that fold case, ignore
// invisible characters (HFS+), or have short names, streams and trailing dots (NTFS; a backslash separates
// there, too). These are the names that git itself refuses (CVE-2014-9390, CVE-2019-1352).
func isDotGit(element string) bool {
	for rest, more := element, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, `\`)
		part, _, _ = strings.Cut(part, ":")
		part = strings.TrimRight(part, " .")
		part = strings.Map(func(r rune) rune {
			switch {
			case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
				return -1
			case r >= 'A' && r <= 'Z':
				return r + 'a' - 'A'
			}
			return r
		}, part)
		if part == ".git" || part == "git~1" {
			return true
		}
	}
	return false
}

// isID reports whether s is a full object id.
func isID(s string) bool { return name.IsObjectID(s) }

// records cuts git's output at a delimiter. Of a record that is too long only the beginning is kept.
type records struct{ *bufio.Reader }

// recordBytes is more than the longest path and what stands before it.
const recordBytes = 16 << 10

func newRecords(r io.Reader) records { return records{bufio.NewReaderSize(r, recordBytes)} }

// next returns io.EOF after the last record; one that the output breaks off in is an error.
func (r records) next(delim byte) (string, error) {
	b, err := r.ReadSlice(delim)
	if err == nil {
		return string(b[:len(b)-1]), nil
	}
	if err == io.EOF && len(b) > 0 {
		return "", io.ErrUnexpectedEOF
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return "", err
	}
	head := string(b)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice(delim)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return head, err
}

// parseTree reads the output of git ls-tree -r -z -l: "<mode> <type> <id> <size>\t<path>\0", or
// the same without sizes.
func parseTree(r io.Reader, add func(Entry) error) error {
	recs := newRecords(r)
	for {
		rec, err := recs.next(0)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("git ls-tree: %w", err)
		}
		head, raw, ok := strings.Cut(rec, "\t")
		mode, rest, _ := strings.Cut(head, " ")
		_, rest, _ = strings.Cut(rest, " ")
		id, size, _ := strings.Cut(rest, " ")
		if !ok || !isID(id) {
			return fmt.Errorf("git ls-tree: unexpected record %q", shown(rec, 80))
		}
		e := Entry{Raw: raw, Blob: id, Size: -1}
		// "-" for a submodule, "BAD" for a blob that is not there.
		if n, err := strconv.ParseInt(strings.TrimLeft(size, " "), 10, 64); err == nil && n >= 0 {
			e.Size = n
		}
		folder := false
		if e.Mode, folder, ok = modeOf(mode); !ok || folder {
			return fmt.Errorf("git ls-tree: unexpected record %q", shown(rec, 80))
		}
		if err := add(e); err != nil {
			return err
		}
	}
}

// noEOF turns an end that came too early into an error that says so.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Listings remembers the last listings by tree: the head of one push is the base of the next. Repositories with
// equal limits may share one, see [Repository.ShareListings]. The zero value is empty.
type Listings struct {
	mu   sync.Mutex
	list []remembered
}

type remembered struct {
	tree string
	*listing
}

const (
	recentTrees   = 8
	recentEntries = 400_000
)

func (r *Listings) get(tree string) *listing {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, m := range r.list {
		if m.tree == tree {
			copy(r.list[1:i+1], r.list[:i])
			r.list[0] = m
			return m.listing
		}
	}
	return nil
}

// last is the listing that was asked for last, and its tree; nil for none.
func (r *Listings) last() (string, *listing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == 0 {
		return "", nil
	}
	return r.list[0].tree, r.list[0].listing
}

func (r *Listings) put(tree string, l *listing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(m remembered) bool { return m.tree == tree })
	r.list = slices.Insert(r.list, 0, remembered{tree, l})
	total := 0
	for i, m := range r.list {
		total += len(m.entries) + len(m.skipped)
		if i > 0 && (i >= recentTrees || total > recentEntries) {
			clear(r.list[i:])
			r.list = r.list[:i]
			break
		}
	}
}
