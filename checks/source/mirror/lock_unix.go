//go:build unix

package mirror

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock takes the lock of a directory. The kernel gives it up with the process, however that ends.
func lock(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("mirrors: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (%s)", ErrInUse, file)
		}
		return nil, fmt.Errorf("mirrors: lock %s: %w", file, err)
	}
	return f, nil
}

// isFull reports whether an error says that the disk or a quota is used up.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
