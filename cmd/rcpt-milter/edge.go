package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/daemon"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

func (a *app) edgeCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "edge",
		Short: "Enrol the hosts that connect to the engine of this daemon",
		Long: "Enrols edges and hubs at the engine (nats) of this daemon, lists and removes\n" +
			"them.\n\n" +
			"Exit status: that of the subcommand.",
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &exitError{exitUsage, fmt.Errorf("unknown command %q for edge; see %q", args[0], "edge --help")}
			}
			return &exitError{exitUsage, fmt.Errorf("expected a command; see %q", command.CommandPath()+" --help")}
		},
	}
	command.AddCommand(a.edgeAddCommand(), a.edgeJoinCommand(), a.edgeListCommand(), a.edgeRemoveCommand())
	return command
}

// oneArgument is for commands with exactly one argument.
func oneArgument(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return errors.New("expected " + what)
		}
		return nil
	}
}

func (a *app) edgeAddCommand() *cobra.Command {
	q := control.MemberQuery{Role: control.RoleEdge}
	var output string
	var hub, node bool
	command := &cobra.Command{
		Use:   "add NAME",
		Short: "Enrol an edge, and write the file that it needs",
		Long: "Enrols an edge at the engine of this daemon, and writes the file that the edge\n" +
			"needs: NAME.enrol, or that of --output. It never overwrites a file. Copy the\n" +
			"file to the edge and run \"rcpt-milter edge join FILE\" there. The file is\n" +
			"secret. An edge of the same name gets new credentials, and its old ones are\n" +
			"revoked.\n\n" +
			"Exit status: 0 enrolled, 1 failed.",
		Args: oneArgument("the name of an edge"),
		RunE: func(command *cobra.Command, args []string) error {
			q.Name = args[0]
			if hub && node {
				return &exitError{exitUsage, errors.New("--hub and --node are mutually exclusive")}
			}
			if hub {
				q.Role = control.RoleHub
			}
			if node {
				q.Role = control.RoleNode
			}
			return a.edgeAdd(command.Context(), q, output)
		},
	}
	command.Flags().StringVar(&output, "output", "", "write to this `FILE`; it must not exist")
	command.Flags().StringArrayVar(&q.Directories, "directory", nil,
		"`NAME` of a directory that it may use; repeat it for several (default all)")
	command.Flags().BoolVar(&hub, "hub", false, "enrol a hub, which publishes")
	command.Flags().BoolVar(&node, "node", false, "make the certificate of another node of the cluster")
	return command
}

func (a *app) edgeAdd(ctx context.Context, q control.MemberQuery, output string) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	if output == "" {
		output = filepath.Base(q.Name) + ".enrol"
	}
	// First the file: adding revokes the old credentials of the name.
	file, err := daemon.CreateEnrolment(output)
	if err != nil {
		return err
	}
	member, err := client.AddMember(ctx, q)
	if err == nil {
		err = file.Write([]byte(member.Content))
	}
	if err != nil {
		file.Remove()
		return err
	}
	next := fmt.Sprintf("Copy the file to %s, and run there: rcpt-milter edge join FILE\n", q.Name)
	if q.Role == control.RoleNode {
		next = "Copy the file to the node, and name it in nats.tls.cert_file, key_file and ca_file.\n"
	}
	_, err = fmt.Fprintf(a.stdout, "Wrote %s for %s %s. Keep it secret.\n%s", text.Printable(output), q.Role,
		text.Printable(q.Name), next)
	return err
}

func (a *app) edgeJoinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "join FILE",
		Short: "Check an enrolment file, and show the configuration of this host",
		Long: "Connects to the engine with the file of \"edge add\", reads the state of each\n" +
			"directory, and shows what to write into the configuration of this host. It\n" +
			"changes nothing, and needs no daemon.\n\n" +
			"Exit status: 0 the file works, 1 it does not.",
		Args: oneArgument("the file of \"rcpt-milter edge add\""),
		RunE: func(command *cobra.Command, args []string) error { return a.edgeJoin(command.Context(), args[0]) },
	}
}

func (a *app) edgeJoin(ctx context.Context, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	j, err := daemon.JoinEngine(ctx, file)
	if err != nil {
		return err
	}
	for _, waiting := range j.Waiting {
		fmt.Fprintf(a.stderr, "rcpt-milter: cannot read this directory yet: %s\n", text.Printable(waiting))
	}
	_, err = fmt.Fprintf(a.stdout, "# The engine accepts this host as %s %s. Write into %s:\n%s", j.Role, j.Name,
		a.configPath, j.Configuration())
	return err
}

func (a *app) edgeListCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "list",
		Short: "List the enrolled hosts",
		Long:  "Lists the hubs and edges that may connect to the engine of this daemon.\n\nExit status: 0, 1 failed.",
		Args:  noArguments,
		RunE:  func(command *cobra.Command, _ []string) error { return a.edgeList(command.Context(), asJSON) },
	}
	command.Flags().BoolVar(&asJSON, "json", false, "as JSON, for tools")
	return command
}

func (a *app) edgeList(ctx context.Context, asJSON bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	members, err := client.Members(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		rows := &text.JSONRows{W: a.stdout}
		for _, m := range members {
			if err := rows.Add(m); err != nil {
				return err
			}
		}
		return rows.End()
	}
	if len(members) == 0 {
		_, err := fmt.Fprintln(a.stdout, "No host is enrolled. Enrol an edge: rcpt-milter edge add NAME")
		return err
	}
	rows := [][]string{{"Name", "Role", "Directories", "Added", "Connected"}}
	for _, m := range members {
		connected := "no"
		if m.Connected {
			connected = "since " + a.moment(m.Since.Time) + ", from " + m.Remote
		}
		rows = append(rows, []string{text.Printable(m.Name), m.Role, text.Printable(strings.Join(m.Directories, " ")),
			a.moment(m.Added.Time), text.Printable(connected)})
	}
	p := terminal.NewPage(a.stdout)
	p.Table(rows)
	_, err = fmt.Fprint(a.stdout, p)
	return err
}

func (a *app) edgeRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Revoke the credentials of a host",
		Long: "Revokes the credentials of an edge or a hub, and disconnects it at once. Its\n" +
			"index stays as it is.\n\n" +
			"Exit status: 0 removed, 1 failed.",
		Args: oneArgument("the name of a host"),
		RunE: func(command *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if err := client.RemoveMember(command.Context(), args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "Removed %s. Its credentials are revoked.\n", text.Printable(args[0]))
			return err
		},
	}
}
