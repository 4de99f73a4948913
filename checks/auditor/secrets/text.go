package secrets

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// sniff is how far a NUL byte is looked for: git's own measure of "binary".
const sniff = 8 << 10

// textOf gives the text of a file as UTF-8 with equal line numbers, and false for a binary one. UTF-16 with
// a byte order mark, which Windows tools write, is translated. Bytes that are not UTF-8 stay as they are: a
// key is ASCII whatever surrounds it.
func textOf(b []byte) (string, bool) {
	switch {
	case bytes.HasPrefix(b, []byte{0xFF, 0xFE}):
		return fromUTF16(b[2:], binary.LittleEndian), true
	case bytes.HasPrefix(b, []byte{0xFE, 0xFF}):
		return fromUTF16(b[2:], binary.BigEndian), true
	}
	if bytes.IndexByte(b[:min(len(b), sniff)], 0) >= 0 {
		return "", false
	}
	return string(b), true
}

func fromUTF16(b []byte, order binary.ByteOrder) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

// lines finds places in a text. Lines end with LF; a CR before it belongs to the line.
type lines struct {
	text   string
	starts []int // the first byte of each line
}

func newLines(text string) lines {
	starts := make([]int, 1, 1+strings.Count(text, "\n"))
	for i := 0; ; {
		n := strings.IndexByte(text[i:], '\n')
		if n < 0 {
			return lines{text, starts}
		}
		i += n + 1
		starts = append(starts, i)
	}
}

// at is the line, from 0, that byte i stands on.
func (l lines) at(i int) int {
	lo, hi := 0, len(l.starts)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; l.starts[mid] <= i {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// end is the byte after the last of line n, without its LF and CR.
func (l lines) end(n int) int {
	e := len(l.text)
	if n+1 < len(l.starts) {
		e = l.starts[n+1] - 1
	}
	if e > l.starts[n] && l.text[e-1] == '\r' {
		e--
	}
	return e
}
