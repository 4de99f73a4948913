package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/name"
)

func (p *program) replayCommand() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use:   "replay VERDICT",
		Short: "compute a stored verdict again and compare",
		Long: `Computes a stored verdict again from its stored inputs (findings, policies,
assessments, time) and compares byte for byte. VERDICT is "V-…" or a digest.

Exit codes: 0 identical, 1 different, 2 could not be computed.`,
		Args: cobra.ExactArgs(1),
	}
	format := formatFlag(cmd, "text", "json")
	accountFlag(cmd, &account)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		tenant, err := name.ParseAccount(account)
		if err != nil {
			return err
		}
		st, err := p.openStore(ctx)
		if err != nil {
			return err
		}
		defer st.Close()
		g := &gate.Gate{Store: st, Now: p.now, Rand: p.rand, Engine: engineVersion()}
		r, err := g.Replay(ctx, tenant, args[0])
		if errors.Is(err, gate.ErrNoVerdict) {
			return fmt.Errorf("no verdict %s of account %s is kept here; --account names another account (a GitHub account's numeric id), --data-dir another place", args[0], tenant)
		}
		if err != nil {
			return err
		}
		if format.value == "json" {
			if err := p.writeReplayJSON(r); err != nil {
				return err
			}
		} else {
			p.writeReplay(r)
		}
		if r.Difference != nil {
			return no(nil)
		}
		return nil
	}
	return cmd
}

func accountFlag(cmd *cobra.Command, account *string) {
	cmd.Flags().StringVar(account, "account", name.Local.String(), "the tenant: a GitHub account's numeric id, or local")
}

func (p *program) writeReplay(r gate.Replayed) {
	then := r.Verdict.Inputs.Engine
	if d := r.Difference; d != nil {
		fmt.Fprintf(p.stdout, "different: %s\n  stored   %s\n  computed %s\njudged by %s then, by %s now\n", d.Member, d.Stored, d.Computed, then, r.Engine)
		return
	}
	fmt.Fprintf(p.stdout, "identical: %s (%s)\n", r.Digest, r.Verdict.Conclusion)
	if then != r.Engine {
		fmt.Fprintf(p.stdout, "judged by %s then; %s decides the same\n", then, r.Engine)
	}
}

func (p *program) writeReplayJSON(r gate.Replayed) error {
	out := struct {
		Schema     string `json:"schema"`
		Verdict    string `json:"verdict"`
		Identical  bool   `json:"identical"`
		Conclusion string `json:"conclusion"`
		EngineThen string `json:"engineThen"`
		EngineNow  string `json:"engineNow"`
		Member     string `json:"member,omitempty"`
		Stored     string `json:"stored,omitempty"`
		Computed   string `json:"computed,omitempty"`
	}{Schema: "noxaudit.replay/1", Verdict: r.Digest, Identical: r.Difference == nil, Conclusion: string(r.Verdict.Conclusion), EngineThen: r.Verdict.Inputs.Engine, EngineNow: r.Engine}
	if d := r.Difference; d != nil {
		out.Member, out.Stored, out.Computed = d.Member, d.Stored, d.Computed
	}
	return p.printJSON(out)
}

func (p *program) printJSON(v any) error {
	enc := json.NewEncoder(p.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
