package source

import (
	"io/fs"
	"syscall"
)

// statOf is the metadata that the index would hold for a file; false when it cannot be had.
func statOf(fi fs.FileInfo) (stat, bool) {
	s, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return stat{}, false
	}
	return stat{
		ctime: instant{uint32(s.Ctim.Sec), uint32(s.Ctim.Nsec)},
		mtime: instant{uint32(s.Mtim.Sec), uint32(s.Mtim.Nsec)},
		ino:   uint32(s.Ino),
		size:  uint32(s.Size),
	}, true
}
