package sarif

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/noxaudit/noxaudit/internal/finding"
)

// ReadOptions say how a document is read.
type ReadOptions struct {
	Bytes int64 // most bytes to read; 0 is DefaultBytes

	// Root is the absolute folder that the code was in when the tool looked at it ("/home/runner/work/api/api").
	// Absolute paths in the file are taken relative to it. A file that says so itself (originalUriBaseIds)
	// needs no Root.
	Root string

	// IncludeSuppressed returns suppressed results too, marked, instead of counting them.
	IncludeSuppressed bool
	// IncludeInSource does so for results that are suppressed by a comment in the code, which is the author's
	// own word.
	IncludeInSource bool
}

// The most results and rules in all runs together: a bound on memory that no real file comes near.
const maxTotal = 100_000

// Read reads one document. Its errors wrap ErrFormat, are a *LimitError, or are those of r.
func Read(r io.Reader, o ReadOptions) (*Log, error) {
	if o.Bytes <= 0 {
		o.Bytes = DefaultBytes
	}
	w := newWalker(r, o.Bytes)
	log := &Log{}
	version, hasVersion, hasRuns := "", false, false
	left := budget{maxTotal, maxTotal}
	ok, err := w.object("the document", []string{"version", "runs"}, func(key string) (err error) {
		switch key {
		case "version":
			hasVersion = true
			if version, err = w.text(); err == nil {
				err = checkVersion(version)
			}
			return err
		case "runs":
			hasRuns, err = w.array("runs", func(i int) error {
				if i == MaxRuns {
					return &LimitError{"runs", MaxRuns, "write each tool's run to a file of its own"}
				}
				run, err := readRun(w, o, &left)
				log.Runs = append(log.Runs, run)
				return err
			})
			return err
		}
		return w.skip()
	})
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%w: it holds nothing but null", ErrFormat)
	case !hasVersion:
		return nil, fmt.Errorf("%w: it has no version", ErrFormat)
	case !hasRuns:
		return nil, fmt.Errorf("%w: it has no list of runs", ErrFormat)
	}
	if _, err := w.dec.Token(); err == nil {
		return nil, fmt.Errorf("%w: something follows the document, after byte %d", ErrFormat, w.dec.InputOffset())
	} else if !errors.Is(err, io.EOF) {
		return nil, w.fail(err)
	}
	return log, nil
}

func checkVersion(v string) error {
	if v != "2.1.0" {
		return fmt.Errorf("%w: its version is %q; let the tool write 2.1.0", ErrFormat, cut(clean(v, 40), 40))
	}
	return nil
}

type budget struct{ results, rules int }

// rule is what is kept of a descriptor.
type rule struct {
	id, guid, name       string
	short, full, help    string
	link                 string
	strings              texts
	level                Level
	security             loose
	precision            string
	tags                 []string
	relations            []descriptorRef
	cwe                  map[int]bool // of the tags; of the relations once the taxonomies are known
	relationsAreResolved bool
}

// component is a driver, an extension or a taxonomy.
type component struct {
	name, guid, version string
	strings             texts
	rules               []*rule
	byID                map[string]*rule
	taxa                []descriptorRef // only ID and GUID
}

// entry is what is kept of a result until the whole run is read: the rules may stand behind the results.
type entry struct {
	ruleID     string
	ruleIndex  index
	rule       *descriptorRef
	level      Level
	text       string
	messageID  string
	arguments  []string
	placed     bool
	artifact   artifactLocation
	region     finding.Region
	tags       []string
	taxa       []descriptorRef
	properties bag
	rank       loose
	suppressed bool
	inSource   bool
	fix        string
}

type runReader struct {
	w          *walker
	o          ReadOptions
	left       *budget
	run        Run
	driver     component
	extensions []component
	taxonomies []component
	places     places
	entries    []entry
	hasResults bool
	elsewhere  bool // the results are in another file
	invoked    few[invocation]
	rules      int
}

func readRun(w *walker, o ReadOptions, left *budget) (Run, error) {
	r := &runReader{w: w, o: o, left: left}
	_, err := w.object("a run", []string{"tool", "results", "invocations", "taxonomies", "artifacts", "originalUriBaseIds"}, r.member)
	if err != nil {
		return Run{}, err
	}
	r.finish()
	return r.run, nil
}

func (r *runReader) member(key string) (err error) {
	w := r.w
	switch key {
	case "tool":
		_, err = w.object("tool", []string{"driver", "extensions"}, func(key string) error {
			switch key {
			case "driver":
				return r.component(&r.driver)
			case "extensions":
				return r.components(&r.extensions)
			}
			return w.skip()
		})
	case "taxonomies":
		err = r.components(&r.taxonomies)
	case "results":
		r.hasResults, err = w.array("results", r.result)
	case "artifacts":
		_, err = w.array("artifacts", func(i int) error {
			if i == MaxArtifacts {
				return &LimitError{"artifacts in one run", MaxArtifacts, "let the tool list only the files that have results"}
			}
			var a struct {
				Location artifactLocation `json:"location"`
			}
			err := w.value(&a)
			r.places.artifacts = append(r.places.artifacts, a.Location)
			return err
		})
	case "originalUriBaseIds":
		r.places.bases = map[string]artifactLocation{}
		_, err = w.object(key, nil, func(name string) error {
			var a artifactLocation
			if err := w.value(&a); err != nil {
				return err
			}
			if len(r.places.bases) < mostFew {
				r.places.bases[name] = a
			}
			return nil
		})
	case "invocations":
		err = w.value(&r.invoked)
	case "versionControlProvenance":
		var v few[struct {
			Revision string `json:"revisionId"`
		}]
		if err = w.value(&v); len(v.items) > 0 {
			r.run.Revision = line(v.items[0].Revision, maxName)
		}
	case "columnKind":
		var s string
		s, err = w.text()
		r.run.Columns = ColumnKind(s)
	case "externalPropertyFileReferences":
		_, err = w.object(key, nil, func(key string) error {
			r.elsewhere = r.elsewhere || key == "results"
			return w.skip()
		})
	default:
		err = w.skip()
	}
	return err
}

func (r *runReader) components(list *[]component) error {
	_, err := r.w.array("a list of tool components", func(i int) error {
		if i == mostFew {
			return &LimitError{"tool components in one run", mostFew, "merge the rule packages of the tool"}
		}
		var c component
		err := r.component(&c)
		*list = append(*list, c)
		return err
	})
	return err
}

func (r *runReader) component(c *component) error {
	w := r.w
	_, err := w.object("a tool component", []string{"name", "rules", "taxa"}, func(key string) (err error) {
		switch key {
		case "name":
			var s string
			s, err = w.text()
			c.name = line(s, maxName)
		case "guid":
			c.guid, err = w.text()
		case "version", "semanticVersion":
			var s string
			if s, err = w.text(); c.version == "" || key == "semanticVersion" {
				c.version = line(s, maxName)
			}
		case "globalMessageStrings":
			err = w.value(&c.strings)
		case "rules":
			_, err = w.array("rules", func(int) error {
				var d descriptor
				if err := r.rule(&d); err != nil {
					return err
				}
				c.rules = append(c.rules, keepRule(d))
				return nil
			})
		case "taxa":
			_, err = w.array("taxa", func(int) error {
				var d descriptor
				if err := r.rule(&d); err != nil {
					return err
				}
				c.taxa = append(c.taxa, descriptorRef{ID: cut(d.ID, maxName), GUID: cut(d.GUID, maxName)})
				return nil
			})
		default:
			err = w.skip()
		}
		return err
	})
	return err
}

func (r *runReader) rule(d *descriptor) error {
	r.rules++
	r.left.rules--
	if r.rules > MaxRules {
		return &LimitError{"rules in one run", MaxRules, "let the tool list only the rules that have results"}
	}
	if r.left.rules < 0 {
		return &LimitError{"rules in one document", maxTotal, "write each tool's run to a file of its own"}
	}
	return r.w.value(d)
}

func keepRule(d descriptor) *rule {
	k := &rule{
		id: line(d.ID, maxName), guid: cut(d.GUID, maxName), name: line(d.Name, maxName),
		short: line(d.Short.String(), finding.MaxTitle), full: clean(d.Full.String(), finding.MaxMessage),
		help: clean(d.Help.String(), finding.MaxMessage), link: link(d.HelpURI), strings: d.MessageStrings,
		security: keepLoose(d.Properties.SecuritySeverity), precision: cut(d.Properties.Precision, maxName),
		tags: keepTags(d.Properties.Tags), cwe: map[int]bool{},
	}
	k.level, _ = parseLevel(d.Default.Level)
	for _, rel := range d.Relationships.items {
		if len(k.relations) < maxCWE && claims(rel.Kinds.items) {
			k.relations = append(k.relations, rel.Target)
		}
	}
	addTags(k.cwe, k.tags)
	return k
}

// claims tells the relationships that say "this rule finds that weakness" from those that say the opposite
// or speak of an order.
func claims(kinds []string) bool {
	for _, k := range kinds {
		switch k {
		case "superset", "equal", "relevant", "subset":
			return true
		}
	}
	return len(kinds) == 0
}

func keepLoose(l loose) loose { return loose(cut(string(l), 40)) }

func keepTags(tags few[string]) []string {
	var out []string
	for _, t := range tags.items {
		if t = strings.ToLower(line(t, maxName)); t != "" {
			out = append(out, t)
		}
	}
	return out
}

func addTags(set map[int]bool, tags []string) {
	for _, t := range tags {
		if !strings.Contains(t, "cwe") {
			continue
		}
		if n, ok := cweOf(t); ok {
			set[n] = true
		}
	}
}

func (r *runReader) result(i int) error {
	if i == MaxResults {
		return &LimitError{"results in one run", MaxResults, "let the tool report fewer: by severity, by path, or split the run"}
	}
	if r.left.results--; r.left.results < 0 {
		return &LimitError{"results in one document", maxTotal, "write each tool's run to a file of its own"}
	}
	var raw rawResult
	if err := r.w.value(&raw); err != nil {
		return err
	}
	switch raw.Kind {
	case "pass", "notApplicable", "informational":
		r.run.NotFindings++
		return nil
	}
	if raw.Baseline == "absent" {
		r.run.NotFindings++
		return nil
	}
	e := entry{
		ruleID: line(raw.RuleID, maxName), ruleIndex: raw.RuleIndex, rule: raw.Rule, rank: keepLoose(raw.Rank),
		tags: keepTags(raw.Properties.Tags), properties: bag{
			SecuritySeverity: keepLoose(raw.Properties.SecuritySeverity), Precision: cut(raw.Properties.Precision, maxName),
			Severity: cut(raw.Properties.Severity, maxName), Confidence: keepLoose(raw.Properties.Confidence),
		},
	}
	e.level, _ = parseLevel(raw.Level)
	for _, a := range raw.Message.Arguments.items {
		e.arguments = append(e.arguments, cut(a, 1000))
	}
	if e.text = raw.Message.String(); e.text != "" {
		e.text, e.arguments = clean(unescape.Replace(substitute(cut(e.text, 4*finding.MaxMessage), e.arguments)), finding.MaxMessage), nil
	}
	e.messageID = cut(raw.Message.ID, maxName)
	for _, l := range raw.Locations.items {
		if l.Physical != nil {
			g := l.Physical.Region
			e.placed, e.artifact = true, l.Physical.Artifact
			e.region = regionOf(g.StartLine, g.StartColumn, g.EndLine, g.EndColumn)
			break
		}
	}
	e.taxa = append(e.taxa, raw.Taxa.items[:min(len(raw.Taxa.items), maxCWE)]...)
	// A result is suppressed when it has suppressions and none of them was refused or is still to be decided.
	e.suppressed = len(raw.Suppression.items) > 0 && !raw.Suppression.more
	for _, s := range raw.Suppression.items {
		e.suppressed = e.suppressed && (s.Status == "" || s.Status == "accepted")
		e.inSource = e.inSource || s.Kind == "inSource"
	}
	// The text of a fix may be prose as well as code: it is shown, never applied.
	if len(raw.Fixes.items) > 0 {
		f := raw.Fixes.items[0]
		e.fix = clean(f.Description.String(), finding.MaxMessage)
		if e.fix == "" && len(f.Changes.items) > 0 && len(f.Changes.items[0].Replacements.items) > 0 {
			e.fix = clean(f.Changes.items[0].Replacements.items[0].Inserted.Text, finding.MaxMessage)
		}
	}
	r.entries = append(r.entries, e)
	return nil
}

// finish resolves what the members of a run say of each other.
func (r *runReader) finish() {
	run := &r.run
	run.Tool, run.Version = r.driver.name, r.driver.version
	if run.Tool == "" {
		run.Tool = "unnamed tool"
	}
	if run.Columns != CodePoint {
		run.Columns = UTF16
	}
	r.places.learn(r.o.Root)
	r.driver.index()
	for i := range r.extensions {
		r.extensions[i].index()
	}
	r.invocations()
	switch {
	case r.elsewhere:
		run.Failed = "its results are in other files, which are not read"
	case !r.hasResults && run.Failed == "":
		run.Failed = "it has no list of results: the tool looked at nothing"
	}
	for i := range r.entries {
		r.resolve(&r.entries[i])
	}
}

func (c *component) index() {
	c.byID = make(map[string]*rule, len(c.rules))
	for _, k := range c.rules {
		if _, ok := c.byID[k.id]; !ok {
			c.byID[k.id] = k
		}
	}
}

func (r *runReader) invocations() {
	for _, in := range r.invoked.items {
		if in.Successful.set && !in.Successful.value {
			why := "the tool says that it did not complete its work"
			for _, s := range []string{in.ExitText, in.StartFailure, firstError(in.Notifications.items)} {
				if s = line(s, 300); s != "" {
					why += ": " + s
					break
				}
			}
			r.fail(why)
		}
		if s := firstError(in.Notifications.items); s != "" {
			r.fail("the tool reports an error: " + line(s, 300))
		}
		for _, n := range in.Notifications.items {
			if n.Level != "" && n.Level != "warning" {
				continue
			}
			for _, l := range n.Locations.items {
				if l.Physical == nil {
					continue
				}
				if p, err := r.places.path(l.Physical.Artifact); err == nil && p != "" {
					r.gap(p, "the tool warns: "+line(n.Message.String(), 300))
				}
			}
		}
	}
}

func (r *runReader) fail(why string) {
	if r.run.Failed == "" {
		r.run.Failed = why
	}
}

func firstError(list []notification) string {
	for _, n := range list {
		if n.Level == "error" {
			if s := n.Message.String(); s != "" {
				return s
			}
			return "it gives no reason"
		}
	}
	return ""
}

// gap records a gap; beyond a number that nobody reads, one more says that there are more.
func (r *runReader) gap(path, reason string) {
	switch n := len(r.run.Gaps); {
	case n < maxGaps:
		r.run.Gaps = append(r.run.Gaps, Gap{path, reason})
	case n == maxGaps:
		r.run.Gaps = append(r.run.Gaps, Gap{"", fmt.Sprintf("%s: more than %d places could not be assessed; these are the first", r.run.Tool, maxGaps)})
	}
}

func (r *runReader) resolve(e *entry) {
	k := r.findRule(e)
	res := Result{Tool: r.run.Tool, RuleID: e.ruleID, Region: e.region, Tags: append(append([]string(nil), k.tags...), e.tags...)}
	if res.RuleID == "" && e.rule != nil {
		res.RuleID = line(e.rule.ID, maxName)
	}
	if res.RuleID == "" {
		res.RuleID = k.id
	}
	if e.placed {
		p, err := r.places.path(e.artifact)
		if err != nil {
			r.gap("", fmt.Sprintf("%s: a result of rule %q was left out: %v", r.run.Tool, res.RuleID, err))
			return
		}
		if res.Path = p; p == "" {
			res.Region = finding.Region{}
		}
	}
	if e.suppressed {
		if !r.o.IncludeSuppressed && !(r.o.IncludeInSource && e.inSource) {
			if r.run.Suppressed == nil {
				r.run.Suppressed = map[string]int{}
			}
			r.run.Suppressed[res.Path]++
			if e.inSource {
				r.run.InSource++
			}
			return
		}
		res.Suppressed = true
	}
	own := ownName(r.run.Tool)
	res.Level = e.level
	if res.Level == "" {
		res.Level = k.level
	}
	if res.Level == "" {
		res.Level = LevelWarning
	}
	res.Severity = severityOfLevel(res.Level)
	if s, ok := severityOf(k.security); ok {
		res.Severity = s
	}
	if s, ok := severityOf(e.properties.SecuritySeverity); ok {
		res.Severity = s
	}
	if own {
		if s, err := finding.ParseSeverity(e.properties.Severity); err == nil {
			res.Severity = s
		}
	}
	res.Confidence = confidence(e, k, own, res.Tags)
	res.CWE = r.cwe(e, k)
	res.Link = k.link
	res.Help = k.help
	if res.Help == "" {
		res.Help = e.fix
	}
	res.Title, res.Message = r.say(e, k, res.RuleID, own)
	r.run.Results = append(r.run.Results, res)
}

// ownName tells our own documents, and those of the command-line tool of the same name, from others.
func ownName(tool string) bool { return slug(tool) == "noxaudit" }

func confidence(e *entry, k *rule, own bool, tags []string) finding.Confidence {
	if own {
		if c, err := finding.ParseConfidence(string(e.properties.Confidence)); err == nil {
			return c
		}
	}
	if c, ok := precisionOf(e.properties.Precision); ok {
		return c
	}
	// Before the rule's precision: Semgrep writes "very-high" there for every rule, and the truth as a tag.
	if c, ok := confidenceOfTags(tags); ok {
		return c
	}
	if c, ok := precisionOf(k.precision); ok {
		return c
	}
	if c, ok := confidenceOfRank(e.rank); ok {
		return c
	}
	return defaultConfidence
}

// say picks the title and the message. The rule's short description is the better title, as it names the
// problem and not the place; some tools only repeat the rule's id there, and our own rules are as wide as a
// focus area: then it is the first line of the message.
func (r *runReader) say(e *entry, k *rule, id string, own bool) (title, text string) {
	text = e.text
	if text == "" && e.messageID != "" {
		s, ok := k.strings[e.messageID]
		if !ok {
			s = r.driver.strings[e.messageID]
		}
		text = clean(unescape.Replace(substitute(cut(s, 4*finding.MaxMessage), e.arguments)), finding.MaxMessage)
	}
	echo := k.short == "" || id != "" && strings.HasSuffix(strings.ToLower(k.short), strings.ToLower(id))
	if title = k.short; echo || own {
		if first := firstLine(text); first != "" {
			title = first
		}
	}
	for _, s := range []string{k.name, id, "a result without a rule and without a message"} {
		if title == "" {
			title = s
		}
	}
	if rest, ok := strings.CutPrefix(text, title); own && ok {
		text = strings.TrimSpace(rest)
	}
	if text == "" || text == title {
		if text = k.full; text == title {
			text = ""
		}
	}
	return title, text
}

var noRule = &rule{}

// findRule looks where SARIF allows a result to name its rule: by index or id, in the driver or, through
// result.rule.toolComponent, in an extension. An index that contradicts an id loses.
func (r *runReader) findRule(e *entry) *rule {
	c, id, idx := &r.driver, e.ruleID, e.ruleIndex
	if e.rule != nil {
		if id == "" {
			id = line(e.rule.ID, maxName)
		}
		if !idx.set {
			idx = e.rule.Index
		}
		if i, ok := find(r.extensions, e.rule.Component); ok {
			c = &r.extensions[i]
		}
	}
	if k, ok := at(c.rules, idx); ok && (id == "" || k.id == id || strings.HasPrefix(id, k.id+"/")) {
		return k
	}
	if id == "" {
		return noRule
	}
	// An id may have parts behind slashes that say more than the rule: "CA1000/1" belongs to "CA1000".
	for part := id; part != ""; part = part[:max(0, strings.LastIndexByte(part, '/'))] {
		if k, ok := c.byID[part]; ok {
			return k
		}
		if k, ok := r.driver.byID[part]; ok {
			return k
		}
		for i := range r.extensions {
			if k, ok := r.extensions[i].byID[part]; ok {
				return k
			}
		}
	}
	return noRule
}

// find resolves a reference to a tool component in a list of them.
func find(list []component, ref componentRef) (int, bool) {
	if _, ok := at(list, ref.Index); ok {
		return ref.Index.at, true
	}
	for i, c := range list {
		if ref.GUID != "" && c.guid == ref.GUID || ref.GUID == "" && ref.Name != "" && strings.EqualFold(c.name, ref.Name) {
			return i, true
		}
	}
	return 0, false
}

func (r *runReader) cwe(e *entry, k *rule) []int {
	if !k.relationsAreResolved && k != noRule {
		for _, ref := range k.relations {
			if n, ok := r.weakness(ref); ok {
				k.cwe[n] = true
			}
		}
		k.relationsAreResolved = true
	}
	if len(e.taxa) == 0 && len(e.tags) == 0 {
		return sortedCWE(k.cwe)
	}
	set := map[int]bool{}
	for n := range k.cwe {
		set[n] = true
	}
	for _, ref := range e.taxa {
		if n, ok := r.weakness(ref); ok {
			set[n] = true
		}
	}
	addTags(set, e.tags)
	return sortedCWE(set)
}

// weakness is the CWE number that a reference into a taxonomy means. A bare number counts only where the
// taxonomy says that it is the CWE.
func (r *runReader) weakness(ref descriptorRef) (int, bool) {
	taxonomy, id := ref.Component.Name, ref.ID
	if i, ok := find(r.taxonomies, ref.Component); ok {
		c := r.taxonomies[i]
		taxonomy = c.name
		if t, ok := at(c.taxa, ref.Index); ok && id == "" {
			id = t.ID
		}
		for _, t := range c.taxa {
			if id == "" && ref.GUID != "" && t.GUID == ref.GUID {
				id = t.ID
			}
		}
	}
	if n, ok := cweOf(id); ok {
		return n, true
	}
	if strings.EqualFold(strings.TrimSpace(taxonomy), "cwe") {
		n, err := strconv.ParseUint(id, 10, 16)
		return int(n), err == nil && n > 0
	}
	return 0, false
}
