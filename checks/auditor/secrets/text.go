package secrets

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// view is one way to read a file as text.
type view struct {
	text string
	// binary says that the text is what is printable in data: only rules that know a secret by its form apply.
	binary bool
}

// sniff is how many bytes decide about an encoding that no byte order mark names.
const sniff = 8 << 10

// views gives the ways to read a file, decided by its content alone. Nearly every file has one, its bytes. In
// UTF-16 and UTF-32, marked or not, the characters are read; a text with a NUL here or there is still a text.
//
// Wherever there are NULs or a mark, the printable stretches of the bytes are searched as well: a mark that
// lies, a file in two encodings and an image, archive or program hide nothing that stands in them as it is.
// What is compressed or encrypted is not opened.
//
// Line numbers are those of the file in each view. Bytes that are not UTF-8 stay as they are: a key is ASCII
// whatever surrounds it.
func views(b []byte) []view {
	if text, ok := decode(b); ok {
		return []view{{text: text}, {text: printable(b), binary: true}}
	}
	if bytes.IndexByte(b, 0) < 0 {
		return []view{{text: string(b)}}
	}
	controls := 0
	for _, c := range b {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != 0x1B {
			controls++
		}
	}
	if controls <= 4 || controls < len(b)/32 {
		return []view{{text: string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))}, {text: printable(b), binary: true}}
	}
	return []view{{text: printable(b), binary: true}}
}

// decode reads UTF-32 and UTF-16, by a byte order mark or by the places of NULs.
func decode(b []byte) (text string, ok bool) {
	little, big := binary.LittleEndian, binary.BigEndian
	switch {
	case bytes.HasPrefix(b, []byte{0xFF, 0xFE, 0, 0}): // before UTF-16: its mark begins this one
		return fromUTF32(b[4:], little), true
	case bytes.HasPrefix(b, []byte{0, 0, 0xFE, 0xFF}):
		return fromUTF32(b[4:], big), true
	case bytes.HasPrefix(b, []byte{0xFF, 0xFE}):
		return fromUTF16(b[2:], little), true
	case bytes.HasPrefix(b, []byte{0xFE, 0xFF}):
		return fromUTF16(b[2:], big), true
	}
	head := b[:min(len(b), sniff)]
	if len(head) < 8 || bytes.IndexByte(head, 0) < 0 {
		return "", false
	}
	var nuls [4]int
	for i, c := range head {
		if c == 0 {
			nuls[i%4]++
		}
	}
	quarter := len(head) / 4
	most := func(n ...int) bool {
		for _, i := range n {
			if nuls[i] < quarter*3/4 {
				return false
			}
		}
		return true
	}
	few := func(n ...int) bool {
		for _, i := range n {
			if nuls[i] > quarter/16 {
				return false
			}
		}
		return true
	}
	switch {
	case most(1, 2, 3) && few(0):
		return fromUTF32(b, little), true
	case most(0, 1, 2) && few(3):
		return fromUTF32(b, big), true
	case most(1, 3) && few(0, 2):
		return fromUTF16(b, little), true
	case most(0, 2) && few(1, 3):
		return fromUTF16(b, big), true
	}
	return "", false
}

func fromUTF16(b []byte, order binary.ByteOrder) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

func fromUTF32(b []byte, order binary.ByteOrder) string {
	var text strings.Builder
	text.Grow(len(b) / 4)
	for ; len(b) >= 4; b = b[4:] {
		text.WriteRune(rune(order.Uint32(b))) // what is no character becomes U+FFFD
	}
	return text.String()
}

// stretch is how many printable characters in a row count in data. Random bytes hold one such row in 100,000;
// no secret with a form of its own is shorter.
const stretch = 12

// printable gives the rows of printable ASCII in data, of one, two or four bytes a character, and all its ends
// of lines.
func printable(b []byte) string {
	var out []byte
	for i := 0; i < len(b); {
		if !printing(b[i]) {
			i++
			continue
		}
		step := 1
		switch {
		case i+2 < len(b) && b[i+1] == 0 && printing(b[i+2]):
			step = 2
		case i+4 < len(b) && b[i+1] == 0 && b[i+2] == 0 && b[i+3] == 0 && printing(b[i+4]):
			step = 4
		}
		from, n := len(out), 0
		for {
			out = append(out, b[i])
			n++
			if i+step >= len(b) || !printing(b[i+step]) || step > 1 && !zero(b[i+1:i+step]) {
				i++
				break
			}
			i += step
		}
		if n >= stretch {
			out = append(out, ' ')
			continue
		}
		short := out[from:]
		out = out[:from]
		for range bytes.Count(short, []byte{'\n'}) {
			out = append(out, '\n')
		}
	}
	return string(out)
}

func printing(c byte) bool { return ' ' <= c && c <= '~' || c == '\n' || c == '\t' || c == '\r' }

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// keyStore reports whether a file begins as PKCS #12 does: a SEQUENCE of the INTEGER 3 and data of PKCS #7.
func keyStore(b []byte) bool {
	return len(b) > 20 && b[0] == 0x30 && bytes.Contains(b[:8], []byte{2, 1, 3, 0x30}) &&
		bytes.Contains(b[:min(len(b), 40)], []byte{0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7})
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
