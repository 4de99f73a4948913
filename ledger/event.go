package ledger

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// MaxBody is the size, in bytes, from which the body of an entry is refused. A line then stays below the
// 65,535 bytes that an entry bundle of C2SP tlog-tiles can hold.
const MaxBody = 60 << 10

// maxSeq is the greatest sequence number: every reader of JSON holds it exactly.
const maxSeq = 1<<53 - 1

// maxToken is the longest source, type, account, or kind of an actor, in bytes.
const maxToken = 200

// ErrTooLarge says that the body of an event has MaxBody bytes or more. Keep the large part elsewhere and
// record its digest.
var ErrTooLarge = errors.New("larger than 60 KiB")

// Actor is who did it: a person, an app, noxaudit itself, or somebody at a command line.
type Actor struct {
	Kind       string `json:"kind"` // "user", "app", "system" or "cli"
	ID         string `json:"id,omitempty"`
	Name       string `json:"name,omitempty"`
	Via        string `json:"via,omitempty"`        // the surface: "comment", "page", "api", …
	OnBehalfOf string `json:"onBehalfOf,omitempty"` // the id of the person an app acted for
}

// Event is something that happened, before it has a place in a log.
type Event struct {
	Time    time.Time
	Source  string // the stream that SSeq counts: one pull request, one waiver, one repository's settings
	SSeq    uint64 // 1, 2, 3, … within Source without a gap, so that a lost event shows
	ID      string // a UUIDv7, from NewID; recording an event twice is recognised by it
	Salt    string // from NewSalt, so that nobody can guess what a bare leaf hash stands for
	Type    string // what happened: "audit.completed"
	Account string // the tenant
	Actor   Actor
	Subject map[string]string // what it happened to, by kind: "repository", "pull", "waiver"
	Content any               // anything that encodes as JSON
}

// Body is the event's canonical form, the part of its line that is fixed before it has a place in a log (see
// the package comment). It fails on an event that no line could hold: ErrTooLarge, or the field at fault.
func (e Event) Body() ([]byte, error) {
	content, err := canonicalContent(e.Content)
	if err != nil {
		return nil, fmt.Errorf("event %s: content: %w", clip(e.Type), err)
	}
	b := make([]byte, 0, len(content)+512)
	b = append(b, `{"time":"`...)
	b = e.Time.UTC().Truncate(time.Microsecond).AppendFormat(b, timeLayout)
	b = append(b, `","source":`...)
	b = appendString(b, e.Source)
	b = append(b, `,"sseq":`...)
	b = strconv.AppendUint(b, e.SSeq, 10)
	b = append(b, `,"id":`...)
	b = appendString(b, e.ID)
	b = append(b, `,"salt":`...)
	b = appendString(b, e.Salt)
	b = append(b, `,"type":`...)
	b = appendString(b, e.Type)
	b = append(b, `,"account":`...)
	b = appendString(b, e.Account)
	b = append(b, `,"actor":{"kind":`...)
	b = appendString(b, e.Actor.Kind)
	b = appendOptional(b, `,"id":`, e.Actor.ID)
	b = appendOptional(b, `,"name":`, e.Actor.Name)
	b = appendOptional(b, `,"via":`, e.Actor.Via)
	b = appendOptional(b, `,"onBehalfOf":`, e.Actor.OnBehalfOf)
	b = append(b, `},"subject":{`...)
	for i, key := range sortedKeys(e.Subject) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, key), ':')
		b = appendString(b, e.Subject[key])
	}
	b = append(b, `},"content":`...)
	b = append(b, content...)
	b = append(b, '}')
	if len(b) >= MaxBody {
		return nil, fmt.Errorf("event %s: %d bytes: %w; keep the large part elsewhere and record its digest", clip(e.Type), len(b), ErrTooLarge)
	}
	// The rules of a line stand in one place: what a verifier would refuse is never recorded.
	s := scanner{b: b}
	if !s.lit("{") || !s.body(new(spans)) || !s.end() {
		return nil, fmt.Errorf("event %s: %w", clip(e.Type), s.err())
	}
	return b, nil
}

func appendOptional(dst []byte, key, value string) []byte {
	if value == "" {
		return dst
	}
	return appendString(append(dst, key...), value)
}

// NewID is a UUIDv7 (RFC 9562): the time in milliseconds, then 74 random bits.
func NewID(at time.Time, rand io.Reader) (string, error) {
	var u [16]byte
	if _, err := io.ReadFull(rand, u[:]); err != nil {
		return "", fmt.Errorf("entry id: random source: %w", err)
	}
	ms := at.UnixMilli()
	if ms < 0 || ms >= 1<<48 {
		return "", fmt.Errorf("entry id: the time %s is outside what a UUIDv7 holds", at.UTC().Format(time.RFC3339))
	}
	for i := range 6 {
		u[i] = byte(ms >> (8 * (5 - i)))
	}
	u[6] = u[6]&0x0f | 0x70
	u[8] = u[8]&0x3f | 0x80
	x := hex.EncodeToString(u[:])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:], nil
}

// NewSalt is 128 random bits in hexadecimal.
func NewSalt(rand io.Reader) (string, error) {
	var salt [16]byte
	if _, err := io.ReadFull(rand, salt[:]); err != nil {
		return "", fmt.Errorf("entry salt: random source: %w", err)
	}
	return hex.EncodeToString(salt[:]), nil
}

// Line is an entry as its line holds it.
type Line struct {
	Seq   uint64
	Prev  string // 64 hexadecimal digits: the SHA-256 of the line before, zeros for the first
	Event Event  // its Content is a json.RawMessage
}

// ParseLine reads one line, without a newline, and refuses whatever is not exactly as the package comment
// says, to the byte.
func ParseLine(line []byte) (Line, error) {
	var f spans
	if err := checkLine(line, &f); err != nil {
		return Line{}, err
	}
	at, err := time.Parse(timeLayout, string(f.time))
	if err != nil {
		return Line{}, fmt.Errorf("ledger line: time: %w", err)
	}
	subject := make(map[string]string)
	if err := json.Unmarshal(f.subject, &subject); err != nil {
		return Line{}, fmt.Errorf("ledger line: subject: %w", err)
	}
	return Line{Seq: f.seq, Prev: string(f.prev), Event: Event{
		Time: at, Source: string(f.source), SSeq: f.sseq, ID: string(f.id), Salt: string(f.salt),
		Type: string(f.typ), Account: string(f.account),
		Actor: Actor{
			Kind: string(f.kind), ID: unquote(f.actorID), Name: unquote(f.actorName),
			Via: unquote(f.via), OnBehalfOf: unquote(f.onBehalfOf),
		},
		Subject: subject, Content: json.RawMessage(append([]byte(nil), f.content...)),
	}}, nil
}

// spans are the fields of a line, as they stand in it: strings without their quotes, still escaped.
type spans struct {
	scan                                 scanner // here so that checking many lines allocates one
	seq, sseq                            uint64
	prev                                 []byte
	time, source, id, salt, typ, account []byte
	kind, actorID, actorName, via        []byte
	onBehalfOf, subject, content         []byte
}

// checkLine is the full check of a line.
func checkLine(line []byte, f *spans) error {
	p, err := parsePrefix(line)
	if err != nil {
		return err
	}
	f.seq, f.prev = p.seq, p.prev
	return checkBody(line, p.end, f)
}

// checkBody is the check of a line beyond its prefix, which ends at from. With one f for many lines it does not
// allocate, so that a verifier can afford it always.
func checkBody(line []byte, from int, f *spans) error {
	f.scan = scanner{b: line, i: from}
	if s := &f.scan; !s.body(f) || !s.end() {
		return fmt.Errorf("ledger line: %w", s.err())
	}
	if body := len(line) - from + 1; body >= MaxBody {
		return fmt.Errorf("ledger line: the body has %d bytes: %w", body, ErrTooLarge)
	}
	return nil
}

// body wants what follows the opening brace of a body, to the end.
func (s *scanner) body(f *spans) bool {
	return s.lit(`"time":`) && s.timestamp(&f.time) &&
		s.lit(`,"source":`) && s.token(&f.source) &&
		s.lit(`,"sseq":`) && s.ordinal(&f.sseq) &&
		s.lit(`,"id":`) && s.uuid(&f.id) &&
		s.lit(`,"salt":`) && s.hex(&f.salt, 32) &&
		s.lit(`,"type":`) && s.token(&f.typ) &&
		s.lit(`,"account":`) && s.token(&f.account) &&
		s.lit(`,"actor":{"kind":`) && s.token(&f.kind) &&
		s.optional(`,"id":`, &f.actorID) &&
		s.optional(`,"name":`, &f.actorName) &&
		s.optional(`,"via":`, &f.via) &&
		s.optional(`,"onBehalfOf":`, &f.onBehalfOf) &&
		s.lit(`},"subject":`) && s.subject(&f.subject) &&
		s.lit(`,"content":`) && s.content(&f.content) &&
		s.lit(`}`)
}

// token wants 1 to maxToken printable ASCII characters without space, quote and backslash.
func (s *scanner) token(out *[]byte) bool {
	at := s.i
	raw, ok := s.str()
	if !ok {
		return false
	}
	ok = len(raw) > 0 && len(raw) <= maxToken
	if !ok || !all(raw, classToken) {
		s.i = at
		return s.fail("want 1 to 200 printable ASCII characters without spaces")
	}
	*out = raw
	return true
}

func (s *scanner) optional(key string, out *[]byte) bool {
	if !s.has(key) {
		return true
	}
	s.i += len(key)
	at := s.i
	raw, ok := s.str()
	if ok && len(raw) == 0 {
		s.i = at
		return s.fail("an empty member of actor is left out")
	}
	*out = raw
	return ok
}

func (s *scanner) ordinal(out *uint64) bool {
	at := s.i
	n, ok := s.counter()
	if ok && n == 0 {
		s.i = at
		return s.fail("sseq begins at 1")
	}
	*out = n
	return ok
}

func (s *scanner) hex(out *[]byte, digits int) bool {
	at := s.i
	raw, ok := s.str()
	if !ok {
		return false
	}
	if len(raw) != digits || !all(raw, classHex) {
		s.i = at
		return s.fail("want " + strconv.Itoa(digits) + " lower-case hexadecimal digits")
	}
	*out = raw
	return true
}

// all reports whether every byte is of the kind.
func all(b []byte, kind uint8) bool {
	for _, c := range b {
		kind &= class[c]
	}
	return kind != 0
}

func (s *scanner) uuid(out *[]byte) bool {
	at := s.i
	raw, ok := s.str()
	if !ok {
		return false
	}
	ok = len(raw) == 36 && raw[8] == '-' && raw[13] == '-' && raw[14] == '7' && raw[18] == '-' && raw[23] == '-' &&
		(raw[19] == '8' || raw[19] == '9' || raw[19] == 'a' || raw[19] == 'b') &&
		all(raw[:8], classHex) && all(raw[9:13], classHex) && all(raw[15:18], classHex) &&
		all(raw[19:23], classHex) && all(raw[24:], classHex)
	if !ok {
		s.i = at
		return s.fail("want a UUIDv7 in lower case")
	}
	*out = raw
	return true
}

const timeLayout = "2006-01-02T15:04:05.000000Z"

// timestamp wants a time that exists, in UTC, with exactly six decimals.
func (s *scanner) timestamp(out *[]byte) bool {
	at := s.i
	raw, ok := s.str()
	if !ok {
		return false
	}
	if !validTime(raw) {
		s.i = at
		return s.fail("want a time like 2006-01-02T15:04:05.000000Z")
	}
	*out = raw
	return true
}

func validTime(b []byte) bool {
	if len(b) != len(timeLayout) {
		return false
	}
	for i, c := range b {
		switch want := timeLayout[i]; {
		case isDigit(want):
			if !isDigit(c) {
				return false
			}
		case c != want:
			return false
		}
	}
	two := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	year, month, day := two(0)*100+two(2), two(5), two(8)
	return month >= 1 && month <= 12 && day >= 1 && day <= daysIn(year, month) &&
		two(11) < 24 && two(14) < 60 && two(17) < 60
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

func (s *scanner) subject(out *[]byte) bool {
	at := s.i
	ok := s.object(0, func(s *scanner, _ int) bool { _, ok := s.str(); return ok })
	*out = s.b[at:s.i]
	return ok
}

func (s *scanner) content(out *[]byte) bool {
	at := s.i
	ok := s.value(0)
	*out = s.b[at:s.i]
	return ok
}

// clip shortens what came from outside before it enters an error.
func clip(s string) string {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strconv.Quote(s)
}
