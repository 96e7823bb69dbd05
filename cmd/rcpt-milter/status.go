package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/control/nagios"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON, asNagios, watch bool
	var every time.Duration
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the index and of each directory",
		Long: "Shows the state of the index and of each directory. If no daemon runs, the\n" +
			"command shows its store, which must have been closed cleanly; the states are\n" +
			"those at the time of the command.\n\n" +
			"The table of domains has the busiest domains of the configuration and the\n" +
			"largest others; --json has all. It counts the recipients of each since the\n" +
			"start of the daemon: accepted, refused (a 5xx reply was sent), would refuse\n" +
			"(accepted only because the mode was report) and deferred. A sub-domain without\n" +
			"an entry of its own counts in the row of its .parent.\n\n" +
			"With --nagios it prints one line with performance data for Nagios and\n" +
			"compatible systems: OK, WARNING, CRITICAL or UNKNOWN by the exit status; an\n" +
			"invalid configuration is UNKNOWN too. With --watch it refreshes the status\n" +
			"until q or Ctrl-C, also across restarts of the daemon; arrow keys scroll.\n\n" +
			"Exit status: 0 fresh; 1 late, removals held, a directory failing, trouble with\n" +
			"an accept file or the export, a rejected configuration, a closed listener or an\n" +
			"alarm; 2 stale or not ready, also if an enforced domain has no known address,\n" +
			"the store is damaged or cannot be read, or Postfix cannot connect; 3 daemon not\n" +
			"reachable, even if its store is shown.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			switch {
			case asNagios && watch || asNagios && asJSON || watch && asJSON:
				return &exitError{exitUsage, errors.New("--json, --nagios and --watch are mutually exclusive")}
			case command.Flags().Changed("every") && !watch:
				return &exitError{exitUsage, errors.New("--every requires --watch")}
			case asNagios:
				return a.nagios(command.Context())
			case watch:
				return a.watch(command.Context(), every)
			}
			return a.status(command.Context(), asJSON)
		},
	}
	flags := command.Flags()
	flags.BoolVar(&asJSON, "json", false, "as JSON, for tools")
	flags.BoolVar(&asNagios, "nagios", false, "one line with performance data, for Nagios and compatible systems")
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

// printStatus prints a status as text.
func (a *app) printStatus(s control.Status) error {
	p := terminal.NewPage(a.stdout)
	a.console().Status(p, s)
	_, err := io.WriteString(a.stdout, p.String())
	return err
}

// nagios prints the line of a Nagios plugin. Errors go to standard output too, where Nagios
// reads them.
func (a *app) nagios(ctx context.Context) error {
	var s control.Status
	client, err := a.client()
	if err == nil {
		s, err = client.Status(ctx)
	}
	if err != nil {
		io.WriteString(a.stdout, nagios.ErrorLine(err))
		return &exitError{status: exitNotReachable}
	}
	var limits *nagios.Limits
	if c, err := a.load(); err == nil {
		limits = &nagios.Limits{LateAfter: c.LateAfter, StaleAfter: c.StaleAfter, Connections: c.Limits.Connections}
	}
	status := statusExit(s)
	io.WriteString(a.stdout, nagios.Line(nagios.State(status), s, limits, a.now()))
	if status != exitOK {
		return &exitError{status: status}
	}
	return nil
}

// statusExit returns the exit status of a status.
func statusExit(s control.Status) int {
	state := s.State
	attention := s.ReloadError != "" || len(s.Alarms) > 0 || len(s.Closed()) > 0 || s.ExportTrouble() != ""
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
	case len(s.EmptyDomains) > 0 || len(s.ClosedToPostfix()) > 0 || s.StoreState.Defers():
		return exitTemporary
	case state == control.Fresh && !attention:
		return exitOK
	case state == control.Fresh || state == control.Late:
		return exitFailure
	default:
		return exitTemporary
	}
}
