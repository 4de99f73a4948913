//go:build !unix

package mirror

import (
	"errors"
	"fmt"
	"os"
)

// lock refuses: without a lock that ends with the process, a killed one would block the next for good.
func lock(file string) (*os.File, error) {
	return nil, fmt.Errorf("mirrors: %s: %w: the server runs on Unix systems", file, errors.ErrUnsupported)
}

func isFull(error) bool { return false }
