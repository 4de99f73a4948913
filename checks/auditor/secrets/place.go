package secrets

import (
	"path"
	"strings"
)

// place is all that a path may say about a file. Two files of one place and equal bytes have equal results,
// so the place is the cache key, and nothing behind AuditBlob sees the path itself (one exception: an
// operator's own path patterns, see Options.Extra).
type place struct {
	kind  kind
	noise noise
	// test says that the path names tests, fixtures or examples. It hides nothing: a real credential in a fixture
	// has leaked all the same. It halves the confidence of what tests are full of and leaves the formats of
	// providers as they are, see card.issued.
	test bool
}

// kind is the family of a file. At most one applies; the empty one is any other text.
type kind string

const (
	anyText        kind = ""
	config         kind = "config" // key and value files, where a value needs no quotes
	yamlFile       kind = "yaml"   // the same, and Kubernetes
	php            kind = "php"    // the engine has rules for these and YAML alone
	terraform      kind = "tf"
	nuget          kind = "nuget"
	netrc          kind = "netrc"
	pgpass         kind = "pgpass"
	gitCredentials kind = "gitcred"
	htpasswd       kind = "htpasswd"
	keystore       kind = "keystore" // PKCS #12
)

// noise says that a file is full of values that look like secrets and are none. An author chooses the name, so
// it only keeps away the rules that guess: a form that one provider issues, a private key and what is wrong
// wherever it stands (a rule's "everywhere") are looked for in every file.
type noise string

const (
	quiet noise = ""
	// minified is what a build wrote: names beside random values mean nothing there.
	minified noise = "minified"
	// thirdParty is code and lock files that somebody else wrote or a tool generated: digests and identifiers
	// by the thousand.
	thirdParty noise = "third-party"
)

var byBase = map[string]kind{
	".netrc": netrc, "_netrc": netrc,
	".pgpass": pgpass, "pgpass.conf": pgpass,
	".git-credentials": gitCredentials,
	".htpasswd":        htpasswd, "htpasswd": htpasswd,
	"nuget.config": nuget,
	".npmrc":       config, ".yarnrc": config, ".pypirc": config, ".my.cnf": config, ".s3cfg": config, ".boto": config, ".env": config,
	".envrc": config, ".flaskenv": config, "credentials": config, "dockerfile": config, "wp-config.php": php,
}

var byExt = map[string]kind{
	".ini": config, ".cfg": config, ".cnf": config, ".conf": config, ".config": config, ".properties": config, ".env": config,
	".toml": config, ".yml": yamlFile, ".yaml": yamlFile, ".php": php, ".tf": terraform, ".hcl": terraform, ".tfvars": terraform,
	".p12": keystore, ".pfx": keystore,
}

// lockFiles are written by tools.
var lockFiles = set("go.sum", "go.mod", "go.work.sum",
	"package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock", "deno.lock", "bun.lock",
	"pipfile.lock", "poetry.lock", "uv.lock", "pdm.lock", "cargo.lock", "composer.lock", "gemfile.lock", "mix.lock",
	"packages.lock.json", "gradle.lockfile", "verification-metadata.xml", "gradlew", "gradlew.bat", "mvnw", "mvnw.cmd")

var thirdPartyDirs = set("node_modules", "bower_components", "jspm_packages", "site-packages", "dist-packages", ".yarn")

// Below "vendor", a first segment with a dot is a module's host; these are other tools' layouts.
var vendorDirs = set("bundle", "ruby", "cache", "autoload.php", "composer", "modules.txt")

// testDirs are whole names of folders: "testimony" and "contest" are none.
var testDirs = set("test", "tests", "testing", "testdata", "test-data", "test_data", "__tests__", "__test__", "unittest", "unittests",
	"unit-tests", "integration-test", "integration-tests", "integration_tests", "testutil", "testutils", "test-utils", "testhelper", "testhelpers",
	"test-helpers", "test-fixtures", "test_fixtures", "testfixtures", "spec", "specs", "fixture", "fixtures", "__fixtures__",
	"mock", "mocks", "__mocks__", "e2e", "example", "examples", "sample", "samples", "demo", "demos")

func set(words ...string) map[string]bool {
	m := make(map[string]bool, len(words))
	for _, w := range words {
		m[w] = true
	}
	return m
}

// placeOf classifies a path. It compares words and compiles nothing, because it is asked about every file of a
// tree.
func placeOf(p string) (pl place) {
	dir, name := path.Split(p)
	base := strings.ToLower(name)
	ext := path.Ext(base)
	pl.kind = kindOf(base, ext)
	switch {
	case lockFiles[base], ext == ".sum", ext == ".svg":
		pl.noise = thirdParty
	case strings.HasSuffix(base, ".min.js"), strings.HasSuffix(base, ".min.css"), ext == ".map":
		pl.noise = minified
	}
	under := "" // the segment before
	for seg := range strings.SplitSeq(strings.TrimSuffix(strings.ToLower(dir), "/"), "/") {
		switch {
		case thirdPartyDirs[seg], under == "vendor" && (vendorDirs[seg] || strings.Contains(seg, ".")):
			pl.noise = thirdParty
		case testDirs[seg]:
			pl.test = true
		}
		under = seg
	}
	pl.test = pl.test || testFile(strings.TrimSuffix(name, path.Ext(name)), base, ext)
	return pl
}

func kindOf(base, ext string) kind {
	if k, ok := byBase[base]; ok {
		return k
	}
	if strings.HasPrefix(base, ".env.") {
		return config
	}
	return byExt[ext]
}

// testFile knows the names that test runners look for (a_test.go, a.test.ts, test_a.py, a_spec.rb, ATest.java)
// and templates (.env.example). Stem is the name without ext in the case it has.
func testFile(stem, base, ext string) bool {
	switch ext {
	case ".example", ".sample", ".template", ".dist":
		return true
	case ".java", ".kt", ".scala", ".groovy", ".cs", ".swift":
		if strings.HasSuffix(stem, "Test") || strings.HasSuffix(stem, "Tests") {
			return true
		}
	}
	if base == "conftest.py" || strings.HasPrefix(base, "test_") {
		return true
	}
	low := strings.TrimSuffix(base, ext)
	for _, end := range []string{"_test", ".test", ".spec", "_spec", "-test", ".example", ".sample", ".template", ".dist"} {
		if strings.HasSuffix(low, end) {
			return true
		}
	}
	return false
}

func (p place) key() string {
	key := string(p.kind)
	if p.noise != quiet {
		key += "+" + string(p.noise)
	}
	if p.test {
		key += "+test"
	}
	return key
}

// sample is the path the engine is shown in place of the real one, so that its rules for some kinds of file
// apply and nothing else in a path can.
func (p place) sample() string {
	switch p.kind {
	case yamlFile:
		return "file.yaml"
	case php:
		return "file.php"
	case terraform:
		return "file.tf"
	case nuget:
		return "nuget.config"
	}
	return ""
}
