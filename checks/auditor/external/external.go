// Package external takes over the results of programs that are not part of noxaudit, in SARIF: from a file
// that a pipeline made (NewFile), or from a command that an operator configured (NewCommand).
//
// # What a file says about a tree it was not made for
//
// A pipeline runs its tools on the head of a pull request, once. The product compares a head with a base, and
// asks each auditor about both. Asked about the base, a File answers from the text: a result that stands on a
// line of the head exists at the base if the base's version of that file holds the same line, white space
// aside. Old problems in lines that nobody touched are then old, and moved lines stay old.
//
// Three rules keep that from excusing something new:
//
//   - Where a line's text occurs more often at the head than in the other tree, the lines with results count
//     as the added ones first.
//   - A result about a whole file (no line, or the empty region 1:1 to 1:1 that scanners of lock files write)
//     exists only where the file is the same, byte for byte.
//   - A result about the repository exists only in the very tree that the file was made for.
//
// What no text can tell: a result in an untouched line that a change elsewhere brought about counts as old. A
// pipeline that also has its tools' results for the base hands them over (Base); nothing is then concluded from
// text for that tree. A Command is run on both trees and needs none of this.
//
// # Secrets
//
// Results of secret scanners point at secrets. The text they point at is masked in the finding's context and
// cut out of its messages; it leaves only as the keyed digest that audit.Seal makes.
package external

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/sarif"
)

// version changes whenever equal input could give other findings.
const version = "2"

// Options are what an operator says about a tool's results.
type Options struct {
	Focus    []string         // the focus areas that the tool decides, the main one first; empty: "security"
	Evidence finding.Evidence // what its results rest on; "": deterministic

	// IncludeSuppressed makes findings of results that the tool's file marks as suppressed outside of the code.
	// Without it they are left out, and each file that has some is reported as a gap. Results that a comment in
	// the code suppresses are findings in any case: a pull request must not silence its own gate.
	IncludeSuppressed bool

	// Root is the absolute folder that the code was in when the tool looked at it, for files with absolute
	// paths. Commands know it themselves.
	Root string
}

func (o Options) draft() sarif.DraftOptions {
	return sarif.DraftOptions{Focus: o.Focus, Evidence: o.Evidence}
}

func (o Options) focus() []string {
	if len(o.Focus) == 0 {
		return []string{"security"}
	}
	return slices.Clone(o.Focus)
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

func checkName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("external auditor %q: want a name of lower-case letters, digits and hyphens, such as semgrep", name)
	}
	return nil
}

func configDigest(v any) (string, error) {
	b, err := canon.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("external auditor: configuration: %w", err)
	}
	return canon.Digest(b), nil
}

// text identifies the text of a line, white space folded.
type text [sha256.Size]byte

func textOf(folded string) text { return sha256.Sum256([]byte(folded)) }

// anchor is a result tied to the tree that it was made for.
type anchor struct {
	path  string
	draft finding.Draft // columns in bytes; Context masked, or empty where only a digest may stand there
	kind  kind
	line  int    // of onLine: the line whose text identifies it
	text  text   // of onLine
	blob  string // the file's object id

	secret []byte // to be sealed; nil when the result is not about a secret
	sealed bool   // the context is a digest of secret
}

type kind uint8

const (
	onRepository kind = iota
	onFile
	onLine
)

// drafted is the finished draft. Seal may be nil where nothing is stored; then secrets have no digest.
func (a anchor) drafted(seal audit.Seal) audit.Placed {
	d := a.draft
	if a.secret != nil {
		digest := ""
		if seal != nil {
			digest = seal(a.secret)
		}
		d.Content = digest
		if a.sealed {
			d.Context = mask
			if digest != "" {
				d.Context = "line " + digest[:min(16, len(digest))]
			}
		}
	}
	return audit.Placed{Path: a.path, Draft: d}
}

const mask = "***"

// made are the results of one document, tied to the tree that they were made for.
type made struct {
	tree    string // its id
	anchors []anchor
	gaps    []audit.Gap
	// lines counts, per file, how often each text stands there that a result stands on.
	lines map[string]map[text]int
}

// errNoRun is about a document that no tool has put its name to.
var errNoRun = errors.New("the SARIF document holds no run: no tool looked at anything")

// tie ties a document's results to the tree they were made for. An error means that the document does not
// count as a look at the code.
func tie(ctx context.Context, log *sarif.Log, t *source.Snapshot, o Options) (*made, error) {
	if len(log.Runs) == 0 {
		return nil, errNoRun
	}
	m := &made{tree: t.ID(), lines: map[string]map[text]int{}}
	type placed struct {
		sarif.Result
		columns sarif.ColumnKind
	}
	byPath := map[string][]placed{}
	for _, run := range log.Runs {
		if run.Failed != "" {
			return nil, fmt.Errorf("%s: %s", run.Tool, run.Failed)
		}
		for _, g := range run.Gaps {
			m.gaps = append(m.gaps, audit.Gap{Path: g.Path, Reason: g.Reason})
		}
		for path, n := range run.Suppressed {
			m.gaps = append(m.gaps, audit.Gap{Path: path, Reason: fmt.Sprintf("%s: %d suppressed in the tool's own results", run.Tool, n)})
		}
		for _, r := range run.Results {
			byPath[r.Path] = append(byPath[r.Path], placed{r, run.Columns})
		}
	}
	why := map[string]string{}
	for _, s := range t.Skipped() {
		why[s.Path] = s.Reason
	}
	for _, p := range slices.Sorted(maps.Keys(byPath)) {
		if p == "" {
			for _, r := range byPath[p] {
				m.anchors = append(m.anchors, whole(r.Result, "", o))
			}
			continue
		}
		e, ok := t.Lookup(p)
		if !ok {
			reason := "a result points at a file that is not in this tree"
			if w, ok := why[p]; ok {
				reason = "a result points at a file that is left out: " + w
			}
			m.gaps = append(m.gaps, audit.Gap{Path: p, Reason: reason})
			continue
		}
		f, err := open(ctx, t, e)
		if err != nil {
			return nil, err
		}
		beyond, first := false, len(m.anchors)
		for _, r := range byPath[p] {
			a, inside := f.anchor(r.Result, r.columns, o)
			beyond = beyond || !inside
			m.anchors = append(m.anchors, a)
		}
		if beyond {
			m.gaps = append(m.gaps, audit.Gap{Path: p, Reason: fmt.Sprintf("a result points beyond the file's %d lines: it was made for another state of the code", len(f.lines))})
		}
		protect(m.anchors[first:])
		m.count(p, f)
	}
	m.gaps = merged(m.gaps)
	return m, nil
}

// repository stands in a gap for a place that has no path. An empty path would say that the auditor could not
// do its work at all; one result that points out of the repository must not undo all the others.
const repository = "(repository)"

// merged are the same gaps with one for each path, sorted.
func merged(gaps []audit.Gap) []audit.Gap {
	const most = 3
	by := map[string][]string{}
	for _, g := range gaps {
		if g.Path == "" {
			g.Path = repository
		}
		if !slices.Contains(by[g.Path], g.Reason) {
			by[g.Path] = append(by[g.Path], g.Reason)
		}
	}
	var out []audit.Gap
	for _, p := range slices.Sorted(maps.Keys(by)) {
		why := by[p]
		reason := strings.Join(why[:min(most, len(why))], "; ")
		if n := len(why) - most; n > 0 {
			reason += fmt.Sprintf("; and %d more", n)
		}
		out = append(out, audit.Gap{Path: p, Reason: reason})
	}
	return out
}

// protect keeps the secrets of a file out of the contexts of all its results: others may stand on the same
// line.
func protect(anchors []anchor) {
	secrets := map[int][]anchor{}
	for _, a := range anchors {
		if a.secret != nil {
			secrets[a.line] = append(secrets[a.line], a)
		}
	}
	for i := range anchors {
		a := &anchors[i]
		on := secrets[a.line]
		for n, s := range on {
			// On a line full of secrets nothing is worth showing, and masking them all would take too long.
			if (s.sealed || len(on) > 20) && !a.sealed {
				a.sealed = true
				if a.secret == nil {
					a.secret = s.secret
				}
			}
			if n == 20 {
				break
			}
			a.cutOut(string(s.secret), 4)
		}
	}
}

func (m *made) count(path string, f *file) {
	wanted := map[text]int{}
	for i := len(m.anchors) - 1; i >= 0 && m.anchors[i].path == path; i-- {
		if m.anchors[i].kind == onLine {
			wanted[m.anchors[i].text] = 0
		}
	}
	if len(wanted) == 0 {
		return
	}
	for n := range f.lines {
		if t := f.text(n + 1); has(wanted, t) {
			wanted[t]++
		}
	}
	m.lines[path] = wanted
}

func has[K comparable, V any](m map[K]V, k K) bool { _, ok := m[k]; return ok }

// file is a file of a tree, by lines. A file that cannot be read as text has none.
type file struct {
	entry source.Entry
	lines [][]byte
	texts map[int]text
	words map[int]map[string]bool // see longWords
}

// open reads a file. What is no file or too large to read has no lines; results about it are about the file
// as a whole.
func open(ctx context.Context, t *source.Snapshot, e source.Entry) (*file, error) {
	f := &file{entry: e, texts: map[int]text{}, words: map[int]map[string]bool{}}
	if !e.Mode.IsFile() {
		return f, nil
	}
	body, err := t.Read(ctx, e)
	if errors.Is(err, source.ErrTooLarge) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Path, err)
	}
	f.lines = sarif.Lines(body)
	return f, nil
}

func (f *file) text(n int) text {
	t, ok := f.texts[n]
	if !ok {
		t = textOf(finding.Fold(string(f.lines[n-1])))
		f.texts[n] = t
	}
	return t
}

// longest is how much of a line is looked at for columns and contexts: results on a file of one endless line
// must not cost its length each.
const longest = 16 << 10

// anchor ties one result to the file. It reports false when the result's line is not in it; the result then
// is one about the file.
func (f *file) anchor(r sarif.Result, columns sarif.ColumnKind, o Options) (anchor, bool) {
	g := r.Region
	if g.StartLine > len(f.lines) {
		r.Region = finding.Region{}
		// A file without lines could not be read: nothing can be said of the line.
		return whole(r, f.entry.Blob, o), f.lines == nil
	}
	if g.StartLine == 0 || g.StartLine == 1 && g.StartColumn <= 1 && g.EndLine <= 1 && g.EndColumn <= 1 {
		return whole(r, f.entry.Blob, o), true
	}
	n := f.telling(g)
	if n == 0 {
		return whole(r, f.entry.Blob, o), true
	}
	a := anchor{path: r.Path, kind: onLine, blob: f.entry.Blob, line: n, text: f.text(n), draft: r.Draft(o.draft())}
	a.draft.Region = f.bytes(g, columns)
	line := f.lines[n-1]
	head := line[:min(len(line), longest)]
	if !secretive(r) {
		a.draft.Context = finding.Fold(string(head))
		return a, true
	}
	a.hide(f, head)
	return a, true
}

// whole ties a result to a file, or with an empty blob to the repository. Its context is what the tool says.
func whole(r sarif.Result, blob string, o Options) anchor {
	a := anchor{path: r.Path, kind: onFile, blob: blob, draft: r.Draft(o.draft())}
	if r.Path == "" {
		a.kind = onRepository
	}
	if a.draft.Context = a.draft.Message; a.draft.Context == "" {
		a.draft.Context = a.draft.Title
	}
	return a
}

// telling is the first line of a region with a letter or a digit: "{" says nothing of what stands there. It
// is 0 when there is none.
func (f *file) telling(g finding.Region) int {
	last := min(max(g.EndLine, g.StartLine), g.StartLine+20, len(f.lines))
	for n := g.StartLine; n <= last; n++ {
		if bytes.ContainsFunc(f.lines[n-1], func(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }) {
			return n
		}
	}
	return 0
}

// bytes turns a region's columns into bytes of the line. What lies behind the line's end is unknown.
func (f *file) bytes(g finding.Region, kind sarif.ColumnKind) finding.Region {
	g.StartColumn = byteColumn(f.lines[g.StartLine-1], g.StartColumn, kind)
	end := max(g.EndLine, g.StartLine)
	if end > len(f.lines) {
		g.EndLine, g.EndColumn = len(f.lines), 0
		return g
	}
	g.EndColumn = byteColumn(f.lines[end-1], g.EndColumn, kind)
	if g.StartColumn == 0 || end == g.StartLine && g.EndColumn < g.StartColumn {
		g.EndColumn = 0
	}
	return g
}

func byteColumn(line []byte, column int, kind sarif.ColumnKind) int {
	if column < 1 {
		return 0
	}
	at, left := 0, column-1
	for left > 0 && at < len(line) && at < longest {
		c, size := utf8.DecodeRune(line[at:])
		at += size
		left--
		if kind == sarif.UTF16 && utf16.RuneLen(c) == 2 {
			left--
		}
	}
	if left > 0 {
		return 0
	}
	return at + 1
}

var secretTools = []string{"gitleaks", "betterleaks", "trufflehog", "detect-secrets", "ggshield", "noseyparker", "secretlint", "talisman", "whispers"}

// secretive reports whether a result may stand on a secret.
func secretive(r sarif.Result) bool {
	tool, _, _ := strings.Cut(r.Type(), "/")
	if slices.Contains(secretTools, tool) || strings.Contains(strings.ToLower(r.RuleID), "secret") {
		return true
	}
	for _, n := range r.CWE {
		if n == 259 || n == 321 || n == 798 { // hard-coded password, key, credentials
			return true
		}
	}
	return slices.ContainsFunc(r.Tags, func(t string) bool { return t == "secret" || t == "secrets" })
}

// hide masks what a result about a secret points at, and takes it out of the texts. Without columns the whole
// line is taken for the secret.
func (a *anchor) hide(f *file, head []byte) {
	g := a.draft.Region
	start, end := 0, 0
	if g.StartColumn > 0 && g.EndColumn > 0 && a.line == g.StartLine {
		start, end = g.StartColumn-1, len(head)
		if g.EndLine <= g.StartLine {
			end = min(g.EndColumn-1, len(head))
		}
	}
	if start >= end {
		a.secret = bytes.Clone(a.text[:])
		a.sealed = true
		a.cutWords(f.longWords(a.line, head))
		return
	}
	// Tools differ by one in where a secret ends; no end of it may be left standing.
	for start > 0 && start <= len(head) && tokenByte(head[start-1]) && head[start-1] != '=' {
		start--
	}
	for end < len(head) && tokenByte(head[end]) {
		end++
	}
	a.secret = bytes.Clone(head[start:end])
	for n := g.StartLine + 1; n <= min(g.EndLine, len(f.lines)) && len(a.secret) < longest; n++ {
		a.secret = append(append(a.secret, '\n'), f.lines[n-1]...)
	}
	a.draft.Context = finding.Fold(string(head[:start]) + mask + string(head[end:]))
	parts := 0
	for part := range strings.Lines(string(a.secret)) {
		if a.cutOut(strings.TrimSpace(part), 6); parts == 60 {
			break
		}
		parts++
	}
}

func notTokenRune(c rune) bool { return c > 0x7F || !tokenByte(byte(c)) }

// longWords are the words of a line that are long enough for a secret.
func (f *file) longWords(n int, head []byte) map[string]bool {
	words, ok := f.words[n]
	if !ok {
		words = map[string]bool{}
		for _, w := range bytes.FieldsFunc(head, notTokenRune) {
			if len(w) >= 12 {
				words[string(w)] = true
			}
		}
		f.words[n] = words
	}
	return words
}

// cutWords masks these words in all texts.
func (a *anchor) cutWords(words map[string]bool) {
	for _, s := range a.texts() {
		for _, w := range strings.FieldsFunc(*s, notTokenRune) {
			// A full stop behind it is none of the secret's.
			if words[w] || words[strings.TrimRight(w, ".")] {
				*s = strings.ReplaceAll(*s, strings.TrimRight(w, "."), mask)
			}
		}
	}
}

func (a *anchor) texts() []*string {
	return []*string{&a.draft.Title, &a.draft.Message, &a.draft.Remediation, &a.draft.Context, &a.draft.Link}
}

// cutOut masks a secret in all texts. Shorter ones than least bytes stay: they would be words of the language.
func (a *anchor) cutOut(secret string, least int) {
	if len(secret) < least {
		return
	}
	for _, s := range a.texts() {
		*s = strings.ReplaceAll(*s, secret, mask)
	}
}

// tokenByte is a character that secrets are made of.
func tokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("+/=_.~-", c) >= 0
}
