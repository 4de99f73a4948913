package sarif

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// LineHashes are the values of primaryLocationLineHash for each line of a file, in the form in which
// GitHub's code scanning computes them for files uploaded through its action. They recognise an alert again
// when its line has moved, and must come with the file when it is uploaded through the API.
//
// The text is read as UTF-16 units without spaces and tabs; each line end, of whichever kind, is one line
// feed. The hash of a line covers the 100 units from its first one on, over line ends: the polynomial in
// base 37 over those units, modulo 2^64, in hexadecimal. After the last unit stands 65535 once, then zeros.
// ":n" behind the hash counts how often it occurred in the file so far.
//
// A line end ends a line, so that a file that ends in one has a last line without characters.
func LineHashes(content []byte) []string {
	const window = 100
	const base uint64 = 37
	leaving := uint64(1) // base^window
	for range window {
		leaving *= base
	}

	units, starts := hashUnits(content)
	unit := func(i int) uint64 {
		if i < len(units) {
			return uint64(units[i])
		}
		return 0
	}
	var h uint64
	for i := range window {
		h = h*base + unit(i)
	}
	out := make([]string, len(starts))
	seen := make(map[uint64]int, len(starts))
	at := 0
	for line, start := range starts {
		for ; at < start; at++ {
			h = h*base + unit(at+window) - leaving*unit(at)
		}
		seen[h]++
		out[line] = strconv.FormatUint(h, 16) + ":" + strconv.Itoa(seen[h])
	}
	return out
}

// hashUnits are the units that count, with the closing 65535, and the index of each line's first one.
func hashUnits(content []byte) (units []uint16, starts []int) {
	units = make([]uint16, 0, len(content)+1)
	lineStart, afterCR := true, false
	add := func(u uint16) {
		if lineStart {
			starts = append(starts, len(units))
		}
		lineStart = u == '\n'
		units = append(units, u)
	}
	for len(content) > 0 {
		r, n := utf8.DecodeRune(content)
		content = content[n:]
		switch {
		case r == ' ' || r == '\t', r == '\n' && afterCR:
			afterCR = false
		case r == '\r':
			afterCR = true
			add('\n')
		case r > 0xFFFF:
			afterCR = false
			hi, lo := utf16.EncodeRune(r)
			add(uint16(hi))
			add(uint16(lo))
		default:
			afterCR = false
			add(uint16(r))
		}
	}
	add(0xFFFF)
	return units, starts
}
