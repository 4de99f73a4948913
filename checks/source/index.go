package source

import (
	"fmt"
	"io"
	"strings"
)

// tracked is a file of git's index, with what git saw of it on disk when it last looked.
type tracked struct {
	Entry
	stage byte // '0', or '1' to '3' while a merge is unresolved
	stat  stat
	flags uint64
}

// stat is what of a file's metadata tells that it was not touched. The index cuts size and inode to 32 bits.
type stat struct {
	ctime, mtime instant
	ino, size    uint32
}

type instant struct{ sec, nsec uint32 }

// before compares by seconds where a file system, or the git that wrote the index, knows nothing finer.
func (t instant) before(u instant) bool {
	if t.sec != u.sec || t.nsec == 0 || u.nsec == 0 {
		return t.sec < u.sec
	}
	return t.nsec < u.nsec
}

// same ignores the finer part where one of the two does not have it.
func (t instant) same(u instant) bool {
	return t.sec == u.sec && (t.nsec == u.nsec || t.nsec == 0 || u.nsec == 0)
}

// skipWorktree is git's flag for a file that a sparse checkout leaves out.
const skipWorktree = 1 << 30

// parseIndex reads the output of git ls-files -z --stage --debug: "<mode> <id> <stage>\t<path>\0" and five
// lines of metadata.
func parseIndex(r io.Reader, add func(tracked) error) error {
	recs := newRecords(r)
	for {
		rec, err := recs.next(0)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("git ls-files: %w", err)
		}
		head, raw, ok := strings.Cut(rec, "\t")
		f := strings.Split(head, " ")
		if !ok || len(f) != 3 || !isID(f[1]) || len(f[2]) != 1 {
			return fmt.Errorf("git ls-files: unexpected record %q", shown(rec, 80))
		}
		t := tracked{Entry: Entry{Raw: raw, Blob: f[1], Size: -1}, stage: f[2][0]}
		t.Mode, _, _ = modeOf(f[0]) // zero for a folder, which only a sparse index could hold
		for line := range 5 {
			s, err := recs.ReadSlice('\n')
			if err != nil {
				return fmt.Errorf("git ls-files: metadata: %w", noEOF(err))
			}
			if !t.metadata(line, s) {
				return fmt.Errorf("git ls-files: unexpected metadata %q", shown(string(s), 80))
			}
		}
		if err := add(t); err != nil {
			return err
		}
	}
}

// metadata reads one of the lines, for which git has no other form:
//
//	ctime: 1795578562:160695640
//	mtime: 1795578562:160695640
//	dev: 65024	ino: 9978705
//	uid: 0	gid: 0
//	size: 3	flags: 0
func (t *tracked) metadata(line int, s []byte) bool {
	scan := scanner{s}
	two := func(a, sep, b string, base uint64) (x, y uint64, ok bool) {
		ok = scan.word("  "+a) && scan.number(&x, 10) && scan.word(sep+b) && scan.number(&y, base) && scan.word("\n") && len(scan.rest) == 0
		return x, y, ok
	}
	var x, y uint64
	var ok bool
	switch line {
	case 0:
		x, y, ok = two("ctime: ", ":", "", 10)
		t.stat.ctime = instant{uint32(x), uint32(y)}
	case 1:
		x, y, ok = two("mtime: ", ":", "", 10)
		t.stat.mtime = instant{uint32(x), uint32(y)}
	case 2:
		_, y, ok = two("dev: ", "\t", "ino: ", 10)
		t.stat.ino = uint32(y)
	case 3:
		_, _, ok = two("uid: ", "\t", "gid: ", 10)
	case 4:
		x, y, ok = two("size: ", "\t", "flags: ", 16)
		t.stat.size, t.flags = uint32(x), y
	}
	return ok
}

// scanner eats a line from its front without making strings of it.
type scanner struct{ rest []byte }

func (s *scanner) word(w string) bool {
	if len(s.rest) < len(w) || string(s.rest[:len(w)]) != w {
		return false
	}
	s.rest = s.rest[len(w):]
	return true
}

func (s *scanner) number(n *uint64, base uint64) bool {
	i := 0
	for ; i < len(s.rest) && i < 16; i++ {
		d := uint64(99)
		switch c := s.rest[i]; {
		case c >= '0' && c <= '9':
			d = uint64(c - '0')
		case c >= 'a' && c <= 'f':
			d = uint64(c-'a') + 10
		}
		if d >= base {
			break
		}
		*n = *n*base + d
	}
	s.rest = s.rest[i:]
	return i > 0
}

// parsePaths reads the output of git ls-files -z --others.
func parsePaths(r io.Reader, add func(raw string) error) error {
	recs := newRecords(r)
	for {
		raw, err := recs.next(0)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("git ls-files: %w", err)
		}
		if err := add(raw); err != nil {
			return err
		}
	}
}
