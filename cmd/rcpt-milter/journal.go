package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

func (a *app) journalCommand() *cobra.Command {
	var since string
	var q control.JournalQuery
	var asJSON bool
	command := &cobra.Command{
		Use:   "journal",
		Short: "Show which addresses passes added and removed",
		Long: "Shows what passes changed, oldest first: + or -, the address, the object that\n" +
			"gained or lost it, the pass, the domain controller, the object's USN there\n" +
			"(\"not seen\" if a full pass did not find the object), and the time. An addition\n" +
			"has the time when it was read, a removal the one when it took effect.\n\n" +
			"The first full pass of a directory writes no rows, because every address would\n" +
			"be an addition. journal.keep in the configuration sets the retention.\n\n" +
			"Exit status: 0.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if q.Pass == 0 || command.Flags().Changed("since") {
				at, err := a.parsePast("since", since)
				if err != nil {
					return err
				}
				q.Since.Time = at
			}
			return a.journal(command.Context(), q, asJSON)
		},
	}
	flags := command.Flags()
	flags.StringVar(&since, "since", "24h", "from this `TIME` on: a duration ago, \"2026-01-31 15:04\", or RFC 3339")
	flags.Uint64Var(&q.Pass, "pass", 0, "only changes of the pass with this `NUMBER`, at any time")
	flags.BoolVar(&asJSON, "json", false, "as JSON, for tools")
	return command
}

func (a *app) journal(ctx context.Context, q control.JournalQuery, asJSON bool) error {
	return a.ask(ctx, func(from reader) error { return a.journalOf(ctx, from, q, asJSON) })
}

func (a *app) journalOf(ctx context.Context, from reader, q control.JournalQuery, asJSON bool) error {
	if asJSON {
		rows := &text.JSONRows{W: a.stdout}
		if err := from.Journal(ctx, q, func(r control.JournalRow) error { return rows.Add(r) }); err != nil {
			return err
		}
		return rows.End()
	}
	s, err := from.Status(ctx)
	if err != nil {
		return err
	}
	if begin := s.JournalFrom; q.Pass == 0 && q.Since.Before(begin.Time) {
		fmt.Fprintf(a.stdout, "The journal is kept from %s on.\n", a.moment(begin.Time))
	}
	list := &journalList{app: a}
	if err := from.Journal(ctx, q, list.add); err != nil {
		return err
	}
	return list.end(q)
}

// journalList prints rows in aligned blocks.
type journalList struct {
	*app
	block [][]string
	any   bool
}

func (l *journalList) add(r control.JournalRow) error {
	controller, usn := text.Printable(r.DomainController), fmt.Sprintf("USN %d", r.USN)
	if controller == "" {
		controller = "-"
	}
	if r.USN == 0 {
		usn = "not seen"
	}
	l.any = true
	change := strings.TrimRight(text.Printable(r.Change)+" "+text.Printable(r.Address)+" "+r.Note(), " ")
	l.block = append(l.block, []string{change, text.Printable(control.ObjectName(r.DN, r.GUID)),
		fmt.Sprintf("pass %d of %s", r.Pass, text.Printable(r.Directory)), controller, usn, l.moment(r.Time.Time)})
	if len(l.block) == blockRows {
		return l.flush()
	}
	return nil
}

func (l *journalList) flush() error {
	_, err := fmt.Fprint(l.stdout, terminal.Align(l.block))
	l.block = l.block[:0]
	return err
}

func (l *journalList) end(q control.JournalQuery) error {
	if l.any {
		return l.flush()
	}
	text := "Nothing changed since " + l.moment(q.Since.Time) + "."
	if q.Pass != 0 {
		text = fmt.Sprintf("The journal has no row of pass %d: it changed nothing, was the first full pass of a "+
			"directory, or is no longer kept.", q.Pass)
	}
	_, err := fmt.Fprintln(l.stdout, text)
	return err
}
