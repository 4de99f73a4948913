package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/render"
	"github.com/noxaudit/noxaudit/internal/sarif"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

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
	if f.output == "" || f.output == "-" {
		_, err = p.stdout.Write(b.Bytes())
		return err
	}
	return writeFile(f.output, b.Bytes())
}

func (p *program) has(variable string) bool {
	for _, kv := range p.environ {
		if v, ok := strings.CutPrefix(kv, variable+"="); ok && v != "" {
			return true
		}
	}
	return false
}

// writeFile writes a file whole or not at all. A link is followed; a device or pipe is written to, not replaced.
func writeFile(path string, b []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		_, err = f.Write(b)
		return errors.Join(err, f.Close())
	}
	return replaceFile(path, b)
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
