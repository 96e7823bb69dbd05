package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON, nagios, watch bool
	var every time.Duration
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the index and of each directory",
		Long: "Shows the state of the index and of each directory. Where no daemon runs, its store is shown, if it was\n" +
			"closed in good order, with the state that it has by now.\n\n" +
			"With --nagios it is one line with performance data for Nagios and its like: OK, WARNING, CRITICAL or\n" +
			"UNKNOWN by the exit status; a bad configuration is UNKNOWN too. With --watch it is drawn again and\n" +
			"again until q or Ctrl-C, over a restart of the daemon too; arrows scroll.\n\n" +
			"Exit status: 0 fresh; 1 late, removals held, a directory failing or an alarm; 2 stale or not ready,\n" +
			"also where no address of an enforced domain is known; 3 the daemon is not reachable, also where its\n" +
			"store is shown.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			switch {
			case nagios && watch || nagios && asJSON || watch && asJSON:
				return &exit{exitUsage, errors.New("--json, --nagios and --watch are mutually exclusive")}
			case command.Flags().Changed("every") && !watch:
				return &exit{exitUsage, errors.New("--every goes with --watch")}
			case nagios:
				return a.nagios(command.Context())
			case watch:
				return a.watch(command.Context(), every)
			}
			return a.status(command.Context(), asJSON)
		},
	}
	flags := command.Flags()
	flags.BoolVar(&asJSON, "json", false, "as JSON, for tools")
	flags.BoolVar(&nagios, "nagios", false, "as one line with performance data, for Nagios and its like")
	flags.BoolVar(&watch, "watch", false, "on a terminal, drawn again and again")
	flags.DurationVar(&every, "every", 2*time.Second, "with --watch: how often, from 500ms on")
	return command
}

func (a *app) status(ctx context.Context, asJSON bool) error {
	var s control.Status
	err := a.ask(ctx, func(from reader) (err error) {
		if s, err = from.Status(ctx); err != nil {
			return err
		}
		if asJSON {
			return printJSON(a.stdout, s)
		}
		return a.printStatus(s)
	})
	if status := statusExit(s); err == nil && status != exitOK {
		return &exit{status: status}
	}
	return err
}

// statusExit is how well the daemon is, as an exit status.
func statusExit(s control.Status) int {
	state := s.State
	attention := s.ReloadError != "" || len(s.Alarms) > 0
	for _, f := range s.AcceptFiles {
		attention = attention || f.Trouble != ""
	}
	for _, d := range s.Directories {
		state = control.Worst(state, d.State)
		attention = attention || d.LastError != "" || d.HeldRemovals > 0
	}
	switch {
	case s.Offline:
		return exitNotReachable
	case len(s.EmptyDomains) > 0:
		return exitTemporary
	case state == control.Fresh && !attention:
		return exitOK
	case state == control.Fresh || state == control.Late:
		return exitFailure
	default:
		return exitTemporary
	}
}

// stateWords returns a state in words, in the colour of its weight.
func stateWords(p *terminal.Page, s control.State) string {
	words := strings.ReplaceAll(text.Printable(string(s)), "_", " ")
	colour := "31" // red
	switch s {
	case control.Fresh:
		colour = "32" // green
	case control.Late, control.Retired:
		colour = "33" // yellow
	}
	return p.Paint(words, colour)
}
