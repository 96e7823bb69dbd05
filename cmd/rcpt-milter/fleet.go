package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

func (a *app) fleetCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "fleet",
		Short: "Show the edges that follow this hub",
		Long: "Shows the edges that follow the directories that this daemon publishes.\n\n" +
			"Exit status: that of the subcommand.",
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &exitError{exitUsage, fmt.Errorf("unknown command %q for fleet; see %q", args[0],
					"fleet --help")}
			}
			return &exitError{exitUsage, fmt.Errorf("expected a command; see %q", command.CommandPath()+" --help")}
		},
	}
	command.AddCommand(a.fleetStatusCommand())
	return command
}

func (a *app) fleetStatusCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Show all edges of this hub in one table",
		Long: "Shows all edges of this hub in one table: their state, whether their index\n" +
			"equals that of the hub, how far they are behind, and their last report. Edges\n" +
			"report after each pass and at least twice a minute. An edge that has not\n" +
			"reported for three minutes is silent.\n\n" +
			"Exit status: 0 all edges are fresh and equal; 1 an edge or the publishing needs\n" +
			"attention, or there is no edge; 2 an edge is stale, not ready or silent.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			return a.fleetStatus(command.Context(), asJSON)
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "as JSON, for tools")
	return command
}

// fleetAnswer is the JSON of fleet status.
type fleetAnswer struct {
	Publish []control.PublishStatus `json:"publish"`
	Edges   []control.FleetRow      `json:"edges"`
	Engine  *control.EngineStatus   `json:"engine"` // null means that this daemon has none
}

func (a *app) fleetStatus(ctx context.Context, asJSON bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	s, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		answer := fleetAnswer{Publish: append([]control.PublishStatus{}, s.Publish...),
			Edges: append([]control.FleetRow{}, s.FleetRows(a.now())...), Engine: s.Engine}
		err = text.WriteJSON(a.stdout, answer)
	} else {
		p := terminal.NewPage(a.stdout)
		a.console().Fleet(p, s)
		_, err = io.WriteString(a.stdout, p.String())
	}
	if status := fleetExit(s, a.now()); err == nil && status != exitOK {
		return &exitError{status: status}
	}
	return err
}

// fleetExit returns the exit status of fleet status.
func fleetExit(s control.Status, now time.Time) int {
	rows := s.FleetRows(now)
	status := exitOK
	if len(rows) == 0 {
		status = exitFailure
	}
	for _, p := range s.Publish {
		if p.LastError != "" {
			status = exitFailure
		}
	}
	for _, row := range rows {
		switch {
		case row.State != control.Fresh && row.State != control.Late:
			return exitTemporary
		case !row.Healthy():
			status = exitFailure
		}
	}
	return status
}
