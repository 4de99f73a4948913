package ledger

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Key is the Ed25519 key that signs a deployment's checkpoints.
type Key struct {
	name    string
	private ed25519.PrivateKey
	dir     string // of Remember
}

const ed25519Algorithm = 1

// LoadOrCreateKey reads the signing key at path, a file in the format of note.GenerateKey, or makes one under
// that name ("noxaudit/" and the deployment) and writes it, readable by its owner alone. It refuses a file that
// others can read, and a key of another name.
func LoadOrCreateKey(path, name string, rand io.Reader) (*Key, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createKey(path, name, rand)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("ledger key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("ledger key %s: not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("ledger key %s: mode %04o lets others read it; use chmod 600, and a new key if it may have leaked", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return nil, fmt.Errorf("ledger key: %w", err)
	}
	key, err := parseKey(string(bytes.TrimSuffix(text, []byte("\n"))))
	if err != nil {
		return nil, fmt.Errorf("ledger key %s: %w", path, err)
	}
	if key.name != name {
		return nil, fmt.Errorf("ledger key %s: made for %q, not for %q", path, key.name, name)
	}
	return key, nil
}

func createKey(path, name string, rand io.Reader) (*Key, error) {
	text, _, err := note.GenerateKey(rand, name)
	if err != nil {
		return nil, fmt.Errorf("ledger key: %w", err)
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("ledger key: the name %q cannot be used: %w", name, err)
	}
	// Written under another name and linked whole: a crash leaves no half a key, and of two processes that make
	// one at once the second takes the first's.
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // readable by its owner alone
	if err != nil {
		return nil, fmt.Errorf("ledger key: %w", err)
	}
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Link(f.Name(), path)
	}
	err = errors.Join(err, os.Remove(f.Name()))
	if errors.Is(err, fs.ErrExist) {
		return LoadOrCreateKey(path, name, rand)
	}
	if err = errors.Join(err, syncDir(filepath.Dir(path))); err != nil {
		return nil, fmt.Errorf("ledger key %s: %w", path, err)
	}
	return key, nil
}

// syncDir makes a new name in dir durable; a key that signed and was then lost could never be shown again.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

var errKey = errors.New("damaged, or not a signing key in the note format")

// parseKey reads PRIVATE+KEY+name+id+base64(algorithm ‖ seed). Its errors never hold what it read.
func parseKey(text string) (*Key, error) {
	rest, ok := strings.CutPrefix(text, "PRIVATE+KEY+")
	if !ok {
		return nil, errKey
	}
	name, rest, _ := strings.Cut(rest, "+")
	_, data, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.DecodeString(data)
	if err != nil || len(raw) != 1+ed25519.SeedSize || raw[0] != ed25519Algorithm {
		return nil, errKey
	}
	key := &Key{name: name, private: ed25519.NewKeyFromSeed(raw[1:])}
	if key.text(name) != text {
		return nil, errKey
	}
	if _, err := note.NewSigner(text); err != nil { // a name that no note can hold
		return nil, errKey
	}
	return key, nil
}

// text is the key in the note format, under a name.
func (k *Key) text(name string) string {
	public := k.private.Public().(ed25519.PublicKey)
	return fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, keyID(name, public),
		base64.StdEncoding.EncodeToString(append([]byte{ed25519Algorithm}, k.private.Seed()...)))
}

// Public is the verifier key, "name+id+base64", that people pin to verify every log of the deployment.
func (k *Key) Public() string { return verifierKey(k.name, k.private.Public().(ed25519.PublicKey)) }

// signer signs under the name of one log, as tlog-checkpoint asks; verifier is the key to check it with.
func (k *Key) signer(origin string) (_ note.Signer, verifier string, err error) {
	if !covers(k.name, origin) {
		return nil, "", fmt.Errorf("ledger key: made for %q, which does not cover the log %q", k.name, origin)
	}
	s, err := note.NewSigner(k.text(origin))
	if err != nil {
		return nil, "", fmt.Errorf("ledger key: cannot sign for the log %q", origin)
	}
	return s, verifierKey(origin, k.private.Public().(ed25519.PublicKey)), nil
}

// covers reports whether a key of this name speaks for the log: it is the log's own, or its deployment's.
func covers(name, origin string) bool {
	return name == origin || strings.HasPrefix(origin, name+"/")
}

func verifierKey(name string, public ed25519.PublicKey) string {
	return fmt.Sprintf("%s+%08x+%s", name, keyID(name, public),
		base64.StdEncoding.EncodeToString(append([]byte{ed25519Algorithm}, public...)))
}

// keyID is the key id of https://c2sp.org/signed-note.
func keyID(name string, public ed25519.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name + "\n"))
	h.Write([]byte{ed25519Algorithm})
	h.Write(public)
	sum := h.Sum(nil)
	return uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
}

// verifiers turns verifier keys into those that may sign for the log: a deployment's key stands for the same
// key under the log's name. A key that does not cover the log, or cannot be read, is an error.
func verifiers(origin string, keys []string) (note.Verifiers, error) {
	var list []note.Verifier
	seen := make(map[string]bool)
	for _, key := range keys {
		name, rest, _ := strings.Cut(key, "+")
		_, data, _ := strings.Cut(rest, "+")
		raw, err := base64.StdEncoding.DecodeString(data)
		if err != nil || len(raw) != 1+ed25519.PublicKeySize || verifierKey(name, raw[1:]) != key {
			return nil, fmt.Errorf("verifier key %s: not an Ed25519 key in the form name+id+base64", clip(key))
		}
		if !covers(name, origin) {
			return nil, fmt.Errorf("verifier key %s: made for another log than %s", clip(key), origin)
		}
		own := verifierKey(origin, raw[1:])
		if seen[own] {
			continue // the deployment's and the log's form of one key
		}
		seen[own] = true
		v, err := note.NewVerifier(own)
		if err != nil {
			return nil, fmt.Errorf("verifier key %s: %w", clip(key), err)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), nil
}
