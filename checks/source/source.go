// Package source reads code from git, and trusts nothing that it reads.
//
// A [Repository] is a local checkout or a bare mirror. A [Snapshot] is one state of it: the tree of a commit,
// or the working tree as it lies on disk. A snapshot is a sorted list of entries, each with git's object id,
// so that two snapshots are compared without opening a file and a result is remembered by the blob it is about.
//
//	repo, err := source.Open(ctx, ".", source.DefaultLimits())
//	head, err := repo.Resolve(ctx, "HEAD")
//	snapshot, err := repo.Commit(ctx, head)
//	for _, e := range snapshot.Entries() {
//		if e.Mode.IsFile() {
//			body, err := snapshot.Read(ctx, e)
//		}
//	}
//
// # What is kept out
//
// A repository is hostile input. The git command does the reading, and of it only what needs no other program:
// no hook, filter, textconv, external diff, alias, helper, pager or transport is started, whatever the
// repository's own configuration asks for, and the environment, the user's and the system's configuration
// have no say. Symbolic links are never followed, submodules never entered, replaced objects not replaced and
// missing objects not fetched.
//
// [Limits] bound what a repository can cost. A file beyond them, or under a name that no repository should
// hold, is no entry: it is [Snapshot.Skipped], with the reason, so that "not assessed" never looks like
// "clean". A repository that has too much of everything is not listed at all: [TooLargeError].
//
// # The working tree
//
// A file that git's index vouches for (equal size, times, inode and mode; older than the index) is not opened:
// its blob is the index's, and Read takes it from the object store. (So whoever may write to the folder .git can
// mislead a listing, as they can mislead git; a commit's listing rests on object ids alone.) All others are read and hashed here, raw:
// git would run the repository's clean filters over them. A file that differs from the index's blob by nothing
// but carriage returns at the ends of lines is that blob.
package source

import (
	"fmt"
	"time"
)

// Limits bound what a repository may cost. The zero value of a field means its default.
type Limits struct {
	BlobBytes  int64         // a larger file is skipped, not read: 5 MiB
	Files      int           // a repository with more is refused: 200,000
	PathBytes  int           // a longer path is skipped: 4096
	Depth      int           // a path of more elements is skipped: 64
	TotalBytes int64         // a repository whose files add up to more is refused: 8 GiB
	Command    time.Duration // for one git command or one read: 2 minutes
}

// DefaultLimits are the limits of a field left zero.
func DefaultLimits() Limits {
	return Limits{BlobBytes: 5 << 20, Files: 200_000, PathBytes: 4096, Depth: 64, TotalBytes: 8 << 30, Command: 2 * time.Minute}
}

func (l Limits) filled() Limits {
	d := DefaultLimits()
	if l.BlobBytes <= 0 {
		l.BlobBytes = d.BlobBytes
	}
	if l.Files <= 0 {
		l.Files = d.Files
	}
	if l.PathBytes <= 0 || l.PathBytes > d.PathBytes {
		l.PathBytes = d.PathBytes // name.CleanPath takes no longer one
	}
	if l.Depth <= 0 {
		l.Depth = d.Depth
	}
	if l.TotalBytes <= 0 {
		l.TotalBytes = d.TotalBytes
	}
	if l.Command <= 0 {
		l.Command = d.Command
	}
	return l
}

// Mode is what an entry is.
type Mode uint8

// The modes. Only regular and executable files have content for auditors.
const (
	Regular    Mode = iota + 1
	Executable      // a file that its owner may execute
	Symlink         // its blob is the target's name; never followed
	Submodule       // its blob is a commit of another repository; never entered
)

// IsFile reports whether entries of the mode hold content: regular and executable files.
func (m Mode) IsFile() bool { return m == Regular || m == Executable }

func (m Mode) String() string {
	switch m {
	case Regular:
		return "file"
	case Executable:
		return "executable"
	case Symlink:
		return "symlink"
	case Submodule:
		return "submodule"
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// Entry is one path of a snapshot.
type Entry struct {
	Path string // for people, findings and policies, as name.CleanPath gives it; two raw paths may share one
	Raw  string // the bytes that git has; no two entries of a snapshot share them
	Mode Mode
	Blob string // git's object id: of the content, of a link's target, or a submodule's commit
	Size int64  // of the blob, in bytes; -1: not known
}

// Skipped is a path that is no entry of a snapshot, or one that is odd, and why.
type Skipped struct {
	Path   string // safe to show; need not exist under this name
	Reason string // "larger than 5 MiB", "path holds a .git element"
	Blob   string // git's object id of what is skipped, where it is known: it tells whether the file changed
}

// Change is one path that differs between two snapshots: added when From is nil, deleted when To is nil,
// else changed in content or mode. A rename is a deletion and an addition; the addition of a file that was
// moved without any change of content says from where.
type Change struct {
	Path        string
	From, To    *Entry
	RenamedFrom string // the Path of the deleted file with the same blob; "" if there is none
}

// bytesText writes a number of bytes for people: "5 MiB".
func bytesText(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size && n%u.size == 0 {
			return fmt.Sprintf("%d %s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
