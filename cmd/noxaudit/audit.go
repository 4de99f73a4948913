package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/render"
	"github.com/noxaudit/noxaudit/internal/sarif"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/policy"
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
		Long: `Audits the working tree at PATH (default: here), tracked and untracked files but
not ignored ones, and judges the findings under .noxaudit/policies.yml.

With --base only what was introduced since the merge base with REV can block, and
the policies are those of the base, so a change cannot loosen the rules it is
judged by. Without --base everything is in scope, under the policies of HEAD.

The findings, the verdict and what happened are kept in the data folder and its
signed ledger, and the next run looks only at what changed; --no-store keeps
nothing.`,
		Example: `  noxaudit audit
  noxaudit audit --base origin/main --format markdown
  noxaudit audit --base origin/main --sarif semgrep.sarif --format sarif -o noxaudit.sarif`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
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
	auditors, err := auditors(ctx, f, req)
	if err != nil {
		return err
	}
	var st *store.Store
	if f.noStore {
		var forget func()
		if st, forget, err = temporaryStore(ctx); err != nil {
			return err
		}
		defer forget()
	} else {
		if st, err = p.openStore(ctx); err != nil {
			return err
		}
		defer st.Close()
	}
	bar := p.progress(f)
	req.Progress = bar.show
	g := &gate.Gate{
		Store: st, Auditors: auditors, Now: p.now, Rand: p.rand, Engine: engineVersion(),
		Options: audit.Options{AllowCommands: true}, // the operator named them on this very command line
	}
	at := p.now()
	found, err := g.Audit(ctx, req)
	bar.close()
	if err != nil {
		return err
	}
	judged, err := g.Judge(req, found.Report, at)
	if err != nil {
		return err
	}
	if e := found.Stats.CacheError; e != "" {
		notes = append(notes, "Nothing was remembered for the next run: "+e+".")
	}
	var kept error
	if !f.noStore {
		kept = p.keep(ctx, g, req, found, judged)
	}
	story := render.Story{Verdict: judged.Verdict, ID: judged.ID, Findings: found.Findings, Resolved: len(found.Resolved), Notes: notes}
	if err := p.writeAudit(ctx, f, req, story, judged); err != nil {
		return errors.Join(err, kept)
	}
	if kept != nil {
		return fmt.Errorf("the verdict above could not be recorded, so it does not count: %w", kept)
	}
	if judged.Conclusion == verdict.Blocked {
		return no(nil)
	}
	return nil
}

// keep records an audit and moves the record into the ledger. A ledger that cannot be reached does not undo
// the record: the outbox holds it until the next run.
func (p *program) keep(ctx context.Context, g *gate.Gate, req gate.Request, found *gate.Audited, j gate.Judged) error {
	if err := g.Record(ctx, req, found, j); err != nil {
		return err
	}
	log, key, err := p.openLedger(ctx)
	if err == nil {
		err = errors.Join(sequence(ctx, g.Store, log, key, req.Repo.Account), log.Close())
	}
	if err != nil {
		return fmt.Errorf("recorded, but not yet in the ledger, where the next run will put it: %w", err)
	}
	return nil
}

// request finds out what is to be judged, against what, and under which policies.
func (p *program) request(ctx context.Context, repo *source.Repository, f auditFlags) (gate.Request, []string, error) {
	req := gate.Request{
		Repo: localRepo(repo), Line: "worktree", Context: verdict.Local, Trigger: "command line",
		Actor: ledger.Actor{Kind: "cli", Name: p.user(), Via: "noxaudit audit"},
	}
	var err error
	headCommit, headErr := repo.Resolve(ctx, orHead(f.head))
	switch {
	case f.head != "" || repo.Bare():
		if headErr != nil {
			return req, nil, headErr
		}
		req.Line = "commit"
		req.Head, err = repo.Commit(ctx, headCommit)
	default:
		req.Head, err = repo.WorkTree(ctx)
	}
	if err != nil {
		return req, nil, err
	}
	if headErr != nil && !errors.Is(headErr, source.ErrUnborn) {
		return req, nil, headErr
	}
	policyFrom := req.Head
	if f.base != "" {
		if headErr != nil {
			return req, nil, fmt.Errorf("--base %s: %w, so there is nothing to compare", f.base, headErr)
		}
		base, err := repo.Resolve(ctx, f.base)
		if err != nil {
			return req, nil, fmt.Errorf("--base: %w", err)
		}
		merge, err := repo.MergeBase(ctx, base, headCommit)
		if err != nil {
			return req, nil, fmt.Errorf("--base %s: %w", f.base, err)
		}
		if req.Base, err = repo.Commit(ctx, merge); err != nil {
			return req, nil, err
		}
		policyFrom = req.Base
	} else if headErr == nil && req.Head.Commit().IsZero() {
		if policyFrom, err = repo.Commit(ctx, headCommit); err != nil {
			return req, nil, err
		}
	}
	notes, err := p.policies(ctx, &req, policyFrom, f)
	return req, notes, err
}

func orHead(rev string) string {
	if rev == "" {
		return "HEAD"
	}
	return rev
}

// policies sets the policies in force and says in words which they are.
func (p *program) policies(ctx context.Context, req *gate.Request, from *source.Snapshot, f auditFlags) ([]string, error) {
	if f.policy != "" {
		b, err := readFile(f.policy, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("--policy: %w", err)
		}
		src := gate.PolicySource{Origin: policy.Origin{Layer: policy.LayerFile, Path: filepath.ToSlash(f.policy), Blob: canon.Digest(b)}, Bytes: b}
		doc, err := policy.Load(b, src.Origin)
		if err != nil {
			return nil, no(problems(err))
		}
		req.Policy, req.Sources = gate.Effective(doc), []gate.PolicySource{src}
		return []string{"Judged under the policies of " + f.policy + ", not the repository's own."}, nil
	}
	where := "HEAD"
	switch {
	case req.Base != nil:
		where = "the base, " + req.Base.Commit().Short()
	case f.head != "":
		where = req.Head.Commit().Short()
	case from == req.Head && from.Commit().IsZero():
		where = "the working tree, since there is no commit yet"
	}
	doc, src, err := gate.ReadPolicy(ctx, from)
	if err != nil {
		return nil, no(fmt.Errorf("the policies of %s cannot be used, so nothing can be judged: %w", where, problems(err)))
	}
	req.Policy = gate.Effective(doc)
	notes := []string{"Judged under " + gate.PolicyPath + " of " + where + "."}
	if doc == nil {
		notes[0] = "There is no " + gate.PolicyPath + " in " + where + ": the built-in policies hold, which warn and do not block."
	} else {
		req.Sources = []gate.PolicySource{src}
	}
	if from != req.Head {
		old, _ := from.Lookup(gate.PolicyPath)
		now, _ := req.Head.Lookup(gate.PolicyPath)
		if old.Blob != now.Blob {
			notes = append(notes, "The audited tree has other policies than that; they hold once they are in the base. To try them: --policy "+gate.PolicyPath+".")
		}
	}
	return notes, nil
}

// problems makes a refused document's error a line per problem.
func problems(err error) error {
	var load *policy.LoadError
	if !errors.As(err, &load) {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", load.Origin.Path)
	for _, pr := range load.Problems {
		fmt.Fprintf(&b, "\n  %s:%s", load.Origin.Path, pr)
	}
	if load.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more", load.More)
	}
	return errors.New(b.String())
}

// localRepo is the identity of a checkout: its absolute path.
func localRepo(repo *source.Repository) name.Repo {
	sum := sha256.Sum256([]byte(repo.Root()))
	return name.Repo{Account: name.Local, ID: "path-" + hex.EncodeToString(sum[:8]), FullName: filepath.Base(repo.Root())}
}

// user is who runs the command, as far as the environment says; it is not authenticated.
func (p *program) user() string {
	for _, key := range []string{"GITHUB_ACTOR", "GITLAB_USER_LOGIN", "USER", "LOGNAME", "USERNAME"} {
		for _, kv := range p.environ {
			if v, ok := strings.CutPrefix(kv, key+"="); ok && v != "" {
				return v
			}
		}
	}
	return ""
}

func readFile(path string, most int64) ([]byte, error) {
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

// writeAudit writes the result where it is wanted. A file is replaced whole or not at all.
func (p *program) writeAudit(ctx context.Context, f auditFlags, req gate.Request, story render.Story, j gate.Judged) error {
	var b bytes.Buffer
	var err error
	switch f.format.value {
	case "text":
		color := f.color.value == "always" || f.color.value == "auto" && p.stdoutTerminal && f.output == "" && !p.has("NO_COLOR")
		err = render.Text(&b, story, render.Style{Color: color, Width: min(p.columns(), 120), All: f.all})
	case "markdown":
		b.WriteString(render.Markdown(story, 0))
	case "json":
		err = writeJSON(&b, story, j)
	case "sarif":
		err = sarif.Write(&b, sarifReport(ctx, req, story))
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if f.output == "" {
		_, err = p.stdout.Write(b.Bytes())
		return err
	}
	return replaceFile(f.output, b.Bytes())
}

func (p *program) has(variable string) bool {
	for _, kv := range p.environ {
		if v, ok := strings.CutPrefix(kv, variable+"="); ok && v != "" {
			return true
		}
	}
	return false
}

func replaceFile(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".noxaudit-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

// auditResult is the document of --format json.
type auditResult struct {
	Schema   string            `json:"schema"` // "noxaudit.audit/1"
	ID       string            `json:"id"`
	Digest   string            `json:"digest"` // of the canonical form of Verdict
	Verdict  verdict.Verdict   `json:"verdict"`
	Findings []finding.Finding `json:"findings"`
	Resolved int               `json:"resolved"`
	Notes    []string          `json:"notes"`
}

func writeJSON(w io.Writer, story render.Story, j gate.Judged) error {
	fs := story.Findings
	if fs == nil {
		fs = []finding.Finding{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(auditResult{"noxaudit.audit/1", j.ID, j.Digest, j.Verdict, fs, story.Resolved, story.Notes})
}

func sarifReport(ctx context.Context, req gate.Request, story render.Story) sarif.Report {
	r := sarif.Report{
		Version: engineVersion(), Findings: story.Findings, Compared: req.Base != nil,
		Revision: req.Head.Commit().String(),
		Content: func(path string) ([]byte, bool) {
			e, ok := req.Head.Lookup(path)
			if !ok || !e.Mode.IsFile() {
				return nil, false
			}
			b, err := req.Head.Read(ctx, e)
			return b, err == nil
		},
	}
	for _, gap := range story.Verdict.NotAssessed {
		r.NotAssessed = append(r.NotAssessed, sarif.NotAssessed{Auditor: gap.Auditor, Path: gap.Path, Reason: gap.Reason})
	}
	return r
}

// progressBar shows how far a run is, on a terminal only.
type progressBar struct {
	bar   *progressbar.ProgressBar
	stage string
	on    bool
	w     io.Writer
}

func (p *program) progress(f auditFlags) *progressBar {
	return &progressBar{on: p.stderrTerminal && !f.quiet, w: p.stderr}
}

func (b *progressBar) show(pr audit.Progress) {
	if !b.on {
		return
	}
	if b.bar == nil || b.stage != pr.Stage {
		b.close()
		b.stage = pr.Stage
		b.bar = progressbar.NewOptions(pr.Total, progressbar.OptionSetWriter(b.w), progressbar.OptionClearOnFinish(),
			progressbar.OptionThrottle(80*time.Millisecond), progressbar.OptionSetWidth(30), progressbar.OptionShowCount(),
			progressbar.OptionSetDescription("auditing the "+pr.Stage))
	}
	_ = b.bar.Set(pr.Done) // a progress bar that cannot be drawn is no reason to stop
}

func (b *progressBar) close() {
	if b.bar != nil {
		_ = b.bar.Clear()
		b.bar = nil
	}
}
