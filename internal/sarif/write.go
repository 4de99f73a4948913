package sarif

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/internal/finding"
)

// Report is what Write writes.
type Report struct {
	Version  string            // of noxaudit, "1.4.0"; required by readers that compare results over time
	Findings []finding.Finding // in any order; they are written in canonical order
	Rules    []Rule            // descriptions by type; a type without one is described by its findings
	Category string            // tells several reports on one commit apart ("noxaudit/payments"); may be empty

	// Compared says that there was a base: each result then says whether it is new.
	Compared bool

	// Where the code comes from; written when both are known.
	Repository string // its address: "https://github.com/octo-org/payments"
	Revision   string // the commit
	Branch     string // optional

	// NotAssessed is what could not be looked at.
	NotAssessed []NotAssessed

	// Waived are the findings, by fingerprint and content, that people accepted, with their reason. They are
	// written as suppressed.
	Waived map[Waived]string

	// Content gives a file's bytes as they are in the audited tree; false when there is no such file or it
	// must not be read. With it come columns and line hashes; without it only lines.
	Content func(path string) ([]byte, bool)
}

// Waived names a finding that is waived.
type Waived struct{ Fingerprint, Content string }

// NotAssessed is an auditor, or with a Path a place, that was not looked at.
type NotAssessed struct {
	Auditor string
	Path    string
	Reason  string
}

// Rule describes a type of finding. Its texts are ours: the Markdown is written as it is.
type Rule struct {
	Type         string
	Name         string // in one word, "HardcodedCredential"; may be empty
	Title        string // in one line
	Description  string
	Help         string // plain text; how to fix it
	HelpMarkdown string
	Link         string
	Tags         []string
	CWE          []int
}

// Limits of what is written; those of GitHub's code scanning.
const (
	maxTags          = 20
	maxNotifications = 1_000
	textBudget       = 4 << 20 // bytes of messages in one file: what cannot be compressed must stay below 10 MB
	minText          = 160
)

const (
	schemaURI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	homeURI   = "https://github.com/noxaudit/noxaudit"

	fingerprintKey = "noxaudit/fingerprint/v1"
	lineHashKey    = "primaryLocationLineHash"
)

// Write writes the report as one SARIF run. Equal reports give equal bytes. Of more than MaxResults findings
// the most severe are written, new ones before old, and a notification says so.
func Write(w io.Writer, r Report) error {
	kept := slices.Clone(r.Findings)
	finding.Sort(kept)
	dropped := 0
	if len(kept) > MaxResults {
		slices.SortStableFunc(kept, func(a, b finding.Finding) int {
			return cmp.Or(cmp.Compare(b.Severity, a.Severity), first(a.Introduced, b.Introduced))
		})
		dropped = len(kept) - MaxResults
		kept = kept[:MaxResults]
		finding.Sort(kept)
	}
	rules, at, weaknesses := describe(r.Rules, kept)
	run := outRun{
		Tool: outTool{outDriver{
			Name: "noxaudit", Version: r.Version, SemanticVersion: semantic(r.Version), URI: homeURI,
			Rules: rules,
		}},
		ColumnKind:  UTF16,
		Bases:       map[string]outBase{"%SRCROOT%": {Description: outText{"the top of the repository"}}},
		Invocations: []outInvocation{invocationOf(r.NotAssessed, dropped, len(r.Findings))},
		Results:     results(r, kept, at),
	}
	if r.Category != "" {
		run.Automation = &outAutomation{strings.TrimSuffix(r.Category, "/") + "/"}
	}
	if r.Repository != "" && r.Revision != "" {
		run.Provenance = []outProvenance{{r.Repository, r.Revision, r.Branch}}
	}
	if len(weaknesses) > 0 {
		taxa := make([]outTaxon, len(weaknesses))
		for i, n := range weaknesses {
			taxa[i].ID = strconv.Itoa(n)
		}
		run.Tool.Driver.Taxonomies = []outComponentRef{{Name: "CWE"}}
		run.Taxonomies = []outTaxonomy{{Name: "CWE", Organization: "MITRE", URI: "https://cwe.mitre.org/", Taxa: taxa}}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(outLog{schemaURI, "2.1.0", []outRun{run}}); err != nil {
		return fmt.Errorf("sarif: %w", err)
	}
	return nil
}

func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// semantic is a version without its "v" when it is a semantic one, else "".
func semantic(v string) string {
	v = strings.TrimPrefix(v, "v")
	head, _, _ := strings.Cut(v, "-")
	parts := strings.Split(head, ".")
	if len(parts) != 3 {
		return ""
	}
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, 32); err != nil {
			return ""
		}
	}
	return v
}

// describe gives the rules of the findings, sorted by type, the index of each, and the sorted CWE numbers
// that any of them names.
func describe(known []Rule, kept []finding.Finding) (rules []outRule, at map[string]int, weaknesses []int) {
	byType := make(map[string]Rule, len(known))
	for _, k := range known {
		byType[k.Type] = k
	}
	type use struct {
		first      finding.Finding
		severity   finding.Severity
		confidence finding.Confidence
		cwe        map[int]bool
	}
	uses := map[string]*use{}
	for _, f := range kept {
		u, ok := uses[f.Type]
		if !ok {
			u = &use{first: f, confidence: finding.Certain, cwe: map[int]bool{}}
			for _, n := range byType[f.Type].CWE {
				u.cwe[n] = true
			}
			uses[f.Type] = u
		}
		u.severity = max(u.severity, f.Severity)
		u.confidence = min(u.confidence, f.Confidence)
		for _, n := range f.CWE {
			if n > 0 {
				u.cwe[n] = true
			}
		}
	}
	types := make([]string, 0, len(uses))
	all := map[int]int{}
	for t, u := range uses {
		types = append(types, t)
		for _, n := range sortedCWE(u.cwe) {
			all[n] = 0
		}
	}
	slices.Sort(types)
	for n := range all {
		weaknesses = append(weaknesses, n)
	}
	slices.Sort(weaknesses)
	for i, n := range weaknesses {
		all[n] = i
	}
	at = make(map[string]int, len(types))
	rules = make([]outRule, 0, len(types))
	for i, t := range types {
		at[t] = i
		u, k := uses[t], byType[t]
		cwe := sortedCWE(u.cwe)
		if k.Type == "" {
			k = Rule{Title: u.first.Title, Help: u.first.Remediation, Link: u.first.Link}
		}
		o := outRule{ID: t, Name: k.Name, HelpURI: link(k.Link)}
		o.Short = outText{line(cmp.Or(k.Title, t), finding.MaxTitle)}
		o.Full = outText{clean(cmp.Or(k.Description, k.Title, t), finding.MaxMessage)}
		if help := clean(k.Help, finding.MaxMessage); help != "" || k.HelpMarkdown != "" {
			o.Help = &outMarkdown{cmp.Or(help, o.Full.Text), k.HelpMarkdown}
		}
		o.Default = &outConfiguration{levelOf(u.severity)}
		o.Properties = outRuleProperties{
			Tags:             tagsOf(u.first.Focus, k.Tags, cwe),
			Precision:        precisionName(u.confidence),
			SecuritySeverity: securitySeverity(u.severity),
		}
		for _, n := range cwe {
			idx := all[n]
			o.Relationships = append(o.Relationships, outRelationship{
				Target: outTarget{ID: strconv.Itoa(n), Index: idx, Component: outComponentRef{Name: "CWE", Index: new(int)}},
				Kinds:  []string{"superset"},
			})
		}
		rules = append(rules, o)
	}
	return rules, at, weaknesses
}

func tagsOf(focus string, own []string, cwe []int) []string {
	var tags []string
	add := func(t string) {
		if t = line(t, maxName); t != "" && !slices.Contains(tags, t) && len(tags) < maxTags {
			tags = append(tags, t)
		}
	}
	add(focus)
	for _, n := range cwe[:min(len(cwe), maxTags/2)] {
		add(fmt.Sprintf("external/cwe/cwe-%03d", n))
	}
	for _, t := range own {
		add(t)
	}
	return tags
}

func levelOf(s finding.Severity) Level {
	switch s {
	case finding.Critical, finding.High:
		return LevelError
	case finding.Medium:
		return LevelWarning
	}
	return LevelNote
}

// securitySeverity is the middle of the band in which GitHub shows the same name; for info there is no band.
func securitySeverity(s finding.Severity) string {
	switch s {
	case finding.Critical:
		return "9.5"
	case finding.High:
		return "8.0"
	case finding.Medium:
		return "5.5"
	case finding.Low:
		return "2.5"
	}
	return ""
}

func precisionName(c finding.Confidence) string {
	switch {
	case c >= 950:
		return "very-high"
	case c >= 850:
		return "high"
	case c >= 600:
		return "medium"
	}
	return "low"
}

func invocationOf(list []NotAssessed, dropped, of int) outInvocation {
	in := outInvocation{Successful: true}
	if dropped > 0 {
		in.Notifications = append(in.Notifications, outNotification{
			Descriptor: outID{"findings-left-out"}, Level: LevelWarning,
			Message: outText{fmt.Sprintf("%d of %d findings are left out, the least severe ones: one run holds at most %d.", dropped, of, MaxResults)},
		})
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b NotAssessed) int {
		// Whole auditors come first: they must not be what the limit cuts.
		return cmp.Or(first(a.Path == "", b.Path == ""), strings.Compare(a.Auditor, b.Auditor),
			strings.Compare(a.Path, b.Path), strings.Compare(a.Reason, b.Reason))
	})
	for i, n := range list {
		if i == maxNotifications {
			in.Notifications = append(in.Notifications, outNotification{
				Descriptor: outID{"not-assessed"}, Level: LevelWarning,
				Message: outText{fmt.Sprintf("%d more places were not assessed.", len(list)-i)},
			})
			break
		}
		o := outNotification{Descriptor: outID{"not-assessed"}, Level: LevelError,
			Message: outText{plain(fmt.Sprintf("%s: not assessed: %s", line(n.Auditor, maxName), line(n.Reason, 500)))}}
		if n.Path == "" {
			in.Successful = false
		} else {
			o.Level = LevelWarning
			o.Locations = []outLocation{locationOf(n.Path, nil)}
		}
		in.Notifications = append(in.Notifications, o)
	}
	return in
}

func results(r Report, kept []finding.Finding, at map[string]int) []outResult {
	total := 0
	for _, f := range kept {
		total += len(f.Title) + len(f.Message)
	}
	most := finding.MaxTitle + finding.MaxMessage + 2
	if total > textBudget {
		most = max(minText, textBudget/len(kept))
	}
	out := make([]outResult, len(kept))
	var file openFile
	for i, f := range kept {
		o := outResult{
			RuleID: f.Type, RuleIndex: at[f.Type], Level: levelOf(f.Severity),
			Message:      outText{plain(messageOf(f, most))},
			Fingerprints: map[string]string{fingerprintKey: f.Fingerprint},
			Properties: outProperties{
				ID: f.ID, Severity: f.Severity, SecuritySeverity: securitySeverity(f.Severity), Focus: f.Focus,
				Confidence: f.Confidence, Evidence: f.Evidence, Auditor: f.Auditor, Tool: f.Tool, ToolRule: f.ToolRule,
			},
		}
		if f.Path != "" {
			file.open(f.Path, r.Content)
			o.Locations = []outLocation{locationOf(f.Path, file.region(f.Region))}
			if h, ok := file.hash(f.Region.StartLine); ok {
				o.Fingerprints[lineHashKey] = h
			}
		}
		if r.Compared {
			if o.Baseline = "unchanged"; f.Introduced {
				o.Baseline = "new"
			}
		}
		if len(r.Waived) > 0 {
			// One list for all results or for none, as the standard wants it.
			o.Suppressions = &[]outSuppression{}
			if why, ok := r.Waived[Waived{f.Fingerprint, f.Content}]; ok {
				*o.Suppressions = append(*o.Suppressions, outSuppression{"external", "accepted", line(why, 1000)})
			}
		}
		out[i] = o
	}
	return out
}

func messageOf(f finding.Finding, most int) string {
	title := cmp.Or(line(f.Title, finding.MaxTitle), f.Type)
	text := clean(f.Message, finding.MaxMessage)
	if text == "" || text == title {
		return cut(title, most)
	}
	return cut(title+"\n\n"+text, most)
}

// plain escapes what SARIF reads as a link in a plain message: text of outside origin must not become one.
func plain(s string) string { return strings.NewReplacer(`[`, `\[`, `]`, `\]`).Replace(s) }

// openFile holds the file of the findings at hand; they come sorted by path.
type openFile struct {
	path   string
	ok     bool
	lines  [][]byte
	hashes []string
}

func (o *openFile) open(path string, content func(string) ([]byte, bool)) {
	if content == nil || o.path == path {
		return
	}
	*o = openFile{path: path}
	var b []byte
	if b, o.ok = content(path); o.ok {
		o.lines = Lines(b)
		o.hashes = LineHashes(b)
	}
}

// hash is that of a line; a finding about the whole file has that of the first.
func (o *openFile) hash(n int) (string, bool) {
	n = max(n, 1)
	if !o.ok || n > len(o.hashes) {
		return "", false
	}
	return o.hashes[n-1], true
}

func (o *openFile) region(r finding.Region) *outRegion {
	if r.StartLine < 1 {
		return nil
	}
	out := &outRegion{StartLine: r.StartLine}
	if r.EndLine >= r.StartLine {
		out.EndLine = r.EndLine
	}
	if o.ok {
		out.StartColumn = o.units(r.StartLine, r.StartColumn)
		if end := max(r.EndLine, r.StartLine); out.StartColumn > 0 {
			out.EndColumn = o.units(end, r.EndColumn)
			if end == r.StartLine && out.EndColumn < out.StartColumn {
				out.EndColumn = 0
			}
		}
	}
	return out
}

// units turns a column in bytes into one in UTF-16 units, 0 when there is no such line.
func (o *openFile) units(n, column int) int {
	if column < 1 || n > len(o.lines) {
		return 0
	}
	b := o.lines[n-1]
	b = b[:min(column-1, len(b))]
	count := 1
	for len(b) > 0 {
		c, size := utf8.DecodeRune(b)
		count += max(1, utf16.RuneLen(c))
		b = b[size:]
	}
	return count
}

// Lines splits a file at its line ends, of whichever kind (LF, CR LF, CR), as the tools that write SARIF
// count them. The lines share the memory of content.
func Lines(content []byte) [][]byte {
	var lines [][]byte
	for {
		i := bytes.IndexAny(content, "\r\n")
		if i < 0 {
			return append(lines, content)
		}
		lines = append(lines, content[:i])
		if content[i] == '\r' && i+1 < len(content) && content[i+1] == '\n' {
			i++
		}
		content = content[i+1:]
	}
}

func locationOf(path string, region *outRegion) outLocation {
	return outLocation{outPhysical{outArtifact{encodePath(path), "%SRCROOT%"}, region}}
}

// encodePath writes a clean path as a relative URI: every byte that a URI does not allow in a path as it is,
// and a colon, which in the first element would look like a scheme, as %XX.
func encodePath(p string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(p) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~/!$&'*+,;=@", c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

// The types below are what is written, in the order in which it is written.

type outLog struct {
	Schema  string   `json:"$schema"`
	Version string   `json:"version"`
	Runs    []outRun `json:"runs"`
}

type outRun struct {
	Tool        outTool            `json:"tool"`
	Automation  *outAutomation     `json:"automationDetails,omitempty"`
	Provenance  []outProvenance    `json:"versionControlProvenance,omitempty"`
	Bases       map[string]outBase `json:"originalUriBaseIds"`
	ColumnKind  ColumnKind         `json:"columnKind"`
	Invocations []outInvocation    `json:"invocations"`
	Taxonomies  []outTaxonomy      `json:"taxonomies,omitempty"`
	Results     []outResult        `json:"results"`
}

type outTool struct {
	Driver outDriver `json:"driver"`
}

type outDriver struct {
	Name            string            `json:"name"`
	Version         string            `json:"version,omitempty"`
	SemanticVersion string            `json:"semanticVersion,omitempty"`
	URI             string            `json:"informationUri"`
	Taxonomies      []outComponentRef `json:"supportedTaxonomies,omitempty"`
	Rules           []outRule         `json:"rules"`
}

type outText struct {
	Text string `json:"text"`
}

type outMarkdown struct {
	Text     string `json:"text"`
	Markdown string `json:"markdown,omitempty"`
}

type outID struct {
	ID string `json:"id"`
}

type outRule struct {
	ID            string            `json:"id"`
	Name          string            `json:"name,omitempty"`
	Short         outText           `json:"shortDescription"`
	Full          outText           `json:"fullDescription"`
	Default       *outConfiguration `json:"defaultConfiguration"`
	HelpURI       string            `json:"helpUri,omitempty"`
	Help          *outMarkdown      `json:"help,omitempty"`
	Relationships []outRelationship `json:"relationships,omitempty"`
	Properties    outRuleProperties `json:"properties"`
}

type outConfiguration struct {
	Level Level `json:"level"`
}

type outRuleProperties struct {
	Tags             []string `json:"tags,omitempty"`
	Precision        string   `json:"precision"`
	SecuritySeverity string   `json:"security-severity,omitempty"`
}

type outComponentRef struct {
	Name  string `json:"name"`
	Index *int   `json:"index,omitempty"`
}

type outTarget struct {
	ID        string          `json:"id"`
	Index     int             `json:"index"`
	Component outComponentRef `json:"toolComponent"`
}

type outRelationship struct {
	Target outTarget `json:"target"`
	Kinds  []string  `json:"kinds"`
}

type outTaxon struct {
	ID string `json:"id"`
}

type outTaxonomy struct {
	Name         string     `json:"name"`
	Organization string     `json:"organization"`
	URI          string     `json:"informationUri"`
	Taxa         []outTaxon `json:"taxa"`
}

type outAutomation struct {
	ID string `json:"id"`
}

type outProvenance struct {
	Repository string `json:"repositoryUri"`
	Revision   string `json:"revisionId"`
	Branch     string `json:"branch,omitempty"`
}

type outBase struct {
	Description outText `json:"description"`
}

type outInvocation struct {
	Successful    bool              `json:"executionSuccessful"`
	Notifications []outNotification `json:"toolExecutionNotifications,omitempty"`
}

type outNotification struct {
	Descriptor outID         `json:"descriptor"`
	Level      Level         `json:"level"`
	Message    outText       `json:"message"`
	Locations  []outLocation `json:"locations,omitempty"`
}

type outLocation struct {
	Physical outPhysical `json:"physicalLocation"`
}

type outPhysical struct {
	Artifact outArtifact `json:"artifactLocation"`
	Region   *outRegion  `json:"region,omitempty"`
}

type outArtifact struct {
	URI  string `json:"uri"`
	Base string `json:"uriBaseId"`
}

type outRegion struct {
	StartLine   int `json:"startLine"`
	StartColumn int `json:"startColumn,omitempty"`
	EndLine     int `json:"endLine,omitempty"`
	EndColumn   int `json:"endColumn,omitempty"`
}

type outResult struct {
	RuleID       string            `json:"ruleId"`
	RuleIndex    int               `json:"ruleIndex"`
	Level        Level             `json:"level"`
	Message      outText           `json:"message"`
	Locations    []outLocation     `json:"locations,omitempty"`
	Fingerprints map[string]string `json:"partialFingerprints"`
	Baseline     string            `json:"baselineState,omitempty"`
	Suppressions *[]outSuppression `json:"suppressions,omitempty"`
	Properties   outProperties     `json:"properties"`
}

type outSuppression struct {
	Kind          string `json:"kind"`
	Status        string `json:"status"`
	Justification string `json:"justification,omitempty"`
}

type outProperties struct {
	ID               string             `json:"id"`
	Severity         finding.Severity   `json:"severity"`
	SecuritySeverity string             `json:"security-severity,omitempty"`
	Focus            string             `json:"focus"`
	Confidence       finding.Confidence `json:"confidence"`
	Evidence         finding.Evidence   `json:"evidence"`
	Auditor          string             `json:"auditor,omitempty"`
	Tool             string             `json:"tool,omitempty"`
	ToolRule         string             `json:"toolRule,omitempty"`
}
