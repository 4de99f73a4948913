package sarif

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/finding"
)

// DraftOptions are what the operator, not the file, says about a tool's results.
type DraftOptions struct {
	// Focus are the focus areas that the tool decides, the main one first; empty is "security". A result goes
	// to the area that its tags name, if that is one of these, else to the first.
	Focus []string

	// Evidence is what the results rest on; "" is finding.Deterministic. A file cannot promote itself.
	Evidence finding.Evidence
}

// Draft is the result as a finding. Its Context is empty and its columns count what Run.Columns says: who
// has the file completes both.
func (r Result) Draft(o DraftOptions) finding.Draft {
	if o.Evidence == "" {
		o.Evidence = finding.Deterministic
	}
	return finding.Draft{
		Type:        r.Type(),
		Focus:       focusOf(r.Tags, o.Focus),
		Severity:    r.Severity,
		Confidence:  r.Confidence,
		Evidence:    o.Evidence,
		Title:       r.Title,
		Message:     r.Message,
		Remediation: r.Help,
		Region:      r.Region,
		CWE:         slices.Clone(r.CWE),
		Tool:        r.Tool,
		ToolRule:    r.RuleID,
		Link:        r.Link,
	}
}

const maxType = 160

// Type is the tool and the rule in the characters that types are made of: "semgrep-oss/go.lang.sql". A rule
// id that is already a type of ours stays one.
func (r Result) Type() string {
	tool, rule := slug(r.Tool), ruleSlug(r.RuleID)
	if tool == "" {
		tool = "tool"
	}
	if rule == "" {
		rule = "unnamed"
	}
	t := tool + "/" + rule
	if ownName(r.Tool) && strings.Contains(rule, "/") || strings.HasPrefix(rule, tool+"/") {
		t = rule
	}
	if len(t) > maxType {
		// The end of a long id is what tells it from its siblings; the digest keeps them apart.
		sum := sha256.Sum256([]byte(t))
		t = t[:maxType-9] + "-" + hex.EncodeToString(sum[:4])
	}
	return t
}

// areas are the tags that name a focus area, by what tools write.
var areas = map[string]string{
	"security": "security", "vulnerability": "security", "secret": "security", "secrets": "security",
	"performance": "performance", "efficiency": "performance",
	"maintainability": "patterns", "correctness": "patterns", "reliability": "patterns", "error-prone": "patterns",
	"style": "hygiene", "readability": "hygiene", "unused": "hygiene", "deprecated": "hygiene",
	"documentation": "docs", "docs": "docs",
	"testing": "testing", "tests": "testing",
	"dependencies": "dependencies", "supply-chain": "dependencies",
}

func focusOf(tags, allowed []string) string {
	if len(allowed) == 0 {
		return "security"
	}
	for _, t := range tags {
		area, ok := areas[t]
		if !ok {
			area = t
		}
		if slices.Contains(allowed, area) {
			return area
		}
	}
	return allowed[0]
}
