package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/noxaudit/noxaudit/internal/config"
	"github.com/noxaudit/noxaudit/internal/escape"
)

// program is noxaudit with all it needs of the world, so that a test starts the same one as main does.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string             // "NAME=value"
	home           string               // parent of the default data folder; "" for none
	settings       string               // parent of the folder that holds sign-ins at servers; "" for none
	hostname       string               // what this machine calls itself, for the list of sessions
	browse         func(address string) // opens a browser; nil: there is none
	now            func() time.Time
	rand           io.Reader
	columns        func() int // of the terminal; 0 = unknown
	stdoutTerminal bool
	stderrTerminal bool

	config config.Config // set before a command runs
}

// The exit codes.
const (
	exitPassed  = 0 // did it; the answer is yes
	exitBlocked = 1 // did it; the answer is no: blocked, invalid, tampered with
	exitFailed  = 2 // could not do it
)

// answerNo ends a command that did its work, whose answer is no. What there is to say has been said, unless
// it wraps a reason.
type answerNo struct{ reason error }

func (e answerNo) Error() string {
	if e.reason == nil {
		return ""
	}
	return e.reason.Error()
}

func (e answerNo) Unwrap() error { return e.reason }

// no is an error that exits with 1 and says err first.
func no(err error) error { return answerNo{err} }

// run runs one command and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	zerolog.SetGlobalLevel(zerolog.Disabled) // libraries log to a global logger; this program speaks for itself
	root := p.root()
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	var refused answerNo
	switch {
	case err == nil:
		return exitPassed
	case ctx.Err() != nil:
		fmt.Fprintln(p.stderr, "noxaudit: interrupted; what was finished is kept, run it again to go on")
		return exitFailed
	case errors.As(err, &refused):
		if refused.reason != nil {
			p.complain(refused.reason)
		}
		return exitBlocked
	}
	p.complain(err)
	return exitFailed
}

// complain writes an error, a line for each part of a joined one.
func (p *program) complain(err error) {
	for i, l := range escape.Lines(err.Error()) {
		if i == 0 {
			l = "noxaudit: " + l
		}
		fmt.Fprintln(p.stderr, l)
	}
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "noxaudit",
		Short: "audit code, judge it under policy-as-code, keep a record that can be verified",
		Long: `noxaudit audits code, judges what it finds under policy-as-code, and keeps a
signed record that anybody can verify.

Exit codes: 0 passed, 1 blocked or invalid, 2 could not do it.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          help,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	file := flags.String("config", "", "YAML file with settings")
	for _, s := range config.Table {
		flags.String(s.Flag(), "", s.Help+" ("+s.Env+")")
	}
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		given := map[string]string{}
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if slices.ContainsFunc(config.Table, func(s config.Setting) bool { return s.Flag() == f.Name }) {
				given[f.Name] = f.Value.String()
			}
		})
		c, err := config.Load(config.Sources{Flags: given, Environ: p.environ, File: *file, Home: p.home})
		p.config = c
		return err
	}
	root.AddCommand(p.demoCommand(), p.serveCommand(), p.auditCommand(), p.replayCommand(), p.policyCommand(), p.ledgerCommand(),
		p.auditorsCommand(), p.waiverCommand(), p.loginCommand(), p.logoutCommand(), p.migrateCommand(), p.doctorCommand(), p.versionCommand())
	return root
}

// help is what a command that only groups others does. Without it an unknown subcommand would be no error.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// choice is a flag that takes one of a few words.
type choice struct {
	value   string
	allowed []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.allowed, "|") }
func (c *choice) Set(v string) error {
	if !slices.Contains(c.allowed, v) {
		return fmt.Errorf("want one of %s", strings.Join(c.allowed, ", "))
	}
	c.value = v
	return nil
}

// formatFlag adds --format; the first word is the default.
func formatFlag(cmd *cobra.Command, words ...string) *choice {
	c := &choice{words[0], words}
	cmd.Flags().Var(c, "format", "how to write the result")
	return c
}
