// Command noxaudit audits code, judges what it finds under policy-as-code, and records both in a signed
// ledger. "noxaudit help" lists what it can do.
package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	home := os.Getenv("XDG_DATA_HOME")
	if home == "" {
		if h, err := os.UserHomeDir(); err == nil {
			home = h + "/.local/share"
		}
	}
	settings, _ := os.UserConfigDir() // none: signing in says so
	hostname, _ := os.Hostname()
	p := &program{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		environ: os.Environ(), home: home, now: time.Now, rand: rand.Reader, settings: settings, hostname: hostname, browse: browse,
		columns: func() int {
			w, _, err := term.GetSize(int(os.Stdout.Fd()))
			if err != nil {
				return 0
			}
			return w
		},
		stdoutTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		stderrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
