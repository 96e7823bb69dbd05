package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/daemon"
	"rcpt-milter/internal/text"
)

func (a *app) checkCommand() *cobra.Command {
	var live bool
	command := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and the store",
		Long: "Checks the configuration, the files that it names, and the store.\n\n" +
			"With --live it also connects to each domain controller. It checks the host\n" +
			"name, the clock, the certificate, the account and its password, the right to\n" +
			"see deleted objects, attributes that the account cannot read, and the Global\n" +
			"Catalog. It looks for recipients in the cloud, domains that no directory reads,\n" +
			"accepted domains of Exchange that the configuration lacks, and enforced domains\n" +
			"without an address. It reads all objects of each directory, and names values\n" +
			"that are not addresses, objects that hide uSNChanged, and recipients of the\n" +
			"configured domains outside bases. Each finding says how to correct it. Errors\n" +
			"come last.\n\n" +
			"The command changes nothing, except that it repairs the store after a crash, as\n" +
			"the next start would.\n\n" +
			"Exit status: 0 no error, also with warnings; 1 an error; 78 the configuration\n" +
			"is invalid, or a file that it names does not exist.",
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
	var problems []daemon.Finding
	err = daemon.Check(ctx, daemon.CheckOptions{ConfigPath: a.configPath, Config: c, Live: live, Now: a.now},
		func(f daemon.Finding) {
			if f.Level == daemon.Problem {
				problems = append(problems, f)
				return
			}
			a.printFinding(f)
		})
	for _, f := range problems { // last, where they stay on the screen
		a.printFinding(f)
	}
	if err == nil && len(problems) > 0 {
		return &exitError{status: exitFailure}
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
		for line := range strings.SplitSeq(f.Text, "\n") {
			fmt.Fprintf(a.stderr, "error: %s\n", text.Printable(line))
		}
	}
}
