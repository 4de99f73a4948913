package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/policy"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

func (p *program) policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "work with policies", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(p.policyLintCommand(), p.policyTestCommand())
	return cmd
}

func (p *program) policyLintCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lint [FILE]",
		Short: "check a policy file and point at every problem",
		Long: `Checks a policy file (default: .noxaudit/policies.yml) and points at every problem
by line and column, with what was probably meant.

Exit codes: 0 valid, 1 not valid, 2 could not be read.`,
		Args: cobra.MaximumNArgs(1),
	}
	format := formatFlag(cmd, "text", "json")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		path := gate.PolicyPath
		if len(args) == 1 {
			path = args[0]
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				path = filepath.Join(path, gate.PolicyPath)
			}
		}
		b, err := readFile(path, 1<<20)
		if err != nil {
			return fmt.Errorf("policy file: %w", err)
		}
		doc, err := policy.Load(b, policy.Origin{Layer: policy.LayerFile, Path: filepath.ToSlash(path), Blob: canon.Digest(b)})
		var load *policy.LoadError
		if err != nil && !errors.As(err, &load) {
			return err
		}
		if format.value == "json" {
			return p.lintJSON(path, doc, load)
		}
		if load != nil {
			return no(problems(load))
		}
		noun := "policies"
		if len(doc.Policies()) == 1 {
			noun = "policy"
		}
		fmt.Fprintf(p.stdout, "%s: valid, %d %s\n", escape.Visible(path), len(doc.Policies()), noun)
		idle, err := undecided(doc)
		if err != nil {
			return err
		}
		for _, pl := range doc.Policies() {
			fmt.Fprintf(p.stdout, "  %-8s %s\n", pl.Action, pl.Name)
			if idle[pl.Name] {
				fmt.Fprintf(p.stdout, "           warning: no built-in auditor decides it; it does nothing unless another tool's results do (on_missing: block makes that a failure)\n")
			}
		}
		return nil
	}
	return cmd
}

// undecided are the policies of a document that no built-in auditor decides: a mistyped focus looks like that.
func undecided(doc *policy.Document) (map[string]bool, error) {
	as, err := installedAuditors()
	if err != nil {
		return nil, err
	}
	in := policy.Input{
		Subject: verdict.Subject{Account: name.Local.String(), Repository: verdict.Repository{ID: "lint"}, Tree: "lint", Context: verdict.Local},
		Policy:  policy.Effective(doc), Time: time.Unix(0, 0), Engine: engineVersion(), Assessments: as,
	}
	v, err := policy.Judge(in)
	if err != nil {
		return nil, err
	}
	idle := map[string]bool{}
	for _, p := range v.Policies {
		if len(p.DecidedBy) == 0 {
			idle[p.Name] = true
		}
	}
	return idle, nil
}

func (p *program) lintJSON(path string, doc *policy.Document, load *policy.LoadError) error {
	type problem struct {
		Line    int    `json:"line"`
		Column  int    `json:"column"`
		Message string `json:"message"`
		Hint    string `json:"hint,omitempty"`
	}
	out := struct {
		Schema    string    `json:"schema"`
		Path      string    `json:"path"`
		Valid     bool      `json:"valid"`
		Policies  int       `json:"policies"`
		Undecided []string  `json:"undecided"` // policies that no built-in auditor decides
		Problems  []problem `json:"problems"`
	}{Schema: "noxaudit.policy-lint/1", Path: path, Valid: load == nil, Undecided: []string{}, Problems: []problem{}}
	if doc != nil {
		out.Policies = len(doc.Policies())
		idle, err := undecided(doc)
		if err != nil {
			return err
		}
		out.Undecided = append(out.Undecided, slices.Sorted(maps.Keys(idle))...)
	}
	if load != nil {
		for _, pr := range load.Problems {
			out.Problems = append(out.Problems, problem{pr.Line, pr.Column, pr.Message, pr.Hint})
		}
	}
	if err := p.printJSON(out); err != nil {
		return err
	}
	if load != nil {
		return no(nil)
	}
	return nil
}
