package waiver

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// SchemaName is the first member of every document. Its number changes whenever the form does.
const SchemaName = "noxaudit.waiver/1"

// Document is what somebody asked for: the content of a waiver, which never changes. Whoever approves a waiver
// approves the digest of this.
type Document struct {
	Schema     string             `json:"schema"` // SchemaName
	Account    string             `json:"account"`
	Repository verdict.Repository `json:"repository"`
	Finding    Finding            `json:"finding"`
	Kind       Kind               `json:"kind"`
	Reason     string             `json:"reason"`
	Ticket     string             `json:"ticket,omitempty"`
	Control    string             `json:"control,omitempty"` // what holds the risk down meanwhile
	Scope      Scope              `json:"scope"`             // ScopeFinding
	Until      string             `json:"until"`             // the last second, RFC 3339 in UTC: 23:59:59 of a day
	Requested  string             `json:"requested"`         // as verdict.FormatTime writes it
	Requester  Person             `json:"requester"`
	Asked      Place              `json:"asked"`
	Renews     string             `json:"renews,omitempty"` // digest of the waiver that this one extends
	Terms      Terms              `json:"terms"`            // in force when it was asked
}

// Finding is the finding that a waiver covers. Fingerprint and Content are what it is recognised by; the rest is
// for people.
type Finding struct {
	ID          string `json:"id"`                // NX- and 8 characters
	Fingerprint string `json:"fingerprint"`       // 64 hexadecimal digits
	Content     string `json:"content,omitempty"` // keyed digest of a secret; empty: covers only a finding without
	Type        string `json:"type"`
	Severity    string `json:"severity"`       // critical, high, medium, low or info
	Path        string `json:"path,omitempty"` // as name.CleanPath gives it; empty for the repository as a whole
}

// Person is a GitHub user. The id is the key: logins change and are given to others.
type Person struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

// Surface is where somebody acted.
type Surface string

// The surfaces.
const (
	Comment Surface = "comment" // of a pull request, or of a line in it
	Review  Surface = "review"  // the body of a submitted review
	CLI     Surface = "cli"
	Page    Surface = "page"
)

// Place is where somebody acted. A comment and a review have a pull request, an id and the digest of their body
// as it was then, so that a later edit shows.
type Place struct {
	Surface Surface     `json:"surface"`
	Pull    int         `json:"pull,omitempty"` // number of the pull request; 0: none
	Head    name.Commit `json:"head,omitzero"`  // of that pull request, at that moment
	Comment int64       `json:"comment,omitempty"`
	Body    string      `json:"body,omitempty"` // "sha256:…" of the body
}

// Asking is everything that a document is made of. The requester, the time and the pull request's head are those
// of the facts.
type Asking struct {
	Command Command // of verb VerbWaive; its target names Finding
	Account name.Account
	Repo    name.Repo
	Finding Finding
	Place   Place // its Head is filled in
	Terms   Terms
	Renews  string
}

// NewDocument makes the document of a request. It fails with a *Refusal where the request is not within the
// terms; whether the person may ask at all is decided by Apply.
func NewDocument(a Asking, facts Facts) (Document, error) {
	if a.Command.Verb != VerbWaive {
		return Document{}, fmt.Errorf("waiver: a command %q asks for no waiver", a.Command.Verb)
	}
	if err := a.Command.Supported(); err != nil {
		return Document{}, err
	}
	c, err := a.Command.Check()
	if err != nil {
		return Document{}, err
	}
	if t := c.Target; t.Kind != FindingTarget || !strings.HasPrefix("NX-"+encoded("sha256:"+a.Finding.Fingerprint), t.ID) {
		return Document{}, refuse(NotFound, "%s names no finding here; the nearest is %s.", t, quote(a.Finding.ID))
	}
	kind := c.Kind
	if kind == "" {
		kind = a.Terms.Kind
	}
	end, err := a.Terms.End(kind, c.Until, c.Days, facts.Time)
	if err != nil {
		return Document{}, err
	}
	d := Document{
		Schema: SchemaName, Account: a.Account.String(), Repository: verdict.Repository{ID: a.Repo.ID, FullName: a.Repo.FullName},
		Finding: a.Finding, Kind: kind, Reason: c.Reason, Ticket: c.Ticket, Control: c.Control,
		Scope: ScopeFinding, Until: end.Format(time.RFC3339), Requested: verdict.FormatTime(facts.Time),
		Requester: facts.Actor.Person, Asked: a.Place, Renews: a.Renews, Terms: a.Terms,
	}
	d.Terms.Kinds = slices.Clone(a.Terms.Kinds)
	if facts.Pull != nil {
		d.Asked.Head = facts.Pull.Head
	}
	if r := checkReason(d.Reason, d.Terms.MinReason); r != nil {
		return Document{}, r
	}
	if err := d.check(); err != nil {
		return Document{}, fmt.Errorf("waiver: %w", err)
	}
	return d, nil
}

// Canonical is the one byte form of a document. It does not check it: ParseCanonical does.
func (d Document) Canonical() ([]byte, error) {
	if d.Terms.Kinds == nil {
		d.Terms.Kinds = []KindTerms{}
	}
	b, err := canon.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("waiver: %w", err)
	}
	return b, nil
}

// Digest is the digest of the canonical form.
func (d Document) Digest() (string, error) {
	b, err := d.Canonical()
	if err != nil {
		return "", err
	}
	return canon.Digest(b), nil
}

// ID is the short human form of a document's digest: "W-" and its first 40 bits in Crockford's base 32. It is
// empty when digest is none. Who looks one up treats it as a prefix and refuses an ambiguous one.
func ID(digest string) string {
	s := encoded(digest)
	if s == "" {
		return ""
	}
	return "W-" + s[:8]
}

// encoded is a digest in Crockford's base 32.
func encoded(digest string) string {
	rest, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || !isHex(rest, 64, 64) {
		return ""
	}
	raw, err := hex.DecodeString(rest)
	if err != nil {
		return ""
	}
	return crockford.EncodeToString(raw)
}

// end is the last second of the waiver.
func (d Document) end() (time.Time, error) { return time.Parse(time.RFC3339, d.Until) }

// ErrForm is wrapped by every error of ParseCanonical.
var ErrForm = errors.New("not a waiver in canonical form")

// ParseCanonical reads what Canonical wrote. It refuses any other bytes of the same meaning, and whatever no
// request within its own terms could have made.
func ParseCanonical(b []byte) (Document, error) {
	var d Document
	if err := canon.Unmarshal(b, &d); err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	again, err := d.Canonical()
	if err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if !bytes.Equal(b, again) {
		return Document{}, fmt.Errorf("%w: the bytes are not those that their meaning is written with", ErrForm)
	}
	if err := d.check(); err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return d, nil
}

const maxID = 1<<53 - 1 // every reader of JSON holds it exactly

func (d Document) check() error {
	if d.Schema != SchemaName {
		return fmt.Errorf("schema %s: this program reads %q", quote(d.Schema), SchemaName)
	}
	if _, err := name.ParseAccount(d.Account); err != nil {
		return err
	}
	if err := d.Terms.Check(); err != nil {
		return err
	}
	if err := d.Finding.check(); err != nil {
		return err
	}
	if err := d.Requester.check(); err != nil {
		return fmt.Errorf("requester: %w", err)
	}
	if err := d.Asked.check(); err != nil {
		return fmt.Errorf("asked: %w", err)
	}
	if r := checkReason(d.Reason, d.Terms.MinReason); r != nil {
		return r
	}
	for _, s := range []struct {
		what, text string
		most       int
	}{{"reason", d.Reason, MaxReason}, {"ticket", d.Ticket, MaxTicket}, {"control", d.Control, MaxControl}} {
		if bad, is := hiddenIn(s.text); is {
			return fmt.Errorf("%s: holds %s", s.what, bad)
		}
		if strings.TrimSpace(s.text) != s.text || utf8.RuneCountInString(s.text) > s.most {
			return fmt.Errorf("%s: has white space around it or more than %d characters", s.what, s.most)
		}
	}
	switch {
	case d.Repository.ID == "" || d.Repository.FullName == "":
		return errors.New("repository: no id or no name")
	case d.Scope != ScopeFinding:
		return fmt.Errorf("scope %s: want %q", quote(string(d.Scope)), ScopeFinding)
	case d.Renews != "" && ID(d.Renews) == "":
		return fmt.Errorf("renews: %s is no digest", quote(d.Renews))
	}
	requested, err := parseTime(d.Requested)
	if err != nil {
		return fmt.Errorf("requested: %w", err)
	}
	end, err := d.end()
	if err != nil || end.UTC().Format(time.RFC3339) != d.Until || !end.Equal(endOfDay(end, 0)) {
		return fmt.Errorf("until %s: want 23:59:59 of a day, RFC 3339 in UTC", quote(d.Until))
	}
	if _, err := d.Terms.End(d.Kind, end.Format(time.DateOnly), 0, requested); err != nil {
		return err
	}
	return nil
}

func (f Finding) check() error {
	var r verdict.Ref
	switch {
	case !isHex(f.Fingerprint, 64, 64) || f.ID != "NX-"+encoded("sha256:" + f.Fingerprint)[:8]:
		return fmt.Errorf("finding %s: fingerprint and id are not those of a finding", quote(f.ID))
	case f.Type == "" || len(f.Type) > 200 || len(f.Content) > 200:
		return fmt.Errorf("finding %s: its type is missing, or type or content too long", f.ID)
	case r.Severity.UnmarshalText([]byte(f.Severity)) != nil:
		return fmt.Errorf("finding %s: severity %s does not exist", f.ID, quote(f.Severity))
	case f.Path != "":
		if p, err := name.CleanPath(f.Path); err != nil || p != f.Path {
			return fmt.Errorf("finding %s: its path is not clean", f.ID)
		}
	}
	return nil
}

func (p Person) check() error {
	if p.ID < 1 || p.ID > maxID || p.Login == "" || len(p.Login) > 100 || !ascii(p.Login) {
		return fmt.Errorf("person %d %s: want a numeric id and a login", p.ID, quote(p.Login))
	}
	return nil
}

func (p Place) check() error {
	switch p.Surface {
	case Comment, Review:
		if p.Pull < 1 || p.Comment < 1 || p.Comment > maxID || ID(p.Body) == "" {
			return fmt.Errorf("a %s without pull request, id or digest of its body", p.Surface)
		}
	case CLI, Page:
		if p.Comment != 0 || p.Body != "" {
			return fmt.Errorf("surface %q has no comment", p.Surface)
		}
	default:
		return fmt.Errorf("surface %s: want comment, review, cli or page", quote(string(p.Surface)))
	}
	if p.Pull < 0 || (p.Pull > 0) == p.Head.IsZero() {
		return errors.New("a pull request without its head, or a head without one")
	}
	return nil
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || verdict.FormatTime(t) != s {
		return time.Time{}, fmt.Errorf("time %s: want RFC 3339 in UTC with six decimals", quote(s))
	}
	return t, nil
}
