package secrets

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/internal/finding"
	"pgregory.net/rapid"
)

// leaks returns a piece of the secret, gram bytes or longer, that stands in the drafts, or "". The header of
// a key in PEM is public, and so is what a rule says whatever it found.
func leaks(a *Auditor, ds []finding.Draft, secret string) string {
	ds = slices.Clone(ds)
	for i, d := range ds {
		c := a.card(strings.TrimPrefix(d.Type, "secrets/"))
		if d.Title == c.title && d.Message == c.message && d.Remediation == c.remediation {
			ds[i].Title, ds[i].Message, ds[i].Remediation = "", "", ""
		}
	}
	b, err := json.Marshal(ds)
	if err != nil {
		panic(err)
	}
	shown := string(b)
	secret = secret[header(secret):]
	secret, _, _ = strings.Cut(secret, "-----END ")
	for i := 0; i+gram <= len(secret); i++ {
		quoted, _ := json.Marshal(secret[i : i+gram])
		if strings.Contains(shown, strings.Trim(string(quoted), `"`)) {
			return secret[i : i+gram]
		}
	}
	return ""
}

var clutter = rapid.StringMatching(`[a-zA-Z0-9 =:;,."'(){}<>/+_-]{0,120}`)

func TestNoDraftCarriesASecret(t *testing.T) {
	a := standard(t)
	all := plants()
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.SampledFrom([]string{"a.go", "a.yaml", ".env", "x/b.js", "yarn.lock", ".netrc", "t_test.py"}).Draw(t, "path")
		var secrets []string
		var text strings.Builder
		for range rapid.IntRange(1, 4).Draw(t, "plants") {
			p := all[rapid.IntRange(0, len(all)-1).Draw(t, "kind")]
			secret := p.secret(newForger(rapid.Uint64().Draw(t, "seed")))
			secrets = append(secrets, secret)
			if p.sealed != nil {
				secrets = append(secrets, p.sealed(secret))
			}
			line := fmt.Sprintf(p.line, secret)
			if rapid.Bool().Draw(t, "twice") {
				line += " " + secret[:rapid.IntRange(0, len(secret)).Draw(t, "again")]
			}
			text.WriteString(clutter.Draw(t, "before") + " " + line + clutter.Draw(t, "after"))
			text.WriteString(rapid.SampledFrom([]string{"\n", "\r\n", " ", "\n\n"}).Draw(t, "end"))
		}
		ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: path, Bytes: []byte(text.String()), Seal: testSeal})
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			// Only what was found is known to be secret.
			found := slices.ContainsFunc(ds, func(d finding.Draft) bool { return d.Content == testSeal([]byte(secret)) })
			if piece := leaks(a, ds, secret); found && piece != "" {
				t.Fatalf("%q of a secret is shown in %+v\ntext: %s", piece, ds, text.String())
			}
		}
	})
}

func TestTheContextDoesNotChangeWithTheSecret(t *testing.T) {
	a := standard(t)
	all := plants()
	rapid.Check(t, func(t *rapid.T) {
		p := all[rapid.IntRange(0, len(all)-1).Draw(t, "kind")]
		var contexts, contents []string
		seeds := []uint64{rapid.Uint64().Draw(t, "one"), rapid.Uint64().Draw(t, "two")}
		for _, seed := range seeds {
			secret := p.secret(newForger(seed))
			ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: p.path, Bytes: []byte("first\n" + fmt.Sprintf(p.line, secret) + "\n"), Seal: testSeal})
			if err != nil {
				t.Fatal(err)
			}
			if len(ds) != 1 {
				return // a value that is too plain by chance
			}
			contexts, contents = append(contexts, ds[0].Type+" "+ds[0].Context), append(contents, ds[0].Content)
		}
		if contexts[0] != contexts[1] {
			t.Fatalf("contexts %q and %q", contexts[0], contexts[1])
		}
		if contents[0] == contents[1] && seeds[0] != seeds[1] {
			t.Fatal("two secrets, one content")
		}
	})
}

func TestUnrelatedLinesChangeNoContext(t *testing.T) {
	a := standard(t)
	all := plants()
	say := func(t *rapid.T, path string, blocks []string) []string {
		ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: path, Bytes: []byte(strings.Join(blocks, "")), Seal: testSeal})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, d := range ds {
			out = append(out, d.Type+"|"+d.Context+"|"+d.Content)
		}
		slices.Sort(out)
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		var blocks []string
		for i := range rapid.IntRange(1, 5).Draw(t, "blocks") {
			p := all[rapid.IntRange(0, len(all)-1).Draw(t, "kind")]
			blocks = append(blocks, fmt.Sprintf(p.line, p.secret(newForger(rapid.Uint64().Draw(t, "seed"))))+fmt.Sprintf("\n\nthe end of part %d is here\n\n", i))
		}
		want := say(t, "a.txt", blocks)
		shuffled := rapid.Permutation(blocks).Draw(t, "order")
		if got := say(t, "a.txt", shuffled); !slices.Equal(got, want) {
			t.Fatalf("another order gives\n%q\nwant\n%q", got, want)
		}
		at := rapid.IntRange(0, len(blocks)).Draw(t, "at")
		padded := slices.Insert(slices.Clone(blocks), at, strings.Repeat("a line about nothing in particular\n", rapid.IntRange(0, 4000).Draw(t, "lines")))
		if got := say(t, "a.txt", padded); !slices.Equal(got, want) {
			t.Fatalf("unrelated lines give\n%q\nwant\n%q", got, want)
		}
	})
}

func FuzzAudit(f *testing.F) {
	for i, p := range plants() {
		f.Add(p.path, []byte(fmt.Sprintf(p.line, p.secret(newForger(uint64(i))))+"\n"))
	}
	f.Add("a.txt", []byte("\xff\xfea\x00b"))
	f.Add("k.p12", []byte("0\x82\x01\x02\x02\x01\x03abc"))
	a := standard(f)
	secret := "gh" + "p_" + newForger(99).text(alnum, 36)
	f.Fuzz(func(t *testing.T, path string, b []byte) {
		ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: path, Bytes: b, Seal: testSeal})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			if d.Region.StartLine < 1 || d.Region.StartColumn < 1 || d.Region.EndLine < d.Region.StartLine || d.Region.EndColumn < 1 || len(d.Context) > 2*around+100 {
				t.Fatalf("%+v", d)
			}
		}
		planted := slices.Concat(b, []byte("\n"+secret+"\n"), b)
		ds, err = a.AuditBlob(context.Background(), audit.Blob{Path: path, Bytes: planted, Seal: testSeal})
		if err != nil {
			t.Fatal(err)
		}
		if piece := leaks(a, ds, secret); piece != "" {
			t.Fatalf("%q is shown in %+v", piece, ds)
		}
	})
}
