package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Difference is what Replay found: a stored verdict does not follow from the inputs at hand.
type Difference struct {
	Member           string // the first that differs, such as "policies[2].outcome"; "inputs.engine" only when nothing else does
	Stored, Computed string // its value as JSON, shortened; empty where the member is missing
	StoredEngine     string // the version that judged then
	Engine           string // the version that judged now
}

// EngineChanged reports whether another version judged then: the likely reason of a difference in anything
// but the inputs.
func (d *Difference) EngineChanged() bool { return d.StoredEngine != d.Engine }

func (d *Difference) Error() string {
	s := fmt.Sprintf("replay: %s was %s and is now %s", d.Member, orMissing(d.Stored), orMissing(d.Computed))
	if d.EngineChanged() {
		s += fmt.Sprintf(" (judged by version %s then, by %s now)", clip(d.StoredEngine), clip(d.Engine))
	}
	return s
}

func orMissing(s string) string {
	if s == "" {
		return "missing"
	}
	return s
}

// Replay judges again and compares with a stored verdict, byte for byte. It returns nil when they are
// identical, a *Difference when they are not, and another error when stored is no verdict (wraps
// verdict.ErrForm) or the input is none (wraps ErrInput). To ask whether this version would have decided
// the same, hand it the stored verdict's Inputs.Engine as Input.Engine.
func Replay(stored []byte, in Input) error {
	was, err := verdict.ParseCanonical(stored)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	now, err := Judge(in)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	computed, err := now.Canonical()
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if bytes.Equal(stored, computed) {
		return nil
	}
	d := &Difference{
		Member:       "inputs.engine",
		Stored:       quoted(was.Inputs.Engine),
		Computed:     quoted(now.Inputs.Engine),
		StoredEngine: was.Inputs.Engine,
		Engine:       now.Inputs.Engine,
	}
	// The engine is told apart anyway, so the first member besides it says more.
	was.Inputs.Engine = now.Inputs.Engine
	leveled, err := was.Canonical()
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if !bytes.Equal(leveled, computed) {
		d.Member, d.Stored, d.Computed = firstDifference(leveled, computed)
	}
	return d
}

// firstDifference walks two canonical documents side by side and returns the path of the first value that
// differs, with both values.
func firstDifference(a, b []byte) (member, was, now string) {
	path := "verdict"
	for {
		next, x, y := step(a, b)
		if next == "" {
			return strings.TrimPrefix(strings.TrimPrefix(path, "verdict"), "."), short(a), short(b)
		}
		path += next
		a, b = x, y
	}
}

// step goes one member deeper: to the first that differs. It returns "" when a and b are not both objects
// or both lists.
func step(a, b []byte) (next string, x, y []byte) {
	am, aKind := membersOf(a)
	bm, bKind := membersOf(b)
	if aKind != bKind || aKind == 0 {
		return "", nil, nil
	}
	for i := range max(len(am), len(bm)) {
		switch {
		case i >= len(am):
			return bm[i].name, nil, bm[i].value
		case i >= len(bm):
			return am[i].name, am[i].value, nil
		case am[i].name != bm[i].name:
			// One of the two left a member out; if b has a's member further on, it is b's that is new.
			for _, m := range bm[i:] {
				if m.name == am[i].name {
					return bm[i].name, nil, bm[i].value
				}
			}
			return am[i].name, am[i].value, nil
		case !bytes.Equal(am[i].value, bm[i].value):
			return am[i].name, am[i].value, bm[i].value
		}
	}
	return "", nil, nil
}

type jsonMember struct {
	name  string // ".name" or "[index]"
	value json.RawMessage
}

// membersOf takes one level of an object or list apart, in order; kind is '{', '[' or 0 for anything else.
func membersOf(b []byte) (ms []jsonMember, kind byte) {
	if len(b) == 0 || b[0] != '{' && b[0] != '[' {
		return nil, 0
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if _, err := dec.Token(); err != nil {
		return nil, 0
	}
	for i := 0; dec.More(); i++ {
		m := jsonMember{name: "[" + strconv.Itoa(i) + "]"}
		if b[0] == '{' {
			key, err := dec.Token()
			if err != nil {
				return nil, 0
			}
			m.name = fmt.Sprintf(".%s", key)
		}
		if err := dec.Decode(&m.value); err != nil {
			return nil, 0
		}
		ms = append(ms, m)
	}
	return ms, b[0]
}

func short(b []byte) string { return clip200(string(b)) }

func quoted(s string) string { return strconv.Quote(clip(s)) }
