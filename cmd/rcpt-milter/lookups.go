package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/internal/text"
)

// standardInput is the argument that stands for a list on standard input.
const standardInput = "-"

// maxLookupLine is the longest line of a list in bytes, far above any address.
const maxLookupLine = 64 << 10

// lookupArguments requires at least one address.
func lookupArguments(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("expected an ADDRESS, several, or - for a list on standard input")
	}
	return nil
}

// checkAddresses checks all addresses of the command line before the first lookup.
func checkAddresses(args []string) error {
	lists := 0
	for _, arg := range args {
		if arg == standardInput {
			if lists++; lists > 1 {
				return errors.New("standard input (-) can be read once only")
			}
		} else if err := checkDomain(arg); err != nil {
			return err
		}
	}
	return nil
}

// checkDomain rejects an address without a domain, because no rule applies to it. RFC 5321
// section 4.5.1 allows postmaster alone.
func checkDomain(text string) error {
	bare := strings.Trim(text, "<> \t")
	at := strings.LastIndexByte(bare, '@')
	if at >= 0 && strings.Trim(bare[at+1:], ".") != "" || strings.EqualFold(strings.Trim(bare, `"`), "postmaster") {
		return nil
	}
	if bare == "" {
		return errors.New("expected an ADDRESS such as user@example.com, got an empty one")
	}
	return fmt.Errorf("%q has no domain; expected an ADDRESS such as user@example.com", text)
}

// lookupRun looks up the addresses of one command in turn. It continues where it was when the
// store takes over from the daemon.
type lookupRun struct {
	app    *app
	query  control.LookupQuery
	args   []string
	input  *bufio.Scanner // of standard input
	line   int            // of standard input
	next   string         // not answered yet; empty if there is none
	many   bool           // print a list
	rows   *text.JSONRows // nil prints text
	count  int            // of answers
	status int            // the highest exit status
}

func newLookupRun(a *app, q control.LookupQuery, args []string, asJSON bool) *lookupRun {
	l := &lookupRun{app: a, query: q, args: args, many: len(args) > 1 || args[0] == standardInput}
	if asJSON {
		l.rows = &text.JSONRows{W: a.stdout}
	}
	var in io.Reader = os.Stdin
	if a.stdin != nil {
		in = a.stdin
	}
	l.input = bufio.NewScanner(in)
	l.input.Buffer(nil, maxLookupLine)
	return l
}

// run answers the remaining addresses.
func (l *lookupRun) run(ctx context.Context, from reader) error {
	for {
		more, err := l.advance()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		l.query.Address = l.next
		answer, err := from.Lookup(ctx, l.query)
		if err != nil {
			return err
		}
		l.next, l.status = "", max(l.status, lookupExit(answer))
		if err := l.show(answer); err != nil {
			return err
		}
	}
	if l.many && l.rows != nil {
		return l.rows.End()
	}
	return nil
}

// advance reads the next address. It reports false at the end.
func (l *lookupRun) advance() (bool, error) {
	for l.next == "" && len(l.args) > 0 {
		if l.args[0] != standardInput {
			l.next, l.args = l.args[0], l.args[1:]
			break
		}
		more, err := l.readLine()
		if err != nil {
			return false, err
		}
		if !more {
			l.args = l.args[1:]
		}
	}
	return l.next != "", nil
}

// readLine reads a line of standard input into next, which stays empty if the line has no
// address. It reports false at the end.
func (l *lookupRun) readLine() (bool, error) {
	if !l.input.Scan() {
		err := l.input.Err()
		if errors.Is(err, bufio.ErrTooLong) {
			err = &exitError{exitUsage, fmt.Errorf("line %d of standard input is too long for an address", l.line+1)}
		}
		return false, err
	}
	l.line++
	s := l.input.Text()
	if l.line == 1 {
		s = strings.TrimPrefix(s, "\ufeff") // a byte order mark, as Windows writes it
	}
	if s = strings.TrimSpace(s); s == "" || s[0] == '#' {
		return true, nil
	}
	if err := checkDomain(s); err != nil {
		fmt.Fprintf(l.app.stderr, "rcpt-milter: line %d of standard input: %s\n", l.line, text.Printable(err.Error()))
		l.status = exitUsage
		return true, nil
	}
	l.next = s
	return true, nil
}

// show prints an answer.
func (l *lookupRun) show(answer control.LookupAnswer) error {
	l.count++
	switch {
	case l.rows == nil:
		if l.count > 1 {
			fmt.Fprintln(l.app.stdout)
		}
		return l.app.printLookup(answer)
	case l.many:
		return l.rows.Add(answer)
	}
	return text.WriteJSON(l.app.stdout, answer)
}
