package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set when a release is built; see the Makefile.
var version = ""

// engineVersion is the version that verdicts name.
func engineVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "development"
}

// build is what is known of how this program was made.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Date    string `json:"date,omitempty"` // of the commit
	Dirty   bool   `json:"dirty,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	Tags    string `json:"tags,omitempty"`
}

func buildInfo() build {
	b := build{Version: engineVersion(), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		case "-tags":
			b.Tags = s.Value
		}
	}
	return b
}

func (p *program) versionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "version and build information", Args: cobra.NoArgs}
	format := formatFlag(cmd, "text", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		b := buildInfo()
		if format.value == "json" {
			return p.printJSON(b)
		}
		fmt.Fprintf(p.stdout, "noxaudit %s (%s, %s/%s", b.Version, b.Go, b.OS, b.Arch)
		if b.Commit != "" {
			fmt.Fprintf(p.stdout, ", commit %s", b.Commit)
		}
		fmt.Fprintln(p.stdout, ")")
		return nil
	}
	return cmd
}
