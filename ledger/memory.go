package ledger

import (
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
// made when it is missing. It must not be in reach of whoever can write the log's database.
func (k *Key) Remember(dir string) { k.dir = dir }

func (k *Key) memory(origin string) string {
	if k.dir == "" {
		return ""
	}
	return filepath.Join(k.dir, hex.EncodeToString([]byte(accountOf(origin)))+".json")
}

// remembered is the memory outside: the zero value where there is none.
func (s *Signer) remembered() (size uint64, root Hash, err error) {
	if s.memory == "" {
		return 0, Hash{}, nil
	}
	info, err := os.Stat(s.memory)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, Hash{}, nil
	}
	if err != nil {
		return 0, Hash{}, fmt.Errorf("memory: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return 0, Hash{}, fmt.Errorf("memory %s: mode %04o lets others write it: use chmod 600", s.memory, mode)
	}
	b, err := os.ReadFile(s.memory)
	if err != nil {
		return 0, Hash{}, fmt.Errorf("memory: %w", err)
	}
	var m memory
	err = json.Unmarshal(b, &m)
	raw, hexErr := hex.DecodeString(m.Root)
	if err != nil || hexErr != nil || len(raw) != len(root) || m.Size == 0 || m.Origin != s.log.Origin() {
		return 0, Hash{}, fmt.Errorf("memory %s: damaged, or of another log than %s: restore it from a backup", s.memory, s.log.Origin())
	}
	copy(root[:], raw)
	return m.Size, root, nil
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
	f, err := os.CreateTemp(dir, ".signed-*") // readable by its owner alone
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
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}
