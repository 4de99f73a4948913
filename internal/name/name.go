// Package name holds the identifiers that the rest of the product trusts: they are parsed once, at the
// edge, into values that cannot be malformed, and passed on as those values.
package name

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Account is the tenant: a GitHub account's numeric id in decimal ("583231"), "local" for the command line, or
// "deployment" for what belongs to no account. The login of an account may change; its id does not, so the id
// is the key everywhere.
type Account struct{ id string }

var (
	// Local is the tenant of the command line.
	Local = Account{"local"}
	// Deployment is the tenant of what belongs to no account: a webhook without an installation, say. The
	// ledger keeps the deployment's own log under the same name.
	Deployment = Account{"deployment"}
)

// ParseAccount accepts "local", "deployment", or a positive decimal number without leading zeros, of at most 19
// digits.
func ParseAccount(s string) (Account, error) {
	switch s {
	case Local.id:
		return Local, nil
	case Deployment.id:
		return Deployment, nil
	}
	if s == "" || len(s) > 19 || s[0] == '0' {
		return Account{}, fmt.Errorf("account %q: want a numeric GitHub account id or %q", s, Local.id)
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return Account{}, fmt.Errorf("account %q: want a numeric GitHub account id or %q", s, Local.id)
		}
	}
	return Account{s}, nil
}

func (a Account) String() string { return a.id }

// IsZero reports whether a was never parsed.
func (a Account) IsZero() bool { return a.id == "" }

// Repo is a repository of an account. ID is stable across renames: GitHub's numeric id in decimal, or for a
// local checkout a digest of its origin's address or its own path ("origin-…", "path-…"). FullName is what people
// read ("octo-org/payments", or the folder's name) and is never a key.
type Repo struct {
	Account  Account
	ID       string
	FullName string
}

func (r Repo) String() string { return r.FullName }

// Commit is the full object id of a git commit: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
type Commit struct{ id string }

// ParseCommit accepts a full object id only; abbreviations are resolved by the repository.
func ParseCommit(s string) (Commit, error) {
	if !IsObjectID(s) {
		return Commit{}, fmt.Errorf("commit %q: want a full object id of 40 or 64 hexadecimal digits", clip(s))
	}
	return Commit{s}, nil
}

func (c Commit) String() string { return c.id }

// Short is the first 7 digits, for people.
func (c Commit) Short() string {
	if len(c.id) < 7 {
		return c.id
	}
	return c.id[:7]
}

// IsZero reports whether c names no commit.
func (c Commit) IsZero() bool { return c.id == "" }

// MarshalText writes the object id, so that a Commit is a plain string in JSON.
func (c Commit) MarshalText() ([]byte, error) { return []byte(c.id), nil }

// UnmarshalText accepts what MarshalText wrote: a full object id, or nothing.
func (c *Commit) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*c = Commit{}
		return nil
	}
	parsed, err := ParseCommit(string(b))
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}

// IsObjectID reports whether s is a full git object id, SHA-1 or SHA-256.
func IsObjectID(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// MaxPath is the longest path, in bytes, that a finding may carry.
const MaxPath = 4096

// ErrPath is wrapped by every error of CleanPath.
var ErrPath = errors.New("not a path inside the repository")

// CleanPath turns a path of outside origin into the form that findings carry: slash-separated, relative to
// the repository's root, valid UTF-8, without "." or ".." elements. A path that would leave the repository,
// is absolute, empty, too long, or has a NUL is refused. Bytes that are not UTF-8, and control characters,
// are written as \xNN, as git does when it quotes.
func CleanPath(raw string) (string, error) {
	switch {
	case raw == "":
		return "", fmt.Errorf("%w: empty", ErrPath)
	case len(raw) > MaxPath:
		return "", fmt.Errorf("%w: longer than %d bytes", ErrPath, MaxPath)
	case strings.IndexByte(raw, 0) >= 0:
		return "", fmt.Errorf("%w: holds a NUL byte", ErrPath)
	case raw[0] == '/':
		return "", fmt.Errorf("%w: %q is absolute", ErrPath, clip(raw))
	}
	p := path.Clean(raw)
	if p == "." || p == ".." || strings.HasPrefix(p, "../") {
		return "", fmt.Errorf("%w: %q leaves it", ErrPath, clip(raw))
	}
	return printable(p), nil
}

// printable replaces what cannot be shown safely; most paths are returned as they are.
func printable(p string) string {
	clean := true
	for _, r := range p {
		if r == utf8.RuneError || !shown(r) {
			clean = false
			break
		}
	}
	if clean {
		return p
	}
	var b strings.Builder
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRuneInString(p[i:])
		if (r == utf8.RuneError && n == 1) || !shown(r) {
			for _, c := range []byte(p[i : i+n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		} else {
			b.WriteString(p[i : i+n])
		}
		i += n
	}
	return b.String()
}

// shown is false for control characters and for the invisible format characters (bidirectional overrides,
// zero-width joiners) by which a path can pretend to be another (CVE-2021-42574).
func shown(r rune) bool { return !unicode.IsControl(r) && !unicode.Is(unicode.Cf, r) }

func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
