// Package audit holds what looks at code: the contracts that auditors implement, the runner that lifts them
// all over a tree, and the cache that makes the second look cost only what changed.
//
// # Implementing an auditor
//
// An auditor is a value with an Info and exactly one of three capabilities; take the smallest that can do
// the work:
//
//   - BlobAuditor sees one file at a time and nothing else. Its results are cached by blob, so an unchanged
//     file is never read again (secrets, a lint of one file).
//   - TreeAuditor sees the files it declares, together (dependency manifests, contracts, a required
//     document). Its results are cached by the digest of those files.
//   - ChangeAuditor sees a base and a head (breaking changes, history, a model reading a diff). Its results
//     are cached by both trees.
//
// All three return a Result: findings, the places they could not assess and why, and whether there was
// anything for them to look at. "Could not look" is never "clean".
//
// An auditor is a pure function of what it is handed. Time, outside data (advisories, release dates) and a
// model's recorded answer enter through Info.Inputs, named and digested, so that a stored verdict can be
// replayed. It holds no state between calls and may be called from several goroutines at once.
package audit

import (
	"context"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/finding"
)

// Info is what an auditor says of itself.
type Info struct {
	Name    string   // short, lower case, stable: "secrets"; part of cache keys, policies and pages
	Version string   // changes whenever equal input could give other results
	Config  string   // digest of its configuration; results under another configuration are not reused
	Inputs  []Input  // outside data it was built with, by digest
	Focus   []string // the focus areas it decides: a policy on one of them counts as assessed
	Needs   Needs
	Title   string // what it looks for, in one line, for people
}

// Input is outside data that an auditor's results depend on: an advisory database, a SARIF file, the
// recorded answer of a model.
type Input struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // canon.Digest of its bytes
}

// Needs are what an auditor needs beyond the tree; who runs it decides whether it may have them.
type Needs struct {
	Network bool // calls out: never runs in an air-gapped installation
	Money   bool // each uncached run costs: runs within a budget
	Command bool // starts an operator's program on the code
}

// Auditor is implemented by all auditors, together with exactly one of BlobAuditor, TreeAuditor and
// ChangeAuditor; New refuses a value with none or several.
type Auditor interface {
	Info() Info
}

// BlobAuditor looks at one file at a time.
type BlobAuditor interface {
	Auditor
	// Reads says whether the auditor looks at files of this path and, if so, all that its result depends on
	// besides the file's bytes (often ""). Two paths with equal keys and equal blobs share a cached result.
	// It is called for every file of a tree: it must be cheap and must not look at anything else.
	Reads(path string) (key string, ok bool)
	// AuditBlob returns drafts whose regions lie in b. An error means that this file was not assessed.
	AuditBlob(ctx context.Context, b Blob) ([]finding.Draft, error)
}

// Blob is one file's content.
type Blob struct {
	Path  string // as name.CleanPath gives it; only what Reads returned as key may influence the result
	Bytes []byte // never to be changed or kept
	Seal  Seal
}

// Seal turns a secret into the keyed digest that findings carry as Content: HMAC-SHA-256 under the
// account's key, in hexadecimal. The secret itself must leave an auditor in no other form.
type Seal func(secret []byte) string

// TreeAuditor looks at the files it declares, together.
type TreeAuditor interface {
	Auditor
	// Reads says whether the auditor's result depends on the file of this path: on its content, or on its
	// mere presence. It is called for every file of a tree.
	Reads(path string) bool
	AuditTree(ctx context.Context, t Tree) (Result, error)
}

// Tree is one state of a repository as a TreeAuditor sees it.
type Tree struct {
	*source.Snapshot
	Files []source.Entry // those that Reads accepted, sorted by path
	Seal  Seal
}

// ChangeAuditor looks at what became of a base.
type ChangeAuditor interface {
	Auditor
	AuditChange(ctx context.Context, c Change) (Result, error)
}

// Change is a base and a head, and the files that differ. Base is nil when the head is judged alone.
type Change struct {
	Base, Head *source.Snapshot
	Files      []source.Change
	Seal       Seal
}

// Result is what a TreeAuditor or ChangeAuditor found.
type Result struct {
	Drafts        []Placed // what it found
	Gaps          []Gap    // what it could not assess
	NotApplicable bool     // there was nothing of its kind to look at
}

// Placed is a draft at a path.
type Placed struct {
	Path string // inside the repository; "" for the repository as a whole
	finding.Draft
}

// Gap is a place that an auditor could not assess, and why: "larger than 5 MB", "not UTF-8", "timed out".
type Gap struct {
	Path       string `json:"path,omitempty"` // "" when the auditor as a whole could not do its work
	Reason     string `json:"reason"`
	Introduced bool   `json:"introduced"` // set by the runner: the file is new, changed, or could be assessed at the base
}

// Outcome is what became of one auditor in one run.
type Outcome string

// The outcomes. They are not booleans: an auditor that could not look has not found the code clean.
const (
	Found         Outcome = "found"          // at least one finding
	Clean         Outcome = "clean"          // looked at everything of its kind, found nothing
	NotApplicable Outcome = "not applicable" // nothing of its kind is there
	NotAssessed   Outcome = "not assessed"   // failed, timed out, or was not allowed to run
)

// Assessment is one auditor's part of a report.
type Assessment struct {
	Auditor string   `json:"auditor"`
	Version string   `json:"version"`
	Config  string   `json:"config,omitempty"`
	Inputs  []Input  `json:"inputs,omitempty"`
	Focus   []string `json:"focus"`
	Outcome Outcome  `json:"outcome"`
	Reason  string   `json:"reason,omitempty"` // of NotAssessed
	Gaps    []Gap    `json:"gaps,omitempty"`   // at head; a Found or Clean auditor may have some
	Found   int      `json:"found"`            // findings at head
}
