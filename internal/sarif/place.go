package sarif

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
)

// places turns the locations of one run into paths inside the repository.
type places struct {
	roots     []string // where the code lay when the tool looked at it: absolute, slashes, no final slash
	bases     map[string]artifactLocation
	artifacts []artifactLocation
}

// sourceRoot knows the names that tools give to the top of the source tree. Relative paths under them are
// relative to the repository, whatever absolute address the file gives for that top.
func sourceRoot(base string) bool {
	switch strings.ToUpper(strings.Trim(base, "%")) {
	case "SRCROOT", "SRC_ROOT", "SOURCEROOT", "SOURCE_ROOT", "ROOTPATH", "PROJECTROOT", "PROJECT_ROOT", "REPOROOT", "REPO_ROOT", "WORKSPACE":
		return true
	}
	return false
}

// repositoryURI is what some tools write where a finding is about the repository as a whole.
const repositoryURI = "(repository)"

// learn takes the absolute addresses that the run gives to the top of the source tree as further roots.
func (p *places) learn(root string) {
	if r, ok := absolute(root); ok {
		p.addRoot(r)
	}
	names := make([]string, 0, len(p.bases))
	for n := range p.bases {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if sourceRoot(n) {
			if r, ok := absolute(p.bases[n].URI); ok {
				p.addRoot(r)
			}
		}
	}
}

func (p *places) addRoot(r string) {
	r = strings.TrimRight(r, "/")
	// "file:///" as a root, which Trivy writes, would make every absolute path relative.
	if r != "" && !slices.Contains(p.roots, r) {
		p.roots = append(p.roots, r)
	}
}

// path is the clean path of a location, "" for the repository as a whole.
func (p *places) path(a artifactLocation) (string, error) {
	if a.URI == "" {
		if known, ok := at(p.artifacts, a.Index); ok {
			a = known
		}
	}
	if a.URI == repositoryURI {
		return "", nil
	}
	if abs, ok := absolute(a.URI); ok {
		return p.relative(abs)
	}
	if s := scheme(a.URI); s != "" {
		return "", fmt.Errorf("%q is not a file of the repository but a %q address", cut(a.URI, 120), s)
	}
	rel := decode(a.URI)
	for range 8 {
		if a.Base == "" || sourceRoot(a.Base) {
			return clearPath(rel)
		}
		base, ok := p.bases[a.Base]
		if !ok {
			// Nothing is known of the base: the path is taken as it stands, and if the tree has no such file
			// the caller will say so.
			return clearPath(rel)
		}
		if abs, ok := absolute(base.URI); ok {
			if len(p.roots) == 0 {
				return clearPath(rel)
			}
			return p.relative(strings.TrimRight(abs, "/") + "/" + rel)
		}
		if base.URI != "" {
			rel = strings.TrimRight(decode(base.URI), "/") + "/" + rel
		}
		a.Base = base.Base
	}
	return "", errors.New("the addresses in originalUriBaseIds refer to each other in a circle")
}

func (p *places) relative(abs string) (string, error) {
	for _, root := range p.roots {
		if rest, ok := strings.CutPrefix(abs, root+"/"); ok {
			return clearPath(rest)
		}
		if abs == root {
			return "", nil
		}
	}
	return "", fmt.Errorf("the absolute path %q is not under the folder that the code was in; name that folder as root", cut(abs, 120))
}

func clearPath(p string) (string, error) {
	switch strings.TrimRight(p, "/") {
	case "", ".":
		return "", nil
	}
	return name.CleanPath(p)
}

// scheme is that of an absolute URI; a single letter is a Windows drive, not a scheme.
func scheme(s string) string {
	for i, c := range []byte(s) {
		switch {
		case c == ':' && i > 1:
			return strings.ToLower(s[:i])
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return ""
		}
	}
	return ""
}

// absolute reads "file:///a/b", "/a/b", "C:\a\b" and "file:///C:/a/b" as "/a/b" or "c:/a/b". A file on
// another machine ("file://host/a") is none.
func absolute(s string) (string, bool) {
	if scheme(s) == "file" {
		s = s[len("file:"):]
		if after, ok := strings.CutPrefix(s, "//"); ok {
			s = strings.TrimPrefix(after, "localhost")
		}
		s = decode(s)
		if !strings.HasPrefix(s, "/") && !drive(s) {
			return "", false
		}
	} else {
		s = strings.ReplaceAll(s, `\`, "/")
		if !strings.HasPrefix(s, "/") && !drive(s) {
			return "", false
		}
		s = decode(s)
	}
	if drive(strings.TrimPrefix(s, "/")) {
		s = strings.TrimPrefix(s, "/")
		s = strings.ToLower(s[:1]) + s[1:]
	}
	return s, true
}

func drive(s string) bool {
	return len(s) >= 3 && s[1] == ':' && s[2] == '/' && (s[0]|0x20) >= 'a' && (s[0]|0x20) <= 'z'
}

// decode undoes percent-encoding once and turns backslashes into slashes. An escape that is none stays as it
// is: many tools write paths without encoding them.
func decode(s string) string {
	s = strings.ReplaceAll(s, `\`, "/")
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, ok1 := hexDigit(s[i+1])
			lo, ok2 := hexDigit(s[i+2])
			if ok1 && ok2 {
				b.WriteByte(hi<<4 | lo)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// regionOf makes sense of four numbers of unknown origin: what is not positive is unknown, and a region that
// ends before it starts ends where it starts.
func regionOf(startLine, startColumn, endLine, endColumn number) finding.Region {
	const mostLine, mostColumn = 50_000_000, 10_000_000
	known := func(n number, most int) int {
		if n < 1 || int(n) > most {
			return 0
		}
		return int(n)
	}
	r := finding.Region{
		StartLine: known(startLine, mostLine), StartColumn: known(startColumn, mostColumn),
		EndLine: known(endLine, mostLine), EndColumn: known(endColumn, mostColumn),
	}
	if r.StartLine == 0 {
		return finding.Region{}
	}
	switch {
	case r.EndLine == 0 && r.EndColumn > 0:
		r.EndLine = r.StartLine
	case r.EndLine > 0 && r.EndLine < r.StartLine:
		r.EndLine, r.EndColumn = r.StartLine, 0
	}
	if r.EndLine == r.StartLine && r.EndColumn < r.StartColumn {
		r.EndColumn = 0
	}
	return r
}
