// Package finding holds the first noun of the product: everything that it objects to. A leaked key, an old
// dependency, an undocumented endpoint and a missing threat model are all findings; auditors draft them, the
// runner places them in a file, policies judge them.
//
// # Identity
//
// A finding is recognised again by keys that contain no line number:
//
//   - Fingerprint is the SHA-256 of (type, path, context, occurrence). The context is the line or lines the
//     finding stands on, with white space folded and any secret masked; the occurrence counts equal contexts
//     within one file from the top. It survives moved and re-indented lines.
//   - Moved is the same without the path. It survives a renamed or moved file.
//   - Content, for findings whose very content matters (a secret), is an HMAC of that content under the
//     account's key: another secret in the same place is another finding.
//
// The id people read and type, "NX-" and eight characters of Crockford's base 32, is a prefix of the
// fingerprint, so the command line and the App print the same one.
package finding

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/canon"
)

// Finding is one thing the product objects to, at one place of one tree. All text in it is of outside
// origin (file names, code, messages of other tools): whoever shows it escapes it.
type Finding struct {
	ID          string `json:"id"`
	Fingerprint string `json:"fingerprint"`         // 64 hexadecimal digits
	Moved       string `json:"moved"`               // 64 hexadecimal digits
	Path        string `json:"path"`                // as name.CleanPath gives it; empty for a finding about the whole repository
	MovedFrom   string `json:"movedFrom,omitempty"` // its path at the base, where the file was renamed or moved since
	Auditor     string `json:"auditor"`             // the name of the auditor that found it
	Draft              // what the auditor said
	Introduced  bool   `json:"introduced"` // not there at the merge base; true for all where there is no base
}

// Draft is what an auditor says of one place in one file, before the runner knows where the file stands.
type Draft struct {
	Type        string     `json:"type"`  // "secrets/aws-access-token": auditor or tool, then rule
	Focus       string     `json:"focus"` // "security"; an open vocabulary
	Severity    Severity   `json:"severity"`
	Confidence  Confidence `json:"confidence"`
	Evidence    Evidence   `json:"evidence"`
	Title       string     `json:"title"`                 // what, in one line
	Message     string     `json:"message,omitempty"`     // why it matters
	Remediation string     `json:"remediation,omitempty"` // how to fix it
	Region      Region     `json:"region"`
	CWE         []int      `json:"cwe,omitempty"`     // numbers of the Common Weakness Enumeration
	Context     string     `json:"context,omitempty"` // the line or lines it stands on, secrets masked; folded by Assemble
	Content     string     `json:"content,omitempty"` // keyed digest of a secret, from audit.Blob.Seal
	Tool        string     `json:"tool,omitempty"`    // the program that found it, where that is not the auditor itself
	ToolRule    string     `json:"toolRule,omitempty"`
	Link        string     `json:"link,omitempty"` // the rule's own page
}

// Region is a place inside a file. Lines and columns count from 1; zero means unknown. Columns count
// bytes of the UTF-8 line.
type Region struct {
	StartLine   int `json:"startLine,omitempty"`
	StartColumn int `json:"startColumn,omitempty"`
	EndLine     int `json:"endLine,omitempty"`
	EndColumn   int `json:"endColumn,omitempty"`
}

// Limits on the texts of a finding, in bytes. Longer ones are cut at a rune with "…".
const (
	MaxTitle   = 200
	MaxMessage = 4096
	MaxContext = 1024
)

// Assemble gives drafts of one file their identity and order. The path must be clean (name.CleanPath), or
// empty for drafts about the whole repository. Drafts that are equal in type, context and place are one
// finding. The result is sorted by place.
func Assemble(auditor, path string, drafts []Draft) []Finding {
	drafts = slices.Clone(drafts)
	for i := range drafts {
		d := &drafts[i]
		d.Context = cut(Fold(d.Context), MaxContext)
		d.Title = cut(Fold(d.Title), MaxTitle)
		d.Message = cut(strings.ToValidUTF8(d.Message, "�"), MaxMessage)
		d.Remediation = cut(strings.ToValidUTF8(d.Remediation, "�"), MaxMessage)
	}
	slices.SortStableFunc(drafts, compareDrafts)
	drafts = slices.CompactFunc(drafts, func(a, b Draft) bool {
		return a.Type == b.Type && a.Context == b.Context && a.Region == b.Region && a.Content == b.Content
	})
	type key struct{ typ, context string }
	seen := map[key]int{}
	out := make([]Finding, len(drafts))
	for i, d := range drafts {
		k := key{d.Type, d.Context}
		n := seen[k]
		seen[k]++
		f := Finding{Path: path, Auditor: auditor, Draft: d, Introduced: true}
		f.Fingerprint = hash("noxaudit.fingerprint/1", d.Type, path, d.Context, n)
		f.Moved = hash("noxaudit.moved/1", d.Type, "", d.Context, n)
		f.ID = ID(f.Fingerprint)
		out[i] = f
	}
	return out
}

func hash(domain, typ, path, context string, occurrence int) string {
	h := sha256.New()
	for _, s := range []string{domain, typ, path, context} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(occurrence))
	h.Write(n[:])
	return hex.EncodeToString(h.Sum(nil))
}

// Fold reduces white space so that re-indenting and re-wrapping a line changes nothing: every run of it
// becomes one space, the ends are trimmed, invalid UTF-8 becomes U+FFFD.
func Fold(s string) string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(s, "�")), " ")
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	const tail = "…"
	n := most - len(tail)
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + tail
}

var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

const idChars = 8

// ID is the short human form of a fingerprint: "NX-" and its first 40 bits in Crockford's base 32. Within a
// repository of 10,000 findings two share an id with a chance of about 1 in 20,000; who looks one up treats
// it as a prefix and refuses an ambiguous one.
func ID(fingerprint string) string { return "NX-" + short(fingerprint) }

func short(digest string) string {
	raw, err := hex.DecodeString(digest)
	if err != nil || len(raw) < 5 {
		return ""
	}
	return crockford.EncodeToString(raw)[:idChars]
}

// ErrID is wrapped by the errors of ParseID.
var ErrID = errors.New("not a finding id")

// ParseID reads what a person typed: "NX-" and 6 to 10 characters of Crockford's base 32, in either case,
// with I and L read as 1 and O as 0. It returns the canonical text of the prefix.
func ParseID(s string) (string, error) {
	up := strings.ToUpper(strings.TrimSpace(s))
	rest, ok := strings.CutPrefix(up, "NX-")
	if !ok || len(rest) < 6 || len(rest) > 10 {
		return "", fmt.Errorf("%w: %q, want NX- and 6 to 10 characters, such as NX-7F3K2QAB", ErrID, cut(s, 40))
	}
	rest = strings.NewReplacer("I", "1", "L", "1", "O", "0").Replace(rest)
	for _, c := range rest {
		if !strings.ContainsRune("0123456789ABCDEFGHJKMNPQRSTVWXYZ", c) {
			return "", fmt.Errorf("%w: %q holds %q", ErrID, cut(s, 40), c)
		}
	}
	return "NX-" + rest, nil
}

// Matches reports whether id, as ParseID returned it, names this finding.
func (f Finding) Matches(id string) bool {
	raw, err := hex.DecodeString(f.Fingerprint)
	return err == nil && strings.HasPrefix("NX-"+crockford.EncodeToString(raw), id)
}

// Place is "path:line" for people, "path", or "(repository)".
func (f Finding) Place() string {
	switch {
	case f.Path == "":
		return "(repository)"
	case f.Region.StartLine == 0:
		return f.Path
	}
	return fmt.Sprintf("%s:%d", f.Path, f.Region.StartLine)
}

// Sort orders findings canonically: by path, place, type and keys. Two equal sets in any order sort to
// equal slices.
func Sort(fs []Finding) { slices.SortStableFunc(fs, compare) }

func compare(a, b Finding) int {
	return cmp.Or(
		strings.Compare(a.Path, b.Path),
		compareDrafts(a.Draft, b.Draft),
		strings.Compare(a.Auditor, b.Auditor),
		strings.Compare(a.Fingerprint, b.Fingerprint),
	)
}

func compareDrafts(a, b Draft) int {
	return cmp.Or(
		cmp.Compare(a.Region.StartLine, b.Region.StartLine),
		cmp.Compare(a.Region.StartColumn, b.Region.StartColumn),
		cmp.Compare(a.Region.EndLine, b.Region.EndLine),
		cmp.Compare(a.Region.EndColumn, b.Region.EndColumn),
		strings.Compare(a.Type, b.Type),
		strings.Compare(a.Context, b.Context),
		strings.Compare(a.Content, b.Content),
		cmp.Compare(b.Severity, a.Severity), // of two that are one, Assemble keeps the graver
		cmp.Compare(b.Confidence, a.Confidence),
		strings.Compare(a.Title, b.Title),
		strings.Compare(a.Message, b.Message),
	)
}

// Canonical is the one byte form of a set of findings: a JSON array in the order of Sort, which it does not
// impose on its argument. Its SHA-256 is the set's digest in verdicts and in the ledger.
func Canonical(fs []Finding) ([]byte, error) {
	sorted := slices.Clone(fs)
	Sort(sorted)
	if sorted == nil {
		sorted = []Finding{}
	}
	return canon.Marshal(sorted)
}

// ParseCanonical reads what Canonical wrote and refuses anything that is not its exact byte form.
func ParseCanonical(b []byte) ([]Finding, error) {
	var fs []Finding
	if err := canon.Unmarshal(b, &fs); err != nil {
		return nil, fmt.Errorf("findings: %w", err)
	}
	again, err := Canonical(fs)
	if err != nil {
		return nil, fmt.Errorf("findings: %w", err)
	}
	if !bytes.Equal(b, again) {
		return nil, errors.New("findings: not in canonical form")
	}
	return fs, nil
}
