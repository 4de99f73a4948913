package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ExportError lists files that could not be written: on this file system their names are taken by others.
type ExportError struct{ Paths []string }

func (e *ExportError) Error() string {
	const most = 5
	list := strings.Join(e.Paths[:min(most, len(e.Paths))], ", ")
	if len(e.Paths) > most {
		list += ", …"
	}
	return fmt.Sprintf("export: %d files not written, another file has their name here: %s", len(e.Paths), list)
}

// Export writes the regular and executable files into dir, which must exist and be empty: no symbolic link,
// no submodule, nothing that is skipped, nothing outside dir, no file over another. Files whose names collide
// on the file system of dir are left out and named by an ExportError when all others are written.
func (s *Snapshot) Export(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer root.Close()
	if err := empty(root); err != nil {
		return err
	}
	folders := map[string]bool{".": true}
	var left ExportError
	for _, e := range s.entries {
		if !e.Mode.IsFile() {
			continue
		}
		body, err := s.Read(ctx, e)
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		switch err := write(root, e, body, folders); {
		case errors.Is(err, errTaken):
			left.Paths = append(left.Paths, e.Path)
		case err != nil:
			return fmt.Errorf("export %s: %w", e.Path, err)
		}
	}
	if len(left.Paths) > 0 {
		return &left
	}
	return nil
}

var errTaken = errors.New("the name is taken")

func write(root *os.Root, e Entry, body []byte, folders map[string]bool) (err error) {
	native := filepath.FromSlash(e.Raw)
	if dir := filepath.Dir(native); !folders[dir] {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			if fi, serr := root.Lstat(dir); serr != nil || !fi.IsDir() {
				return cmpErr(taken(root, dir), err)
			}
		}
		folders[dir] = true
	}
	perm := fs.FileMode(0o644)
	if e.Mode == Executable {
		perm = 0o755
	}
	f, err := root.OpenFile(native, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if errors.Is(err, fs.ErrExist) {
		return errTaken
	}
	if err != nil {
		return err
	}
	defer func() { err = cmpErr(err, f.Close()) }()
	_, err = f.Write(body)
	return err
}

// taken is errTaken when a file stands where a folder, or one above it, would have to be.
func taken(root *os.Root, dir string) error {
	for ; dir != "."; dir = filepath.Dir(dir) {
		if fi, err := root.Lstat(dir); err == nil && !fi.IsDir() {
			return errTaken
		}
	}
	return nil
}

func empty(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer d.Close()
	if names, err := d.Readdirnames(1); err != io.EOF {
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		return fmt.Errorf("export: the folder is not empty: it holds %q", names[0])
	}
	return nil
}
