// Package sarif reads the results of other tools and writes our own, in the Static Analysis Results
// Interchange Format, SARIF 2.1.0 (OASIS, with errata 01).
//
// # Reading
//
// A SARIF file is outside input, often made in a pipeline that ran code of a pull request. Read therefore
// believes little:
//
//   - The size, the nesting and the numbers of runs, results, rules and artifacts are limited; a file beyond a
//     limit is refused whole with a *LimitError, because half a file read in silence is a false "clean".
//     Long texts are cut instead: nothing is decided by their tail.
//   - A member of the wrong type counts as absent, and absent always means the stricter reading: no level is
//     a warning, no kind is a failure, a suppression that cannot be read does not suppress.
//   - A member that appears twice is refused where it carries the structure (runs, tool, results, rules);
//     elsewhere the last one counts.
//   - A run that says that it failed, or has no list of results at all, gets Run.Failed: it assessed nothing.
//   - A place that is not inside the repository is not reported as a finding somewhere else; it becomes a Gap.
//
// What the tools do differently is settled here, once: where the severity stands, how a rule is named, which
// of five ways gives the path, whether columns count bytes, UTF-16 units or characters (see Run.Columns).
//
// # Writing
//
// Write makes one run in the shape that GitHub's code scanning takes, within its limits, with equal bytes
// for equal findings. What it writes, Read reads back to the same types, severities and places.
package sarif

import (
	"errors"
	"fmt"

	"github.com/noxaudit/noxaudit/internal/finding"
)

// Limits of Read. GitHub takes at most 20 runs of 25,000 results and 25,000 rules each.
const (
	DefaultBytes = 64 << 20 // ReadOptions.Bytes when it is 0
	MaxRuns      = 20
	MaxResults   = 25_000 // per run
	MaxRules     = 25_000 // per run, with those of extensions and the entries of taxonomies
	MaxArtifacts = 200_000
	MaxDepth     = 200 // nested objects and arrays
	maxGaps      = 1_000
)

// ErrFormat is wrapped by every error about a document that is not SARIF 2.1.0.
var ErrFormat = errors.New("not a SARIF 2.1.0 document")

// LimitError says that a document is larger than what is read, and what to do about it.
type LimitError struct {
	What  string // "results in one run"
	Limit int64
	Fix   string
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("SARIF document: more than %d %s: %s", e.Limit, e.What, e.Fix)
}

// Log is what was read from one document.
type Log struct {
	Runs []Run
}

// Run is one tool's work.
type Run struct {
	Tool     string // the driver's name as it stands there, cleaned: "CodeQL"
	Version  string
	Revision string // of versionControlProvenance, "" when unknown
	Columns  ColumnKind
	Results  []Result

	// Failed is why the run does not count as a look at the code ("" when it does): the tool said that it
	// failed, reported an error of its own, or left out the list of results. Results of a failed run may
	// still be true; their absence means nothing.
	Failed string

	// Suppressed counts, by path, the results that are left out because the file marks them as suppressed.
	// InSource counts those of them that were suppressed by a comment in the code, which the author of a
	// pull request can write.
	Suppressed map[string]int
	InSource   int

	NotFindings int   // results that say that something passed, did not apply, or is gone
	Gaps        []Gap // places that could not be taken over, or that the tool warned it could not assess
}

// Gap is a place of which the run says nothing reliable.
type Gap struct {
	Path   string // "" when there is no path to name
	Reason string
}

// ColumnKind is what the columns of a run count.
type ColumnKind string

// The column kinds. SARIF has two; tools that say nothing mean UTF-16 units, by the standard.
const (
	UTF16     ColumnKind = "utf16CodeUnits"
	CodePoint ColumnKind = "unicodeCodePoints"
)

// Level is SARIF's own severity.
type Level string

// The levels.
const (
	LevelError   Level = "error"
	LevelWarning Level = "warning"
	LevelNote    Level = "note"
	LevelNone    Level = "none"
)

func parseLevel(s string) (Level, bool) {
	switch l := Level(s); l {
	case LevelError, LevelWarning, LevelNote, LevelNone:
		return l, true
	}
	return "", false
}

// Result is one thing that a tool found. All text is of outside origin, without control and invisible
// characters and within the limits of finding; it is not escaped for any output.
type Result struct {
	Tool   string         // as Run.Tool
	RuleID string         // as the tool writes it, "" when it named none
	Path   string         // as name.CleanPath gives it; "" for the repository as a whole
	Region finding.Region // columns as Run.Columns says; the end column is one past the last, 0 is unknown

	Level      Level
	Severity   finding.Severity
	Confidence finding.Confidence
	Title      string   // the rule's short description, or the first line of the message
	Message    string   // what the tool says of this place
	Help       string   // how to fix it
	Link       string   // the rule's page, http or https
	CWE        []int    // ascending
	Tags       []string // of the rule and the result, lower case
	Suppressed bool     // only with ReadOptions.IncludeSuppressed
}
