package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/daemon"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
	tables "rcpt-milter/postfix/table"
)

// exportOptions are the options of the command line.
type exportOptions struct {
	control.ExportQuery
	format     string
	output     string
	restricted bool
}

func (a *app) exportCommand() *cobra.Command {
	o := exportOptions{}
	command := &cobra.Command{
		Use:   "export",
		Short: "Write the list of recipients, also as a table for Postfix",
		Long: "Writes the list of recipients in the configured domains: those of the index,\n" +
			"accept and accept_files. It omits internal-only recipients (internal_only:\n" +
			"refuse), except in JSON, which marks them.\n\n" +
			"Formats:\n" +
			"  postmap  the source of a table for relay_recipient_maps, which can replace\n" +
			"           the daemon. It also has always_accept and domains in mode pass.\n" +
			"           Create the table with \"postmap lmdb:FILE\", or cdb: where lmdb is\n" +
			"           missing; Postfix will drop hash:\n" +
			"  text     one address per line, with characters that do not print as escape\n" +
			"           sequences\n" +
			"  json     an array\n\n" +
			"With --output the file is replaced atomically, and keeps its owner and\n" +
			"permissions; a new file has mode 0640, less the umask. An empty list, or the\n" +
			"list of an index that was never filled, needs --force. If no daemon runs, the\n" +
			"command reads its store, which must have been closed cleanly.\n\n" +
			"Exit status: 0 written, 1 not written.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if !slices.Contains(daemon.ListFormats, o.format) {
				return &exitError{exitUsage, fmt.Errorf("--format: expected postmap, text or json, got %q", o.format)}
			}
			return a.export(command.Context(), o)
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.format, "format", "postmap", "`FORMAT`: postmap, text or json")
	command.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(daemon.ListFormats,
		cobra.ShellCompDirectiveNoFileComp))
	flags.StringVar(&o.output, "output", "", "write to this `FILE` instead of standard output")
	flags.BoolVar(&o.All, "all", false, "include addresses of the index in domains that are not judged")
	flags.BoolVar(&o.restricted, "restricted", false, "include internal-only recipients")
	flags.BoolVar(&o.Force, "force", false, "write even an empty list, or that of an index that was never filled")
	return command
}

// errCutOff means that the daemon stopped after it had sent a part of the list. The store may
// have changed since, so it cannot continue the list.
var errCutOff = errors.New("the daemon stopped in the middle of the list; try again")

func (a *app) export(ctx context.Context, o exportOptions) error {
	if o.output == "" {
		_, err := a.exportTo(ctx, o, a.stdout)
		return err
	}
	var written int
	err := tables.Replace(o.output, func(w io.Writer) (err error) {
		written, err = a.exportTo(ctx, o, w)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s is as it was: %w", o.output, err)
	}
	if terminal.IsTerminal(a.stdout) {
		fmt.Fprintf(a.stdout, "%s written to %s\n", text.Count(written, "entry", "entries"), text.Printable(o.output))
		if o.format == "postmap" {
			fmt.Fprintf(a.stdout, "Make the table with: postmap lmdb:%s\n", text.Printable(o.output))
		}
	}
	return nil
}

// exportTo writes the list, and returns the number of its entries.
func (a *app) exportTo(ctx context.Context, o exportOptions, w io.Writer) (int, error) {
	list := daemon.NewRecipientList(daemon.ListOptions{Format: o.format, File: o.output, Restricted: o.restricted,
		Force: o.Force}, w)
	err := a.ask(ctx, func(r reader) error {
		if list.Head.Version != "" {
			return errCutOff
		}
		return r.Export(ctx, o.ExportQuery, func(e control.ExportEvent) error {
			if e.Head != nil {
				if e.Head.State == control.Stale {
					fmt.Fprintln(a.stderr, "rcpt-milter: the index is stale: recipients that are new in the "+
						"directory are missing")
				}
				list.Head = *e.Head
			}
			return list.Add(e.Recipients)
		})
	})
	if err != nil {
		return 0, err
	}
	written, err := list.End()
	if errors.Is(err, daemon.ErrEmptyList) {
		err = fmt.Errorf("%w; to write it use --force", err)
	}
	return written, err
}
