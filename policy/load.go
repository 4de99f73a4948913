package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Limits of a document. They are far above what people write by hand.
const (
	maxDocument = 256 << 10 // bytes
	maxPolicies = 200
	maxDepth    = 12   // of nested values; a valid document has 5
	maxList     = 100  // entries of a list
	maxText     = 2000 // bytes of a message, rule or description
	maxName     = 64   // bytes of a policy's name or a focus
)

// Load reads a document of policies. Every error is a *LoadError with all that is wrong at once: unknown or
// repeated keys, wrong types, unknown values, YAML features that make a document mean other than it shows
// (anchors, aliases, merge keys, tags, several documents), more than 256 KiB, 200 policies or 100 entries in
// a list, and a document without policies, which is a mistake and not a permission.
func Load(src []byte, origin Origin) (*Document, error) {
	l := &loader{refused: map[*yaml.Node]bool{}}
	if !slices.Contains(layers, origin.Layer) || origin.Path == "" {
		l.at(1, 1, "", "the document has no layer or no path: its origin must be known")
	}
	var policies []Policy
	if root := l.parse(src); root != nil {
		l.survey(root, 0)
		policies = l.document(root, origin)
	}
	if len(l.problems) > 0 {
		return nil, newLoadError(origin, l.problems)
	}
	return &Document{origin, policies}, nil
}

// loader walks the nodes of one document. What it cannot use becomes a problem, and it goes on.
type loader struct {
	problems []Problem
	refused  map[*yaml.Node]bool // already a problem: not to be complained about a second time
	begins   string              // the key that the document cannot lack; empty: policies
}

func (l *loader) problem(n *yaml.Node, hint, format string, args ...any) {
	l.at(n.Line, n.Column, hint, format, args...)
}

func (l *loader) at(line, column int, hint, format string, args ...any) {
	l.problems = append(l.problems, Problem{line, column, fmt.Sprintf(format, args...), hint})
}

// parse returns the one value of the document, or nil when there is none to go on with.
func (l *loader) parse(src []byte) *yaml.Node {
	if len(src) > maxDocument {
		l.at(1, 1, "", "the document has %d bytes; at most %d are read", len(src), maxDocument)
		return nil
	}
	if !l.readable(src) {
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc yaml.Node
	switch err := decode(dec, &doc); {
	case errors.Is(err, io.EOF), err == nil && (len(doc.Content) == 0 || isNull(doc.Content[0])):
		l.at(1, 1, "it begins with `"+cmp.Or(l.begins, "policies")+":`", "the document is empty")
		return nil
	case err != nil:
		l.syntax(src, err)
		return nil
	}
	var second yaml.Node
	switch err := decode(dec, &second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		l.syntax(src, err)
	default:
		l.problem(&second, "keep one and leave `---` out", "a second YAML document in one file")
	}
	return doc.Content[0]
}

// readable finds what would be a syntax error without a place.
func (l *loader) readable(src []byte) bool {
	line, column := 1, 0
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		column++
		switch {
		case r == utf8.RuneError && size == 1:
			l.at(line, column, "save the file as UTF-8", "a byte that is not UTF-8")
			return false
		case r == '\n':
			line, column = line+1, 0
		case r == '\t', r == '\r', r == '\uFEFF' && i == 0:
		case unicode.IsControl(r), r == '\u2028', r == '\u2029', r == '\uFEFF', r == '\uFFFE', r == '\uFFFF':
			l.at(line, column, "delete it", "an invisible control character, U+%04X", r)
			return false
		case unicode.Is(unicode.Cf, r) && r != '\u200C' && r != '\u200D':
			// CVE-2021-42574: a policy must read to people as it reads to us. The two joiners are part of
			// how some languages are written.
			l.at(line, column, "delete it", "an invisible format character, U+%04X", r)
			return false
		}
		i += size
	}
	return true
}

// decode keeps a panic of the YAML library inside: its input is hostile.
func decode(dec *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("yaml: this form of YAML cannot be read")
		}
	}()
	return dec.Decode(n)
}

var syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntax makes a problem of an error of the YAML library, which has a line in its text at best.
func (l *loader) syntax(src []byte, err error) {
	text, line := err.Error(), 1
	if m := syntaxError.FindStringSubmatch(text); m != nil {
		text = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	lines := strings.Split(string(src), "\n")
	line = min(max(line, 1), len(lines))
	if strings.Contains(text, "tab") || strings.Contains(text, "cannot start any token") {
		// The library names this line or the one beside it.
		for i := max(line-2, 0); i < min(line+1, len(lines)); i++ {
			indent := lines[i][:len(lines[i])-len(strings.TrimLeft(lines[i], " \t"))]
			if at := strings.IndexByte(indent, '\t'); at >= 0 {
				l.at(i+1, at+1, "indent with spaces", "a tab in the indentation")
				return
			}
		}
	}
	hint := ""
	switch {
	case strings.Contains(text, "alphabetic or numeric character"), strings.Contains(text, "unknown anchor"):
		hint = "a pattern that begins with `*` stands in quotes: \"*.go\""
		if i := slices.IndexFunc(lines, unquotedStar.MatchString); i >= 0 {
			line = i + 1
		}
	case strings.Contains(text, "cannot start any token"):
		hint = "a text that begins with a special character stands in quotes"
	case strings.Contains(text, "mapping values are not allowed"):
		hint = "check the indentation; a text with a colon stands in quotes"
	case strings.Contains(text, "did not find expected key"):
		hint = "check the indentation"
	}
	l.at(line, 1, hint, "this is not YAML: %s", clip200(text))
}

var unquotedStar = regexp.MustCompile(`(^|[-:\[,])\s*\*`)

// survey refuses, anywhere in the document, what makes YAML mean other than it shows.
func (l *loader) survey(n *yaml.Node, depth int) {
	switch {
	case depth > maxDepth:
		l.refuse(n, "", "values nested deeper than %d levels", maxDepth)
		n.Content = nil
		return
	case n.Kind == yaml.AliasNode:
		l.refuse(n, "write the value out; a pattern that begins with `*` stands in quotes", "an alias, `*%s`", clip(n.Value))
		return
	case n.Anchor != "":
		l.refuse(n, "write the value out; a text that begins with `&` stands in quotes", "an anchor, `&%s`", clip(n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		// In [!a, b] the library takes the comma into the tag.
		tag := strings.TrimRight(n.Tag, ",]")
		hint := "write the plain value"
		if strings.HasPrefix(tag, "!") && !strings.HasPrefix(tag, "!!") {
			hint = "a pattern that begins with `!` stands in quotes: \"" + clip(tag) + "\""
		}
		l.refuse(n, hint, "a YAML tag, `%s`", clip(tag))
	}
	for _, c := range n.Content {
		l.survey(c, depth+1)
	}
}

func (l *loader) refuse(n *yaml.Node, hint, format string, args ...any) {
	l.refused[n] = true
	l.problem(n, hint, format, args...)
}

// member is one key of a mapping and its value.
type member struct {
	key, value *yaml.Node
}

// members returns a mapping's keys that are text, each once, in the order of the document.
func (l *loader) members(n *yaml.Node) []member {
	var out []member
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case l.refused[k]:
			continue
		case k.Kind == yaml.ScalarNode && k.Tag == "!!merge":
			l.problem(k, "write the keys out", "a merge key, `<<`")
			continue
		case k.Kind != yaml.ScalarNode || k.Tag != "!!str":
			l.problem(k, "a key is a word; one that YAML takes for something else stands in quotes", "a key that is %s", kindOf(k))
			continue
		}
		if was := first[k.Value]; was != nil {
			l.problem(k, "keep one", "`%s` is there twice, first on line %d", clip(k.Value), was.Line)
			continue
		}
		first[k.Value] = k
		out = append(out, member{k, v})
	}
	return out
}

var documentKeys = []string{"policies", "version"}

func (l *loader) document(root *yaml.Node, origin Origin) []Policy {
	if l.refused[root] {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		l.problem(root, "it begins with `policies:`", "the document is %s, not a mapping", kindOf(root))
		return nil
	}
	var policies []Policy
	found, before := false, len(l.problems)
	for _, m := range l.members(root) {
		switch m.key.Value {
		case "version":
			l.version(m.value)
		case "policies":
			found = true
			policies = l.policies(m.value, origin)
		default:
			l.unknown(m.key, documentKeys, "a key at the top of the document")
		}
	}
	// With a misspelt key in the way, that is the problem to repair.
	if !found && len(l.problems) == before {
		l.problem(root, "it begins with `policies:`", "the document has no `policies`")
	}
	return policies
}

func (l *loader) unknown(k *yaml.Node, known []string, what string) {
	hint := "known are " + strings.Join(known, ", ")
	if w := suggest(k.Value, known); w != "" {
		hint = "did you mean `" + w + "`?"
	}
	l.problem(k, hint, "`%s` is not %s", clip(k.Value), what)
}

func (l *loader) version(n *yaml.Node) {
	switch {
	case l.refused[n]:
	case n.Kind == yaml.ScalarNode && n.Tag == "!!int" && n.Value == "1":
	case n.Kind == yaml.ScalarNode && n.Value == "1":
		l.problem(n, "write `version: 1` without quotes", "`version` is text")
	case n.Kind == yaml.ScalarNode && n.Tag == "!!int":
		l.problem(n, "write `version: 1`", "version %s is not known to this program", clip(n.Value))
	default:
		l.problem(n, "write `version: 1`", "`version` is %s", kindOf(n))
	}
}

func (l *loader) policies(n *yaml.Node, origin Origin) []Policy {
	switch {
	case l.refused[n]:
		return nil
	case n.Kind != yaml.MappingNode && !isNull(n):
		l.problem(n, "write `policies:` and below it one name per policy", "`policies` is %s, not a mapping", kindOf(n))
		return nil
	case len(n.Content) == 0:
		l.problem(n, "name at least one policy, or delete the file to have the built-in ones", "`policies` is empty")
		return nil
	case len(n.Content)/2 > maxPolicies:
		l.problem(n, "", "%d policies; at most %d are read", len(n.Content)/2, maxPolicies)
		return nil
	}
	var out []Policy
	for _, m := range l.members(n) {
		if why := nameProblem(m.key.Value); why != "" {
			hint := ""
			if fixed := slug(m.key.Value); nameProblem(fixed) == "" {
				hint = "write `" + fixed + "`"
			}
			l.problem(m.key, hint, "the policy name `%s` %s", clip(m.key.Value), why)
		}
		if rest, ok := strings.CutPrefix(m.key.Value, verdict.ReservedPrefix); ok && origin.Layer != LayerBuiltin {
			l.problem(m.key, "write `"+rest+"`", "the policy name `%s` begins with `%s`, which is kept for policies that always hold", clip(m.key.Value), verdict.ReservedPrefix)
		}
		out = append(out, l.policy(m, origin))
	}
	return out
}

// nameProblem says what is wrong with a policy's name, or nothing.
func nameProblem(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > maxName:
		return fmt.Sprintf("is longer than %d characters", maxName)
	case s[0] == '-':
		return "begins with a hyphen"
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return "has other characters than lower-case letters, digits and hyphens"
		}
	}
	return ""
}

func slug(s string) string {
	return strings.NewReplacer("_", "-", " ", "-", ".", "-").Replace(strings.ToLower(s))
}

var (
	policyKeys = []string{"action", "confidence_minimum", "description", "evidence", "focus", "message", "on_error",
		"on_missing", "paths", "rule", "scope", "severity_minimum", "types"}
	actionWords   = []string{"block", "warn", "report"}
	errorWords    = []string{"block", "warn", "report"}
	missingWords  = []string{"block", "warn", "ignore"}
	scopeWords    = []string{"introduced", "all"}
	evidenceWords = []string{"deterministic", "corroborated", "model"}
	severityWords = []string{"critical", "high", "medium", "low", "info"}
)

func (l *loader) policy(m member, origin Origin) Policy {
	p := Policy{
		Name:      m.key.Value,
		Scope:     ScopeIntroduced,
		OnMissing: verdict.EffectNone,
		Origin:    origin,
		Position:  Position{m.key.Line, m.key.Column},
		Places:    map[string]Position{},
	}
	n := m.value
	switch {
	case l.refused[n]:
		return p
	case n.Kind != yaml.MappingNode && !isNull(n):
		l.problem(n, "write its keys below the name, indented", "policy `%s` is %s, not a mapping", clip(p.Name), kindOf(n))
		return p
	}
	for _, m := range l.members(n) {
		key, v := m.key.Value, m.value
		p.Places[key] = Position{m.key.Line, m.key.Column}
		switch key {
		case "action":
			p.Action = verdict.Action(l.word(key, v, actionWords))
		case "severity_minimum":
			// A word that is none of the five is a problem already.
			p.SeverityMinimum, _ = finding.ParseSeverity(l.word(key, v, severityWords))
		case "confidence_minimum":
			p.ConfidenceMinimum = l.confidence(key, v)
		case "scope":
			p.Scope = Scope(l.word(key, v, scopeWords))
		case "on_error":
			p.OnError = effectOf(l.word(key, v, errorWords))
		case "on_missing":
			p.OnMissing = effectOf(l.word(key, v, missingWords))
		case "evidence":
			for _, w := range l.list(key, v, func(n *yaml.Node) string { return l.word(key, n, evidenceWords) }) {
				p.Evidence = append(p.Evidence, finding.Evidence(w))
			}
		case "focus":
			p.Focus = l.list(key, v, func(n *yaml.Node) string { return l.focus(key, n) })
		case "types":
			p.Types = l.list(key, v, func(n *yaml.Node) string { return l.glob(key, n) })
		case "paths":
			p.Paths = l.list(key, v, func(n *yaml.Node) string { return l.glob(key, n) })
		case "message":
			p.Message = l.text(key, v)
		case "rule":
			p.Rule = l.text(key, v)
		case "description":
			p.Description = l.text(key, v)
		default:
			delete(p.Places, key)
			l.unknown(m.key, policyKeys, "a key of a policy")
		}
	}
	l.complete(m.key, &p)
	return p
}

// complete asks for what a policy must have and fills in the rest.
func (l *loader) complete(name *yaml.Node, p *Policy) {
	if _, ok := p.Places["action"]; !ok {
		l.problem(name, "add `action: block`, `warn` or `report`", "policy `%s` has no `action`", clip(p.Name))
	}
	_, focus := p.Places["focus"]
	if _, types := p.Places["types"]; !focus && !types {
		l.problem(name, "add `focus`, such as `focus: security`", "policy `%s` has no `focus`", clip(p.Name))
	}
	if len(p.Evidence) == 0 {
		p.Evidence = []finding.Evidence{finding.Corroborated, finding.Deterministic}
		if p.Action != verdict.Block {
			p.Evidence = append(p.Evidence, finding.Model)
		}
	}
	slices.Sort(p.Evidence)
	if _, ok := p.Places["on_error"]; ok {
		p.OnGap = p.OnError
		return
	}
	p.OnError = effectOf(string(p.Action))
	p.OnGap = p.OnError
	if p.OnGap == verdict.EffectBlock {
		p.OnGap = verdict.EffectWarn
	}
}

func effectOf(word string) verdict.Effect {
	switch word {
	case "block":
		return verdict.EffectBlock
	case "warn":
		return verdict.EffectWarn
	}
	return verdict.EffectNone
}

// str returns the text of a scalar that YAML takes for text.
func (l *loader) str(key string, n *yaml.Node) (string, bool) {
	switch {
	case l.refused[n]:
		return "", false
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		return n.Value, true
	case isNull(n):
		l.problem(n, "give it a value or delete it", "`%s` has no value", key)
		return "", false
	}
	hint := ""
	if n.Kind == yaml.ScalarNode {
		hint = "a text that looks like " + kindOf(n) + " stands in quotes"
	}
	l.problem(n, hint, "`%s` is %s, want text", key, kindOf(n))
	return "", false
}

// word returns one of words, or "" after a problem.
func (l *loader) word(key string, n *yaml.Node, words []string) string {
	if !l.refused[n] && n.Kind == yaml.ScalarNode && n.Tag != "!!str" && !isNull(n) {
		l.problem(n, "want "+oneOf(words), "`%s` is %s", key, kindOf(n))
		return ""
	}
	s, ok := l.str(key, n)
	if !ok || slices.Contains(words, s) {
		return s
	}
	hint := "want " + oneOf(words)
	if lower := strings.ToLower(strings.TrimSpace(s)); slices.Contains(words, lower) {
		hint = "write `" + lower + "`"
	} else if w := suggest(s, words); w != "" {
		hint = "did you mean `" + w + "`? " + hint
	}
	l.problem(n, hint, "`%s` cannot be `%s`", key, clip(s))
	return ""
}

func (l *loader) text(key string, n *yaml.Node) string {
	s, ok := l.str(key, n)
	if !ok {
		return ""
	}
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		l.problem(n, "give it a text or delete it", "`%s` is empty", key)
	case len(s) > maxText:
		l.problem(n, "", "`%s` has %d bytes; at most %d are read", key, len(s), maxText)
	}
	return s
}

func (l *loader) focus(key string, n *yaml.Node) string {
	s, ok := l.str(key, n)
	if !ok || isFocus(s) {
		return s
	}
	hint := "lower-case letters, digits, hyphens, underscores and dots, at most 64"
	if fixed := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(s)), " ", "-"); isFocus(fixed) {
		hint = "write `" + fixed + "`"
	}
	l.problem(n, hint, "`%s` is not the name of a focus", clip(s))
	return ""
}

func isFocus(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func (l *loader) glob(key string, n *yaml.Node) string {
	s, ok := l.str(key, n)
	if !ok {
		return ""
	}
	var err error
	if key == "types" {
		_, err = compileType(s)
	} else {
		_, err = compilePattern(strings.TrimPrefix(s, "!"))
	}
	if err != nil {
		e := asPatternError(err)
		l.problem(n, e.hint, "`%s` has %s", key, e.message)
	}
	return s
}

// list reads one value or a list of them, without repetition, and sorts: the order of no list means
// anything.
func (l *loader) list(key string, n *yaml.Node, read func(*yaml.Node) string) []string {
	switch {
	case l.refused[n]:
		return nil
	case n.Kind != yaml.SequenceNode:
		return []string{read(n)}
	case len(n.Content) == 0:
		l.problem(n, "give it a value or delete it", "`%s` is an empty list", key)
		return nil
	case len(n.Content) > maxList:
		l.problem(n, "", "`%s` has %d entries; at most %d are read", key, len(n.Content), maxList)
		return nil
	}
	var out []string
	seen := map[string]bool{}
	for _, c := range n.Content {
		s := read(c)
		if s != "" && seen[s] {
			l.problem(c, "keep one", "`%s` is twice in `%s`", clip(s), key)
		}
		seen[s] = true
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func (l *loader) confidence(key string, n *yaml.Node) *finding.Confidence {
	switch {
	case l.refused[n]:
		return nil
	case n.Kind != yaml.ScalarNode:
		l.problem(n, "write a number from 0 to 1, such as 0.9", "`%s` is %s, want a number", key, kindOf(n))
		return nil
	case isNull(n):
		l.problem(n, "give it a value or delete it", "`%s` has no value", key)
		return nil
	}
	c, err := finding.ParseConfidence(n.Value)
	switch {
	case err == nil && n.Tag == "!!str":
		l.problem(n, "write "+n.Value+" without quotes", "`%s` is text, want a number", key)
		return nil
	case err == nil:
		return &c
	}
	hint := "write a number from 0 to 1 with at most three decimals, such as 0.9"
	if meant := meantConfidence(n.Value); meant != "" {
		hint = "did you mean " + meant + "? want a number from 0 to 1 with at most three decimals"
	}
	l.problem(n, hint, "`%s` cannot be `%s`", key, clip(n.Value))
	return nil
}

// meantConfidence reads 90, 90% and .9 as people mean them, for a hint only.
func meantConfidence(s string) string {
	number, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !(f >= 0 && f <= 100) {
		return ""
	}
	if percent || f > 1 {
		f /= 100
	}
	return finding.Confidence(math.Round(f * 1000)).String()
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// kindOf names what YAML takes a value for.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.Tag {
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	case "!!timestamp":
		return "a date"
	}
	return "a value of an unknown kind"
}
