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
		Long: "Shows the state of the index and of each directory. If no daemon runs, the command shows its store, which\n" +
			"must have been closed cleanly, with the present states.\n\n" +
			"With --nagios it prints one line with performance data for Nagios and compatible systems: OK, WARNING,\n" +
			"CRITICAL or UNKNOWN by the exit status; an invalid configuration is UNKNOWN too. With --watch it refreshes\n" +
			"the status until q or Ctrl-C, also across restarts of the daemon; arrow keys scroll.\n\n" +
			"Exit status: 0 fresh; 1 late, removals held, a directory failing or an alarm; 2 stale or not ready, also if\n" +
			"an enforced domain has no known address; 3 daemon not reachable, also if its store is shown.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			switch {
			case nagios && watch || nagios && asJSON || watch && asJSON:
				return &exitError{exitUsage, errors.New("--json, --nagios and --watch are mutually exclusive")}
			case command.Flags().Changed("every") && !watch:
				return &exitError{exitUsage, errors.New("--every requires --watch")}
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
	flags.BoolVar(&nagios, "nagios", false, "one line with performance data, for Nagios and compatible systems")
	flags.BoolVar(&watch, "watch", false, "refresh the status on a terminal")
	flags.DurationVar(&every, "every", 2*time.Second, "with --watch: the interval, at least 500ms")
	return command
}

func (a *app) status(ctx context.Context, asJSON bool) error {
	var s control.Status
	err := a.ask(ctx, func(from reader) (err error) {
		if s, err = from.Status(ctx); err != nil {
			return err
		}
		if asJSON {
			return text.WriteJSON(a.stdout, s)
		}
		return a.printStatus(s)
	})
	if status := statusExit(s); err == nil && status != exitOK {
		return &exitError{status: status}
	}
	return err
}

// statusExit returns the exit status of a status.
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

// stateWords returns a state in words, coloured by severity.
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
