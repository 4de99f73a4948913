package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/policy"
	"github.com/noxaudit/noxaudit/policy/policytest"
)

func (p *program) policyTestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test [FILE|DIR]...",
		Short: "run the tests of policies: findings in, verdict out",
		Long: `Runs the cases in files named *_test.yml: findings go in, and the verdict has to be
the one that the case wants. Of a folder (default: this one) all such files in its
.noxaudit are run, or all in it where it has none. Nothing is stored and nothing is
sent: it needs no database and no network.

Exit codes: 0 every case passed, 1 a case failed or a file is not valid,
2 could not be run, or there is no test.`,
	}
	format := formatFlag(cmd, "text", "json", "junit")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{"."}
		}
		files, err := policyTests(args)
		if err != nil {
			return err
		}
		installed, err := installedAuditors()
		if err != nil {
			return err
		}
		var suites []policytest.Suite
		for _, f := range files {
			s, err := runPolicyTest(f, installed)
			if err != nil {
				return err
			}
			suites = append(suites, s)
		}
		write := map[string]func(io.Writer, []policytest.Suite) error{
			"text": policytest.WriteText, "json": policytest.WriteJSON, "junit": policytest.WriteJUnit,
		}[format.value]
		if err := write(p.stdout, suites); err != nil {
			return err
		}
		if !policytest.Passed(suites) {
			return no(nil)
		}
		return nil
	}
	return cmd
}

// maxPolicyTests bounds how many files of cases one command runs.
const maxPolicyTests = 1000

// policyTests are the files of cases that arguments name, each once, those of a folder in order of their paths.
func policyTests(args []string) ([]string, error) {
	var out []string
	add := func(file string) {
		if file = filepath.Clean(file); !slices.Contains(out, file) {
			out = append(out, file)
		}
	}
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, fmt.Errorf("policy tests: %w", err)
		}
		if !info.IsDir() {
			add(arg)
			continue
		}
		dir, before := arg, len(out)
		if info, err := os.Stat(filepath.Join(arg, path.Dir(gate.PolicyPath))); err == nil && info.IsDir() {
			dir = filepath.Join(arg, path.Dir(gate.PolicyPath))
		}
		err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == ".git":
				return fs.SkipDir
			case d.Type().IsRegular() && (strings.HasSuffix(file, "_test.yml") || strings.HasSuffix(file, "_test.yaml")):
				add(file)
			}
			if len(out) > maxPolicyTests {
				return fmt.Errorf("more than %d files; name a smaller folder", maxPolicyTests)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("policy tests: %w", err)
		}
		if len(out) == before {
			return nil, fmt.Errorf("policy tests: %s holds no file named *_test.yml; docs/policies.md shows how to write one", dir)
		}
	}
	return out, nil
}

// installedAuditors are the built-in auditors as having looked and found nothing.
func installedAuditors() ([]policy.Assessment, error) {
	as, _, err := builtinAuditors(nil)
	if err != nil {
		return nil, err
	}
	var out []policy.Assessment
	for _, a := range as {
		out = append(out, policy.Assessment{Auditor: a.Info().Name, Version: a.Info().Version, Focus: a.Info().Focus, Outcome: policy.Clean})
	}
	return out, nil
}

// runPolicyTest runs one file. Its error says that it could not be read; what is wrong in it is in the suite.
func runPolicyTest(file string, installed []policy.Assessment) (policytest.Suite, error) {
	s := policytest.Suite{Path: filepath.ToSlash(file)}
	b, err := readFile(file, 1<<20)
	if err != nil {
		return s, fmt.Errorf("policy tests: %w", err)
	}
	tests, err := policytest.Load(b, s.Path, installed)
	if err != nil {
		s.Err = err
		return s, nil
	}
	s.Policies = path.Join(path.Dir(s.Path), tests.Policies())
	doc, err := testedPolicies(file, tests.Policies(), s.Policies)
	if err != nil {
		s.Err = err
		return s, nil
	}
	var floor []string
	for _, p := range policy.Floor().Policies() {
		floor = append(floor, p.Name)
	}
	s.Results, s.Untested, s.Err = tests.Run(gate.Effective(doc), floor, engineVersion())
	return s, nil
}

// testedPolicies reads the document that a file of cases names. It is opened below the parent of the file's folder,
// so that a file of outside origin, its symbolic links included, makes no other file's text part of the output.
func testedPolicies(file, rel, shown string) (*policy.Document, error) {
	abs, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Dir(abs))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	inRoot, err := filepath.Rel(filepath.Dir(abs), filepath.Join(abs, filepath.FromSlash(rel)))
	if err != nil {
		return nil, err
	}
	missing := func(err error) error {
		return fmt.Errorf("its policies, %s, cannot be read: %w; `policies:` names them", shown, err)
	}
	info, err := root.Stat(inRoot)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, missing(err)
	}
	if !info.Mode().IsRegular() {
		return nil, missing(errors.New("it is not a regular file"))
	}
	f, err := root.Open(inRoot)
	if err != nil {
		return nil, missing(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, missing(err)
	}
	return policy.Load(b, policy.Origin{Layer: policy.LayerRepository, Path: shown, Blob: canon.Digest(b)})
}
