package store

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/ledger"
)

// Limits of one change. Within them a commit holds SQLite's only writer for less than about 50 ms on an
// ordinary disk; whoever has more commits it in parts, each with its own entry.
//
// MaxStoredBytes is the exception: an audit's findings are one document, since a verdict names them by one
// digest, and a document is one row. A finding takes about 140 bytes there, so 50 ms, some 5 MiB, are reached
// at 35,000 findings, and the limit, about 80 ms, at 60,000.
const (
	MaxFindings      = 500
	MaxEntries       = 500
	MaxDocuments     = 64
	MaxDocumentBytes = 64 << 20 // of one document, before compression
	MaxStoredBytes   = 8 << 20  // of all documents of a change, after compression
)

// Change is everything that happens at once: it is committed whole or not at all. The zero value of a field
// changes nothing. Only Entries and Time are required.
type Change struct {
	Time       time.Time       // when; the one clock reading of the transaction
	Entries    []ledger.Event  // what is recorded: at least one. Source is set by the caller; SSeq is given out here
	Account    *Account        // to create or rename
	Repository *Repository     // one more of Repositories
	Expect     *Expect         // the line that this changes, at the version it was computed from
	Line       *Line           // what the line of Expect now stands at: Head, Tree and AuditedAt are read
	Findings   []FindingChange // of the line of Expect
	Documents  []Document
	Audit      *Audit
	Verdict    *Verdict // its document is among Documents or already stored

	// What GitHub's front adds. Each thing at most once.
	Delivery     *Delivery     // to put in the inbox
	DeliveryDone *DeliveryDone // the delivery that this is the effect of
	Installation *Installation // to create or change
	Repositories []Repository  // to create or change: ID, FullName and Origin are read
	Pulls        []Pull        // to create or change
	MergeGroup   *MergeGroup   // to create or change
	Want         []Want        // heads whose generation is raised; in front of HeadCheck
	HeadCheck    *HeadCheck    // what became of a head's check run

	// What people said.
	Waivers []Waiver // to create or change, each from the version that it was computed from
	Command *Command // a comment or review that commanded something, once

	Sessions *SessionChange // people's sign-ins; only of the tenant name.Deployment
}

// Account is the tenant, as people call it.
type Account struct {
	Login     string // "octo-org"; may change
	CreatedAt time.Time
}

// Repository is a repository of the account. Its id never changes, its name may.
type Repository struct {
	ID, FullName string
	Origin       *Origin // nil: not from GitHub; writing nil keeps what is stored
	Version      int64   // 1 when new, one more with each rename
	FirstSeen    time.Time
	LastChanged  time.Time
}

// Expect is the line that a change is about and the version of it that the change was computed from: 0 for a
// line that is not stored yet. When the change commits, the version is one more.
type Expect struct {
	Repository, Line string
	Version          int64
}

// Line is a line of history whose findings are tracked: "worktree", "default", "pull/12".
type Line struct {
	Repository, Name string
	Version          int64       // 0: not stored yet
	Head             name.Commit // zero for a working tree
	Tree             string      // the id of the content that was audited
	AuditedAt        time.Time   // zero: never
}

// Source is the stream in which the entries about a line are numbered: "repository/<id>/<line>". A line whose
// name the ledger would not take as a part of a source (it wants 200 characters of printable ASCII) is named by
// the start of its digest.
func (e Expect) Source() string {
	source := "repository/" + e.Repository + "/" + e.Line
	plain := len(source) <= 200
	for _, c := range []byte(e.Line) {
		plain = plain && '!' <= c && c <= '~' && c != '\\' && c != '"'
	}
	if plain {
		return source
	}
	sum := sha256.Sum256([]byte(e.Line))
	return "repository/" + e.Repository + "/sha256-" + hex.EncodeToString(sum[:16])
}

// FindingChange opens a finding of the line, says it anew, or resolves it. The key is its fingerprint and
// content.
type FindingChange struct {
	Finding  finding.Finding
	Resolved bool // the finding is open now and no longer will be
}

// Document is an input or a result, stored once under the digest of its bytes: a set of findings, a policy,
// assessments, a verdict. Bytes that two kinds share keep the kind that came first.
type Document struct {
	Kind string // "findings", "policies", "verdict", …
	Body []byte
}

// Digest is the document's key, "sha256:" and 64 hexadecimal digits.
func (d Document) Digest() string { return canon.Digest(d.Body) }

// Audit is one run of the auditors over a line.
type Audit struct {
	ID                string
	Repository, Line  string
	Head, Base        name.Commit
	Started, Finished time.Time
	Stats             json.RawMessage // outcomes and counts; null when empty
}

// Verdict is where a verdict stands; its text is the document of the same digest.
type Verdict struct {
	ID               string // the digest of its document
	Short            string // "V-" and 8 characters, for people; given out on reading
	Repository, Line string
	Version          int64 // the line's version that it made, 0 when the change expected none; given out here
	Head, Base       name.Commit
	Conclusion       string // "success", "failure", …
	Time             time.Time
}

// check refuses what cannot be stored, before a transaction is begun.
func (c Change) check(account name.Account) error {
	if len(c.Entries) == 0 {
		return ErrNoEntry
	}
	for _, l := range []struct {
		noun      string
		got, most int
	}{
		{"entries", len(c.Entries), MaxEntries},
		{"findings", len(c.Findings), MaxFindings},
		{"documents", len(c.Documents), MaxDocuments},
	} {
		if l.got > l.most {
			return &TooLargeError{Noun: l.noun, Got: l.got, Most: l.most}
		}
	}
	switch {
	case c.Time.IsZero():
		return invalid("the time is missing")
	case c.Expect == nil && c.Line != nil, c.Expect == nil && len(c.Findings) > 0:
		return invalid("a line or findings change, and no version is expected")
	case c.Expect != nil && c.Expect.Version < 0:
		return invalid("the expected version is negative")
	}
	var err error
	key := func(what, s string, most int) {
		if err == nil && (s == "" || len(s) > most || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0) {
			err = invalid("%s must be 1 to %d bytes of text", what, most)
		}
	}
	ids := make(map[string]bool, len(c.Entries))
	for _, e := range c.Entries {
		key("the id of an entry", e.ID, 64)
		key("the source of an entry", e.Source, 200)
		switch {
		case e.Account != account.String():
			return invalid("an entry names another account")
		case e.Time.IsZero():
			return invalid("the time of an entry is missing")
		case ids[e.ID]:
			return invalid("two entries have the id %s", e.ID)
		}
		ids[e.ID] = true
	}
	if err := c.checkGitHub(key); err != nil {
		return err
	}
	if err := c.checkSessions(account, key); err != nil {
		return err
	}
	if a := c.Account; a != nil {
		key("the account's login", a.Login, 256)
	}
	if e := c.Expect; e != nil {
		key("the repository's id", e.Repository, 64)
		key("the line's name", e.Line, 512)
		if l := c.Line; l != nil {
			if (l.Repository != "" && l.Repository != e.Repository) || (l.Name != "" && l.Name != e.Line) {
				return invalid("the line is not the one that is expected")
			}
			if l.Tree != "" {
				key("the line's tree", l.Tree, 256)
			}
		}
	}
	type findingKey struct{ fingerprint, content string }
	seen := make(map[findingKey]bool, len(c.Findings))
	for _, f := range c.Findings {
		key("a finding's fingerprint", f.Finding.Fingerprint, 64)
		key("a finding's id", f.Finding.ID, 64)
		if f.Finding.Content != "" {
			key("a finding's content", f.Finding.Content, 256)
		}
		k := findingKey{f.Finding.Fingerprint, f.Finding.Content}
		if seen[k] {
			return invalid("finding %s changes twice", f.Finding.ID)
		}
		seen[k] = true
	}
	for _, d := range c.Documents {
		key("a document's kind", d.Kind, 64)
		if len(d.Body) > MaxDocumentBytes {
			return &TooLargeError{Noun: "bytes in a document", Got: len(d.Body), Most: MaxDocumentBytes}
		}
	}
	if a := c.Audit; a != nil {
		key("the audit's id", a.ID, 128)
		key("the audit's repository", a.Repository, 64)
		key("the audit's line", a.Line, 512)
		if a.Started.IsZero() || a.Finished.IsZero() {
			return invalid("the times of an audit are missing")
		}
		if len(a.Stats) > 0 && !json.Valid(a.Stats) {
			return invalid("the statistics of an audit are not JSON")
		}
	}
	if v := c.Verdict; v != nil {
		key("the verdict's repository", v.Repository, 64)
		key("the verdict's line", v.Line, 512)
		key("the verdict's conclusion", v.Conclusion, 64)
		if !isDigest(v.ID) {
			return invalid("the verdict's id is not a digest")
		}
		if v.Time.IsZero() {
			return invalid("the time of a verdict is missing")
		}
	}
	return err
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// packed is a document as it is stored.
type packed struct {
	digest, kind, encoding string
	size                   int
	body                   []byte
}

// worthPacking: below it compression saves less than a disk block.
const worthPacking = 512

// packers keeps writers, which are a megabyte each, from one document to the next.
var packers = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // only for a level that does not exist
	}
	return w
}}

// pack compresses a document where that makes it smaller. The digest stays that of the bytes before.
func pack(d Document) (packed, error) {
	p := packed{digest: d.Digest(), kind: d.Kind, encoding: "raw", size: len(d.Body), body: d.Body}
	if p.body == nil {
		p.body = []byte{}
	}
	if len(d.Body) < worthPacking {
		return p, nil
	}
	var b bytes.Buffer
	w := packers.Get().(*flate.Writer)
	defer packers.Put(w)
	w.Reset(&b)
	if _, err := w.Write(d.Body); err != nil {
		return packed{}, err
	}
	if err := w.Close(); err != nil {
		return packed{}, err
	}
	if b.Len() < len(d.Body) {
		p.encoding, p.body = "deflate", b.Bytes()
	}
	return p, nil
}
