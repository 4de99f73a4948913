package secrets

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/internal/finding"
)

var _ audit.BlobAuditor = (*Auditor)(nil)

func testSeal(secret []byte) string {
	h := hmac.New(sha256.New, []byte("a key of the tests"))
	h.Write(secret)
	return hex.EncodeToString(h.Sum(nil))
}

func standard(t testing.TB) *Auditor {
	t.Helper()
	a, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func auditText(t testing.TB, a *Auditor, path, text string) []finding.Draft {
	t.Helper()
	ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: path, Bytes: []byte(text), Seal: testSeal})
	if err != nil {
		t.Fatalf("audit %s: %v", path, err)
	}
	return ds
}

// Secrets are made at run time from parts, so that none stands in this repository.
const (
	alnum   = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	small   = "abcdefghijklmnopqrstuvwxyz0123456789"
	hexes   = "0123456789abcdef"
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	base64s = alnum + "+/"
)

type forger struct{ *rand.Rand }

func newForger(seed uint64) forger { return forger{rand.New(rand.NewPCG(seed, 7))} }

func (f forger) text(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[f.IntN(len(alphabet))]
	}
	return string(b)
}

func (f forger) pem(kind string) string {
	var b strings.Builder
	b.WriteString("-----BEGIN " + kind + " KEY-----\n")
	for range 12 {
		b.WriteString("MII" + f.text(base64s, 61) + "\n")
	}
	return b.String() + f.text(base64s, 30) + "==\n-----END " + kind + " KEY-----"
}

func (f forger) jwt() string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc([]byte(`{"sub":"`+f.text(alnum, 20)+`","iss":"acme"}`)) + "." + f.text(alnum, 43)
}

func (f forger) nkey() string {
	raw := []byte{18<<3 | 20<<3>>5, 0}
	for range 32 {
		raw = append(raw, byte(f.IntN(256)))
	}
	var crc uint16
	for _, c := range raw {
		crc ^= uint16(c) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	raw = binary.LittleEndian.AppendUint16(raw, crc)
	return base32Text(raw)
}

func base32Text(b []byte) string {
	var out strings.Builder
	bits, n := 0, 0
	for _, c := range b {
		bits, n = bits<<8|int(c), n+8
		for n >= 5 {
			out.WriteByte(upper[bits>>(n-5)&31])
			n -= 5
		}
	}
	if n > 0 {
		out.WriteByte(upper[bits<<(5-n)&31])
	}
	return out.String()
}

// password is what a generator makes: letters, digits and a symbol.
func (f forger) password() string { return f.text(alnum, 7) + "7" + f.text(small, 4) + "k9" }

type plant struct {
	rule     string
	severity finding.Severity
	path     string
	line     string // "%s" is where the secret stands
	secret   func(f forger) string
	sealed   func(secret string) string // what Content seals, if not the secret
}

func fixed(prefix, alphabet string, n int, suffix string) func(forger) string {
	return func(f forger) string { return prefix + f.text(alphabet, n) + suffix }
}

func plants() []plant {
	basicAuth := func(f forger) string {
		return base64.StdEncoding.EncodeToString([]byte("deploy:" + f.password()))
	}
	opened := func(s string) string {
		b, _ := base64.StdEncoding.DecodeString(s)
		_, p, _ := strings.Cut(string(b), ":")
		return p
	}
	return []plant{
		{rule: "aws-access-token", severity: finding.High, path: "main.go", line: `key := "%s"`, secret: fixed("AK"+"IA", upper, 16, "")},
		{rule: "aws-secret-access-key", severity: finding.High, path: "conf/credentials", line: `aws_secret_access_key = %s`, secret: fixed("", base64s, 40, "")},
		{rule: "github-pat", severity: finding.High, path: "a.py", line: `token = '%s'`, secret: fixed("gh"+"p_", alnum, 36, "")},
		{rule: "github-oauth", severity: finding.High, path: "a.py", line: `token = '%s'`, secret: fixed("gh"+"o_", alnum, 36, "")},
		{rule: "github-app-token", severity: finding.High, path: "README.md", line: `use %s here`, secret: fixed("gh"+"s_", alnum, 36, "")},
		{rule: "github-fine-grained-pat", severity: finding.High, path: "x.sh", line: `export T=%s`, secret: fixed("github"+"_pat_", alnum, 82, "")},
		{rule: "gitlab-pat", severity: finding.High, path: ".gitlab-ci.yml", line: `  TOKEN: %s`, secret: fixed("gl"+"pat-", alnum, 20, "")},
		{rule: "slack-bot-token", severity: finding.High, path: "app.js", line: `const t = "%s";`, secret: func(f forger) string {
			return "xo" + "xb-" + f.text("0123456789", 12) + "-" + f.text("0123456789", 12) + "-" + f.text(alnum, 24)
		}},
		{rule: "slack-webhook-url", severity: finding.High, path: "notify.rb", line: `url = "%s"`, secret: fixed("https://hooks.slack"+".com/services/T", alnum, 44, "")},
		{rule: "stripe-access-token", severity: finding.High, path: "pay.ts", line: `stripe("%s")`, secret: fixed("sk_"+"live_", alnum, 24, "")},
		{rule: "sendgrid-api-token", severity: finding.High, path: "mail.cs", line: `var k = "%s";`, secret: fixed("SG"+".", alnum+"_-", 66, "")},
		{rule: "npm-access-token", severity: finding.High, path: ".npmrc", line: `//registry.npmjs.org/:_authToken=%s`, secret: fixed("np"+"m_", small, 36, "")},
		{rule: "pypi-upload-token", severity: finding.High, path: ".pypirc", line: `password = %s`, secret: fixed("pypi-AgEIcHlwaS5"+"vcmc", alnum, 60, "")},
		{rule: "shopify-access-token", severity: finding.High, path: "shop.php", line: `$t = '%s';`, secret: fixed("shp"+"at_", hexes, 32, "")},
		{rule: "digitalocean-pat", severity: finding.High, path: "main.tf", line: `token = "%s"`, secret: fixed("do"+"p_v1_", hexes, 64, "")},
		{rule: "huggingface-access-token", severity: finding.High, path: "m.py", line: `login("%s")`, secret: fixed("h"+"f_", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 34, "")},
		{rule: "gcp-api-key", severity: finding.High, path: "a.swift", line: `let key = "%s"`, secret: fixed("AI"+"za", alnum, 35, "")},
		{rule: "age-secret-key", severity: finding.High, path: "keys.txt", line: `%s`, secret: fixed("AGE-SECRET-"+"KEY-1", "QPZRY9X8"+"GF2TVDW0"+"S3JN54KH"+"CE6MUA7L", 58, "")},
		{rule: "databricks-api-token", severity: finding.High, path: "job.py", line: `t = "%s"`, secret: fixed("da"+"pi", hexes, 32, "")},
		{rule: "linear-api-key", severity: finding.High, path: "l.ts", line: `key: "%s"`, secret: fixed("lin_"+"api_", alnum, 40, "")},
		{rule: "private-key", severity: finding.High, path: "deploy/id_rsa", line: `%s`, secret: func(f forger) string { return f.pem("RSA " + "PRIVATE") }},
		{rule: "private-key", severity: finding.High, path: "sa.json", line: `{"private_key": "%s\n"}`, secret: func(f forger) string { return strings.ReplaceAll(f.pem("PRIVATE"), "\n", `\n`) }},
		{rule: "jwt", severity: finding.Medium, path: "x.http", line: `Cookie: s="%s"`, secret: forger.jwt},
		{rule: "generic-api-key", severity: finding.Medium, path: "a.go", line: `apiKey := "%s"`, secret: fixed("q9", hexes, 30, "7z")},
		{rule: "url-credentials", severity: finding.High, path: "docker-compose.yml", line: `  DATABASE_URL: postgres://app:%s@db7.acme.io:5432/app`, secret: forger.password},
		{rule: "url-credentials", severity: finding.High, path: "yarn.lock", line: `  resolved "https://ci:%s@npm.acme.io/left-pad.tgz"`, secret: forger.password},
		{rule: "url-credentials", severity: finding.High, path: "a/.git/config.txt", line: `url = https://bot:%s@git.acme.io/x.git`, secret: forger.password},
		{rule: "authorization-basic", severity: finding.High, path: "call.http", line: `Authorization: Basic %s`, secret: basicAuth, sealed: opened},
		{rule: "authorization-bearer", severity: finding.Medium, path: "client.rb", line: `h["Authorization"] = "Bearer %s"`, secret: fixed("x7", alnum, 30, "2q")},
		{rule: "password-assignment", severity: finding.Medium, path: "Db.java", line: `String dbPassword = "%s";`, secret: forger.password},
		{rule: "password-assignment", severity: finding.Medium, path: "pom.xml", line: `<password>%s</password>`, secret: forger.password},
		{rule: "password-assignment", severity: finding.Medium, path: "run.sh", line: `mysql --password=%s shop`, secret: forger.password},
		{rule: "password-in-configuration", severity: finding.Medium, path: "application.properties", line: `spring.mail.password=%s`, secret: forger.password},
		{rule: "password-in-configuration", severity: finding.Medium, path: "values.yaml", line: `  adminPassword: %s`, secret: forger.password},
		{rule: "connection-string", severity: finding.High, path: "appsettings.json", line: `"Db": "Server=sql.acme.io;Database=s;User Id=app;Password=%s;"`, secret: forger.password},
		{rule: "azure-shared-key", severity: finding.High, path: "a.cs", line: `"AccountName=acme;AccountKey=%s;EndpointSuffix=core.windows.net"`, secret: fixed("", base64s, 86, "==")},
		{rule: "npm-registry-token", severity: finding.High, path: ".npmrc", line: `//npm.acme.io/:_authToken=%s`, secret: fixed("", hexes, 31, "a")},
		{rule: "registry-auth", severity: finding.High, path: "docker/config.json", line: `{"auths":{"ghcr.io":{"auth":"%s"}}}`, secret: basicAuth, sealed: opened},
		{rule: "jwk-private-key", severity: finding.High, path: "jwks.json", line: `{"kty":"EC","crv":"P-256","d":"%s"}`, secret: fixed("", alnum+"_-", 43, "")},
		{rule: "nkey-seed", severity: finding.High, path: "nats.conf", line: `nkey: "%s"`, secret: forger.nkey},
		{rule: "netrc-password", severity: finding.High, path: ".netrc", line: `machine api.acme.io login bot password %s`, secret: forger.password},
		{rule: "pgpass-password", severity: finding.High, path: "home/.pgpass", line: `pg.acme.io:5432:*:app:%s`, secret: forger.password},
		{rule: "git-credentials", severity: finding.High, path: ".git-credentials", line: `https://bot:%s@git.acme.io`, secret: forger.password},
		{rule: "htpasswd-hash", severity: finding.Medium, path: ".htpasswd", line: `admin:%s`, secret: fixed("$apr1$", alnum, 30, "")},
	}
}

func TestPlantedSecretsAreFoundWhereTheyStand(t *testing.T) {
	a := standard(t)
	for _, p := range plants() {
		t.Run(p.rule+" in "+p.path, func(t *testing.T) {
			secret := p.secret(newForger(11))
			line := fmt.Sprintf(p.line, secret)
			ds := auditText(t, a, p.path, "# a first line\n\n"+line+"\n# and a last one\n")
			if len(ds) != 1 {
				t.Fatalf("drafts: %+v, want one of %s", ds, p.rule)
			}
			d := ds[0]
			if d.Type != "secrets/"+p.rule || d.Severity != p.severity || d.Focus != "security" || d.Evidence != finding.Deterministic {
				t.Errorf("got %s %s %s %s, want %s %s", d.Type, d.Severity, d.Focus, d.Evidence, p.rule, p.severity)
			}
			column := strings.Index(line, secret) + 1
			want := finding.Region{StartLine: 3, StartColumn: column, EndLine: 3, EndColumn: column + len(secret)}
			if n := strings.Count(secret, "\n"); n > 0 {
				want.EndLine += n
				want.EndColumn = len(secret) - strings.LastIndex(secret, "\n")
			}
			if d.Region != want {
				t.Errorf("region %+v, want %+v", d.Region, want)
			}
			sealed := secret
			if p.sealed != nil {
				sealed = p.sealed(secret)
			}
			if d.Content != testSeal([]byte(sealed)) {
				t.Errorf("content seals something else than the secret")
			}
			if d.Title == "" || d.Message == "" || d.Remediation == "" || len(d.CWE) == 0 || d.Confidence == 0 || !strings.Contains(d.Context, masked) {
				t.Errorf("says too little: %+v", d)
			}
		})
	}
}

func TestHarmlessValuesAreNotFound(t *testing.T) {
	a := standard(t)
	for _, c := range []struct{ path, text string }{
		{"a.go", `password := "password"`},
		{"a.go", "if s.MaxConcurrentUploadsNumber != nil {"},
		{"a.js", "exports.airtableApiRequest = airtableApiRequestV2;"},
		{"a.go", `password := os.Getenv("DB_PASSWORD")`},
		{"a.go", `const passwordEnv = "APP_DB_PASSWORD_V2"`},
		{"a.go", `monkey := "f81d4fae7dec11d0a76500a0c91e6bf6"`},
		{"a.go", `publicKey = "f81d4fae7dec11d0a76500a0c91e6bf6"`},
		{"a.go", `keyboardLayout = "qwertz-2024-layout-de"`},
		{"a.go", `id := "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"`},
		{"a.go", `apiKey := "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"`},
		{"a.go", `NewKey: "NewEncapsulationKey1024",`},
		{"a.go", "dsn := \"postgres://postgres:postgres@localhost:5432/postgres\""},
		{"a.go", "dsn := \"postgres://user:pass@localhost/db\""},
		{"a.go", `fmt.Sprintf("amqp://%s:%s@%s", user, pass, host)`},
		{"a.js", `const token = process.env.ACCESS_TOKEN_SECRET;`},
		{"a.js", "fetch(url, {headers: {Authorization: `Bearer ${token}`}})"},
		{"a.js", `Authorization: Bearer <your-access-token-123456>`},
		{"a.html", `<input type="password" name="password" placeholder="Password123">`},
		{"i18n/de.json", `"password": "Passwort"`},
		{"i18n/en.json", `"passwordTooShort": "Use-at-least-8-characters"`},
		{"v.yaml", `password: {{ .Values.password | quote }}`},
		{"v.yaml", `passwordSecretRef: db-credentials-2`},
		{"v.yaml", `password: ENC[AES256_GCM,data:8sQz2Lw9XkV4]`},
		{".env.example", `DB_PASSWORD=changeme123`},
		{".env", `DB_PASSWORD=${VAULT_DB_PASSWORD}`},
		{"index.html", `<script integrity="sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC"></script>`},
		{"package-lock.json", `"integrity": "sha512-AKIAIOSFODNN7QWERTY2uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wCuykM6R9GqQ8Kuxy9rx7HNQ=="`},
		{"go.sum", `github.com/acme/x v1.0.0 h1:oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQ=`},
		{"README.md", `curl -u user:password https://api.acme.io`},
		{"README.md", `curl -H "Authorization: Bearer YOUR_TOKEN_HERE" https://api.acme.io`},
		{"README.md", "-----BEGIN PRIVATE " + "KEY-----\n...\n-----END PRIVATE " + "KEY-----\n and much more text follows here so that it is long enough"},
		{"pem.go", "const begin = \"-----BEGIN PRIVATE " + "KEY-----\"\nconst end = \"-----END PRIVATE " + "KEY-----\"\nfunc parse(b []byte) (key *Key, err error) { return nil, nil }"},
		{"t.md", "token: eyJhbG" + "ciOiJIUzI1NiIs" + "InR5cCI6IkpXVCJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"},
		{"aws.md", "aws_access_key_id = AKIAIOSFODNN7" + "EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY"},
		{"s.yaml", "kind: Secret\ndata:\n  password: cGFzc3dvcmQ=\n"},
		{"x.cs", `public string Password { get; set; }`},
		{"x.py", `def login(self, password: str = None, token: Optional[str] = None):`},
		{"x.sql", `ALTER USER app WITH PASSWORD 'postgres';`},
		{"x.sh", `PASSWORD="$(openssl rand -hex 16)"`},
		{"x.sh", `read -s PASSWORD && export PASSWORD`},
		{"d.md", "see https://example.com/a:b@c and ssh://git@github.com:22/x.git"},
	} {
		if ds := auditText(t, a, c.path, c.text+"\n"); len(ds) > 0 {
			t.Errorf("%s: %s\nfound as %s, context %q", c.path, c.text, ds[0].Type, ds[0].Context)
		}
	}
}

func TestOneSecretIsOneFindingUnderTheMostSpecificRule(t *testing.T) {
	a := standard(t)
	f := newForger(3)
	pat, pw := "gh"+"p_"+f.text(alnum, 36), f.password()
	for _, c := range []struct{ line, want string }{
		{`Authorization: Bearer ` + pat, "github-pat"},
		{`https://x-access-token:` + pat + `@github.com/acme/x.git`, "github-pat"},
		{`password = "` + pat + `"`, "github-pat"},
		{`curl -H "Authorization: Bearer ` + f.text(alnum, 30) + `9" https://api.acme.io`, "authorization-bearer"},
		{`DATABASE_PASSWORD_URL = "postgres://app:` + pw + `@db.acme.io/app"`, "url-credentials"},
	} {
		ds := auditText(t, a, "a.rb", c.line+"\n")
		if len(ds) != 1 || ds[0].Type != "secrets/"+c.want {
			t.Errorf("%s: got %+v, want one of %s", c.line, ds, c.want)
		}
	}
}

func TestAnEncodedSecretIsFoundAndItsEncodedFormMasked(t *testing.T) {
	a := standard(t)
	secret := "gh" + "p_" + newForger(5).text(alnum, 36)
	for name, encode := range map[string]func([]byte) string{
		"base64": base64.StdEncoding.EncodeToString,
		"hex":    hex.EncodeToString,
		"twice": func(b []byte) string {
			return base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString(b)))
		},
	} {
		encoded := encode([]byte("token=" + secret))
		ds := auditText(t, a, "a.txt", "first\nvalue: "+encoded+" end\n")
		if len(ds) != 1 || ds[0].Type != "secrets/github-pat" || ds[0].Content != testSeal([]byte(secret)) {
			t.Errorf("%s: got %+v", name, ds)
			continue
		}
		if ds[0].Context != "value: *** end" {
			t.Errorf("%s: context %q", name, ds[0].Context)
		}
		if want := (finding.Region{StartLine: 2, StartColumn: 8, EndLine: 2, EndColumn: 8 + len(encoded)}); ds[0].Region != want {
			t.Errorf("%s: region %+v, want %+v", name, ds[0].Region, want)
		}
	}
}

func TestNothingInTheCodeUnderAuditSilencesAFinding(t *testing.T) {
	a := standard(t)
	secret := "gh" + "p_" + newForger(5).text(alnum, 36)
	for _, path := range []string{"a.go", "gitleaks.toml", ".gitleaks.toml", "LICENSE", "vendored/a.go", "src/angular.js", "x/@octokit/auth-token/README.md"} {
		ds := auditText(t, a, path, "t = \""+secret+"\" // gitleaks"+":allow noxaudit:ignore\n")
		if len(ds) != 1 {
			t.Errorf("%s: %d findings, want 1", path, len(ds))
		}
	}
}

func TestTestsAndLocalHostsHalveTheConfidenceAndHideNothing(t *testing.T) {
	a := standard(t)
	line := `url = "postgres://app:` + newForger(9).password() + `@%s/app"` + "\n"
	for _, c := range []struct {
		path, host string
		want       finding.Confidence
	}{
		{"a.go", "db.acme.io", 800}, {"a_test.go", "db.acme.io", 400}, {"testdata/a.go", "db.acme.io", 400},
		{"a.go", "localhost", 400}, {"a.go", "postgres", 400}, {"a_test.go", "localhost", 400},
	} {
		ds := auditText(t, a, c.path, fmt.Sprintf(line, c.host))
		if len(ds) != 1 || ds[0].Confidence != c.want || ds[0].Severity != finding.High {
			t.Errorf("%s, %s: got %+v, want high with confidence %s", c.path, c.host, ds, c.want)
		}
	}
}

func TestTwoSecretsOnALineMaskEachOther(t *testing.T) {
	f := newForger(21)
	one, two := "gh"+"p_"+f.text(alnum, 36), "gl"+"pat-"+f.text(alnum, 20)
	ds := auditText(t, standard(t), "a.txt", "from "+one+" to "+two+" and "+one[:20]+"… again\n")
	if len(ds) != 2 {
		t.Fatalf("got %+v, want two", ds)
	}
	for _, d := range ds {
		if d.Context != "from *** to *** and ***… again" {
			t.Errorf("context %q", d.Context)
		}
	}
}

func TestAPrivateKeyShowsItsHeaderOnly(t *testing.T) {
	ds := auditText(t, standard(t), "k.pem", "\n"+newForger(2).pem("EC "+"PRIVATE")+"\n")
	if len(ds) != 1 || ds[0].Context != "-----BEGIN EC "+"PRIVATE KEY-----***" {
		t.Fatalf("got %+v", ds)
	}
}

func TestAnEncodingHidesNoToken(t *testing.T) {
	a := standard(t)
	line := "first\r\nt = " + "gh" + "p_" + newForger(5).text(alnum, 36) + "\r\n"
	for name, order := range map[string]binary.AppendByteOrder{"little": binary.LittleEndian, "big": binary.BigEndian} {
		var b []byte
		for _, u := range utf16.Encode([]rune("\uFEFF" + line)) {
			b = order.AppendUint16(b, u)
		}
		ds := auditText(t, a, "a.ps1", string(b))
		if len(ds) != 1 || ds[0].Region.StartLine != 2 || ds[0].Region.StartColumn != 5 {
			t.Errorf("%s endian: got %+v, want one on line 2, column 5", name, ds)
		}
	}
	program := "\x7fELF\x02\x01\x01\x00\x03\x00\x3e\x00\x01\x00\x00\x00" + strings.Repeat("\x00\x01\x02\x03", 64)
	if ds := auditText(t, a, "a.dat", program+line); len(ds) != 1 {
		t.Errorf("a token in data: got %+v, want one", ds)
	}
	if ds := auditText(t, a, "a.dat", program+"password = \""+newForger(6).password()+"\""); len(ds) != 0 {
		t.Errorf("a guess in data: got %+v, want none", ds)
	}
	if ds := auditText(t, a, "latin1.txt", "gr\xfc\xdfe\n"+line); len(ds) != 1 {
		t.Errorf("Latin-1: got %+v, want one", ds)
	}
}

func TestALongLineIsSearchedToItsEndAndShownInPart(t *testing.T) {
	secret := "gh" + "p_" + newForger(5).text(alnum, 36)
	pw := newForger(6).password()
	fill := strings.Repeat("function(a,b){return a+b};var passwordField=input.value;", 20_000)
	text := fill + secret + fill + `"redis://:` + pw + `@cache.acme.io:6379"` + fill
	ds := auditText(t, standard(t), "bundle.js", text)
	if len(ds) != 2 || ds[0].Type != "secrets/github-pat" || ds[1].Type != "secrets/url-credentials" {
		t.Fatalf("got %d drafts: %+v", len(ds), ds)
	}
	for _, d := range ds {
		if len(d.Context) > 2*around+len(masked) {
			t.Errorf("context of %d bytes", len(d.Context))
		}
	}
}

func TestSecretsAtTheSeamsOfPiecesAreFoundOnce(t *testing.T) {
	a := standard(t)
	f := newForger(8)
	pat, key := "gh"+"p_"+f.text(alnum, 36), f.pem("RSA "+"PRIVATE")
	line := "just some text that fills the file and is of no interest\n"
	for _, secret := range []string{pat, key} {
		for _, at := range []int{piece - overlap - 5000, piece - overlap, piece - 3000, piece - 20, piece} {
			head := strings.Repeat(line, at/len(line)) + strings.Repeat("x", at%len(line)) + " "
			ds := auditText(t, a, "a.txt", head+secret+"\n"+strings.Repeat(line, 4000))
			if len(ds) != 1 || ds[0].Content != testSeal([]byte(secret)) {
				t.Errorf("at %d: %d drafts, want the whole secret once", at, len(ds))
			}
		}
	}
}

func TestMinifiedCodeLeaksTokensAndNotRandomValues(t *testing.T) {
	f := newForger(12)
	pat, value := "gh"+"p_"+f.text(alnum, 36), f.text(hexes, 30)+"7z"
	text := `var a={token:"` + pat + `"},b={apiKey:"` + value + `"};`
	if ds := auditText(t, standard(t), "dist/app.min.js", text); len(ds) != 1 || ds[0].Type != "secrets/github-pat" {
		t.Errorf("got %+v, want the token alone", ds)
	}
	if ds := auditText(t, standard(t), "src/app.js", text); len(ds) != 2 {
		t.Errorf("in source: got %+v, want both", ds)
	}
}

func TestAKeyStoreIsAFindingAndABinaryOfThatNameIsNot(t *testing.T) {
	a := standard(t)
	body := newForger(4).text(alnum, 300)
	ds := auditText(t, a, "tls/server.p12", "0\x82\x05\x10\x02\x01\x03\x00"+body)
	if len(ds) != 1 || ds[0].Type != "secrets/pkcs12-file" || ds[0].Context != masked {
		t.Errorf("got %+v", ds)
	}
	if ds := auditText(t, a, "tls/server.p12", "\x89PNG\x00"+body); len(ds) != 0 {
		t.Errorf("another binary: got %+v", ds)
	}
}

func TestThisPackageIsCleanUnderItsOwnRules(t *testing.T) {
	a := standard(t)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, d := range auditText(t, a, "checks/auditor/secrets/"+path, string(text)) {
			t.Errorf("%s:%d: %s: %s", path, d.Region.StartLine, d.Type, d.Context)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadsTellsApartWhatMattersAndNothingElse(t *testing.T) {
	a := standard(t)
	for path, want := range map[string]string{
		"main.go": "", "deep/er/main.rs": "", "a.yaml": "yaml", "b/c.yml": "yaml", "x/.env.local": "config", "App.PROPERTIES": "config",
		"go.sum": "+third-party", "web/node_modules/a/index.js": "+third-party", "vendor/github.com/a/b.go": "+third-party", "a.min.js": "+minified", "app.js.map": "+minified",
		"a.png": "", "b/C.JPG": "", "x.tar.gz": "", "a.exe": "", "testimony/prod.py": "", "\u0130.go": "",
		"pnpm-lock.yaml": "yaml+third-party", "node_modules/x/.netrc": "netrc+third-party", "tests/yarn.lock": "+third-party+test",
		"vendor/mine.go": "", "a_test.go": "+test", "testdata/x.yaml": "yaml+test", "src/test/java/A.java": "+test", "index.php": "php", "main.tf": "tf",
		".netrc": "netrc", "home/.pgpass": "pgpass", "k.p12": "keystore", "NuGet.Config": "nuget", ".env.example": "config+test",
	} {
		if got, ok := a.Reads(path); got != want || !ok {
			t.Errorf("Reads(%s) = %q, %t, want %q", path, got, ok, want)
		}
	}
}

func TestOnlyWholeNamesOfFoldersAndFilesAreTests(t *testing.T) {
	for path, want := range map[string]bool{
		"test/a.go": true, "a/tests/b.py": true, "testdata/k.pem": true, "test-data/k": true, "__tests__/a.js": true, "spec/a.rb": true, "fixtures/a": true,
		"e2e/a.ts": true, "examples/x/a.go": true, "demo/a": true, "TESTS/a": true,
		"a_test.go": true, "a.test.ts": true, "test_a.py": true, "a_spec.rb": true, "a.spec.js": true, "conftest.py": true, "AddressTest.java": true, ".env.example": true,
		"testimony/a.go": false, "testosterone/a.go": false, "contest/a.go": false, "latest/a.go": false, "attest/a.go": false, "specials/a.go": false,
		"protest.go": false, "latest.java": false, "testing.go": false, "demographics/a.go": false, "sampler/a.go": false,
	} {
		if got := placeOf(path).test; got != want {
			t.Errorf("%s: test %t, want %t", path, got, want)
		}
	}
}

func TestEqualKeysGiveEqualResults(t *testing.T) {
	a := standard(t)
	paths := []string{"main.go", "x/y.rs", "a.yaml", "b/c.yml", ".env", "x.ini", "a_test.go", "testdata/b.c", "index.php", "f.tf", "yarn.lock", "go.sum", "vendor/a.b/c.go", ".netrc", "z/_netrc",
		"a.png", "b.bin", "c.min.js", "d.map", "tests/e.go", "tests/yarn.lock", "vendor/a.b/testdata/c.go", "testimony/a.go"}
	byKey := map[string]string{}
	for _, path := range paths {
		var all strings.Builder
		for _, p := range plants() {
			all.WriteString(fmt.Sprintf(p.line, p.secret(newForger(4))) + "\n")
		}
		key, _ := a.Reads(path)
		got := fmt.Sprintf("%+v", auditText(t, a, path, all.String()))
		if was, ok := byKey[key]; ok && was != got {
			t.Errorf("%s: key %q, other result than an equal file with that key", path, key)
		}
		byKey[key] = got
	}
}

func TestACancelledAuditIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := standard(t).AuditBlob(ctx, audit.Blob{Path: "a.go", Bytes: []byte("password = 'x'\n"), Seal: testSeal})
	if err == nil {
		t.Fatal("want an error: the file was not assessed")
	}
}

func TestEveryExampleOfOurRulesHolds(t *testing.T) {
	a := standard(t)
	for _, r := range own() {
		ex := r.Examples
		if r.ID != "nkey-seed" && len(ex.Found) == 0 || len(ex.Clean) == 0 { // seeds are made at run time
			t.Errorf("%s: wants examples of both kinds", r.ID)
		}
		for _, field := range []string{r.Title, r.Motivation, r.Remediation} {
			if field == "" || strings.Contains(field, "§") {
				t.Errorf("%s: title, motivation and remediation must say something", r.ID)
			}
		}
		for _, e := range ex.Found {
			text, want, path := drop(e.Text), drop(e.Secret), cmp.Or(e.Path, "main.go")
			got := a.choose(text, placeOf(path), false, ownMatches(t, path, text))
			if len(got) != 1 || got[0].rule != r.ID || got[0].secret != want || got[0].doubt != e.Doubt {
				t.Errorf("%s: %s: %s\n got %+v\nwant %s", r.ID, path, text, got, want)
			}
		}
		for _, e := range ex.Clean {
			text, path := drop(e.Text), cmp.Or(e.Path, "main.go")
			if got := ownMatches(t, path, text); len(got) != 0 {
				t.Errorf("%s: %s: %s\n got %+v, want nothing", r.ID, path, text, got)
			}
		}
	}
}

func drop(s string) string { return strings.ReplaceAll(s, "§", "") }

func ownMatches(t *testing.T, path, text string) []match {
	t.Helper()
	ms, err := own().in(placeOf(path), false).find(context.Background(), text)
	if err != nil {
		t.Fatal(err)
	}
	return ms
}
