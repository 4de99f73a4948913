package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep content may nest, so that no reader of a log needs more stack than that.
const maxDepth = 32

// maxNumber is the longest number, in bytes, that an entry may hold.
const maxNumber = 40

// canonicalContent writes any JSON-encodable value in the canonical form.
func canonicalContent(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	out := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	s := scanner{b: out}
	if s.value(0) && s.end() {
		return out, nil // as it mostly is: maps are sorted already, and strings rarely need another form
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	dec.UseNumber()
	var generic any
	if err := dec.Decode(&generic); err != nil {
		return nil, err
	}
	return appendValue(make([]byte, 0, len(out)), generic, 0)
}

func appendValue(dst []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	var err error
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case string:
		return appendString(dst, v), nil
	case json.Number:
		return appendNumber(dst, v.String())
	case []any:
		dst = append(dst, '[')
		for i, item := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendValue(dst, item, depth+1); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case map[string]any:
		dst = append(dst, '{')
		for i, key := range sortedKeys(v) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, key), ':')
			if dst, err = appendValue(dst, v[key], depth+1); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	}
	return nil, fmt.Errorf("a %T has no canonical form", v)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// appendNumber keeps an integer as it is and writes anything else as the shortest decimal without exponent.
func appendNumber(dst []byte, n string) ([]byte, error) {
	if strings.ContainsAny(n, ".eE") {
		f, err := strconv.ParseFloat(n, 64)
		if err != nil {
			return nil, fmt.Errorf("number %.40s: out of range", n)
		}
		n = strconv.FormatFloat(f, 'f', -1, 64)
	}
	if n == "-0" {
		n = "0"
	}
	if len(n) > maxNumber {
		return nil, fmt.Errorf("number %.40s…: longer than %d bytes", n, maxNumber)
	}
	return append(dst, n...), nil
}

const hexDigits = "0123456789abcdef"

// appendString writes s quoted. Bytes that are not UTF-8 become U+FFFD: recording must not fail because a
// name that came from outside is broken.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			if short := shortEscape(c); short != 0 {
				dst = append(dst, '\\', short)
			} else {
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		i++
	}
	return append(dst, '"')
}

// shortEscape is the letter of the two-byte escape that control character c has, or 0.
func shortEscape(c byte) byte {
	switch c {
	case '\b':
		return 'b'
	case '\t':
		return 't'
	case '\n':
		return 'n'
	case '\f':
		return 'f'
	case '\r':
		return 'r'
	}
	return 0
}

// scanner walks bytes that claim to be canonical, without allocating. Its methods report whether the bytes
// kept the claim; after a false, i is where they broke it and why says how.
type scanner struct {
	b   []byte
	i   int
	why string
}

func (s *scanner) fail(why string) bool {
	if s.why == "" {
		s.why = why
	}
	return false
}

func (s *scanner) err() error { return fmt.Errorf("byte %d: %s", s.i, s.why) }

// lit wants exactly text.
func (s *scanner) lit(text string) bool {
	if !s.has(text) {
		return s.fail("want " + text)
	}
	s.i += len(text)
	return true
}

func (s *scanner) has(text string) bool {
	return len(s.b)-s.i >= len(text) && string(s.b[s.i:s.i+len(text)]) == text
}

func (s *scanner) end() bool {
	return s.i == len(s.b) || s.fail("something follows the end")
}

// peek is the next byte, or 0 at the end.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// value wants one JSON value in canonical form.
func (s *scanner) value(depth int) bool {
	if depth > maxDepth {
		return s.fail("nested too deep")
	}
	switch c := s.peek(); {
	case c == '"':
		_, ok := s.str()
		return ok
	case c == '{':
		return s.object(depth, (*scanner).value)
	case c == '[':
		return s.array(depth)
	case c == 't':
		return s.lit("true")
	case c == 'f':
		return s.lit("false")
	case c == 'n':
		return s.lit("null")
	case c == '-' || isDigit(c):
		return s.number()
	}
	return s.fail("want a value")
}

func (s *scanner) array(depth int) bool {
	s.i++
	if s.peek() == ']' {
		s.i++
		return true
	}
	for {
		if !s.value(depth + 1) {
			return false
		}
		switch s.peek() {
		case ',':
			s.i++
		case ']':
			s.i++
			return true
		default:
			return s.fail("want , or ]")
		}
	}
}

// object wants members in strictly ascending order of their keys, each value as member says.
func (s *scanner) object(depth int, member func(*scanner, int) bool) bool {
	if !s.lit("{") {
		return false
	}
	if s.peek() == '}' {
		s.i++
		return true
	}
	var last []byte
	for first := true; ; first = false {
		at := s.i
		key, ok := s.str()
		if !ok {
			return false
		}
		if !first && compareKeys(last, key) >= 0 {
			s.i = at
			return s.fail("a key is repeated or out of order")
		}
		last = key
		if !s.lit(":") || !member(s, depth+1) {
			return false
		}
		switch s.peek() {
		case ',':
			s.i++
		case '}':
			s.i++
			return true
		default:
			return s.fail("want , or }")
		}
	}
}

// compareKeys orders two keys, given as they stand between their quotes, by the bytes they mean.
func compareKeys(a, b []byte) int {
	if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 {
		return bytes.Compare(a, b)
	}
	return strings.Compare(unquote(a), unquote(b))
}

// unquote is the text that raw, what str returned, stands for.
func unquote(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '\\' {
			i++
			switch c = raw[i]; c {
			case 'b':
				c = '\b'
			case 't':
				c = '\t'
			case 'n':
				c = '\n'
			case 'f':
				c = '\f'
			case 'r':
				c = '\r'
			case 'u':
				c = (raw[i+3]-'0')<<4 | hexValue(raw[i+4])
				i += 4
			}
		}
		out = append(out, c)
	}
	return string(out)
}

// str wants a string and returns what stands between its quotes.
func (s *scanner) str() (raw []byte, ok bool) {
	if s.peek() != '"' {
		return nil, s.fail("want a string")
	}
	s.i++
	start := s.i
	for {
		// Most of a log is plain text: pass over it eight bytes at a time.
		for len(s.b)-s.i >= 8 {
			special := specialBytes(binary.LittleEndian.Uint64(s.b[s.i:]))
			if special != 0 {
				s.i += bits.TrailingZeros64(special) / 8
				break
			}
			s.i += 8
		}
		if s.i >= len(s.b) {
			return nil, s.fail("a string does not end")
		}
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start : s.i-1], true
		case c == '\\':
			if !s.escape() {
				return nil, false
			}
		case c < 0x20:
			return nil, s.fail("a control character in a string")
		case c < utf8.RuneSelf:
			s.i++
		default:
			r, n := utf8.DecodeRune(s.b[s.i:])
			if r == utf8.RuneError && n == 1 {
				return nil, s.fail("not UTF-8")
			}
			s.i += n
		}
	}
}

// specialBytes has the top bit set in the first byte of x that ends a run of plain text: a quote, a
// backslash, a control character or the beginning of a longer UTF-8 sequence. Bits above that first one mean
// nothing (a borrow may have set them).
func specialBytes(x uint64) uint64 {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote := x ^ ones*'"'
	slash := x ^ ones*'\\'
	return (x | (x - ones*0x20) | (quote - ones) | (slash - ones)) & tops
}

// escape wants one of the escapes that the canonical form uses, each where no other would do.
func (s *scanner) escape() bool {
	rest := s.b[s.i:]
	if len(rest) >= 2 && strings.IndexByte(`"\bfnrt`, rest[1]) >= 0 {
		s.i += 2
		return true
	}
	if len(rest) >= 6 && rest[1] == 'u' && rest[2] == '0' && rest[3] == '0' &&
		(rest[4] == '0' || rest[4] == '1') && isHex(rest[5]) &&
		shortEscape((rest[4]-'0')<<4|hexValue(rest[5])) == 0 {
		s.i += 6
		return true
	}
	return s.fail("an escape that the canonical form does not use")
}

// number wants a decimal without exponent, leading or trailing zeros, or a negative zero.
func (s *scanner) number() bool {
	start := s.i
	if s.peek() == '-' {
		s.i++
	}
	whole := s.i
	for isDigit(s.peek()) {
		s.i++
	}
	if s.i == whole || (s.b[whole] == '0' && s.i > whole+1) {
		s.i = start
		return s.fail("a number with leading zeros or without digits")
	}
	zero := s.b[whole] == '0'
	if s.peek() == '.' {
		s.i++
		fraction := s.i
		for isDigit(s.peek()) {
			s.i++
		}
		if s.i == fraction || s.b[s.i-1] == '0' {
			s.i = start
			return s.fail("a fraction with trailing zeros or without digits")
		}
		zero = false
	}
	if (zero && whole > start) || s.i-start > maxNumber {
		s.i = start
		return s.fail("a negative zero or a number that is too long")
	}
	return true
}

// counter wants an integer from 0 to maxSeq without leading zeros.
func (s *scanner) counter() (n uint64, ok bool) {
	start := s.i
	for isDigit(s.peek()) && s.i-start < 17 {
		n = n*10 + uint64(s.b[s.i]-'0')
		s.i++
	}
	if s.i == start || n > maxSeq || (s.b[start] == '0' && s.i > start+1) {
		s.i = start
		return 0, s.fail("want a number from 0 to 2^53-1 without leading zeros")
	}
	return n, true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool { return class[c]&classHex != 0 }

// class tells kinds of bytes by one look-up: these checks are most of what verifying costs beyond hashing.
var class = func() (t [256]uint8) {
	for c := byte('!'); c <= '~'; c++ {
		if c != '"' && c != '\\' {
			t[c] |= classToken
		}
		if isDigit(c) || ('a' <= c && c <= 'f') {
			t[c] |= classHex
		}
	}
	return t
}()

const (
	classHex   = 1 << iota // lower-case hexadecimal digits
	classToken             // printable ASCII without space, quote and backslash
)

func hexValue(c byte) byte {
	if isDigit(c) {
		return c - '0'
	}
	return c - 'a' + 10
}
