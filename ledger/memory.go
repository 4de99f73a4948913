package ledger

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// memory is what a signer keeps outside of the log's database: whoever can only write there can then neither cut
// the log nor exchange it for another and have it signed. Who can also write these files can; only a checkpoint
// in other hands shows that.
type memory struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   string `json:"root"` // 64 hexadecimal digits
}

// Remember names a folder in which signers keep a second memory of what they signed last, a file per log. It is
// made when it is missing.
func (k *Key) Remember(dir string) { k.dir = dir }

func (k *Key) memory(origin string) string {
	if k.dir == "" {
		return ""
	}
	return filepath.Join(k.dir, hex.EncodeToString([]byte(accountOf(origin)))+".json")
}

// remembers checks the log against the memory.
func (s *Signer) remembers(ctx context.Context, size uint64) error {
	if s.memory == "" {
		return nil
	}
	b, err := os.ReadFile(s.memory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	var m memory
	if err := json.Unmarshal(b, &m); err != nil || m.Origin != s.log.Origin() {
		return fmt.Errorf("memory %s: damaged, or of another log than %s: restore it from a backup", s.memory, s.log.Origin())
	}
	if size < m.Size {
		return &Tampered{Seq: size, Layer: LayerSize, Detail: fmt.Sprintf("the log has %d entries and %d were signed: it was cut, or restored from an older backup", size, m.Size)}
	}
	tree, err := treeAt(ctx, s.log, m.Size)
	if err != nil {
		return err
	}
	if root := tree.Root(); hex.EncodeToString(root[:]) != m.Root {
		return &Tampered{Seq: 0, Layer: LayerRoot, Detail: fmt.Sprintf("the first %d entries are not those that were signed", m.Size)}
	}
	return nil
}

// remember keeps what is about to be signed, durably, before anybody sees the signature.
func (s *Signer) remember(next Signed) error {
	if s.memory == "" {
		return nil
	}
	b, err := json.Marshal(memory{s.log.Origin(), next.Size, hex.EncodeToString(next.Root[:])})
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	dir := filepath.Dir(s.memory)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	f, err := os.CreateTemp(dir, ".signed-*")
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), s.memory)
	}
	if err != nil {
		return fmt.Errorf("memory: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return syncDir(dir)
}
