package secrets

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	masked = "***"
	// around is how much of a line is shown on each side of a secret, in bytes.
	around = 96
	// reach is how far to each side the text is masked before it is cut to around: masks change lengths.
	reach = 4 * around
	// gram is the length from which a piece of a secret counts as the secret.
	gram = 8
	// shortest is the length from which a short secret is also masked where it was not found.
	shortest = 4
	// maxGrams bounds the memory that a blob's secrets take; who plants more has a file that is all secret.
	maxGrams = 256 << 10
)

// mask writes the contexts of one text without its secrets. It covers the places where they were found, in
// the encoding they have there, and any other piece of them that happens to stand near.
type mask struct {
	l     lines
	spans []match // merged, by start
	grams map[string]struct{}
	short map[string]struct{} // secrets below gram bytes
}

func newMask(l lines, all []match) *mask {
	k := &mask{l: l, grams: map[string]struct{}{}, short: map[string]struct{}{}}
	spans := slices.Clone(all)
	for i, m := range spans {
		spans[i].start += header(l.text[m.start:m.end])
	}
	// The finders' order is their own; what maxGrams keeps out must not depend on it.
	slices.SortFunc(spans, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end), strings.Compare(a.secret, b.secret))
	})
	learned := map[string]bool{}
	for _, m := range spans {
		if !learned[m.secret] {
			learned[m.secret] = true
			k.learn(m.secret[header(m.secret):])
		}
	}
	for _, s := range spans {
		if n := len(k.spans); n > 0 && s.start <= k.spans[n-1].end {
			k.spans[n-1].end = max(k.spans[n-1].end, s.end)
			continue
		}
		k.spans = append(k.spans, s)
	}
	for _, s := range k.spans {
		k.learn(l.text[s.start:s.end])
	}
	return k
}

// header is the length of the first line of a key in PEM, which says what it is and nothing more.
func header(s string) int {
	if !strings.HasPrefix(s, "-----BEGIN ") {
		return 0
	}
	if n := strings.Index(s[5:], "-----"); n >= 0 && n < 100 {
		return 5 + n + 5
	}
	return 0
}

func (k *mask) learn(secret string) {
	secret, _, _ = strings.Cut(secret, "-----END ")
	if len(secret) < gram {
		if len(secret) >= shortest && len(k.short) < maxGrams {
			k.short[secret] = struct{}{}
		}
		return
	}
	for i := 0; i+gram <= len(secret) && len(k.grams) < maxGrams; i++ {
		k.grams[secret[i:i+gram]] = struct{}{}
	}
}

// context is the line that m starts on, white space as it is, secrets masked, and of a long line only what
// is near. It does not change with the secret's value.
func (k *mask) context(m match) string {
	at := m.start + header(k.l.text[m.start:m.end])
	i, _ := slices.BinarySearchFunc(k.spans, at, func(s match, at int) int { return cmp.Compare(s.end, at+1) })
	span := k.spans[min(i, len(k.spans)-1)]
	first := k.l.at(at)
	left := k.cover(max(k.l.starts[first], span.start-reach), span.start)
	right := ""
	if !strings.Contains(k.l.text[span.start:span.end], "\n") {
		right = k.cover(span.end, min(k.l.end(first), span.end+reach))
	}
	if len(left) > around {
		left = left[len(left)-around:]
		for len(left) > 0 && !utf8.RuneStart(left[0]) {
			left = left[1:]
		}
	}
	if len(right) > around {
		n := around
		for n > 0 && !utf8.RuneStart(right[n]) {
			n--
		}
		right = right[:n]
	}
	return left + masked + right
}

// cover is the text from start to end with everything secret in it masked.
func (k *mask) cover(start, end int) string {
	if start >= end {
		return ""
	}
	raw := k.l.text[start:end]
	hide := make([]bool, len(raw))
	i, _ := slices.BinarySearchFunc(k.spans, start, func(s match, at int) int { return cmp.Compare(s.end, at+1) })
	for ; i < len(k.spans) && k.spans[i].start < end; i++ {
		for n := max(k.spans[i].start, start); n < min(k.spans[i].end, end); n++ {
			hide[n-start] = true
		}
	}
	for n := 0; n+gram <= len(raw); n++ {
		if _, ok := k.grams[raw[n:n+gram]]; ok {
			for j := n; j < n+gram; j++ {
				hide[j] = true
			}
		}
	}
	for n := range raw {
		if n > 0 && encodedByte(raw[n-1]) { // a short one counts as a word of its own only
			continue
		}
		for size := shortest; size < gram && n+size <= len(raw); size++ {
			if n+size < len(raw) && encodedByte(raw[n+size]) {
				continue
			}
			if _, ok := k.short[raw[n:n+size]]; ok {
				for j := n; j < n+size; j++ {
					hide[j] = true
				}
			}
		}
	}
	var b strings.Builder
	for n := range len(raw) {
		switch {
		case !hide[n]:
			b.WriteByte(raw[n])
		case n == 0 || !hide[n-1]:
			b.WriteString(masked)
		}
	}
	return b.String()
}
