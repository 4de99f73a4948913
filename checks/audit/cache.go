package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/finding"
)

// Cache remembers results under keys that are digests of all they depend on (64 hexadecimal digits), so an
// entry never becomes wrong, only unused. It belongs to one account: results carry digests under that
// account's key. An error costs time, never a result.
type Cache interface {
	// CacheGet returns the values it has; a missing key is not an error. It accepts any number of keys.
	CacheGet(ctx context.Context, keys []string) (map[string][]byte, error)
	CachePut(ctx context.Context, entries map[string][]byte) error
}

// format is part of every key: raise it when the encoding of values changes.
const format = "noxaudit.cache/1"

// keyHash is a digest over length-prefixed strings.
type keyHash struct{ h hash.Hash }

func newKey(kind, auditor string) keyHash {
	k := keyHash{sha256.New()}
	k.add(format, kind, auditor)
	return k
}

func (k keyHash) add(parts ...string) {
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		k.h.Write(n[:])
		k.h.Write([]byte(p))
	}
}

// skipped adds what the limits keep out of a snapshot: they are no part of its id, and an operator may change
// them.
func (k keyHash) skipped(s *source.Snapshot, reads func(path string) bool) {
	for _, sk := range s.Skipped() {
		if reads(sk.Path) {
			k.add(sk.Path, sk.Reason)
		}
	}
}

func (k keyHash) String() string { return hex.EncodeToString(k.h.Sum(nil)) }

func (r *run) cached(ctx context.Context, keys []string) map[string][]byte {
	if r.opts.Cache == nil || len(keys) == 0 {
		return nil
	}
	got, err := r.opts.Cache.CacheGet(ctx, keys)
	if err != nil {
		r.stats.CacheError = err.Error()
		return nil
	}
	return got
}

func (r *run) remember(ctx context.Context, entries map[string][]byte) {
	if r.opts.Cache == nil || len(entries) == 0 {
		return
	}
	if err := r.opts.Cache.CachePut(ctx, entries); err != nil {
		r.stats.CacheError = err.Error()
	}
}

// The values are JSON without a promise to anyone: format guards them.

type storedPart struct {
	Drafts  map[string][]finding.Draft `json:"d,omitempty"`
	Gaps    map[string]string          `json:"g,omitempty"`
	Looked  bool                       `json:"l,omitempty"`
	Files   int                        `json:"f,omitempty"`
	Skipped int                        `json:"s,omitempty"`
}

func encodePart(p *part) ([]byte, error) {
	return json.Marshal(storedPart{p.drafts, p.gaps, p.looked, p.files, p.skipped})
}

func decodePart(b []byte) (*part, error) {
	var s storedPart
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, err
	}
	p := newPart()
	p.looked, p.files, p.skipped = s.Looked, s.Files, s.Skipped
	if s.Drafts != nil {
		p.drafts = s.Drafts
	}
	if s.Gaps != nil {
		p.gaps = s.Gaps
	}
	return p, nil
}

func encodeDrafts(ds []finding.Draft) ([]byte, error) {
	if len(ds) == 0 {
		return []byte("[]"), nil
	}
	return json.Marshal(ds)
}

func decodeDrafts(b []byte) ([]finding.Draft, error) {
	if string(b) == "[]" {
		return nil, nil
	}
	var ds []finding.Draft
	err := json.Unmarshal(b, &ds)
	return ds, err
}

func encodeResult(r Result) ([]byte, error) { return json.Marshal(r) }

func decodeResult(b []byte) (r Result, err error) {
	err = json.Unmarshal(b, &r)
	return r, err
}
