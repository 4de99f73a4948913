package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/canon"
)

// Assessment is what became of one auditor in the run whose findings are judged: who looked, at what, and
// what could not be seen.
type Assessment struct {
	Auditor string   `json:"auditor"`
	Version string   `json:"version"`
	Config  string   `json:"config,omitempty"` // digest of its configuration
	Focus   []string `json:"focus"`            // the focus areas it decides
	Outcome Outcome  `json:"outcome"`
	Reason  string   `json:"reason,omitempty"` // of NotAssessed
	Gaps    []Gap    `json:"gaps,omitempty"`
}

// Outcome is how an auditor's work ended.
type Outcome string

// The outcomes of an auditor.
const (
	Found         Outcome = "found"          // at least one finding
	Clean         Outcome = "clean"          // looked, found nothing
	NotApplicable Outcome = "not applicable" // nothing of its kind is there
	NotAssessed   Outcome = "not assessed"   // failed, timed out, or was not allowed to run
)

// Gap is a place that an auditor could not look at, although it did its work otherwise.
type Gap struct {
	Path       string `json:"path,omitempty"` // empty: no particular file
	Reason     string `json:"reason"`
	Introduced bool   `json:"introduced"` // the file is new or changed against the base
}

func (a Assessment) check() error {
	if a.Auditor == "" {
		return errors.New("assessment: no auditor")
	}
	switch a.Outcome {
	case Found, Clean, NotApplicable, NotAssessed:
		return nil
	}
	return fmt.Errorf("assessment of %q: outcome %q does not exist", clip(a.Auditor), clip(string(a.Outcome)))
}

// ordered brings assessments into their one order, with their lists in order and without repetition.
func ordered(as []Assessment) ([]Assessment, error) {
	out := make([]Assessment, len(as))
	keys := make(map[*Assessment][]byte, len(as))
	refs := make([]*Assessment, len(as))
	for i, a := range as {
		a.Focus = slices.Compact(slices.Sorted(slices.Values(a.Focus)))
		if a.Focus == nil {
			a.Focus = []string{}
		}
		a.Gaps = slices.Clone(a.Gaps)
		slices.SortFunc(a.Gaps, compareGaps)
		a.Gaps = slices.Compact(a.Gaps)
		key, err := canon.Marshal(a)
		if err != nil {
			return nil, err
		}
		refs[i] = &a
		keys[&a] = key
	}
	slices.SortFunc(refs, func(a, b *Assessment) int {
		return cmp.Or(strings.Compare(a.Auditor, b.Auditor), bytes.Compare(keys[a], keys[b]))
	})
	for i, a := range refs {
		out[i] = *a
	}
	return out, nil
}

func compareGaps(a, b Gap) int {
	introduced := 0
	if a.Introduced != b.Introduced {
		introduced = 1
		if a.Introduced {
			introduced = -1
		}
	}
	return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Reason, b.Reason), introduced)
}

// CanonicalAssessments is the one byte form of a set of assessments, whatever their order. Its digest is in
// the verdict.
func CanonicalAssessments(as []Assessment) ([]byte, error) {
	sorted, err := ordered(as)
	if err != nil {
		return nil, fmt.Errorf("assessments: %w", err)
	}
	b, err := canon.Marshal(sorted)
	if err != nil {
		return nil, fmt.Errorf("assessments: %w", err)
	}
	return b, nil
}

// ParseAssessments reads what CanonicalAssessments wrote and refuses anything that is not its exact form.
func ParseAssessments(b []byte) ([]Assessment, error) {
	var as []Assessment
	if err := canon.Unmarshal(b, &as); err != nil {
		return nil, fmt.Errorf("assessments: %w", err)
	}
	for _, a := range as {
		if err := a.check(); err != nil {
			return nil, err
		}
	}
	again, err := CanonicalAssessments(as)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b, again) {
		return nil, errors.New("assessments: not in canonical form")
	}
	return as, nil
}
