package secrets

import (
	"context"
	"strings"
	"unicode/utf8"
)

// MaxMasked is how many bytes of a text Mask gives back; what is longer ends in a mask.
const MaxMasked = 8 << 10

// oneToken is longer than any secret that stands on one line.
const oneToken = 4 << 10

// Mask replaces by "***" every secret that the auditor's rules find in a short text: a title, a message, a line
// of code from another auditor or tool. It masks what would be a finding of this auditor and leaves placeholders
// and everything else alone; a text without secrets comes back as it is. It knows no file, so what only a file's
// name tells (a line of .pgpass or .htpasswd, a line from the middle of a key) stays. Mask a text before you
// shorten it: the half of a token is found by nobody.
//
// Masking what is masked changes nothing. When the engine fails the whole text is masked. Mask may be called
// from several goroutines.
func (a *Auditor) Mask(text string) (out string) {
	defer func() {
		if recover() != nil {
			out = masked
		}
	}()
	if len(text) > MaxMasked {
		var ok bool
		if text, ok = a.maskOnce(text[:MaxMasked-len(masked)]); !ok {
			return masked
		}
		text = shorten(text) + masked
	}
	// Each round shortens the text, and what is next to a mask may look like a secret in the next one.
	for range 16 {
		next, ok := a.maskOnce(text)
		switch {
		case !ok:
			return masked
		case next == text:
			return text
		}
		text = next
	}
	return masked
}

// shorten takes away the end of a text that was cut anywhere: from the last white space or, where there is none,
// as much as a token can take, so that no half of one stays.
func shorten(text string) string {
	end := max(0, len(text)-oneToken)
	if i := strings.LastIndexAny(text[end:], " \t\r\n"); i >= 0 {
		return text[:end+i+1]
	}
	text = text[:end]
	for range utf8.UTFMax - 1 { // half a character
		if r, size := utf8.DecodeLastRuneInString(text); r == utf8.RuneError && size == 1 {
			text = text[:len(text)-1]
		}
	}
	return text
}

func (a *Auditor) maskOnce(text string) (string, bool) {
	found, err := a.own.anywhere().find(context.Background(), text)
	if err != nil {
		return "", false
	}
	more, err := a.finder.find(context.Background(), text, "", false)
	if err != nil {
		return "", false
	}
	found = append(found, more...)
	secret := partOfKey(text)
	for _, m := range found {
		if m.rule == "" && m.end > m.start {
			secret = append(secret, m)
		}
	}
	secret = append(secret, a.choose(text, place{}, false, found)...)
	if len(secret) == 0 {
		return text, true
	}
	return newMask(newLines(text), secret).cover(0, len(text)), true
}

// anywhere gives the rules that need no file around their text.
func (rs rules) anywhere() rules {
	var fit rules
	for _, r := range rs {
		if r.Window != "file" || r.ID == "netrc-password" || r.ID == "git-credentials" {
			fit = append(fit, r)
		}
	}
	return fit
}

// partOfKey finds a private key whose end or beginning was cut off, which no rule takes for one.
func partOfKey(text string) []match {
	begin, end := strings.LastIndex(text, "-----BEGIN "), strings.Index(text, "-----END ")
	var ms []match
	if begin >= 0 && !strings.Contains(text[begin:], "-----END ") && strings.Contains(text[begin:begin+header(text[begin:])], "PRIVATE") && !emptyKey(text[begin:]) {
		ms = append(ms, match{start: begin, end: len(text), secret: text[begin:]})
	}
	if end > 0 && !strings.Contains(text[:end], "-----BEGIN ") && strings.Contains(text[end:min(len(text), end+100)], "PRIVATE") && !emptyKey(text[:end]) {
		ms = append(ms, match{end: end, secret: text[:end]})
	}
	return ms
}
