package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"rcpt-milter/control"
	"rcpt-milter/daemon"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
	tables "rcpt-milter/postfix/table"
)

// compareTable prints where a table differs from the index.
func (a *app) compareTable(ctx context.Context, file string, asJSON bool) error {
	table, err := tables.ReadFile(file)
	if err != nil {
		return &exitError{exitTemporary, err}
	}
	var done daemon.ComparedTable
	err = a.ask(ctx, func(from reader) error {
		if done.Recipients > 0 {
			return errCutOff
		}
		done, err = a.compareWith(ctx, from, file, table, asJSON)
		return err
	})
	var chosen *exitError
	switch {
	case errors.Is(err, control.ErrNotReachable) || errors.As(err, &chosen):
		return err
	case err != nil:
		return &exitError{exitTemporary, err}
	case !done.Equal:
		return &exitError{status: exitFailure}
	}
	return nil
}

func (a *app) compareWith(ctx context.Context, from reader, file string, table *tables.Table,
	asJSON bool) (daemon.ComparedTable, error) {
	page, rows := &tablePage{app: a}, &text.JSONRows{W: a.stdout, Before: beginDifferences}
	show := page.add
	if asJSON {
		show = func(d daemon.TableDifference) error { return rows.Add(d) }
	}
	done, err := daemon.CompareTable(ctx, from, file, table, show)
	if err != nil {
		return done, err
	}
	if asJSON {
		return done, endTableJSON(rows, done)
	}
	return done, page.end(done)
}

func endTableJSON(rows *text.JSONRows, done daemon.ComparedTable) error {
	if err := rows.End(); err != nil {
		return err
	}
	encoded, err := text.EncodeJSON(done, "  ")
	if err == nil {
		_, err = fmt.Fprintf(rows.W, ", \"table\": %s}\n", strings.TrimSuffix(encoded, "\n"))
	}
	return err
}

// tablePage prints text.
type tablePage struct {
	*app
	block [][]string
}

func (t *tablePage) add(d daemon.TableDifference) error {
	where, line := "table only", fmt.Sprint(d.Line)
	if d.InIndex {
		where, line = "index only", ""
	}
	t.block = append(t.block, []string{text.Printable(d.Address), where, line,
		text.Printable(d.Because(t.console().At))})
	if len(t.block) == blockRows {
		return t.flush()
	}
	return nil
}

func (t *tablePage) flush() error {
	p := &terminal.Page{}
	p.Table(append([][]string{{"Address", "Where", "Line", "Because"}}, t.block...))
	t.block = nil
	_, err := io.WriteString(t.stdout, strings.TrimPrefix(p.String(), "\n"))
	return err
}

func (t *tablePage) end(done daemon.ComparedTable) error {
	if len(t.block) > 0 {
		if err := t.flush(); err != nil {
			return err
		}
		fmt.Fprintln(t.stdout)
	}
	p := &terminal.Page{}
	fmt.Fprintf(p, "%s: %s, %s in both, %s in the table only, %s in the index only\n", text.Printable(done.File),
		text.Count(done.Entries, "entry", "entries"),
		text.Number(int64(done.Common)), text.Number(int64(done.TableOnly)), text.Number(int64(done.IndexOnly)))
	if done.Unjudged > 0 {
		fmt.Fprintf(p, "%s of domains that are not judged here\n", text.Count(done.Unjudged, "entry is", "entries are"))
	}
	for _, line := range done.UnreadLines {
		fmt.Fprintf(p, "does not count: %s\n", text.Printable(line))
	}
	if more := done.Unread - len(done.UnreadLines); more > 0 {
		fmt.Fprintf(p, "%s more that do not count\n", text.Count(more, "line", "lines"))
	}
	_, err := io.WriteString(t.stdout, p.String())
	return err
}
