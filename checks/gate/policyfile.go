package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/policy"
)

// PolicyPath is where a repository keeps its policies.
const PolicyPath = ".noxaudit/policies.yml"

// PolicySource is a document of policies as it was read.
type PolicySource struct {
	Origin policy.Origin
	Bytes  []byte
}

// ReadPolicy reads the repository's policies from a snapshot. There may be none: then the document is nil. A
// file that is there and cannot be used is an error, a *policy.LoadError where its text is at fault: it never
// counts as "no policies".
func ReadPolicy(ctx context.Context, s *source.Snapshot) (*policy.Document, PolicySource, error) {
	e, ok := s.Lookup(PolicyPath)
	if !ok {
		for _, sk := range s.Skipped() {
			if sk.Path == PolicyPath {
				return nil, PolicySource{}, fmt.Errorf("%s: cannot be read: %s", PolicyPath, sk.Reason)
			}
		}
		for _, e := range s.Entries() {
			if strings.HasPrefix(e.Path, PolicyPath+"/") {
				return nil, PolicySource{}, fmt.Errorf("%s: must be a file, it is a folder", PolicyPath)
			}
		}
		return nil, PolicySource{}, nil
	}
	if !e.Mode.IsFile() {
		return nil, PolicySource{}, fmt.Errorf("%s: must be a file, it is a %s", PolicyPath, e.Mode)
	}
	b, err := s.Read(ctx, e)
	if err != nil {
		return nil, PolicySource{}, fmt.Errorf("policies: %w", err)
	}
	src := PolicySource{policy.Origin{Layer: policy.LayerRepository, Path: PolicyPath, Blob: e.Blob, Commit: s.Commit()}, b}
	doc, err := policy.Load(b, src.Origin)
	return doc, src, err
}

// Effective is the set of policies in force: the floor that nobody can loosen, then the repository's own, or
// the built-in ones where it has none.
func Effective(repository *policy.Document) policy.Set {
	if repository == nil {
		repository = policy.Builtin()
	}
	return policy.Effective(policy.Floor(), repository)
}

// PolicyFile is the auditor that reads the policies which a change brings. They are not in force yet, but a
// change that makes them unreadable would leave the repository without its gate, so each problem is a
// finding, under the floor's policy.
type PolicyFile struct{}

// Info implements audit.Auditor.
func (PolicyFile) Info() audit.Info {
	return audit.Info{Name: "policy", Version: "1", Focus: []string{"policy"}, Title: "policies that cannot be read"}
}

// Reads implements audit.TreeAuditor.
func (PolicyFile) Reads(path string) bool {
	return path == PolicyPath || path == misnamed || strings.HasPrefix(path, PolicyPath+"/")
}

// misnamed is how people also spell PolicyPath. Nothing would read it.
const misnamed = ".noxaudit/policies.yaml"

const maxPolicyFindings = 20

// AuditTree implements audit.TreeAuditor.
func (PolicyFile) AuditTree(ctx context.Context, t audit.Tree) (audit.Result, error) {
	draft := finding.Draft{
		Type: "policy/unreadable", Focus: "policy", Severity: finding.High, Confidence: finding.Certain,
		Evidence: finding.Deterministic, Title: "Policies cannot be read",
		Message:     "With this file merged the repository would have no policies of its own that anyone can rely on.",
		Remediation: "Correct the file; \"noxaudit policy lint\" shows every problem in it.",
	}
	doc, _, err := ReadPolicy(ctx, t.Snapshot)
	_, wrong := t.Lookup(misnamed)
	switch {
	case err == nil && doc == nil && wrong:
		draft.Title, draft.Remediation = misnamed+" is read by nobody", "Rename it to "+PolicyPath+"."
		return audit.Result{Drafts: []audit.Placed{{Path: misnamed, Draft: draft}}}, nil
	case err == nil && doc == nil:
		return audit.Result{NotApplicable: true}, nil
	case err == nil:
		return audit.Result{}, nil
	}
	if ctx.Err() != nil {
		return audit.Result{}, ctx.Err()
	}
	var load *policy.LoadError
	if !errors.As(err, &load) {
		draft.Title = err.Error()
		return audit.Result{Drafts: []audit.Placed{{Path: PolicyPath, Draft: draft}}}, nil
	}
	var res audit.Result
	for _, p := range load.Problems[:min(len(load.Problems), maxPolicyFindings)] {
		d := draft
		d.Title = p.Message
		if p.Hint != "" {
			d.Remediation = "Hint: " + p.Hint + ". " + d.Remediation
		}
		d.Region = finding.Region{StartLine: p.Line, StartColumn: p.Column}
		d.Context = p.Message
		res.Drafts = append(res.Drafts, audit.Placed{Path: PolicyPath, Draft: d})
	}
	return res, nil
}

// PolicyRemoval is the auditor that notices when a change takes a repository's policies away. They judge this
// change still; after it only the built-in ones are left.
type PolicyRemoval struct{}

// Info implements audit.Auditor.
func (PolicyRemoval) Info() audit.Info {
	return audit.Info{Name: "policy-removal", Version: "1", Focus: []string{"policy"}, Title: "policies that a change removes"}
}

// AuditChange implements audit.ChangeAuditor.
func (PolicyRemoval) AuditChange(_ context.Context, c audit.Change) (audit.Result, error) {
	if c.Base == nil {
		return audit.Result{NotApplicable: true}, nil
	}
	if _, had := c.Base.Lookup(PolicyPath); !had {
		return audit.Result{NotApplicable: true}, nil
	}
	if _, has := c.Head.Lookup(PolicyPath); has {
		return audit.Result{}, nil
	}
	return audit.Result{Drafts: []audit.Placed{{Path: PolicyPath, Draft: finding.Draft{
		Type: "policy-removal/removed", Focus: "policy", Severity: finding.High, Confidence: finding.Certain,
		Evidence: finding.Deterministic, Title: "The repository's policies are removed",
		Message:     "After this change only the built-in policies are left, which warn and do not block.",
		Remediation: "Keep " + PolicyPath + ", or have whoever owns the policies agree to this change.",
	}}}}, nil
}
