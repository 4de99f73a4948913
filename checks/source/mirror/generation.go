package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/name"
)

// generation is one copy of a repository on disk: a bare repository of packs alone. Its refs are in the state,
// not in files of git; a reader needs only object ids. No git process ever writes into it: packs are moved
// in whole, and the state is replaced by a rename.
type generation struct {
	dir   string
	state state
	size  int64 // of the packs and their indexes, in bytes

	// Guarded by the lock of Mirrors.
	leases  int
	going   bool // it is being removed
	dead    bool // another took its place, or it is to go: removed with the last lease
	suspect bool // a reader found it damaged
	used    time.Time
	repo    *source.Repository // nil while nobody reads
}

// state is what a generation knows of itself; the file "mirror.json" holds it.
type state struct {
	Version int              `json:"version"`
	Origin  string           `json:"origin"` // scheme and host of the remote: ids of two servers may be equal
	Format  string           `json:"format"` // "sha1" or "sha256"
	Packed  time.Time        `json:"packed"` // when all packs were last made one
	Loose   bool             `json:"loose"`  // refs were forgotten since: their objects take up room
	Files   map[string]int64 `json:"files"`  // of packs and their indexes, with their sizes: one that is gone or cut is noticed
	Refs    map[string]held  `json:"refs"`   // by keyOf
}

// held is a ref as the last fetch saw it. Its commit, and what that rests on, is kept as long as the ref is.
type held struct {
	ID   string    `json:"id"`
	Used time.Time `json:"used"`
}

// packs is the number of packs.
func (s state) packs() int {
	n := 0
	for file := range s.Files {
		if strings.HasSuffix(file, ".pack") {
			n++
		}
	}
	return n
}

const (
	stateVersion = 1
	stateFile    = "mirror.json"
	stateBytes   = 64 << 20
	head         = "ref: refs/heads/none\n"
)

// configOf is the whole configuration of a repository of ours.
func configOf(format string) string {
	if format == "sha256" {
		return "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = sha256\n"
	}
	return "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
}

// makeBare writes an empty bare repository, without hooks or templates.
func makeBare(dir, format string) error {
	for _, d := range []string{"objects/info", "objects/pack", "refs"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "HEAD"), []byte(head), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config"), []byte(configOf(format)), 0o600)
}

// load reads the state of a generation. Whatever it cannot read is damaged.
func load(dir string) (*generation, error) {
	f, err := os.Open(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	defer f.Close()
	g := &generation{dir: dir}
	d := json.NewDecoder(io.LimitReader(f, stateBytes))
	if err := d.Decode(&g.state); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errDamaged, stateFile, err)
	}
	if g.state.Version != stateVersion || g.state.Format != "sha1" && g.state.Format != "sha256" {
		return nil, fmt.Errorf("%w: %s is of another version", errDamaged, stateFile)
	}
	for key, h := range g.state.Refs {
		if !isKey(key) || !name.IsObjectID(h.ID) {
			return nil, fmt.Errorf("%w: %s holds what is no ref", errDamaged, stateFile)
		}
	}
	if g.state.Refs == nil {
		g.state.Refs = map[string]held{}
	}
	if g.state.Files == nil {
		g.state.Files = map[string]int64{}
	}
	return g, nil
}

func isKey(s string) bool { return len(s) == 40 && name.IsObjectID(s) }

// save replaces the state on disk. It is not synced: after a loss of power the state is the old one, or no
// longer fits what lies beside it, and then the mirror is fetched again.
func (g *generation) save() error {
	b, err := json.Marshal(g.state)
	if err != nil {
		return err
	}
	tmp := filepath.Join(g.dir, stateFile+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(g.dir, stateFile))
}

// check looks at what a reader would fall over, without reading a pack: the files that we wrote are as we
// wrote them, no pack is gone or cut, and nothing makes git look elsewhere.
func (g *generation) check() error {
	for file, want := range map[string]string{"HEAD": head, "config": configOf(g.state.Format)} {
		got, err := os.ReadFile(filepath.Join(g.dir, file))
		if err != nil || !bytes.Equal(got, []byte(want)) {
			return fmt.Errorf("%w: %s is not what it was", errDamaged, file)
		}
	}
	for _, file := range []string{"shallow", "objects/info/alternates", "objects/info/grafts", "commondir"} {
		if _, err := os.Lstat(filepath.Join(g.dir, file)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s does not belong there", errDamaged, file)
		}
	}
	if fi, err := os.Lstat(filepath.Join(g.dir, "refs")); err != nil || !fi.IsDir() {
		return fmt.Errorf("%w: it has no refs", errDamaged)
	}
	_, files, err := packs(g.dir)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	for file, size := range g.state.Files {
		if got, ok := files[file]; !ok || got != size {
			return fmt.Errorf("%w: %s is gone or was cut", errDamaged, file)
		}
	}
	return nil
}

// packs lists the files of a repository's pack folder, and what they add up to.
func packs(dir string) (total int64, files map[string]int64, err error) {
	entries, err := os.ReadDir(filepath.Join(dir, "objects", "pack"))
	if err != nil {
		return 0, nil, err
	}
	files = make(map[string]int64, len(entries))
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // git moved it on meanwhile
		}
		if err != nil {
			return 0, nil, err
		}
		files[e.Name()] = fi.Size()
		total += fi.Size()
	}
	return total, files, nil
}

// open gives the repository to read from; the caller holds the lock of the mirror's runner.
func (g *generation) open(ctx context.Context, l source.Limits) (*source.Repository, error) {
	r, err := source.Open(ctx, g.dir, l)
	if errors.Is(err, source.ErrCorrupt) || errors.Is(err, source.ErrNotRepository) {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return r, err
}

// workspace is a repository of its own for one git process, beside the generation: what is killed or goes
// wrong in it leaves the generation as it was.
type workspace struct{ dir string }

// newWorkspace makes one that borrows the objects of g, and has its refs as what it need not fetch again. A
// nil g is none.
func newWorkspace(parent, format string, g *generation) (*workspace, error) {
	dir, err := os.MkdirTemp(parent, "work-")
	if err != nil {
		return nil, err
	}
	w := &workspace{dir}
	if err := w.fill(format, g); err != nil {
		w.remove()
		return nil, err
	}
	return w, nil
}

func (w *workspace) fill(format string, g *generation) error {
	if err := makeBare(w.dir, format); err != nil || g == nil {
		return err
	}
	objects := filepath.Join(g.dir, "objects") + "\n"
	if err := os.WriteFile(filepath.Join(w.dir, "objects", "info", "alternates"), []byte(objects), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.dir, "packed-refs"), packedRefs(g.state.Refs), 0o600)
}

// packedRefs writes refs as git packs them: sorted, under refs/have.
func packedRefs(refs map[string]held) []byte {
	keys := make([]string, 0, len(refs))
	for k := range refs {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b bytes.Buffer
	b.WriteString("# pack-refs with: sorted \n")
	for _, k := range keys {
		b.WriteString(refs[k].ID + " refs/have/" + k + "\n")
	}
	return b.Bytes()
}

func (w *workspace) remove() { _ = os.RemoveAll(w.dir) }

// size is what git has written so far, in bytes. Objects that come one by one are refused: a server that
// speaks git's protocol sends packs, and only those are measured.
func (w *workspace) size() (int64, error) {
	all, err := os.ReadDir(filepath.Join(w.dir, "objects"))
	if err != nil {
		return 0, diskError("measure a workspace", err)
	}
	if len(all) > 2 {
		return 0, fmt.Errorf("%w (what answers does not speak git's protocol)", ErrUnavailable)
	}
	n, _, err := packs(w.dir)
	return n, diskError("measure a workspace", err)
}

// got is the object id that a fetch wrote for a key.
func (w *workspace) got(key string) (string, error) {
	b, err := os.ReadFile(filepath.Join(w.dir, "refs", "got", key))
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(b))
	if !name.IsObjectID(id) {
		return "", errors.New("git wrote a ref that is no object id")
	}
	return id, nil
}

// finished lists the files of the complete packs of the workspace, those with an index, which git writes last.
func (w *workspace) finished() (map[string]int64, error) {
	_, files, err := packs(w.dir)
	if err != nil {
		return nil, err
	}
	done := map[string]int64{}
	for file, size := range files {
		base, ok := strings.CutSuffix(file, ".idx")
		if !ok || !strings.HasPrefix(file, "pack-") {
			continue
		}
		done[file] = size
		for _, ext := range []string{".pack", ".rev"} { // older versions of git write no .rev
			if n, ok := files[base+ext]; ok {
				done[base+ext] = n
			}
		}
	}
	return done, nil
}

// handOver moves the packs of the workspace into a generation, indexes last: until then a pack is not seen. It
// returns the bytes that this adds.
func (w *workspace) handOver(g *generation) (added int64, err error) {
	done, err := w.finished()
	if err != nil {
		return 0, err
	}
	from, to := filepath.Join(w.dir, "objects", "pack"), filepath.Join(g.dir, "objects", "pack")
	for _, indexes := range []bool{false, true} {
		for file, size := range done {
			if strings.HasSuffix(file, ".idx") != indexes {
				continue
			}
			if err := os.Rename(filepath.Join(from, file), filepath.Join(to, file)); err != nil {
				return 0, err
			}
			added += size - g.state.Files[file]
			g.state.Files[file] = size
		}
	}
	return added, nil
}

// become makes the workspace a generation in the folder dir, with the given state.
func (w *workspace) become(dir string, s state) (*generation, error) {
	done, err := w.finished()
	if err != nil {
		return nil, err
	}
	for _, gone := range []string{"objects/info/alternates", "packed-refs", "trace", "refs"} {
		if err := os.RemoveAll(filepath.Join(w.dir, gone)); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(filepath.Join(w.dir, "refs"), 0o700); err != nil {
		return nil, err
	}
	s.Files = done
	g := &generation{dir: w.dir, state: s}
	if err := g.save(); err != nil {
		return nil, err
	}
	// The folder above goes when its last mirror does, which may be just now.
	for range 3 {
		if err = os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			return nil, err
		}
		if err = os.Rename(w.dir, dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	g.dir = dir
	g.size, _, err = packs(dir)
	return g, err
}
