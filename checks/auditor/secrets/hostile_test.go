package secrets

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/internal/finding"
)

// hostileTexts each begin with a token and go on with what costs the rules most.
func hostileTexts() map[string]string {
	f := newForger(77)
	tok := "gh" + "p_" + f.text(alnum, 36)
	fill := func(unit string, n int) string { return strings.Repeat(unit, n/len(unit)) }
	many := func(n int, unit func() string) string {
		var b strings.Builder
		for b.Len() < n {
			b.WriteString(unit())
		}
		return b.String()
	}
	head := "token=\"" + tok + "\" "
	const n = 128 << 10
	return map[string]string{
		"password= line":   head + fill("password=", n),
		"password=' line":  head + fill("password='", n),
		"password= x line": head + fill("password=x8Kd9 ", n),
		"pwd:lines":        head + "\n" + fill("pwd: q8Wn3ZkT5v\n", n),
		":// line":         head + fill("a://b:c@", n),
		"urls random":      head + many(n, func() string { return "a://u:" + f.text(alnum, 12) + "@db.acme.io/ " }),
		"kty object":       head + fill(`{"kty"`, n),
		"kty d":            head + fill(`"kty" "d":"`+f.text(base64s, 40)+`" `, n),
		"generic lines":    head + "\n" + many(n, func() string { return "apiKey=\"" + f.text(hexes, 20) + "\"\n" }),
		"generic line":     head + many(n, func() string { return "apiKey=\"" + f.text(hexes, 20) + "\";" }),
		"tokens":           head + many(n, func() string { return "gh" + "p_" + f.text(alnum, 36) + "\n" }),
		"tokens line":      head + many(n, func() string { return "gh" + "p_" + f.text(alnum, 36) + " " }),
		"bearer":           head + fill("authorization: bearer ", n),
		"begin":            head + "\n" + fill("-----BEGIN RSA PRIVATE "+"KEY-----\n", n),
		"begin line":       head + fill("-----BEGIN PRIVATE "+"KEY-----abc ", n),
		"base64":           head + many(n, func() string { return f.text(base64s, 4000) + "\n" }),
		"base64 line":      head + many(n, func() string { return f.text(base64s, 4000) }),
		"percent":          head + fill("%41%42", n),
		"hex":              head + fill("41424344", n),
		"connection":       head + fill("AccountKey=;Server=a;Password=b1;", n),
		"sup":              head + fill("SUAM2QXZ7", n),
		"curl":             head + fill("curl -u a:b ", n),
		"newlines":         head + fill("\n", n),
		"kubernetes":       head + "\n" + fill("kind: Secret\ndata:\n  a: ", n),
		"auth":             head + fill(`"auth":"a `, n),
		"key":              head + fill("key=", n),
		"secrettoken":      head + fill("secret_token_key_", n),
		"nul":              head + fill("\x00password=", n),
	}
}

func TestAFileMadeToBeSlowKeepsItsToken(t *testing.T) {
	a := standard(t)
	for name, text := range hostileTexts() {
		ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: "a.txt", Bytes: []byte(text), Seal: testSeal})
		if !slices.ContainsFunc(ds, func(d finding.Draft) bool { return d.Type == "secrets/github-pat" }) {
			t.Errorf("%s: the token is not among %d findings (%v)", name, len(ds), err)
		}
	}
}

// BenchmarkHostile measures the slowest of them at the greatest size that is read.
func BenchmarkHostile(b *testing.B) {
	a := standard(b)
	for name, text := range hostileTexts() {
		text = strings.Repeat(text, (5<<20)/len(text))
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			for b.Loop() {
				_, _ = a.AuditBlob(context.Background(), audit.Blob{Path: "a.txt", Bytes: []byte(text), Seal: testSeal}) // an error says that it gave up
			}
		})
	}
}
