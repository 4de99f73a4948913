package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/auditor/external"
	"github.com/noxaudit/noxaudit/checks/auditor/secrets"
	"github.com/noxaudit/noxaudit/checks/gate"
)

// builtinAuditors look at every repository. mask takes secrets out of what all the others say.
func builtinAuditors(secretRules []byte) (as []audit.Auditor, mask func(string) string, err error) {
	s, err := secrets.New(secrets.Options{Extra: secretRules})
	if err != nil {
		return nil, nil, fmt.Errorf("--secret-rules: %w", err)
	}
	return []audit.Auditor{s, gate.PolicyFile{}, gate.PolicyRemoval{}}, s.Mask, nil
}

// maxSARIF bounds a SARIF file given on the command line, in bytes.
const maxSARIF = 64 << 20

// auditors are the built-in ones and those that the flags name.
func auditors(ctx context.Context, f auditFlags, req gate.Request) (as []audit.Auditor, mask func(string) string, err error) {
	var extra []byte
	if f.secretRules != "" {
		if extra, err = readFile(f.secretRules, 1<<20); err != nil {
			return nil, nil, fmt.Errorf("--secret-rules: %w", err)
		}
	}
	as, mask, err = builtinAuditors(extra)
	if err != nil {
		return nil, nil, err
	}
	if len(f.sarifAtBase) > len(f.sarif) {
		return nil, nil, fmt.Errorf("--sarif-base: given %d times, --sarif %d times; each belongs to the --sarif of its place", len(f.sarifAtBase), len(f.sarif))
	}
	taken := map[string]bool{}
	for i, path := range f.sarif {
		body, err := readFile(path, maxSARIF)
		if err != nil {
			return nil, nil, fmt.Errorf("--sarif: %w", err)
		}
		var base *external.Base
		if i < len(f.sarifAtBase) {
			if req.Base == nil {
				return nil, nil, errors.New("--sarif-base: there is no base without --base")
			}
			base = &external.Base{Tree: req.Base}
			if base.SARIF, err = readFile(f.sarifAtBase[i], maxSARIF); err != nil {
				return nil, nil, fmt.Errorf("--sarif-base: %w", err)
			}
		}
		a, err := external.NewFile(ctx, auditorName(path, taken), body, req.Head, base, external.Options{})
		if err != nil {
			return nil, nil, fmt.Errorf("--sarif %s: %w", path, err)
		}
		as = append(as, a)
	}
	for _, c := range f.commands {
		label, line, ok := strings.Cut(c, "=")
		argv := strings.Fields(line)
		if !ok || label == "" || len(argv) == 0 {
			return nil, nil, fmt.Errorf("--command %q: want NAME=PROGRAM ARGS…", c)
		}
		a, err := external.NewCommand(auditorName(label, taken), argv, external.CommandOptions{})
		if err != nil {
			return nil, nil, fmt.Errorf("--command %s: %w", label, err)
		}
		as = append(as, a)
	}
	return as, mask, nil
}

// auditorName makes a file's name an auditor's: "out/semgrep.sarif" is "semgrep", a second one "semgrep-2".
func auditorName(path string, taken map[string]bool) string {
	base := filepath.Base(path)
	for filepath.Ext(base) != "" && filepath.Ext(base) != base {
		base = strings.TrimSuffix(base, filepath.Ext(base))
	}
	clean := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, base), "-")
	if clean == "" {
		clean = "external"
	}
	label := clean
	for n := 2; taken[label] || label == "secrets" || label == "policy" || label == "policy-removal"; n++ {
		label = fmt.Sprintf("%s-%d", clean, n)
	}
	taken[label] = true
	return label
}

func (p *program) auditorsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "auditors", Short: "list what looks at code", Args: cobra.NoArgs}
	format := formatFlag(cmd, "text", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		as, _, err := builtinAuditors(nil)
		if err != nil {
			return err
		}
		runner, err := audit.New(as, audit.Options{})
		if err != nil {
			return err
		}
		if format.value == "json" {
			return p.printJSON(runner.Auditors())
		}
		w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "AUDITOR\tVERSION\tFOCUS\tLOOKS FOR")
		for _, a := range runner.Auditors() {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.Name, a.Version, strings.Join(a.Focus, ", "), a.Title)
		}
		return w.Flush()
	}
	return cmd
}
