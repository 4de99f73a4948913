package secrets

import (
	"encoding/base32"
	"encoding/base64"
	"regexp"
	"strings"
	"unicode/utf8"
)

// refusals are what a rule may name to keep harmless values out, by name.
var refusals = map[string]func(string) bool{
	"placeholder": placeholder,
	"reference":   reference,
	"weak":        weak,
	"digest":      digest,
	"prose":       prose,
	"hex":         bareHex,
}

// A template's variable, a call, a path into configuration: the value is elsewhere.
var referencePattern = regexp.MustCompile(`(?i)` + strings.Join([]string{
	`\$\{|\$\(|\{\{|\}\}|<%|%>|#\{|@\{`,                                     // templates of shells, Helm, ERB, Ruby
	`^\$[a-z_]\w*|^\$\d$|^%[a-z_]+%$|^@[a-z_]+@$|^\{\w*\}$|^:\w+$|^\?$`,     // one variable
	`^<.*>$|^\[.*\]$|^\{.*\}$|^\(.*\)$|^__\w+__$`,                           // <password>, [password]
	`%[-+# 0]?\d*[sdvqxT]|\\\(`,                                             // format verbs, Swift's \(…)
	`process\.env|os\.getenv|os\.environ|getenv\(|environ\[|\benv[.\[(]`,    // the environment
	`\bsecrets?\.|\bvars?\.|\blocal\.|\bdata\.|\bvault:|^op://|^arn:|^ssm:`, // stores
	`secretsmanager|keyvault|^ref\+|^enc\[|^enc\(|^\{cipher\}|^!\w+|^ag[a-z0-9+/]{100}`,
	`^[a-z_$][\w$]*(?:\.[a-z_$][\w$]*)+[;,)]*$`, // user.password
	`^[a-z_$][\w$.]*\(`, // call(
	`^&[a-z]|^\*[a-z]+$|^0x[0-9a-f]+$|^null$|^nil$|^none$|^true$|^false$|^undefined$`,
}, "|"))

func reference(s string) bool { return referencePattern.MatchString(s) }

// Published with their key, in documentation or as an emulator's fixed account, and found everywhere since.
var published = []string{
	"EXAMPLEKEY", "IOSFODNN7EXAMPLE",
	"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1", // Azurite, the storage emulator
	"C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEH", // the Cosmos DB emulator
	"eyJzdWIiOiIxMjM0NTY3ODkwIiwibm",   // the token of jwt.io, by its claims
	"QWxhZGRpbjpvcGVu",                 // Aladdin's of RFC 7617
}

func isPublished(s string) bool {
	for _, p := range published {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

// Words that say "not a real one" wherever they stand in a value.
var dummyWords = []string{
	"example", "changeme", "change_me", "change-me", "changeit", "change-it", "change_it", "placeholder", "dummy", "redacted", "replace",
	"xxxx", "****", "....", "••••", "notreal", "not-real", "not_real", "notasecret", "not-a-secret", "not_a_secret", "foobar", "insert-", "insert_",
	"your-", "your_", "yourpass", "yoursecret", "yourtoken", "my-secret", "my_secret", "mysecret", "lorem", "ipsum", "todo", "fixme", "deadbeef",
	"1234567", "7654321", "abcdefg", "qwerty", "letmein", "hunter2", "asdfgh", "-here", "_here", "sample", "00000000", "11111111",
	"opensesame", "aladdin", "correcthorse", "correct-horse", "correct horse", "t0ps3cr3t", "topsecret", "top-secret", "supersecret", "super-secret", "super_secret",
}

// Words of which a value may be made without being anybody's secret, longest first.
var fillers = strings.NewReplacer(fillerPairs("postgresql", "username", "passphrase", "passw0rd", "p@ssw0rd", "p@ssword", "pa55word", "pa$$word",
	"pa$$w0rd", "pass1word", "password", "passwort", "motdepasse", "incorrect", "mismatch", "anonymous", "connection", "database", "testing",
	"postgres", "rabbitmq", "wordpress", "invalid", "correct", "welcome", "private", "mongodb", "default", "credentials", "credential", "passwd",
	"secret", "s3cr3t", "s3cret", "secr3t", "public", "strong", "random", "simple", "string", "github", "gitlab", "docker", "tester", "client",
	"server", "access", "another", "sender", "hidden", "wrong", "admin", "guest", "hello", "world", "login", "super", "mysql", "redis", "mongo",
	"token", "value", "local", "other", "valid", "basic", "bearer", "first", "second", "third", "plain", "short", "pswd", "oauth", "short", "apikey",
	"minio", "grafana", "rootpw", "neo4j", "elastic", "kibana", "vault", "mqtt", "nats",
	"pass", "user", "root", "test", "fake", "mock", "temp", "demo", "name", "auth", "some", "your", "good", "long", "this", "that", "weak", "hash",
	"foo", "bar", "baz", "qux", "abc", "xyz", "new", "old", "the", "not", "bad", "key", "pwd", "tmp", "dev", "app", "api", "has", "for", "and",
	"my", "is", "to", "it", "db", "pw", "id", "of", "or", "an", "in", "me", "in")...)

func fillerPairs(words ...string) []string {
	var pairs []string
	for _, w := range words {
		pairs = append(pairs, w, "")
	}
	return pairs
}

// placeholder reports whether a value stands in for a secret: it names a dummy, repeats itself, or is made of
// filler words and digits ("password123", "test_user_1").
func placeholder(s string) bool {
	if isPublished(s) || encodedDummy(s) {
		return true
	}
	l := strings.ToLower(s)
	for _, w := range dummyWords {
		if strings.Contains(l, w) {
			return true
		}
	}
	var seen [256]bool
	distinct := 0
	for i := range len(l) {
		if !seen[l[i]] {
			seen[l[i]] = true
			distinct++
		}
	}
	if distinct <= min(4, len(s)/2) {
		return true
	}
	rest := fillers.Replace(l)
	letters, digits := 0, 0
	for i := range len(rest) {
		switch c := rest[i]; {
		case 'a' <= c && c <= 'z', c >= utf8.RuneSelf:
			letters++
		case '0' <= c && c <= '9':
			digits++
		}
	}
	return letters <= 2 && (digits <= 4 || len(rest) < len(l))
}

var (
	word       = regexp.MustCompile(`^[A-Za-z]+$|^[a-z]+(?:[-_.:/ ][a-z]+)+$|^[A-Z]+(?:[-_.][A-Z]+)+$|^[A-Za-z]+(?:[._:/-][A-Za-z]+)*[.:;,!?/*]*$`)
	identifier = regexp.MustCompile(`^[A-Za-z_]+\d{0,2}$`)
	filePath   = regexp.MustCompile(`^(?:~|\.{0,2})?/[\w.@-]+(?:/|$)|^[A-Za-z]:\\|^[\w.-]+/[\w.-]+/|\.(?:txt|json|ya?ml|pem|key|crt|conf|env|js|ts|go|py|rb|html?|php|java|sh)$`)
	markup     = regexp.MustCompile(`[<>()\[\]{}` + "`" + `|;]|\\u[0-9A-Fa-f]{4}|[^\x00-\x7F]`) // or a text in some language
)

// weak reports whether a password is a word, an identifier, a path, markup or a text: a label or a reference
// in code. People do choose words, but in source a word after "password" is nearly always a field's name.
func weak(s string) bool {
	return spelled(s) || word.MatchString(s) || identifier.MatchString(s) || filePath.MatchString(s) || markup.MatchString(s) || strings.Contains(s, "://")
}

var segment = regexp.MustCompile(`[A-Z]?[a-z]+|[A-Z]+|\d+|.`)

// spelled reports whether a value reads like an identifier: words of some length, joined by case or
// punctuation, with few digits ("NewEncapsulationKey1024", "PGX_TEST_MD5_DSN"). Random text falls into
// pieces of one or two letters.
func spelled(s string) bool {
	if len(s) > 100 {
		return false
	}
	letters, words, digits := 0, 0, 0
	for _, p := range segment.FindAllString(s, -1) {
		switch c := p[0]; {
		case '0' <= c && c <= '9':
			digits += len(p)
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			letters += len(p)
			words++
		case c != '_' && c != '-' && c != '.' && c != ' ' && c != '/':
			return false
		}
	}
	return words > 0 && digits <= 4 && letters >= 4*words && letters >= 2*digits
}

var digestPattern = regexp.MustCompile(`(?i)^(?:sha\d+|md5|argon2\w*|pbkdf2\w*|scrypt|bcrypt)[-:$_]|^\$(?:2[abxy]?|argon2\w*|[156y]|apr1|pbkdf2[\w-]*|scrypt)\$` +
	`|^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$|^\{(?:ssha|sha|md5|crypt|smd5)[0-9]*\}`)

var hexDigest = regexp.MustCompile(`(?i)^(?:0x)?[0-9a-f]{32,}$`)

// bareHex reports whether a value has the form of a bare digest. Beside "password" that is what it nearly always
// is; beside "key" it is not.
func bareHex(s string) bool { return hexDigest.MatchString(s) }

// digest reports whether a value is a digest or a UUID: made to be shown.
func digest(s string) bool { return digestPattern.MatchString(s) }

// prose reports whether a token is words: it holds no digit, or hardly any beside words.
func prose(s string) bool { return !strings.ContainsAny(s, "0123456789") }

var exampleHost = regexp.MustCompile(`(?i)(?:^|\.)example(?:\.(?:com|org|net|edu))?(?::\d+)?$|\.(?:test|invalid|example)(?::\d+)?$|(?:^|[.-])(?:my|your|some)?(?:host|hostname|server|domain)(?:name)?(?:\.(?:com|org|net|tld))?(?::\d+)?$`)

// documentationHost reports whether a host cannot be anybody's: the names of RFC 2606 and RFC 6761, "hostname", a variable.
func documentationHost(h string) bool {
	return exampleHost.MatchString(h) || strings.ContainsAny(h, "${}<>%") || h == ""
}

var ownHost = regexp.MustCompile(`(?i)^(?:localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|\[?::1\]?|host\.docker\.internal|[a-z0-9_-]+)(?::\d+)?$|\.(?:local|localhost|localdomain)(?::\d+)?$`)

// localHost reports whether a host is this machine or one that only a compose file or cluster resolves.
func localHost(h string) bool { return ownHost.MatchString(h) }

// proof confirms a secret by its own structure and gives what it really says.
type proof func(s string) (secret string, ok bool)

var proofs = map[string]proof{"basic": basic, "nkey": nkey, "key-bytes": keyBytes}

// basic opens the base 64 of "user:password" as in HTTP Basic.
func basic(s string) (string, bool) {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil || !utf8.Valid(b) || isPublished(s) {
		return "", false
	}
	user, password, ok := strings.Cut(string(b), ":")
	for _, r := range string(b) {
		if r < ' ' || r == 0x7F || r == utf8.RuneError {
			return "", false
		}
	}
	if !ok || len(password) < 4 || user == password || placeholder(password) || reference(password) {
		return "", false
	}
	return password, true
}

// nkey checks the CRC-16 (XMODEM) that ends every NATS NKEY.
func nkey(s string) (string, bool) {
	b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(s)
	if err != nil || len(b) != 36 {
		return "", false
	}
	var crc uint16
	for _, c := range b[:34] {
		crc ^= uint16(c) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return s, b[34] == byte(crc) && b[35] == byte(crc>>8)
}

// keyBytes accepts base 64 URL text of at least 128 bits that is not one byte over and over.
func keyBytes(s string) (string, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return s, err == nil && len(b) >= 16 && entropy(s) > 3
}

// encodedDummy reports whether a value is a placeholder in base 64.
func encodedDummy(s string) bool {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil || len(b) < 6 {
		return false
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return placeholder(string(b)) || reference(string(b))
}

var statementPattern = regexp.MustCompile(`--mount=type=secret,|import[ \t]+\{[ \t\w,]+\}[ \t]+from[ \t]+['"][^'"]+['"]`)

// statement reports whether a match stands in an import of names or the mount of a secret, where names that say
// "key" or "token" stand beside others. Of a long line it sees what is near.
func statement(text string, m match) bool {
	from, to := max(0, m.start-beyond), min(len(text), m.end+beyond)
	if i := strings.LastIndexByte(text[from:m.start], '\n'); i >= 0 {
		from += i + 1
	}
	if i := strings.IndexByte(text[m.end:to], '\n'); i >= 0 {
		to = m.end + i
	}
	return statementPattern.MatchString(text[from:to])
}

// embedded reports whether a match is a stretch of a longer run of base 64: data that happens to contain the
// letters of a token's prefix. A token whose alphabet has more than base 64 cannot be, and one that fills a
// segment between slashes stands in a path.
func embedded(text string, m match) bool {
	for i := m.start; i < m.end; i++ {
		if !base64Byte(text[i]) {
			return false
		}
	}
	start, end := m.start, m.end
	for start > 0 && m.start-start < object && base64Byte(text[start-1]) {
		start--
	}
	for end < len(text) && end-m.end < object && base64Byte(text[end]) {
		end++
	}
	if (start == m.start || text[m.start-1] == '/') && (end == m.end || text[m.end] == '/') {
		return false
	}
	return end-start-(m.end-m.start) >= 18 && entropy(text[start:m.start]+text[m.end:end]) > 3.5
}

func base64Byte(c byte) bool {
	return c == '+' || c == '/' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// wrapping is what stands between the lines of a key: white space, also written as an escape, and the marks of
// a text that is put together from one string per line.
var wrapping = regexp.MustCompile(`[\s\x00]|\\+[nrt]?|["'` + "`" + `,;]\s*[+.]?\s*["'` + "`" + `]`)

var keyBody = regexp.MustCompile(`[A-Za-z0-9+/=]{38,}`)

// emptyKey reports whether what stands between a private key's header and footer holds no key: an ellipsis in
// a document, a parser's own strings, an armoured public part. Keys may be wrapped at any column.
func emptyKey(s string) bool {
	s = s[header(s):]
	if n := strings.LastIndex(s, "-----END"); n >= 0 {
		s = s[:n]
	}
	total := 0
	for _, run := range keyBody.FindAllString(wrapping.ReplaceAllString(s, ""), -1) {
		if !mixed(run) {
			continue // prose without its spaces
		}
		for len(run) > 0 { // a dummy's letters may occur in a long one by chance
			n := min(64, len(run))
			if !placeholder(run[:n]) {
				total += n
			}
			run = run[n:]
		}
	}
	return total < 40
}

// mixed reports whether a text has digits, small and capital letters, as 38 characters of base 64 nearly always
// have.
func mixed(s string) bool {
	return strings.ContainsAny(s, "0123456789") && strings.ToLower(s) != s && strings.ToUpper(s) != s
}
