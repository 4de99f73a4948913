package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/render"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/ledger/sqllog"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// auditFlags are the flags of "noxaudit audit".
type auditFlags struct {
	path                string
	base, head, policy  string
	sarif, sarifAtBase  []string
	commands            []string
	secretRules         string
	output              string
	format              *choice
	color               *choice
	noStore, all, quiet bool
}

func (p *program) auditCommand() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit [PATH]",
		Short: "audit a checkout and judge it under its policies",
		Long: `Audits the working tree of the repository that PATH is in (default: here), tracked
and untracked files but not ignored ones, and judges the findings under
.noxaudit/policies.yml.

With --base only what was introduced since the merge base with REV can block, and
the policies are those of REV, so a change cannot loosen the rules it is judged
by. Without --base everything is in scope, under the policies of HEAD.

The findings, the verdict and what happened are kept in the data folder and its
signed ledger, and the next run looks only at what changed; --no-store keeps
nothing.`,
		Example: `  noxaudit audit
  noxaudit audit --base origin/main --format markdown
  noxaudit audit --base origin/main --sarif semgrep.sarif --format sarif -o noxaudit.sarif`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, flag := range []string{"base", "head", "policy"} {
				// An empty variable in a script must not quietly mean "no base".
				if v := cmd.Flags().Lookup(flag); v.Changed && v.Value.String() == "" {
					return fmt.Errorf("--%s is empty; leave it out, or name what you mean", flag)
				}
			}
			f.path = "."
			if len(args) == 1 {
				f.path = args[0]
			}
			return p.audit(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.base, "base", "", "compare with the merge base with this revision")
	fl.StringVar(&f.head, "head", "", "audit this commit instead of the working tree")
	fl.StringVar(&f.policy, "policy", "", "judge under this file instead of the repository's policies")
	fl.StringArrayVar(&f.sarif, "sarif", nil, "another tool's SARIF file about the head; may be repeated")
	fl.StringArrayVar(&f.sarifAtBase, "sarif-base", nil, "the same tool's SARIF file about the base; in the order of --sarif")
	fl.StringArrayVar(&f.commands, "command", nil, "NAME=PROGRAM ARGS…: run a program that writes SARIF on a copy of the code")
	fl.StringVar(&f.secretRules, "secret-rules", "", "gitleaks TOML file whose rules extend the built-in ones")
	fl.StringVarP(&f.output, "output", "o", "", "write the result to this file")
	fl.BoolVar(&f.noStore, "no-store", false, "keep nothing: no findings, no verdict, no ledger entry")
	fl.BoolVar(&f.all, "all", false, "show also findings that no policy acts on")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no progress")
	f.format = formatFlag(cmd, "text", "json", "sarif", "markdown")
	f.color = &choice{"auto", []string{"auto", "always", "never"}}
	fl.Var(f.color, "color", "colours in text")
	return cmd
}

func (p *program) audit(ctx context.Context, f auditFlags) error {
	repo, err := source.Open(ctx, f.path, source.DefaultLimits())
	if err != nil {
		return err
	}
	defer repo.Close()
	req, notes, err := p.request(ctx, repo, f)
	if err != nil {
		return err
	}
	auditors, mask, err := auditors(ctx, f, req)
	if err != nil {
		return err
	}
	rec, err := p.openRecord(ctx, f.noStore)
	if err != nil {
		return err
	}
	defer rec.close()
	bar := p.progress(f)
	req.Progress = bar.show
	g := &gate.Gate{
		Store: rec.store, Auditors: auditors, Now: p.now, Rand: p.rand, Engine: engineVersion(),
		Options: audit.Options{AllowCommands: true, Mask: mask}, // the operator named the commands on this very command line
	}
	found, judged, err := judgeAndRecord(ctx, g, req, !f.noStore)
	bar.close()
	if err != nil {
		return err
	}
	if e := found.Stats.CacheError; e != "" {
		notes = append(notes, "Nothing was remembered for the next run: "+e+".")
	}
	story := render.Story{Verdict: judged.Verdict, ID: judged.ID, Findings: found.Findings, Resolved: len(found.Resolved), Notes: notes}
	if err := p.writeAudit(ctx, f, req, story, judged); err != nil {
		return err
	}
	if err := g.Trim(ctx, req.Repo.Account); err != nil {
		p.complain(err)
	}
	// A ledger that cannot be reached does not undo the record: the outbox keeps it for the next run.
	if err := rec.sequence(ctx, req.Repo.Account); err != nil {
		p.complain(fmt.Errorf("the verdict is recorded, and not yet in the ledger, where the next run will put it: %w", err))
	}
	if judged.Conclusion == verdict.Blocked {
		return no(nil)
	}
	return nil
}

// judgeAndRecord audits until what it found could be recorded: where somebody else audited the same line in the
// meantime it looks again, which costs only what changed.
func judgeAndRecord(ctx context.Context, g *gate.Gate, req gate.Request, keep bool) (*gate.Audited, gate.Judged, error) {
	const tries = 10
	for attempt := 1; ; attempt++ {
		at := g.Now()
		found, err := g.Audit(ctx, req)
		if err != nil {
			return nil, gate.Judged{}, err
		}
		judged, err := g.Judge(req, found.Report, at)
		if err != nil || !keep {
			return found, judged, err
		}
		err = g.Record(ctx, req, found, judged)
		switch {
		case err == nil:
			return found, judged, nil
		case !errors.Is(err, gate.ErrOvertaken) || attempt == tries:
			return nil, gate.Judged{}, fmt.Errorf("the verdict (%s) could not be recorded, so it does not count: %w", judged.Conclusion, err)
		}
	}
}

// record is where an audit is kept: the store, and the ledger behind it.
type record struct {
	store *store.Store
	log   *sqllog.Log // nil when nothing is kept
	key   *ledger.Key
	close func()
}

// openRecord opens both before the audit, so that a wrong setting does not cost one.
func (p *program) openRecord(ctx context.Context, keepNothing bool) (record, error) {
	if keepNothing {
		st, forget, err := temporaryStore(ctx)
		return record{store: st, close: forget}, err
	}
	st, err := p.openStore(ctx)
	if err != nil {
		return record{}, err
	}
	log, key, err := p.openLedger(ctx)
	if err != nil {
		return record{}, errors.Join(err, st.Close())
	}
	return record{st, log, key, func() {
		log.Close()
		st.Close()
	}}, nil
}

// sequence moves what was recorded into the ledger and signs it.
func (r record) sequence(ctx context.Context, account name.Account) error {
	if r.log == nil {
		return nil
	}
	return sequence(ctx, r.store, r.log, r.key, account)
}

func readFile(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a FIFO waits for its writer
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return b, nil
}
