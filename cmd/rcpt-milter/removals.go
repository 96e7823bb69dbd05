package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/control/console"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

func (a *app) removalsCommand() *cobra.Command {
	var q control.RemovalsQuery
	var asJSON, yes bool
	command := &cobra.Command{
		Use:   "removals",
		Short: "List held removals; approve or discard them",
		Long: "Lists the removals that wait: addresses that a directory no longer has, and\n" +
			"that are still accepted. They wait because so many at once may be an accident,\n" +
			"or because the domain controller may not have replicated them yet.\n\n" +
			"Exit status: 0 listed, approved or discarded, even if there are none; 1\n" +
			"failure.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error { return a.removals(command.Context(), q, asJSON) },
	}
	command.PersistentFlags().StringVar(&q.Directory, "directory", "", "only those of the directory with this `NAME`")
	command.Flags().BoolVar(&asJSON, "json", false, "as JSON, for tools")
	approve := a.settleCommand("approve", "Apply the held removals",
		"Applies the held removals. On a terminal it shows how many addresses each\n"+
			"domain would lose, and asks for confirmation. The command waits for a running\n"+
			"pass, but does not approve what that pass holds. It leaves removals that wait\n"+
			"for replication or for the next pass.", &q,
		func(client *control.Client, ctx context.Context, q control.RemovalsQuery,
			done func(control.RemovalsDone)) error {
			all := []control.RemovalsQuery{q}
			if !yes {
				var err error
				if all, err = a.confirmApproval(ctx, client, q); err != nil {
					return err
				}
			}
			for _, q := range all {
				if err := client.Approve(ctx, q, done); err != nil {
					return err
				}
			}
			return nil
		})
	approve.Flags().BoolVar(&yes, "yes", false, "do not ask for confirmation")
	approve.Flags().Uint64Var(&q.UpTo, "up-to", 0, "only those held by this `PASS` and earlier ones (default: all "+
		"that are held now)")
	command.AddCommand(approve,
		a.settleCommand("discard", "Discard the held removals",
			"Discards the held removals: the addresses stay until a full pass finds them\n"+
				"missing again. It leaves removals that wait for replication or for the next\n"+
				"pass. The command waits for a running pass.", &q, (*control.Client).Discard))
	return command
}

func (a *app) settleCommand(use, short, long string, q *control.RemovalsQuery,
	do func(*control.Client, context.Context, control.RemovalsQuery, func(control.RemovalsDone)) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long + "\n\nExit status: 0 done, even if nothing was held; 1 failure.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if q.UpTo != 0 && q.Directory == "" {
				return &exitError{exitUsage,
					errors.New("--up-to requires --directory: passes are numbered across all " +
						"directories, and another directory may have made one since")}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			any := false
			err = do(client, command.Context(), *q, func(d control.RemovalsDone) {
				any = true
				fmt.Fprintln(a.stdout, settledText(d))
			})
			if err == nil && !any {
				fmt.Fprintln(a.stdout, "No removals are held back.")
			}
			return err
		},
	}
}

// settledText says what happened to the held removals of a directory.
func settledText(d control.RemovalsDone) string {
	name := text.Printable(d.Directory)
	if d.Pass != 0 {
		s := fmt.Sprintf("%s: %s removed", name, text.Count(d.Removed, "address", "addresses"))
		if d.Removed > 0 {
			s += fmt.Sprintf(", by pass %d", d.Pass)
		}
		if d.Waiting > 0 {
			s += "; " + text.Count(d.Waiting, "later one still waits", "later ones still wait")
		}
		return s
	}
	return fmt.Sprintf("%s: discarded, %s addresses until a full pass misses them again", name,
		text.Count(d.Kept, "object keeps its", "objects keep their"))
}

func (a *app) removals(ctx context.Context, q control.RemovalsQuery, asJSON bool) error {
	return a.ask(ctx, func(from reader) error { return a.removalsOf(ctx, from, q, asJSON) })
}

func (a *app) removalsOf(ctx context.Context, from reader, q control.RemovalsQuery, asJSON bool) error {
	if asJSON {
		rows := &text.JSONRows{W: a.stdout}
		if err := from.Removals(ctx, q, func(h control.HeldRemoval) error { return rows.Add(h) }); err != nil {
			return err
		}
		return rows.End()
	}
	s, err := from.Status(ctx)
	if err != nil {
		return err
	}
	list := &removalList{app: a, status: s, titles: []string{"Address", "Object", "Class", "Pass", "Since",
		"Last owner", "Waits for"}}
	if err := from.Removals(ctx, q, list.add); err != nil {
		return err
	}
	return list.end(q)
}

// removalList prints removals by directory, in sorted blocks.
type removalList struct {
	*app
	status    control.Status
	titles    []string
	directory string
	block     []control.HeldRemoval
	approvals []approvable // one for each directory
	any       bool
}

// approvable is a command that approves what one directory holds.
type approvable struct {
	directory string
	upTo      uint64
}

// blockRows is how many rows are sorted and aligned together. A directory that lost everything
// may hold a million.
const blockRows = 10_000

func (l *removalList) add(h control.HeldRemoval) error {
	if h.Directory != l.directory && l.any || len(l.block) == blockRows {
		if err := l.flush(); err != nil {
			return err
		}
	}
	l.any = true
	if h.WaitsFor == control.WaitsApproval {
		if n := len(l.approvals); n == 0 || l.approvals[n-1].directory != h.Directory {
			l.approvals = append(l.approvals, approvable{directory: h.Directory})
		}
		last := &l.approvals[len(l.approvals)-1]
		last.upTo = max(last.upTo, h.Pass)
	}
	l.directory = h.Directory
	l.block = append(l.block, h)
	return nil
}

func (l *removalList) flush() error {
	p := terminal.NewPage(l.stdout)
	p.WriteString("Directory " + text.Printable(l.directory) + ": " + l.heading(p) + "\n")
	for _, why := range l.reasons() {
		p.WriteString("    " + text.Printable(why) + "\n")
	}
	slices.SortStableFunc(l.block, func(x, y control.HeldRemoval) int { return strings.Compare(x.Address, y.Address) })
	rows := [][]string{l.titles}
	for _, h := range l.block {
		rows = append(rows, l.row(h))
	}
	p.Table(rows)
	p.WriteByte('\n')
	l.block = l.block[:0]
	_, err := fmt.Fprint(l.stdout, p)
	return err
}

// heading says why the removals of the directory are held.
func (l *removalList) heading(p *terminal.Page) string {
	for _, d := range l.status.Directories {
		if d.Name == l.directory && d.HeldRemovals > 0 {
			return p.Warn(text.Count(d.HeldRemovals, "removal", "removals")+" held back") + ": " +
				text.Printable(d.HoldReason)
		}
	}
	return "removals that need no approval"
}

// reasons returns the reasons of the block, if domains have different ones.
func (l *removalList) reasons() []string {
	var all []string
	for _, h := range l.block {
		if h.Why != "" && !slices.Contains(all, h.Why) {
			all = append(all, h.Why)
		}
	}
	if len(all) < 2 {
		return nil
	}
	return all
}

func (l *removalList) row(h control.HeldRemoval) []string {
	last := "no"
	if h.LastOwner {
		last = "yes"
	}
	waits := map[string]string{control.WaitsApproval: "approval", control.WaitsPass: "the next pass"}[h.WaitsFor]
	if h.WaitsFor == control.WaitsReplication {
		waits = "replication, until " + l.moment(h.NotBefore.Time)
	}
	if h.BecomesInternalOnly {
		waits += "; would become internal-only"
	}
	return []string{text.Printable(h.Address), text.Printable(control.ObjectName(h.DN, h.GUID)),
		text.Printable(h.Class), fmt.Sprint(h.Pass),
		l.moment(h.Since.Time), last, waits}
}

func (l *removalList) end(q control.RemovalsQuery) error {
	if !l.any {
		_, err := fmt.Fprintln(l.stdout, "No removals are held back.")
		return err
	}
	if err := l.flush(); err != nil {
		return err
	}
	text := "These addresses are still accepted."
	if len(l.approvals) > 0 {
		text += " To apply them:\n"
		for _, a := range l.approvals {
			text += fmt.Sprintf("    rcpt-milter removals approve --directory %s --up-to %d\n", a.directory, a.upTo)
		}
		text += "To keep them, repair the directory, or discard the removals until the next full pass:\n" +
			"    rcpt-milter removals discard"
		if q.Directory != "" {
			text += " --directory " + q.Directory
		}
	}
	_, err := fmt.Fprintln(l.stdout, text)
	return err
}

// confirmApproval shows on a terminal how many addresses each domain would lose, and asks. It returns
// queries for exactly the removals that it showed. Without a terminal it asks nothing.
func (a *app) confirmApproval(ctx context.Context, client *control.Client, q control.RemovalsQuery) (
	[]control.RemovalsQuery, error) {
	in, ok := a.stdin, false
	if in == nil {
		in, ok = os.Stdin, terminal.IsTerminal(os.Stdin)
	}
	if !ok || !terminal.IsTerminal(a.stdout) {
		return []control.RemovalsQuery{q}, nil
	}
	held := console.Approval{UpTo: q.UpTo}
	if err := client.Removals(ctx, q, held.Add); err != nil {
		return nil, err
	}
	return held.Ask(q, in, a.stdout)
}
