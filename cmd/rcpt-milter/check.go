package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"rcpt-milter/daemon"
	"rcpt-milter/internal/text"
)

func (a *app) checkCommand() *cobra.Command {
	var live bool
	command := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and the store",
		Long: "Checks the configuration, the files it names and the store, and with --live each domain controller:\n" +
			"name, clock, certificate, account and password, the right to see deletions, hidden attributes, the\n" +
			"Global Catalog; and of the organization: recipients in the cloud, domains that no directory reads,\n" +
			"accepted domains of Exchange that the configuration lacks, enforced domains without an address. It\n" +
			"reads all objects of each directory, and names values that cannot be used as addresses, objects that\n" +
			"hide uSNChanged, and recipients of our domains outside bases, public folders first. Each finding says\n" +
			"what to do about it.\n" +
			"It changes nothing, but that it finishes what a daemon that was killed has left in the store, as the\n" +
			"next start would.\n\n" +
			"Exit status: 0 all is well, 1 something is not, 78 the configuration is bad.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error { return a.check(command.Context(), live) },
	}
	command.Flags().BoolVar(&live, "live", false, "connect to the domain controllers too")
	return command
}

func (a *app) check(ctx context.Context, live bool) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	problems := 0
	err = daemon.Check(ctx, daemon.CheckOptions{ConfigPath: a.configPath, Config: c, Live: live, Now: a.now},
		func(f daemon.Finding) {
			if f.Level == daemon.Problem {
				problems++
			}
			a.printFinding(f)
		})
	if err == nil && problems > 0 {
		return &exit{status: exitFailure}
	}
	return err
}

// printFinding writes problems to standard error, and the rest to standard output.
func (a *app) printFinding(f daemon.Finding) {
	switch f.Level {
	case daemon.Good:
		fmt.Fprintf(a.stdout, "ok: %s\n", text.Printable(f.Text))
	case daemon.Warning:
		fmt.Fprintf(a.stdout, "warning: %s\n", text.Printable(f.Text))
	default:
		a.report(f.Err)
	}
}
