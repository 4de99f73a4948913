package secrets

import (
	"path"
	"strings"
)

// place is all that a path may say about a file. Two files of one place and equal bytes have equal results,
// so the place is the cache key, and nothing behind AuditBlob sees the path itself (one exception: an
// operator's own path patterns, see Options.Extra).
type place struct {
	kind kind
	// test says that the path names tests, fixtures or examples. It halves the confidence and hides nothing:
	// a real credential in a fixture has leaked all the same.
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
	keystore       kind = "keystore" // PKCS #12, the one binary form that is looked at
	// minified is what a build wrote: keys that it wove in are real leaks, names beside random values mean
	// nothing. The engine's generic rules do not count there.
	minified kind = "minified"
	// thirdParty is code and lock files that somebody else wrote or a tool generated: digests and identifiers
	// by the thousand. The engine's rules stay away from them, ours marked "everywhere" do not: a password
	// in the URL of a private registry ends up in a lock file.
	thirdParty kind = "third-party"
)

var byBase = map[string]kind{
	".netrc": netrc, "_netrc": netrc,
	".pgpass": pgpass, "pgpass.conf": pgpass,
	".git-credentials": gitCredentials,
	".htpasswd":        htpasswd, "htpasswd": htpasswd,
	"nuget.config": nuget,
	"go.sum":       thirdParty, "go.mod": thirdParty, "go.work.sum": thirdParty,
	"package-lock.json": thirdParty, "npm-shrinkwrap.json": thirdParty, "pnpm-lock.yaml": thirdParty, "yarn.lock": thirdParty,
	"deno.lock": thirdParty, "bun.lock": thirdParty,
	"pipfile.lock": thirdParty, "poetry.lock": thirdParty, "uv.lock": thirdParty, "pdm.lock": thirdParty,
	"cargo.lock": thirdParty, "composer.lock": thirdParty, "gemfile.lock": thirdParty, "mix.lock": thirdParty,
	"packages.lock.json": thirdParty, "gradle.lockfile": thirdParty, "verification-metadata.xml": thirdParty,
	"gradlew": thirdParty, "gradlew.bat": thirdParty, "mvnw": thirdParty, "mvnw.cmd": thirdParty,
	".npmrc": config, ".yarnrc": config, ".pypirc": config, ".my.cnf": config, ".s3cfg": config, ".boto": config, ".env": config,
	".envrc": config, ".flaskenv": config, "credentials": config, "dockerfile": config, "wp-config.php": php,
}

var byExt = map[string]kind{
	".ini": config, ".cfg": config, ".cnf": config, ".conf": config, ".config": config, ".properties": config, ".env": config,
	".toml": config, ".yml": yamlFile, ".yaml": yamlFile, ".php": php, ".tf": terraform, ".hcl": terraform, ".tfvars": terraform,
	".p12": keystore, ".pfx": keystore, ".svg": thirdParty,
}

var unread = set(
	// pictures, sound, film
	"bmp", "gif", "jpg", "jpeg", "png", "tif", "tiff", "webp", "ico", "icns", "psd", "avif", "heic", "mp3", "mp4", "m4a", "mov", "avi", "mkv",
	"webm", "ogg", "wav", "flac",
	// fonts
	"eot", "otf", "ttf", "ttc", "woff", "woff2",
	// archives and packages
	"zip", "gz", "tgz", "bz2", "xz", "zst", "7z", "rar", "tar", "jar", "war", "ear", "apk", "aar", "gem", "whl", "nupkg", "deb", "rpm", "dmg",
	"iso", "cab", "msi", "crx",
	// documents in binary containers
	"pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "ods", "odp",
	// compiled code and stored data
	"exe", "dll", "so", "dylib", "a", "o", "obj", "lib", "pdb", "class", "pyc", "pyo", "wasm", "bin", "node", "parquet", "npy", "npz", "pt",
	"onnx", "gltf", "glb", "suo", "vsidx",
)

var thirdPartyDirs = set("node_modules", "bower_components", "jspm_packages", "site-packages", "dist-packages", ".yarn")

// Below "vendor", a first segment with a dot is a module's host; these are other tools' layouts.
var vendorDirs = set("bundle", "ruby", "cache", "autoload.php", "composer", "modules.txt")

// Besides all that begin with "test".
var testDirs = set("__tests__", "spec", "specs", "fixture", "fixtures",
	"__fixtures__", "mock", "mocks", "__mocks__", "example", "examples", "sample", "samples", "demo", "e2e")

func set(words ...string) map[string]bool {
	m := make(map[string]bool, len(words))
	for _, w := range words {
		m[w] = true
	}
	return m
}

// placeOf classifies a path; ok is false for files that hold no text. It compares words and compiles nothing,
// because it is asked about every file of a tree.
func placeOf(p string) (pl place, ok bool) {
	p = strings.ToLower(p)
	dir, base := path.Split(p)
	ext := path.Ext(base)
	if ext != "" && unread[ext[1:]] {
		return place{}, false
	}
	pl.kind = kindOf(base, ext)
	under := "" // the segment before
	for seg := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		switch {
		case thirdPartyDirs[seg], under == "vendor" && (vendorDirs[seg] || strings.Contains(seg, ".")):
			pl.kind = thirdParty
		case testDirs[seg], strings.HasPrefix(seg, "test"):
			pl.test = true
		}
		under = seg
	}
	pl.test = pl.test || testFile(base, ext)
	if pl.kind == thirdParty {
		pl.test = false
	}
	return pl, true
}

func kindOf(base, ext string) kind {
	if k, ok := byBase[base]; ok {
		return k
	}
	if ext == ".sum" {
		return thirdParty
	}
	if strings.HasPrefix(base, ".env.") {
		return config
	}
	if strings.HasSuffix(base, ".min.js") || strings.HasSuffix(base, ".min.css") || strings.HasSuffix(base, ".map") {
		return minified
	}
	return byExt[ext]
}

func testFile(base, ext string) bool {
	stem := strings.TrimSuffix(base, ext)
	for _, end := range []string{"_test", ".test", ".spec", "_spec", "-test", ".example", ".sample", ".template", ".dist"} {
		if strings.HasSuffix(stem, end) {
			return true
		}
	}
	return ext == ".example" || ext == ".sample" || ext == ".template" || ext == ".dist" || strings.HasPrefix(stem, "test_")
}

func (p place) key() string {
	if p.test {
		return string(p.kind) + "+test"
	}
	return string(p.kind)
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
