package secrets

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/internal/finding"
)

func pat(seed uint64) string { return "gh" + "p_" + newForger(seed).text(alnum, 36) }

func wide16(order binary.AppendByteOrder, s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return string(b)
}

func wide32(order binary.AppendByteOrder, s string) string {
	var b []byte
	for _, r := range s {
		b = order.AppendUint32(b, uint32(r))
	}
	return string(b)
}

func says(ds []finding.Draft, rule, secret string) *finding.Draft {
	for i, d := range ds {
		if d.Type == "secrets/"+rule && d.Content == testSeal([]byte(secret)) {
			return &ds[i]
		}
	}
	return nil
}

func TestNoEncodingHidesAToken(t *testing.T) {
	a := standard(t)
	secret := pat(5)
	text := "first line of it\r\ntoken = \"" + secret + "\"\r\nlast\r\n"
	little, big := binary.LittleEndian, binary.BigEndian
	noise := newForger(6)
	random := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(noise.IntN(256))
		}
		return strings.ReplaceAll(string(b), "\n", "x")
	}
	for name, c := range map[string]struct {
		body string
		line int // 0: it is not known
	}{
		"a NUL before":                {"a\x00b " + text, 2},
		"a NUL at the end":            {text + "\x00", 2},
		"UTF-16 little, no mark":      {wide16(little, text), 2},
		"UTF-16 big, no mark":         {wide16(big, text), 2},
		"UTF-16 mark before ASCII":    {"\xff\xfe" + text, 2},
		"UTF-16 mark, odd":            {"\xff\xfe\x00" + wide16(big, text), 0},
		"UTF-32 little":               {wide32(little, "\uFEFF"+text), 2},
		"UTF-32 big":                  {wide32(big, "\uFEFF"+text), 2},
		"UTF-32 little, no mark":      {wide32(little, text), 2},
		"UTF-32 big, no mark":         {wide32(big, text), 2},
		"UTF-32 mark before UTF-16":   {"\xff\xfe\x00\x00" + wide16(little, text), 0},
		"UTF-32 mark before ASCII":    {"\xff\xfe\x00\x00" + text, 2},
		"ASCII, then UTF-16":          {strings.Repeat("plain text here\n", 2000) + wide16(little, text), 2002},
		"UTF-16, then ASCII":          {wide16(big, strings.Repeat("plain text here\n", 2000)) + text, 0},
		"a program":                   {"\x7fELF\x00" + random(5000) + "\x00" + text + random(5000), 2},
		"an image with a text in it":  {"\x89PNG\r\n\x1a\n\x00" + random(3000) + text, 0},
		"a picture's first bytes":     {"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + text, 2},
		"an archive's first bytes":    {"PK\x03\x04\x00\x00" + text, 2},
		"UTF-16 text in a program":    {"MZ\x00" + random(3000) + wide16(little, text) + random(3000), 0},
		"beside bytes of other texts": {"gr\xfc\xdfe\x00 \n" + text[18:], 2},
	} {
		d := says(auditText(t, a, "a.txt", c.body), "github-pat", secret)
		switch {
		case d == nil:
			t.Errorf("%s: not found", name)
		case c.line > 0 && d.Region.StartLine != c.line:
			t.Errorf("%s: on line %d, want %d", name, d.Region.StartLine, c.line)
		}
	}
}

func TestNoNameHidesAPreciseForm(t *testing.T) {
	a := standard(t)
	f := newForger(9)
	secret, key, pw := pat(8), f.pem("RSA "+"PRIVATE"), f.password()
	text := "t = \"" + secret + "\"\n" + key + "\nu = \"amqp:" + "//app:" + pw + "@mq.acme.io/\"\n"
	for _, path := range []string{
		"a.bin", "notes.doc", "a.gltf", "logo.svg", "deploy.sum", "go.mod", "go.sum", "gradlew", "mvnw.cmd", "yarn.lock", "package-lock.json", "a.png", "x.zip", "f.woff2",
		"node_modules/x/index.js", ".yarn/cache/x.js", "vendor/x.y/a.go", "vendor/bundle/x.rb", "site-packages/x.py", "a.min.js", "a.js.map", "k.p12", "x.wasm", "a.exe",
		"a/.git/x", "verification-metadata.xml", "vendor/modules.txt", ".netrc", "x.pfx",
	} {
		ds := auditText(t, a, path, text)
		for rule, value := range map[string]string{"github-pat": secret, "private-key": key, "url-credentials": pw} {
			if says(ds, rule, value) == nil {
				t.Errorf("%s: %s is not found", path, rule)
			}
		}
	}
	if ds := auditText(t, a, "node_modules/a/.netrc", "machine api.acme.io login bot password "+pw+"\n"); says(ds, "netrc-password", pw) == nil {
		t.Error(".netrc in third-party code is not found")
	}
}

func TestGuessesStayOutOfNoise(t *testing.T) {
	a := standard(t)
	f := newForger(10)
	text := `apiKey = "q9` + f.text(hexes, 30) + `7z"` + "\n" + `dbPassword = "` + f.password() + "\"\n"
	for _, path := range []string{"yarn.lock", "node_modules/a/b.js", "a.min.js", "go.sum", "logo.svg"} {
		if ds := auditText(t, a, path, text); len(ds) != 0 {
			t.Errorf("%s: got %+v", path, ds)
		}
	}
	if ds := auditText(t, a, "a.js", text+strings.Repeat("\x00\x01\x02\x03", 100)); len(ds) != 0 {
		t.Errorf("data: got %+v", ds)
	}
	if ds := auditText(t, a, "a.js", text+"\x00"); len(ds) != 2 {
		t.Errorf("text with a NUL: got %+v, want both", ds)
	}
}

func TestAKeyStoreIsFoundUnderAnyName(t *testing.T) {
	store := "0\x82\x05\x10\x02\x01\x030\x82\x04\xd6\x06\x09*\x86H\x86\xf7\x0d\x01\x07\x01\x00" + newForger(4).text(alnum, 300)
	if ds := auditText(t, standard(t), "assets/data.dat", store); len(ds) != 1 || ds[0].Type != "secrets/pkcs12-file" {
		t.Errorf("got %+v", ds)
	}
}

func TestAPrivateKeyMayBeWrappedAnyhow(t *testing.T) {
	a := standard(t)
	f := newForger(13)
	body := "MII" + f.text(base64s, 1600)
	begin, end := "-----BEGIN RSA PRIVATE "+"KEY-----", "-----END RSA PRIVATE "+"KEY-----"
	wrap := func(columns int, between string) string {
		var lines []string
		for chunk := range slices.Chunk([]byte(body), columns) {
			lines = append(lines, string(chunk))
		}
		return begin + between + strings.Join(lines, between) + between + end
	}
	for name, text := range map[string]string{
		"64": wrap(64, "\n"), "32": wrap(32, "\n"), "8": wrap(8, "\n"), "1": wrap(1, "\n"), "CRLF": wrap(32, "\r\n"), "blank lines": wrap(16, "\n\n"), "indented": wrap(32, "\n      "),
		"spaces": wrap(32, " "), "escaped": wrap(32, `\n`), "escaped twice": wrap(32, `\\n`), "strings": wrap(32, "\" +\n\t\""), "continued": wrap(32, "\\\n"), "one line": wrap(len(body), "\n"),
	} {
		if ds := auditText(t, a, "a.txt", "k = \""+text+"\"\n"); !slices.ContainsFunc(ds, func(d finding.Draft) bool { return d.Type == "secrets/private-key" }) {
			t.Errorf("wrapped by %s: not found", name)
		}
	}
	prose := begin + "\nyour own private key goes here between these two lines and nobody else should ever get to see it\n" + end
	if ds := auditText(t, a, "a.md", prose); len(ds) != 0 {
		t.Errorf("prose: got %+v", ds)
	}
}

func TestAnAccessKeyInAPathIsFoundAndOneInsideDataIsNot(t *testing.T) {
	a := standard(t)
	f := newForger(14)
	key := "AK" + "IA" + f.text(upper, 16)
	for _, line := range []string{
		"https://bucket.s3.amazonaws.com/uploads/2024/" + key, "https://s3.acme.io/" + f.text(hexes, 40) + "/" + key + "/x", "/data/backups/of/the/production/" + key, "?id=" + key,
	} {
		if says(auditText(t, a, "a.md", "see "+line+"\n"), "aws-access-token", key) == nil {
			t.Errorf("%s: not found", line)
		}
	}
	if ds := auditText(t, a, "a.md", f.text(base64s, 60)+"+"+key+"/"+f.text(base64s, 60)+"\n"); len(ds) != 0 {
		t.Errorf("inside base 64: got %+v", ds)
	}
}

func TestAFolderNameDoesNotLowerWhatAProviderIssued(t *testing.T) {
	a := standard(t)
	f := newForger(15)
	key, pw := f.pem("PRIVATE"), f.password()
	for _, c := range []struct {
		path, rule, text, secret string
		want                     finding.Confidence
	}{
		{"tests/a.go", "github-pat", pat(1), pat(1), 950},
		{"testdata/a.go", "github-pat", pat(1), pat(1), 950},
		{"testimony/a.go", "private-key", key, key, 950},
		{"deploy/a.pem", "private-key", key, key, 950},
		{"testdata/a.pem", "private-key", key, key, 475},
		{"testimony/a.go", "url-credentials", "amqp:" + "//app:" + pw + "@mq.acme.io/", pw, 800},
		{"tests/a.go", "url-credentials", "amqp:" + "//app:" + pw + "@mq.acme.io/", pw, 400},
	} {
		d := says(auditText(t, a, c.path, "x = \""+c.text+"\"\n"), c.rule, c.secret)
		if d == nil || d.Confidence != c.want {
			t.Errorf("%s: %s: got %+v, want confidence %s", c.path, c.rule, d, c.want)
		}
	}
}

func TestFilesThatLogInAreReadToTheirEnd(t *testing.T) {
	a := standard(t)
	pw := newForger(16).password()
	for path, line := range map[string]string{
		".netrc": "machine api.acme.io login bot password " + pw, ".pgpass": "pg.acme.io:5432:*:app:" + pw, ".git-credentials": "https:" + "//bot:" + pw + "@git.acme.io",
	} {
		ds := auditText(t, a, path, strings.Repeat("# nothing of interest\n", 40_000)+line+"\n")
		if len(ds) != 1 || ds[0].Content != testSeal([]byte(pw)) {
			t.Errorf("%s: got %+v", path, ds)
		}
	}
}

// hostile are texts of about n bytes that cost much, each with a token before and after.
func hostile(n int) map[string]string {
	f := newForger(77)
	first, last := "token=\""+pat(1)+"\" ", "\n\""+pat(2)+"\"\n"
	fill := func(unit string) string { return first + strings.Repeat(unit, n/len(unit)) + last }
	many := func(unit func() string) string {
		var b strings.Builder
		for b.Len() < n {
			b.WriteString(unit())
		}
		return first + b.String() + last
	}
	password := "pass" + "word"
	return map[string]string{
		"assignments":         fill(password + "="),
		"open quotes":         fill(password + "='"),
		"values":              fill(password + "=x8Kd9 "),
		"keywords":            fill("passpass="),
		"schemes":             fill("://"),
		"addresses":           many(func() string { return "a:" + "//u:" + f.text(alnum, 12) + "@db.acme.io/ " }),
		"key types":           fill(`"kty"`),
		"random values":       many(func() string { return "apiKey=\"" + f.text(hexes, 20) + "\";" }),
		"random values, rows": many(func() string { return "apiKey=\"" + f.text(hexes, 20) + "\"\n" }),
		"dull values":         fill("key=aaaaaaaaaa\n"),
		"encoded values":      fill(base64.StdEncoding.EncodeToString([]byte("api_"+"key=abcdefghijk")) + " "),
		"logins":              fill("curl -u a:b "),
		"base 64":             many(func() string { return f.text(base64s, 4000) }),
		"percents":            fill("%41%42"),
		"servers":             fill("Server=a;User Id=b;" + password + "=c1;"),
	}
}

func TestATextMadeToBeSlowLosesNoTokenAndSaysWhatItLeftOut(t *testing.T) {
	a := standard(t)
	for name, text := range hostile(1 << 20) {
		ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: "a.yaml", Bytes: []byte(text), Seal: testSeal})
		if says(ds, "github-pat", pat(1)) == nil || says(ds, "github-pat", pat(2)) == nil {
			t.Errorf("%s: a token is lost (%d drafts, %v)", name, len(ds), err)
		}
		if len(ds) > MaxDrafts || err != nil && !errors.Is(err, ErrTooMany) && !errors.As(err, new(errCrowded)) {
			t.Errorf("%s: %d drafts, %v", name, len(ds), err)
		}
	}
}

func TestOneRuleOnOneTextCostsABoundedNumberOfSteps(t *testing.T) {
	for name, text := range hostile(2 << 20) {
		low := lower(text)
		for _, r := range own() {
			s := search{rule: r, text: text}
			for _, word := range r.Keywords {
				s.around(context.Background(), low, word)
			}
			if s.work > maxWork+2*(before+beyond+2*object) {
				t.Errorf("%s: %s took %d steps", name, r.ID, s.work)
			}
		}
	}
}

// ending is a context that ends after being asked so often.
type ending struct {
	context.Context
	mu   sync.Mutex
	left int
}

func (e *ending) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left--; e.left < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

func TestWhatWasFoundBeforeTheContextEndedIsKept(t *testing.T) {
	a := standard(t)
	secret := pat(3)
	text := "t = \"" + secret + "\"\n" + strings.Repeat("a line about nothing in particular\n", 30_000)
	ctx := &ending{Context: context.Background(), left: 1 << 30}
	if _, err := a.AuditBlob(ctx, audit.Blob{Path: "a.go", Bytes: []byte(text), Seal: testSeal}); err != nil {
		t.Fatal(err)
	}
	asked := 1<<30 - ctx.left
	ds, err := a.AuditBlob(&ending{Context: context.Background(), left: asked - 3}, audit.Blob{Path: "a.go", Bytes: []byte(text), Seal: testSeal})
	if !errors.Is(err, context.DeadlineExceeded) || says(ds, "github-pat", secret) == nil {
		t.Errorf("got %+v and %v, want the token and the error", ds, err)
	}
}

func TestOfMoreThanAThousandFindingsTheGraverComeFirst(t *testing.T) {
	a := standard(t)
	f := newForger(18)
	var b strings.Builder
	for range 1200 {
		b.WriteString("dbPassword = \"" + f.password() + "\"\n")
	}
	secret := pat(4)
	b.WriteString("t = \"" + secret + "\"\n")
	ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: "a.go", Bytes: []byte(b.String()), Seal: testSeal})
	if !errors.Is(err, ErrTooMany) || len(ds) != MaxDrafts || says(ds, "github-pat", secret) == nil {
		t.Errorf("%d drafts, %v: want %d with the token among them, and ErrTooMany", len(ds), err, MaxDrafts)
	}
	if !slices.IsSortedFunc(ds, func(x, y finding.Draft) int { return x.Region.StartLine - y.Region.StartLine }) {
		t.Error("not in the order of the file")
	}
}
