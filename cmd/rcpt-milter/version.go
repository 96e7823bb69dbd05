package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"rcpt-milter/internal/build"
)

// version is set at link time: -ldflags "-X main.version=1.2.3".
var version string

func programVersion() string { return build.Version(version) }

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Long:  "Shows the version, the commit, the version of Go and the platform.\n\nExit status: 0.",
		Args:  noArguments,
		RunE:  func(*cobra.Command, []string) error { return a.printVersion() },
	}
}

// printVersion prints one line about the program.
func (a *app) printVersion() error {
	source := build.ReadSource().String()
	if source != "" {
		source += ", "
	}
	_, err := fmt.Fprintf(a.stdout, "rcpt-milter %s (%s%s, %s/%s)\n", programVersion(), source, runtime.Version(),
		runtime.GOOS, runtime.GOARCH)
	return err
}
