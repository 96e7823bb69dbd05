package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
)

func (a *app) lookupCommand() *cobra.Command {
	var q control.LookupQuery
	var at string
	var asJSON bool
	command := &cobra.Command{
		Use:   "lookup ADDRESS...",
		Short: "Show the reply that an address would get, and why",
		Long: "Shows the reply that an address would get at RCPT TO, and the reason: the rule,\n" +
			"the owner, the pass that learned the address, and its history in the journal. A\n" +
			"lookup is not counted as a decision.\n\n" +
			"With several addresses each is answered in turn. \"-\" reads a list from standard\n" +
			"input, one address per line; empty lines and lines that begin with # are\n" +
			"skipped. An address needs a domain; only postmaster does not. JSON is an object\n" +
			"for one ADDRESS, and a list for several or for \"-\".\n\n" +
			"With --at the command uses the index as it was at that time, as far back as the\n" +
			"journal reaches (journal.keep in the configuration), and the current\n" +
			"configuration. All directories count as fresh.\n\n" +
			"If no daemon runs, the command reads its store, which must have been closed\n" +
			"cleanly.\n\n" +
			"Exit status: 0 accepted, 1 rejected, 2 deferred; the highest one for several\n" +
			"addresses. 64 if a line of standard input is not an address with a domain; the\n" +
			"other lines are answered.",
		Args: lookupArguments,
		RunE: func(command *cobra.Command, args []string) error {
			if _, err := netip.ParseAddr(q.Client); q.Client != "" && err != nil {
				return &exitError{exitUsage, fmt.Errorf("--client: expected an IP address, got %q", q.Client)}
			}
			if err := checkAddresses(args); err != nil {
				return &exitError{exitUsage, err}
			}
			if command.Flags().Changed("at") {
				var err error
				if q.At.Time, err = a.parsePast("at", at); err != nil {
					return err
				}
			}
			return a.lookup(command.Context(), newLookupRun(a, q, args, asJSON))
		},
	}
	flags := command.Flags()
	flags.StringVar(&q.Client, "client", "", "as for a client with this `IP` address")
	flags.BoolVar(&q.Authenticated, "authenticated", false, "as for an authenticated client")
	flags.StringVar(&at, "at", "", "as it was at this `TIME`: a duration ago such as 2h, \"2026-01-31 15:04\", or RFC "+
		"3339")
	flags.BoolVar(&asJSON, "json", false, "as JSON, for tools")
	return command
}

func (a *app) lookup(ctx context.Context, l *lookupRun) error {
	err := a.ask(ctx, func(from reader) error { return l.run(ctx, from) })
	if errors.Is(err, control.ErrNotKept) {
		return &exitError{exitUsage, fmt.Errorf("--at: %w", err)}
	}
	if err == nil && l.status != exitOK {
		return &exitError{status: l.status}
	}
	return err
}

// lookupExit returns the exit status of an outcome.
func lookupExit(answer control.LookupAnswer) int {
	switch answer.Outcome {
	case control.Accepted:
		return exitOK
	case control.Refused:
		return exitFailure
	default:
		return exitTemporary
	}
}

// printLookup prints an answer as text.
func (a *app) printLookup(answer control.LookupAnswer) error {
	p := terminal.NewPage(a.stdout)
	a.console().Lookup(p, answer)
	_, err := io.WriteString(a.stdout, p.String())
	return err
}
