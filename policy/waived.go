package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// orderWaivers checks waivers, brings them in the order of their ids and digests them.
func orderWaivers(ws []verdict.Waiver) ([]verdict.Waiver, string, error) {
	sorted := slices.Clone(ws)
	slices.SortFunc(sorted, func(a, b verdict.Waiver) int { return cmp.Compare(a.ID, b.ID) })
	for i, w := range sorted {
		until, err := time.Parse(time.RFC3339Nano, w.Until)
		switch {
		case !strings.HasPrefix(w.ID, "W-"), w.Digest == "", w.Fingerprint == "", w.Kind == "":
			return nil, "", fmt.Errorf("waiver %q: id, digest, fingerprint or kind is missing", clip(w.ID))
		case err != nil || verdict.FormatTime(until) != w.Until:
			return nil, "", fmt.Errorf("waiver %s: its end is no time", w.ID)
		case i > 0 && sorted[i-1].ID == w.ID:
			return nil, "", fmt.Errorf("waiver %s: it is there twice", w.ID)
		}
	}
	if sorted == nil {
		sorted = []verdict.Waiver{}
	}
	b, err := canon.Marshal(sorted)
	if err != nil {
		return nil, "", fmt.Errorf("waivers: %w", err)
	}
	return sorted, canon.Digest(b), nil
}

// CanonicalWaivers is the one byte form of a set of waivers, whatever their order. Its digest is in the verdict.
func CanonicalWaivers(ws []verdict.Waiver) ([]byte, error) {
	sorted, _, err := orderWaivers(ws)
	if err != nil {
		return nil, err
	}
	return canon.Marshal(sorted)
}

// ParseWaivers reads what CanonicalWaivers wrote and refuses anything that is not its exact form.
func ParseWaivers(b []byte) ([]verdict.Waiver, error) {
	var ws []verdict.Waiver
	if err := canon.Unmarshal(b, &ws); err != nil {
		return nil, fmt.Errorf("waivers: %w", err)
	}
	again, err := CanonicalWaivers(ws)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b, again) {
		return nil, errors.New("waivers: not in canonical form")
	}
	return ws, nil
}

type covered struct{ fingerprint, content string }

// cover finds for each finding the waiver that covers it: of several the first by id. Times compare as text, since
// all are written alike.
func (ix *index) cover(ws []verdict.Waiver, at string) {
	if len(ws) == 0 {
		return
	}
	by := map[covered]int32{}
	for i, w := range ws {
		k := covered{w.Fingerprint, w.Content}
		if _, ok := by[k]; !ok && w.Until >= at {
			by[k] = int32(i)
		}
	}
	ix.waivers = ws
	for i := range ix.findings {
		if n, ok := by[covered{ix.findings[i].Fingerprint, ix.findings[i].Content}]; ok {
			ix.facts[i].waiver = n
		}
	}
}
