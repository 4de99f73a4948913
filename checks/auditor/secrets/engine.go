package secrets

//lint:file-ignore SA1019 gitleaks marks what its version 9 will rename; there is no version 9.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/rs/zerolog"
	"github.com/spf13/viper"
	gitleaks "github.com/zricethezav/gitleaks/v8/config"
	"github.com/zricethezav/gitleaks/v8/detect"
	"github.com/zricethezav/gitleaks/v8/logging"
	"github.com/zricethezav/gitleaks/v8/report"
)

// match is one place in a text that a rule takes for a secret.
type match struct {
	rule       string
	start, end int    // the bytes that hold it, in whatever encoding the file has it
	secret     string // what it says, decoded
	doubt      bool   // something about it speaks against a live credential: half the confidence
}

// finder is what finds secrets in a text. The engine stands behind it so that another can take its place.
type finder interface {
	// find returns matches in any order; path is the path to apply path-bound rules to, "" for none; precise
	// leaves out the rules that guess. An error means that the text was not searched to its end for all of them;
	// what was found comes back with it.
	find(ctx context.Context, text, path string, precise bool) ([]match, error)
}

// engine is gitleaks as a library. Its detector is built once, at the first text: compiling 222 patterns
// takes a good half second, and a run whose results are all cached needs none of them.
type engine struct {
	detectors func() (detectors, error)
	added     map[string]bool // ids of an operator's own rules

	mu    sync.Mutex
	cards map[string]card
}

// detectors share their compiled patterns.
type detectors struct {
	all     *detect.Detector
	precise *detect.Detector // without the rules that guess, see card.precise
}

// engineVersion is the module version in go.mod; a test compares the two.
const engineVersion = "v8.30.1"

// decodeDepth is how often an encoded value inside an encoded value is opened, as gitleaks' own command
// does. The library's default is 0: encoded secrets would pass.
const decodeDepth = 5

// The engine sees long files in overlapping pieces: it looks at its context between rules only and its cost
// per match grows with the size of a text, so one piece bounds both. The overlap exceeds any single secret;
// a private key of 16,384 bits is 13 KiB.
const (
	piece   = 96 << 10
	overlap = 16 << 10
)

// How many matches in one file are looked for. The library takes up to a quarter of a millisecond for each; past
// these numbers nobody reads them, and the file is a gap.
const (
	maxGuesses = 1_500 // of the rules that guess; from there on the precise ones go on alone
	maxPrecise = 4_000

	// Candidates that the library looks at and drops cost nearly as much as matches. They are counted in files
	// beyond this size alone, where they add up.
	large         = 1 << 20
	maxCandidates = 12_000
)

// maxExtra bounds an operator's rules: gitleaks' own are 90 KiB.
const maxExtra = 1 << 20

// Only one goroutine at a time translates rules: the library keeps state of that in globals.
var translating sync.Mutex

// silence turns the library's logger off: at debug level it writes the secrets it finds.
var silence = sync.OnceFunc(func() { logging.Logger = zerolog.Nop() })

// shared are the detectors with the default rules, once per process.
var shared = sync.OnceValues(func() (detectors, error) { return build(nil, nil) })

// newEngine gives the engine with an operator's rules; nil means the built-in ones alone.
func newEngine(extra *gitleaks.ViperConfig) (*engine, error) {
	if extra == nil {
		return &engine{detectors: shared}, nil
	}
	added := map[string]bool{}
	for _, r := range extra.Rules {
		added[r.ID] = true
	}
	known, err := parse([]byte(gitleaks.DefaultConfig))
	if err != nil {
		return nil, fmt.Errorf("built in: %w", err)
	}
	for _, r := range known.Rules {
		delete(added, r.ID)
	}
	d, err := build(extra, added)
	if err != nil {
		return nil, err
	}
	return &engine{detectors: func() (detectors, error) { return d, nil }, added: added}, nil
}

// parseExtra reads an operator's rules and refuses what could not be applied.
func parseExtra(src []byte) (*gitleaks.ViperConfig, error) {
	if len(src) > maxExtra {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(src), maxExtra)
	}
	extra, err := parse(src)
	if err != nil {
		return nil, err
	}
	if extra.Extend.Path != "" || extra.Extend.URL != "" {
		return nil, errors.New("extend.path and extend.url are not followed: put those rules into this file")
	}
	contents, paths := expressions(extra)
	for _, src := range append(contents, paths...) {
		if _, err := syntax.Parse(src, syntax.Perl); err != nil {
			return nil, fmt.Errorf("not a valid regular expression: %s", clip(err.Error()))
		}
	}
	return extra, nil
}

func build(extra *gitleaks.ViperConfig, added map[string]bool) (ds detectors, err error) {
	translating.Lock()
	defer translating.Unlock()
	silence()
	// The library panics on a pattern that its own engine refuses, a very large one.
	defer func() {
		if p := recover(); p != nil {
			ds, err = detectors{}, fmt.Errorf("not a valid regular expression: %s", clip(fmt.Sprint(p)))
		}
	}()
	rules, err := parse([]byte(gitleaks.DefaultConfig))
	if err != nil {
		return ds, fmt.Errorf("built in: %w", err)
	}
	rules.AllowList.Paths = nil // which paths to pass over is placeOf's decision
	// These look at the whole line for each match, which takes seconds where a file is one line; see statement.
	for i := range rules.Rules {
		r := &rules.Rules[i]
		kept := r.Allowlists[:0]
		for _, a := range r.Allowlists {
			if a.RegexTarget != "line" {
				kept = append(kept, a)
			}
		}
		r.Allowlists = kept
	}
	if extra != nil {
		if err := extend(rules, extra); err != nil {
			return ds, err
		}
	}
	cfg, err := rules.Translate()
	if err != nil {
		return ds, errors.New(clip(err.Error()))
	}
	for id, r := range cfg.Rules {
		r.Tags = nil // the detector appends to them, from every goroutine
		cfg.Rules[id] = r
	}
	ds.all = newDetector(cfg)
	precise := cfg
	precise.Rules, precise.Keywords = map[string]gitleaks.Rule{}, map[string]struct{}{}
	var keep func(id string)
	keep = func(id string) { // with the rules that it needs beside it
		r, ok := cfg.Rules[id]
		if _, done := precise.Rules[id]; done || !ok {
			return
		}
		precise.Rules[id] = r
		for _, k := range r.Keywords {
			precise.Keywords[strings.ToLower(k)] = struct{}{}
		}
		for _, other := range r.RequiredRules {
			keep(other.RuleID)
		}
	}
	for id, r := range cfg.Rules {
		if describe(id, r, added[id]).precise() {
			keep(id)
		}
	}
	ds.precise = newDetector(precise)
	return ds, nil
}

func newDetector(cfg gitleaks.Config) *detect.Detector {
	d := detect.NewDetector(cfg)
	d.MaxDecodeDepth = decodeDepth
	d.IgnoreGitleaksAllow = true // a comment in the code under audit does not switch its audit off
	return d
}

// parse reads the library's TOML form. It extends nothing: the library's own way of doing so reads files,
// counts in a global and works twice per process.
func parse(src []byte) (*gitleaks.ViperConfig, error) {
	v := viper.New()
	v.SetConfigType("toml")
	if err := v.ReadConfig(bytes.NewReader(src)); err != nil {
		return nil, fmt.Errorf("not valid TOML: %s", clip(err.Error()))
	}
	var rules gitleaks.ViperConfig
	if err := v.UnmarshalExact(&rules); err != nil {
		return nil, fmt.Errorf("not rules of gitleaks: %s", clip(err.Error()))
	}
	return &rules, nil
}

func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), 300)], "")
}

// extend lays an operator's rules over the built-in ones as gitleaks' useDefault does: a rule of a known id
// changes what it states and adds keywords and allowlists, others are new.
func extend(base, own *gitleaks.ViperConfig) error {
	kept := base.Rules[:0]
	for _, r := range base.Rules {
		if !slices.Contains(own.Extend.DisabledRules, r.ID) {
			kept = append(kept, r)
		}
	}
	base.Rules = kept
	at := make(map[string]int, len(base.Rules))
	for i, r := range base.Rules {
		at[r.ID] = i
	}
	for _, r := range own.Rules {
		if r.AllowList != nil { // an older spelling
			r.Allowlists, r.AllowList = append(r.Allowlists, r.AllowList), nil
		}
		i, known := at[r.ID]
		if !known {
			if !ruleID.MatchString(r.ID) {
				return fmt.Errorf("rule id %.60q: want lower-case letters, digits and hyphens, at most 60", r.ID)
			}
			at[r.ID] = len(base.Rules)
			base.Rules = append(base.Rules, r)
			continue
		}
		b := &base.Rules[i]
		b.Description = cmp.Or(r.Description, b.Description)
		b.Path = cmp.Or(r.Path, b.Path)
		b.Regex = cmp.Or(r.Regex, b.Regex)
		b.SecretGroup = cmp.Or(r.SecretGroup, b.SecretGroup)
		b.Entropy = cmp.Or(r.Entropy, b.Entropy)
		b.Keywords = append(b.Keywords, r.Keywords...)
		b.Allowlists = append(b.Allowlists, r.Allowlists...)
		b.Required = append(b.Required, r.Required...)
	}
	base.Allowlists = append(append(base.Allowlists, base.AllowList), own.Allowlists...)
	if own.AllowList != nil {
		base.Allowlists = append(base.Allowlists, own.AllowList)
	}
	base.AllowList = nil
	if len(base.Rules) == 0 {
		return errors.New("no rule remains")
	}
	return nil
}

var ruleID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,59}$`)

// expressions lists the patterns that rules in the library's TOML form match contents and paths with.
func expressions(rules *gitleaks.ViperConfig) (contents, paths []string) {
	for _, r := range rules.Rules {
		contents, paths = append(contents, r.Regex), append(paths, r.Path)
		if r.AllowList != nil {
			contents, paths = append(contents, r.AllowList.Regexes...), append(paths, r.AllowList.Paths...)
		}
		for _, a := range r.Allowlists {
			contents, paths = append(contents, a.Regexes...), append(paths, a.Paths...)
		}
	}
	if a := rules.AllowList; a != nil {
		contents, paths = append(contents, a.Regexes...), append(paths, a.Paths...)
	}
	for _, a := range rules.Allowlists {
		contents, paths = append(contents, a.Regexes...), append(paths, a.Paths...)
	}
	empty := func(s string) bool { return s == "" }
	return slices.DeleteFunc(contents, empty), slices.DeleteFunc(paths, empty)
}

func describe(id string, r gitleaks.Rule, added bool) card {
	switch {
	case r.Regex == nil:
		return cardOf(id, "")
	case added:
		return addedCard(id, r.Description)
	}
	return cardOf(id, r.Regex.String())
}

// card describes one of the engine's rules.
func (e *engine) card(id string) card {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.cards[id]; ok {
		return c
	}
	c := cardOf(id, "")
	if ds, err := e.detectors(); err == nil {
		if r, ok := ds.all.Config.Rules[id]; ok {
			c = describe(id, r, e.added[id])
		}
	}
	if e.cards == nil {
		e.cards = map[string]card{}
	}
	e.cards[id] = c
	return c
}

func (e *engine) find(ctx context.Context, text, path string, precise bool) (all []match, err error) {
	ds, err := e.detectors()
	if err != nil {
		return nil, err
	}
	d := ds.all
	if precise {
		d = ds.precise
	}
	guesses, known, candidates := 0, 0, 0
	for from := 0; from < len(text); {
		to, next := cut(text, from)
		if d == ds.all && from > large/2 && len(text) > large {
			if candidates += ds.candidates(text[from:to]); candidates > maxCandidates {
				guesses = maxGuesses + 1
			}
		}
		if guesses > maxGuesses && d == ds.all {
			d, err = ds.precise, errCrowded{"random values under a secret's name"}
		}
		found, failed := detectPiece(ctx, d, text[from:to], path)
		for i, m := range found {
			m.start, m.end = m.start+from, m.end+from
			found[i] = m
			if m.start >= next { // the next piece sees it whole
				continue
			}
			all = append(all, m)
			if e.card(m.rule).precise() {
				known++
			} else {
				guesses++
			}
		}
		if failed == nil && known > maxPrecise {
			failed = errCrowded{"credentials"}
		}
		if failed != nil { // there is no next piece: what it would have seen is at least masked
			for _, m := range found {
				if m.start >= next {
					all = append(all, m)
				}
			}
			return all, failed
		}
		from = next
	}
	return all, err
}

// candidates counts what the engine's guess at keys will look at in a text full of long words, as it stands or
// encoded.
func (ds detectors) candidates(text string) int {
	var words []string
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r > unicode.MaxASCII || !encodedByte(byte(r)) && r != '.' }) {
		if len(word) >= 10 {
			words = append(words, word)
		}
	}
	guess, ok := ds.all.Config.Rules["generic-api-key"]
	if len(words) < len(text)/50 || !ok || guess.Regex == nil {
		return 0
	}
	n := len(guess.Regex.FindAllStringIndex(text, -1))
	var opened strings.Builder
	for _, word := range words {
		b, err := hex.DecodeString(word)
		if err != nil {
			b, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(word, "="))
		}
		if err == nil {
			opened.Write(b)
			opened.WriteByte('\n')
		}
	}
	return n + len(guess.Regex.FindAllStringIndex(opened.String(), -1))
}

// cut says where the piece that starts at from ends and where the next one starts, at ends of lines if
// there are some near.
func cut(text string, from int) (to, next int) {
	if len(text)-from <= piece {
		return len(text), len(text)
	}
	to = from + piece
	if n := strings.LastIndexByte(text[to-overlap/4:to], '\n'); n >= 0 {
		to -= overlap/4 - n - 1
	}
	next = to - overlap
	if n := strings.LastIndexByte(text[next-overlap/4:next], '\n'); n >= 0 {
		next -= overlap/4 - n - 1
	}
	return to, next
}

func detectPiece(ctx context.Context, d *detect.Detector, text, path string) (found []match, err error) {
	// Neither the library nor the WebAssembly beneath it promises not to panic, and the text is hostile.
	defer func() {
		if recover() != nil {
			found, err = nil, errors.New("the engine failed on this file")
		}
	}()
	if !strings.HasSuffix(text, "\n") {
		text += "\n" // the library misplaces what stands on an unfinished last line
	}
	reports := d.DetectContext(ctx, detect.Fragment{Raw: text, FilePath: path})
	err = ctx.Err() // it stops between two rules and keeps what it has
	if len(reports) == 0 {
		return nil, err
	}
	l := newLines(text)
	for _, r := range reports {
		if r.Secret == "" { // a rule on the path alone
			continue
		}
		found = append(found, locate(l, r))
	}
	return found, err
}

// locate finds the bytes of a report. The library counts lines from 0 and takes the LF before a line for its
// first column, and gives the place of the whole match, not of the secret in it.
func locate(l lines, r report.Finding) match {
	start, end := offset(l, r.StartLine, r.StartColumn-1), offset(l, r.EndLine, r.EndColumn)
	if r.RuleID == "kubernetes-secret-yaml" { // "name: value"; the name is none
		_, r.Secret, _ = strings.Cut(r.Secret, ":")
		r.Secret = strings.Trim(r.Secret, " \t\r\n|>-+\"'")
	}
	m := match{rule: r.RuleID, secret: r.Secret}
	plain := start + len(l.text[start:]) - len(strings.TrimLeft(l.text[start:], "\n"))
	if strings.HasPrefix(l.text[plain:], r.Match) {
		// The last occurrence: in password=password the first one is the name.
		m.start = plain + strings.LastIndex(r.Match, r.Secret)
		m.end = m.start + len(r.Secret)
		return m
	}
	// An encoded value: all of it is the secret, and the decoder does not always see its ends.
	for start > 0 && encodedByte(l.text[start-1]) {
		start--
	}
	end = max(end, start+1)
	for end < len(l.text) && encodedByte(l.text[end]) {
		end++
	}
	m.start, m.end = start, min(end, len(l.text))
	return m
}

func offset(l lines, line, column int) int {
	line = min(max(line, 0), len(l.starts)-1)
	at := l.starts[line] + column
	if line > 0 {
		at--
	}
	return min(max(at, 0), len(l.text))
}

func encodedByte(c byte) bool {
	switch c {
	case '+', '/', '-', '_', '=', '%', '\\':
		return true
	}
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
