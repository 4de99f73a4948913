package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/noxaudit/noxaudit/checks/audit"
)

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
