package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
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

// exportFormats are the values of --format.
var exportFormats = []string{"postmap", "text", "json"}

func (a *app) exportCommand() *cobra.Command {
	o := exportOptions{}
	command := &cobra.Command{
		Use:   "export",
		Short: "Write the list of recipients, also as a table for Postfix",
		Long: "Writes the list of recipients in the configured domains: those of the index, accept and accept_files. It\n" +
			"omits internal-only recipients (internal_only: refuse), except in JSON, which marks them.\n\n" +
			"Formats:\n" +
			"  postmap  the source of a table for relay_recipient_maps, which can replace the daemon. It also has\n" +
			"           always_accept and domains in mode pass. Create the table with \"postmap lmdb:FILE\", or cdb: where\n" +
			"           lmdb is missing; Postfix will drop hash:\n" +
			"  text     one address per line\n" +
			"  json     an array\n\n" +
			"With --output the file is replaced atomically, and keeps its owner and permissions. An empty list, or the\n" +
			"list of an index that was never filled, needs --force. If no daemon runs, the command reads its store, which\n" +
			"must have been closed cleanly.\n\n" +
			"Exit status: 0 written, 1 not written.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if !slices.Contains(exportFormats, o.format) {
				return &exitError{exitUsage, fmt.Errorf("--format: expected postmap, text or json, got %q", o.format)}
			}
			return a.export(command.Context(), o)
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.format, "format", "postmap", "`FORMAT`: postmap, text or json")
	command.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(exportFormats, cobra.ShellCompDirectiveNoFileComp))
	flags.StringVar(&o.output, "output", "", "write to this `FILE` instead of standard output")
	flags.BoolVar(&o.All, "all", false, "also addresses of the index in domains that are not judged")
	flags.BoolVar(&o.restricted, "restricted", false, "include internal-only recipients")
	flags.BoolVar(&o.Force, "force", false, "also an empty list, or that of an index that was never filled")
	return command
}

// errEmpty explains why an empty list is not written.
var errEmpty = errors.New("the index has no recipient in the domains of the configuration; an empty list would " +
	"reject every recipient; to write it use --force")

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
	list := newExportList(o, w)
	err := a.ask(ctx, func(r reader) error {
		if list.head.Version != "" {
			return errCutOff
		}
		return r.Export(ctx, o.ExportQuery, func(e control.ExportEvent) error {
			if e.Head != nil {
				if e.Head.State == control.Stale {
					fmt.Fprintln(a.stderr, "rcpt-milter: the index is stale: recipients that are new in the directory are missing")
				}
				list.head = *e.Head
			}
			return list.addAll(e.Recipients)
		})
	})
	if err != nil {
		return 0, err
	}
	return list.end()
}

// exportList writes a list in one of the formats. It writes nothing before the first entry.
type exportList struct {
	options exportOptions
	head    control.ExportHead
	out     *bufio.Writer // there may be millions of rows
	table   *tables.Writer
	rows    *text.JSONRows
	begun   bool
	entries int
	indexed int // number of entries from the index
}

func newExportList(o exportOptions, w io.Writer) *exportList {
	out := bufio.NewWriterSize(w, 64<<10)
	return &exportList{options: o, out: out, table: tables.NewWriter(w), rows: &text.JSONRows{W: out}}
}

func (l *exportList) addAll(all []control.Recipient) error {
	for _, r := range all {
		if !l.wanted(r) {
			continue
		}
		if r.Source == control.SourceIndex {
			l.indexed++
		}
		if err := l.add(r); err != nil {
			return err
		}
	}
	return nil
}

// wanted reports whether a recipient belongs in the list in this format.
func (l *exportList) wanted(r control.Recipient) bool {
	switch l.options.format {
	case "json":
		return true
	case "text":
		mailbox := !strings.HasPrefix(r.Address, "@") && r.Source != control.SourceAlways
		return mailbox && (!r.Restricted || l.options.restricted)
	default:
		return !r.Restricted || l.options.restricted
	}
}

func (l *exportList) add(r control.Recipient) error {
	if l.indexed == 0 && !l.options.Force {
		return nil // the list may turn out to be empty; see end
	}
	l.begin()
	l.entries++
	switch l.options.format {
	case "json":
		return l.rows.Add(r)
	case "text":
		_, err := fmt.Fprintln(l.out, r.Address)
		return err
	default:
		return l.table.Add(r.Address)
	}
}

func (l *exportList) begin() {
	if l.begun {
		return
	}
	l.begun = true
	if l.options.format == "postmap" {
		l.table.Comment(tableHead(l.head, l.options))
	}
}

func (l *exportList) end() (int, error) {
	if l.indexed == 0 && !l.options.Force {
		return 0, errEmpty
	}
	l.begin()
	switch l.options.format {
	case "json":
		if err := l.rows.End(); err != nil {
			return l.entries, err
		}
	case "postmap":
		l.table.Comment(text.Count(l.entries, "entry", "entries") + ".")
		return l.entries, l.table.Flush()
	}
	return l.entries, l.out.Flush()
}

// tableHead returns the comment at the beginning of a table.
func tableHead(h control.ExportHead, o exportOptions) string {
	file := o.output
	if file == "" {
		file = "FILE"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "The recipients that rcpt-milter %s accepts, as of %s.\n", text.Printable(h.Version),
		h.Time.UTC().Format(time.RFC3339))
	fmt.Fprintf(&b, "The index is %s: %s, digest %s\n", text.Printable(string(h.State)),
		text.Count(h.Addresses, "address", "addresses"), text.Printable(h.Digest))
	for _, d := range h.Directories {
		fmt.Fprintf(&b, "Directory %s: %s, last read %s\n", text.Printable(d.Name), text.Printable(string(d.State)),
			d.LastSuccess.UTC().Format(time.RFC3339))
	}
	b.WriteString("Domains:")
	for _, domain := range slices.Sorted(maps.Keys(h.Domains)) {
		fmt.Fprintf(&b, " %s (%s)", text.Printable(domain), text.Printable(h.Domains[domain]))
	}
	fmt.Fprintf(&b, "\n\nFor Postfix, in place of the daemon:\n    postmap lmdb:%[1]s\n    postconf -e "+
		"'relay_recipient_maps = lmdb:%[1]s'\n", text.Printable(file))
	b.WriteString("With it Postfix rejects all other recipients, also in relay domains that are not named above.\n")
	for _, line := range h.Unlisted {
		b.WriteString("Accepted by the daemon, and not by this table: " + text.Printable(line) + "\n")
	}
	return b.String()
}
