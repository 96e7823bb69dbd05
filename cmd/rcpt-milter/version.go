package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is set at link time: -ldflags "-X main.version=1.2.3".
var version string

// programVersion returns the version set at link time, or the one that the Go toolchain
// recorded.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// build is the state of the sources that the Go toolchain recorded. It is empty in tests and
// with -buildvcs=false.
type build struct {
	commit   string
	time     string // of the commit, RFC 3339
	modified bool   // with changes that are not committed
}

func buildOf() build {
	info, _ := debug.ReadBuildInfo()
	return readBuild(info)
}

func readBuild(info *debug.BuildInfo) build {
	var b build
	if info == nil {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.commit = s.Value
		case "vcs.time":
			b.time = s.Value
		case "vcs.modified":
			b.modified = s.Value == "true"
		}
	}
	return b
}

// String returns the state for the version command, or "" if it is unknown.
func (b build) String() string {
	if b.commit == "" {
		return ""
	}
	day, _, _ := strings.Cut(b.time, "T")
	text := fmt.Sprintf("commit %.12s of %s, ", b.commit, day)
	if b.modified {
		text = "changed since " + text
	}
	return text
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Long:  "Shows the version, the commit, the version of Go and the platform.\n\nExit status: 0.",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.stdout, "rcpt-milter %s (%s%s, %s/%s)\n", programVersion(), buildOf(), runtime.Version(),
				runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
