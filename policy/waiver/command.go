package waiver

import (
	"encoding/base32"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Verb is what a command asks for.
type Verb string

// The verbs. VerbExtend and VerbEmergency are part of the grammar and refused by Command.Supported in this version.
// "fp" is read as waive with kind=false-positive.
const (
	VerbWaive     Verb = "waive"
	VerbApprove   Verb = "approve"
	VerbReject    Verb = "reject"
	VerbRevoke    Verb = "revoke"
	VerbExtend    Verb = "extend"
	VerbList      Verb = "list"
	VerbExplain   Verb = "explain"
	VerbRecheck   Verb = "recheck"
	VerbEmergency Verb = "emergency"
	VerbHelp      Verb = "help"
	verbFP        Verb = "fp"
)

// verbSpec says of a verb which target and keys it takes.
type verbSpec struct {
	verb    Verb
	targets []TargetKind // none: the verb takes no target
	keys    []string
	reason  bool // a reason must be given
}

var verbs = []verbSpec{
	{VerbWaive, []TargetKind{FindingTarget, RuleTarget, PolicyTarget, Here}, []string{"kind", "until", "for", "scope", "ticket", "control", "reason"}, true},
	{verbFP, []TargetKind{FindingTarget, RuleTarget, PolicyTarget, Here}, []string{"until", "for", "scope", "ticket", "control", "reason"}, true},
	{VerbApprove, []TargetKind{WaiverTarget}, []string{"sha", "note"}, false},
	{VerbReject, []TargetKind{WaiverTarget}, []string{"reason"}, true},
	{VerbRevoke, []TargetKind{WaiverTarget}, []string{"reason"}, true},
	{VerbExtend, []TargetKind{WaiverTarget}, []string{"until", "for", "reason"}, false},
	{VerbList, nil, nil, false},
	{VerbExplain, []TargetKind{FindingTarget, WaiverTarget, PolicyTarget, Here}, nil, false},
	{VerbRecheck, nil, nil, false},
	{VerbEmergency, nil, []string{"incident", "rollback", "reason"}, true},
	{VerbHelp, nil, nil, false},
}

// Verbs lists the verbs that a person may type and that this version acts on, in the order of the help.
func Verbs() []Verb {
	return []Verb{VerbWaive, verbFP, VerbApprove, VerbReject, VerbRevoke, VerbList, VerbExplain, VerbRecheck, VerbHelp}
}

func allVerbs() []string {
	var out []string
	for _, v := range verbs {
		out = append(out, string(v.verb))
	}
	return out
}

func knownVerbs() []string {
	var out []string
	for _, v := range Verbs() {
		out = append(out, string(v))
	}
	return out
}

var allKeys = []string{"reason", "until", "for", "scope", "kind", "policy", "ticket", "control", "sha", "note", "incident", "rollback"}

// Kind is why a finding may stay.
type Kind string

// The kinds.
const (
	FalsePositive Kind = "false-positive"
	AcceptedRisk  Kind = "accepted-risk"
	Mitigated     Kind = "mitigated"
	TestCode      Kind = "test-code"
	Deferred      Kind = "deferred"
)

// Kinds lists all kinds.
func Kinds() []Kind { return []Kind{FalsePositive, AcceptedRisk, Mitigated, TestCode, Deferred} }

// Scope is how far a waiver reaches.
type Scope string

// The scopes. Only ScopeFinding can be asked for in this version.
const (
	ScopeFinding Scope = "finding"
	ScopePath    Scope = "path"
	ScopePull    Scope = "pr"
	ScopeBranch  Scope = "branch"
	ScopeRepo    Scope = "repo"
)

var (
	kindNames  = []string{string(FalsePositive), string(AcceptedRisk), string(Mitigated), string(TestCode), string(Deferred)}
	scopeNames = []string{string(ScopeFinding), string(ScopePath), string(ScopePull), string(ScopeBranch), string(ScopeRepo)}
	filters    = []string{"open", "pending", "active", "expiring"}
)

// Limits on values, in characters after trimming. MinReason and MaxReason are also those of Document.
const (
	MinReason  = 15
	MaxReason  = 2000
	MaxTicket  = 100 // also of incident
	MaxControl = 500 // also of rollback
	MaxNote    = 1000
	maxDays    = 3660 // what for= can say at all; terms allow far less
)

// Command is one command line, read. A value that Parse returned is in the form that String writes: trimmed,
// ids in upper case, digests in lower case, weeks as days.
type Command struct {
	Verb     Verb
	Target   Target
	Reason   string
	Kind     Kind   // empty: as the terms say
	Scope    Scope  // empty: ScopeFinding
	Until    string // YYYY-MM-DD, the last day; empty: not given
	Days     int    // of for=; 0: not given. Never both
	Ticket   string
	Control  string
	SHA      string // 7 to 64 hexadecimal digits
	Note     string
	Incident string
	Rollback string
	Filter   string // of list: open, pending, active or expiring; empty: all
}

// TargetKind is what a target names.
type TargetKind string

// The kinds of targets.
const (
	FindingTarget TargetKind = "finding" // NX-…; a prefix of a fingerprint, which may be ambiguous
	WaiverTarget  TargetKind = "waiver"  // W-…, also a prefix; W-…@digest names its exact content
	RuleTarget    TargetKind = "rule"    // rule:…
	PolicyTarget  TargetKind = "policy"  // policy:…
	Here          TargetKind = "here"    // the finding of this review thread
)

// Target is what a command is about. The zero value is none.
type Target struct {
	Kind   TargetKind
	ID     string // "NX-7F3K2QAB", "W-9QK3TZAB", or what follows "rule:" or "policy:"
	Digest string // of a waiver: the first 8 hexadecimal digits of its digest; empty: not given
}

// String writes the target as people type it.
func (t Target) String() string {
	switch t.Kind {
	case RuleTarget, PolicyTarget:
		return string(t.Kind) + ":" + t.ID
	case Here:
		return "here"
	}
	if t.Digest != "" {
		return t.ID + "@" + t.Digest
	}
	return t.ID
}

const (
	crockfordDigits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	targetHelp      = "a finding is written NX- and 6 to 10 characters, such as NX-7F3K2QAB, a waiver W- likewise, such as W-9QK3TZAB"
)

var crockford = base32.NewEncoding(crockfordDigits).WithPadding(base32.NoPadding)

// ParseTarget reads a finding id, a waiver id with or without @digest, "rule:…", "policy:…" or "here". Ids are
// read in either case, with I and L as 1 and O as 0, as Crockford's base 32 has it.
func ParseTarget(s string) (Target, error) {
	if !ascii(s) {
		return Target{}, refuse(Characters, "The target %s holds characters outside of ASCII; %s. Copy the id from noxaudit's own text.", quote(s), targetHelp)
	}
	up := strings.ToUpper(s)
	switch {
	case s == "here":
		return Target{Kind: Here}, nil
	case strings.HasPrefix(up, "NX-"):
		id, ok := parseID("NX-", up)
		if !ok {
			return Target{}, refuse(BadTarget, "%s is no finding: %s.", quote(s), targetHelp)
		}
		return Target{Kind: FindingTarget, ID: id}, nil
	case strings.HasPrefix(up, "W-"):
		head, digest, pinned := strings.Cut(up, "@")
		id, ok := parseID("W-", head)
		digest = strings.ToLower(digest)
		if !ok || pinned && !isHex(digest, 8, 8) {
			return Target{}, refuse(BadTarget, "%s is no waiver: write W- and 6 to 10 characters, and if you pin its content @ and 8 hexadecimal digits, such as W-9QK3TZAB@1a2b3c4d.", quote(s))
		}
		return Target{Kind: WaiverTarget, ID: id, Digest: digest}, nil
	}
	for _, k := range []TargetKind{RuleTarget, PolicyTarget} {
		if id, ok := strings.CutPrefix(s, string(k)+":"); ok {
			// No wildcards: a waiver for whatever a pattern may come to match is none that somebody looked at.
			if id == "" || len(id) > 100 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-") != "" {
				return Target{}, refuse(BadTarget, "%s names no %s: write its whole name in letters, digits, dots, dashes and slashes; there are no wildcards.", quote(s), k)
			}
			return Target{Kind: k, ID: id}, nil
		}
	}
	return Target{}, refuse(BadTarget, "%s is no target: %s.", quote(s), targetHelp)
}

func parseID(prefix, up string) (string, bool) {
	rest := strings.NewReplacer("I", "1", "L", "1", "O", "0").Replace(strings.TrimPrefix(up, prefix))
	if len(rest) < 6 || len(rest) > 10 || strings.Trim(rest, crockfordDigits) != "" {
		return "", false
	}
	return prefix + rest, true
}

func isHex(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && strings.Trim(s, "0123456789abcdef") == ""
}

// Find returns the place of the one finding or waiver that t names, among the fingerprints (64 hexadecimal digits)
// or digests ("sha256:…") of all that it could be. Where there is none, or more than one, the *Refusal names up to
// ten that are valid. It says nothing about t.Digest: Apply holds that against the waiver.
func Find(t Target, among []string) (int, error) {
	found, at := map[string]bool{}, -1
	var near, all []string
	for i, key := range among {
		code := encoded("sha256:" + strings.TrimPrefix(key, "sha256:"))
		if code == "" {
			continue
		}
		kind, rest, _ := strings.Cut(t.ID, "-")
		if len(all) < 10 {
			all = append(all, kind+"-"+code[:8])
		}
		if t.ID == "" || !strings.HasPrefix(code, rest) || found[code] {
			continue
		}
		found[code] = true
		at = i
		if len(near) < 10 {
			near = append(near, kind+"-"+code[:10])
		}
	}
	switch {
	case len(found) == 1:
		return at, nil
	case len(found) > 1:
		return -1, refuse(Ambiguous, "%s matches %d %ss: %s. Write more of the id.", t.ID, len(found), t.Kind, list(near))
	case len(all) == 0:
		return -1, refuse(NotFound, "%s matches no %s; there is none here.", t.ID, t.Kind)
	}
	return -1, refuse(NotFound, "%s matches no %s here. Valid are %s.", t.ID, t.Kind, list(slices.Compact(all)))
}

// looksLikeTarget tells a mistyped target from a mistyped argument.
func looksLikeTarget(s string) bool {
	up := strings.ToUpper(s)
	return strings.HasPrefix(up, "NX-") || strings.HasPrefix(up, "W-") || s == "here" ||
		strings.HasPrefix(s, "rule:") || strings.HasPrefix(s, "policy:")
}

// MaxLine is the longest command line, in bytes.
const MaxLine = 16 << 10

const prefix = "/noxaudit"

// Parse reads one command line, which begins with "/noxaudit". Every error is a *Refusal.
func Parse(line string) (Command, error) {
	c, r := parse(line)
	if r != nil {
		return Command{}, r
	}
	return c, nil
}

func parse(line string) (Command, *Refusal) {
	if len(line) > MaxLine {
		return Command{}, refuse(TooLarge, "The command line is longer than %d bytes; a reason may have %d characters.", MaxLine, MaxReason)
	}
	rest, ok := strings.CutPrefix(line, prefix)
	if !ok || rest != "" && rest[0] != ' ' && rest[0] != '\t' {
		return Command{}, refuse(Spelling, "A command begins with %s in lower case and a space; %s does not.", prefix, quote(line))
	}
	words, r := split(rest)
	if r != nil {
		return Command{}, r
	}
	if len(words) == 0 {
		return Command{}, refuse(UnknownVerb, "What shall noxaudit do? Write %s and one of %s.", prefix, list(knownVerbs()))
	}
	typed := words[0].text()
	if !ascii(typed) {
		return Command{}, refuse(Characters, "The verb %s holds characters outside of ASCII. Type one of %s.", quote(typed), list(knownVerbs()))
	}
	at := slices.IndexFunc(verbs, func(v verbSpec) bool { return string(v.verb) == typed })
	if at < 0 {
		return Command{}, refuse(UnknownVerb, "There is no command %s.%s Valid are %s.", quote(typed), didYouMean(typed, allVerbs()), list(knownVerbs()))
	}
	spec := verbs[at]
	c := Command{Verb: spec.verb}
	if spec.verb == verbFP {
		c.Verb, c.Kind = VerbWaive, FalsePositive
	}
	seen := map[string]bool{}
	for _, w := range words[1:] {
		if w.key == "" {
			if r := c.positional(w.value, spec.targets); r != nil {
				return Command{}, r
			}
			continue
		}
		if r := keyAllowed(w.key, spec.verb, spec.keys); r != nil {
			return Command{}, r
		}
		if seen[w.key] {
			return Command{}, refuse(DuplicateKey, "%s= is given twice; give it once.", w.key)
		}
		seen[w.key] = true
		if r := c.set(w.key, w.value); r != nil {
			return Command{}, r
		}
	}
	switch {
	case len(spec.targets) > 0 && c.Target.Kind == "":
		return Command{}, refuse(BadTarget, "%s needs to know what: %s.", spec.verb, wanted(spec.targets))
	case spec.reason && !seen["reason"]:
		return Command{}, refuse(NoReason, `%s needs a reason: add reason="why, in at least %d characters".`, spec.verb, MinReason)
	case c.Until != "" && c.Days > 0:
		return Command{}, refuse(BadTerm, "Give either until= or for=, not both.")
	}
	return c, nil
}

func wanted(ks []TargetKind) string {
	if ks[0] == WaiverTarget {
		return "name a waiver, such as W-9QK3TZAB; noxaudit's replies show the line to copy"
	}
	return "name a finding, such as NX-7F3K2QAB; the check run lists them"
}

func (c *Command) positional(s string, targets []TargetKind) *Refusal {
	if c.Verb == VerbList && !looksLikeTarget(s) {
		switch {
		case !slices.Contains(filters, s):
			return refuse(BadArgument, "list does not know %s.%s Valid are %s, or nothing for all.", quote(s), didYouMean(s, filters), list(filters))
		case c.Filter != "":
			return refuse(BadArgument, "list takes one of %s, not two.", list(filters))
		}
		c.Filter = s
		return nil
	}
	if !looksLikeTarget(s) {
		if !ascii(s) {
			return refuse(Characters, `The argument %s holds characters outside of ASCII. Only values may: write them as key="…".`, quote(s))
		}
		return refuse(BadArgument, `%s is neither a target nor key=value. Put quotes around a value that holds spaces: reason="like this".`, quote(s))
	}
	t, err := ParseTarget(s)
	if err != nil {
		return err.(*Refusal)
	}
	switch {
	case len(targets) == 0:
		return refuse(BadTarget, "%s takes no target; leave out %s.", c.Verb, quote(s))
	case !slices.Contains(targets, t.Kind):
		return refuse(BadTarget, "%s does not act on %s: %s.", c.Verb, quote(s), wanted(targets))
	case c.Target.Kind != "":
		return refuse(BadTarget, "One command acts on one target; write a line of its own for %s.", quote(s))
	}
	c.Target = t
	return nil
}

func keyAllowed(key string, verb Verb, keys []string) *Refusal {
	switch {
	case slices.Contains(keys, key):
		return nil
	case !ascii(key):
		return refuse(Characters, "The key %s holds characters outside of ASCII.", quote(key))
	case len(keys) == 0:
		return refuse(UnknownKey, "%s takes no keys; leave out %s.", verb, quote(key+"="))
	case slices.Contains(allKeys, key):
		return refuse(UnknownKey, "%s does not take %s=. It takes %s.", verb, key, list(keys))
	}
	return refuse(UnknownKey, "There is no key %s.%s %s takes %s.", quote(key), didYouMean(key, keys), verb, list(keys))
}

func (c *Command) set(key, value string) *Refusal {
	v := strings.TrimSpace(value)
	if bad, is := hiddenIn(v); is {
		return refuse(Characters, "The value of %s holds %s, which readers cannot see. Type it anew without hidden, control or direction characters.", key, bad)
	}
	if v == "" && key != "reason" {
		return refuse(BadValue, "%s= has no value; give one or leave it out.", key)
	}
	bounded := func(to *string, most int) *Refusal {
		if n := utf8.RuneCountInString(v); n > most {
			return refuse(TooLarge, "The value of %s has %d characters; at most %d are allowed.", key, n, most)
		}
		*to = v
		return nil
	}
	switch key {
	case "reason":
		if r := checkReason(v, MinReason); r != nil {
			return r
		}
		c.Reason = v
	case "kind":
		if !slices.Contains(kindNames, v) {
			return refuse(BadValue, "There is no kind %s.%s Valid are %s.", quote(v), didYouMean(v, kindNames), list(kindNames))
		}
		c.Kind = Kind(v)
	case "scope":
		if !slices.Contains(scopeNames, v) {
			return refuse(BadValue, "There is no scope %s.%s Valid are %s.", quote(v), didYouMean(v, scopeNames), list(scopeNames))
		}
		if v != string(ScopeFinding) { // the default is not written
			c.Scope = Scope(v)
		}
	case "until":
		if t, err := time.Parse(time.DateOnly, v); err != nil || t.Year() < 1000 {
			return refuse(BadTerm, "until=%s is no day. Write the last day as year, month and day, such as until=2026-12-31; it ends at 23:59:59 UTC.", quote(v))
		}
		c.Until = v
	case "for":
		d, ok := parseDays(v)
		if !ok {
			return refuse(BadTerm, "for=%s is no length of time. Write days or weeks, such as for=30d or for=4w.", quote(v))
		}
		c.Days = d
	case "sha":
		v = strings.ToLower(v)
		if !isHex(v, 7, 64) {
			return refuse(BadValue, "sha=%s is no commit: write 7 to 64 hexadecimal digits of the head.", quote(v))
		}
		c.SHA = v
	case "ticket":
		return bounded(&c.Ticket, MaxTicket)
	case "incident":
		return bounded(&c.Incident, MaxTicket)
	case "control":
		return bounded(&c.Control, MaxControl)
	case "rollback":
		return bounded(&c.Rollback, MaxControl)
	case "note":
		return bounded(&c.Note, MaxNote)
	}
	return nil
}

// checkReason holds a trimmed reason against the rules of every reason.
func checkReason(v string, least int) *Refusal {
	n := utf8.RuneCountInString(v)
	switch {
	case n > MaxReason:
		return refuse(TooLarge, "The reason has %d characters; at most %d are allowed. Put the rest in a ticket and name it with ticket=.", n, MaxReason)
	case n < least:
		return refuse(NoReason, "The reason has %d characters; say in at least %d why this is acceptable.", n, least)
	case onlyAddress(v):
		return refuse(NoReason, "The reason is only an address. Say in words why this is acceptable; an address may stand beside them.")
	}
	return nil
}

func onlyAddress(v string) bool {
	for _, w := range strings.Fields(v) {
		w = strings.ToLower(strings.TrimLeft(w, "<("))
		if !strings.Contains(w, "://") && !strings.HasPrefix(w, "www.") {
			return false
		}
	}
	return true
}

func parseDays(v string) (int, bool) {
	if len(v) < 2 || len(v) > 5 || v[0] < '1' || v[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(v[:len(v)-1], 10, 16)
	if err != nil {
		return 0, false
	}
	switch v[len(v)-1] {
	case 'd':
	case 'w':
		n *= 7
	default:
		return 0, false
	}
	return int(n), n <= maxDays
}

// word is one argument. Key is empty for one without "=".
type word struct{ key, value string }

func (w word) text() string {
	if w.key != "" {
		return w.key + "=" + w.value
	}
	return w.value
}

// split cuts what follows "/noxaudit" at spaces. A value in double quotes may hold spaces; inside, \" stands
// for a quote and \\ for a backslash, and any other backslash for itself.
func split(s string) ([]word, *Refusal) {
	var out []word
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" {
			return out, nil
		}
		var w word
		if at := strings.IndexAny(s, "= \t\""); at > 0 && s[at] == '=' {
			w.key, s = s[:at], s[at+1:]
		}
		if !strings.HasPrefix(s, `"`) {
			end := strings.IndexAny(s, " \t")
			if end < 0 {
				end = len(s)
			}
			w.value, s = s[:end], s[end:]
			if r := plainToken(w); r != nil {
				return nil, r
			}
			out = append(out, w)
			continue
		}
		if w.key == "" {
			return nil, refuse(Quotes, `Quotes belong around a value: key="…". Nothing stands before %s.`, quote(s))
		}
		var b strings.Builder
		i, closed := 1, false
		for ; i < len(s) && !closed; i++ {
			switch {
			case s[i] == '"':
				closed = true
			case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
				i++
				b.WriteByte(s[i])
			default:
				b.WriteByte(s[i])
			}
		}
		if !closed {
			return nil, refuse(Quotes, `The value of %s has no closing quote ("). The whole command stands on one line; inside quotes write \" for a quote.`, quote(w.key))
		}
		if s = s[i:]; s != "" && s[0] != ' ' && s[0] != '\t' {
			return nil, refuse(Quotes, `A space must follow the closing quote of %s. Inside quotes write \" for a quote.`, quote(w.key))
		}
		w.value = b.String()
		out = append(out, w)
	}
}

// plainToken refuses quotes that do not quote: a value cut at its first space would be somebody else's reason.
func plainToken(w word) *Refusal {
	for _, q := range []string{"“", "”", "„", "«", "»", "‘", "’", "'"} {
		if strings.HasPrefix(w.value, q) {
			return refuse(Quotes, `Use straight double quotes ("), not %s, around a value.`, q)
		}
	}
	if strings.Contains(w.value, `"`) {
		return refuse(Quotes, `A quote stands inside %s. Put the whole value into quotes and write \" for a quote: key="…".`, quote(w.text()))
	}
	return nil
}

// String is the canonical line of the command. Parse(c.String()) is c for every command that Parse returned.
func (c Command) String() string {
	var b strings.Builder
	b.WriteString(prefix + " " + string(c.Verb))
	if c.Target.Kind != "" {
		b.WriteString(" " + c.Target.String())
	}
	if c.Filter != "" {
		b.WriteString(" " + c.Filter)
	}
	add := func(key, value string) {
		if value == "" {
			return
		}
		if strings.Trim(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/:#-") != "" {
			value = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
		}
		b.WriteString(" " + key + "=" + value)
	}
	add("kind", string(c.Kind))
	add("until", c.Until)
	if c.Days != 0 {
		add("for", fmt.Sprintf("%dd", c.Days))
	}
	add("scope", string(c.Scope))
	add("ticket", c.Ticket)
	add("control", c.Control)
	add("sha", c.SHA)
	add("incident", c.Incident)
	add("rollback", c.Rollback)
	add("note", c.Note)
	add("reason", c.Reason)
	return b.String()
}

// Check reads c back from its line. A command made from a form or from flags passes through here, so that one set of
// rules holds for every surface; the result is in the form that Parse gives. Every error is a *Refusal.
func (c Command) Check() (Command, error) { return Parse(c.String()) }

// Supported is nil, or the *Refusal of a command that the grammar has and this version does not act on. Who can
// tell which finding "here" means puts it in the target's place before asking.
func (c Command) Supported() error {
	what := ""
	switch {
	case c.Verb == VerbExtend:
		what = "Extending a waiver is not in this version; ask for a new one with " + prefix + " waive."
	case c.Verb == VerbEmergency:
		what = "Emergencies are not in this version; ask for a waiver with " + prefix + " waive."
	case c.Verb == VerbWaive && (c.Target.Kind == RuleTarget || c.Target.Kind == PolicyTarget):
		what = "A waiver for a whole " + string(c.Target.Kind) + " is not in this version; name a finding, such as NX-7F3K2QAB."
	case c.Target.Kind == Here:
		what = "The target “here” is not in this version; name the finding, such as NX-7F3K2QAB."
	case c.Scope != "" && c.Scope != ScopeFinding:
		what = "A scope wider than the finding is not in this version; leave out scope=."
	}
	if what == "" {
		return nil
	}
	return &Refusal{NotYet, what}
}
