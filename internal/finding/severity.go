package finding

import (
	"fmt"
	"strconv"
)

// Severity ranks a finding. The zero value is Info, so that a forgotten severity never blocks.
type Severity uint8

// The severities, lowest first. The names are those of GitHub's code scanning and of CVSS v3.1's rating.
const (
	Info Severity = iota
	Low
	Medium
	High
	Critical
)

var severityNames = [...]string{"info", "low", "medium", "high", "critical"}

// Severities lists all severities, the highest first, as people read them.
func Severities() []Severity { return []Severity{Critical, High, Medium, Low, Info} }

// ParseSeverity accepts the five lower-case names.
func ParseSeverity(s string) (Severity, error) {
	for i, n := range severityNames {
		if s == n {
			return Severity(i), nil
		}
	}
	return Info, fmt.Errorf("severity %q: want critical, high, medium, low or info", s)
}

func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return "severity(" + strconv.Itoa(int(s)) + ")"
}

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) {
	if int(s) >= len(severityNames) {
		return nil, fmt.Errorf("severity %d does not exist", s)
	}
	return []byte(s.String()), nil
}

// UnmarshalText accepts what ParseSeverity accepts.
func (s *Severity) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSeverity(string(b))
	return err
}

// Confidence is how sure an auditor is, in thousandths: 0 to 1000. It is a whole number so that no document
// of ours holds a floating-point value, whose text form could differ between writers; as JSON it is a
// decimal number between 0 and 1 ("0.95").
type Confidence uint16

// Certain is the confidence of evidence that leaves no doubt.
const Certain Confidence = 1000

// ParseConfidence accepts a decimal number from 0 to 1 with at most three digits after the point.
func ParseConfidence(s string) (Confidence, error) {
	bad := fmt.Errorf("confidence %q: want a decimal number from 0 to 1 with at most three decimals, such as 0.9", s)
	whole, frac := s, ""
	for i := range s {
		if s[i] == '.' {
			whole, frac = s[:i], s[i+1:]
			if frac == "" {
				return 0, bad
			}
			break
		}
	}
	if (whole != "0" && whole != "1") || len(frac) > 3 {
		return 0, bad
	}
	v := 0
	if whole == "1" {
		v = 1000
	}
	scale := 100
	for _, c := range []byte(frac) {
		if c < '0' || c > '9' {
			return 0, bad
		}
		v += int(c-'0') * scale
		scale /= 10
	}
	if v > 1000 {
		return 0, bad
	}
	return Confidence(v), nil
}

// String writes the shortest decimal form: "0", "0.9", "0.875", "1".
func (c Confidence) String() string {
	switch {
	case c == 0:
		return "0"
	case c >= 1000:
		return "1"
	}
	s := fmt.Sprintf("0.%03d", uint16(c))
	for s[len(s)-1] == '0' {
		s = s[:len(s)-1]
	}
	return s
}

// MarshalJSON writes the shortest decimal form.
func (c Confidence) MarshalJSON() ([]byte, error) {
	if c > Certain {
		return nil, fmt.Errorf("confidence of %d thousandths is above 1", c)
	}
	return []byte(c.String()), nil
}

// UnmarshalJSON accepts what ParseConfidence accepts.
func (c *Confidence) UnmarshalJSON(b []byte) (err error) {
	*c, err = ParseConfidence(string(b))
	return err
}

// Evidence is the class of what a finding rests on.
type Evidence string

// The evidence classes. A policy that blocks accepts deterministic and corroborated evidence; a model's word
// alone may warn, and blocks only where a policy names it with a confidence.
const (
	Deterministic Evidence = "deterministic" // a parser, a rule engine, a scanner with stable rule ids
	Corroborated  Evidence = "corroborated"  // a model's finding confirmed by a deterministic signal or by agreement
	Model         Evidence = "model"         // a model's output alone
)

// ParseEvidence accepts the three names.
func ParseEvidence(s string) (Evidence, error) {
	switch e := Evidence(s); e {
	case Deterministic, Corroborated, Model:
		return e, nil
	}
	return "", fmt.Errorf("evidence %q: want deterministic, corroborated or model", s)
}
