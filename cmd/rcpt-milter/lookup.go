package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

func (a *app) lookupCommand() *cobra.Command {
	var q control.LookupQuery
	var at string
	var asJSON bool
	command := &cobra.Command{
		Use:   "lookup ADDRESS...",
		Short: "Show the reply that an address would get, and why",
		Long: "Shows the reply that an address would get at RCPT TO, and the reason: the rule, the owner, the pass that\n" +
			"learned the address, and its history in the journal. A lookup is not counted as a decision.\n\n" +
			"With several addresses each is answered in turn. \"-\" reads a list from standard input, one address per line;\n" +
			"empty lines and lines that begin with # are skipped. An address needs a domain; only postmaster does not.\n" +
			"JSON is an object for one ADDRESS, and a list for several or for \"-\".\n\n" +
			"With --at the index is taken as it was at that time, as far as the journal reaches (journal.keep in the\n" +
			"configuration). All directories count as fresh, and the configuration is the present one.\n\n" +
			"If no daemon runs, the command reads its store, which must have been closed cleanly.\n\n" +
			"Exit status: 0 accepted, 1 rejected, 2 deferred; the highest one for several addresses. 64 if a line of\n" +
			"standard input is no address with a domain; the other lines are answered.",
		Args: lookupArguments,
		RunE: func(command *cobra.Command, args []string) error {
			if _, err := netip.ParseAddr(q.Client); q.Client != "" && err != nil {
				return &exitError{exitUsage, fmt.Errorf("--client: expected an IP address, got %q", q.Client)}
			}
			if err := checkAddresses(args); err != nil {
				return &exitError{exitUsage, err}
			}
			if command.Flags().Changed("at") {
				var err error
				if q.At.Time, err = a.parsePast("at", at); err != nil {
					return err
				}
			}
			return a.lookup(command.Context(), newLookupRun(a, q, args, asJSON))
		},
	}
	flags := command.Flags()
	flags.StringVar(&q.Client, "client", "", "as for a client with this `IP` address")
	flags.BoolVar(&q.Authenticated, "authenticated", false, "as for an authenticated client")
	flags.StringVar(&at, "at", "", "as it was at this `TIME`: a duration ago such as 2h, \"2026-01-31 15:04\", or RFC "+
		"3339")
	flags.BoolVar(&asJSON, "json", false, "as JSON, for tools")
	return command
}

func (a *app) lookup(ctx context.Context, l *lookupRun) error {
	err := a.ask(ctx, func(from reader) error { return l.run(ctx, from) })
	if errors.Is(err, control.ErrNotKept) {
		return &exitError{exitUsage, fmt.Errorf("--at: %w", err)}
	}
	if err == nil && l.status != exitOK {
		return &exitError{status: l.status}
	}
	return err
}

// lookupExit returns the exit status of an outcome.
func lookupExit(answer control.LookupAnswer) int {
	switch answer.Outcome {
	case control.Accepted:
		return exitOK
	case control.Refused:
		return exitFailure
	default:
		return exitTemporary
	}
}

func (a *app) printLookup(l control.LookupAnswer) error {
	p := terminal.NewPage(a.stdout)
	a.printOutcome(p, l)
	a.printReason(p, l)
	printForms(p, l)
	for _, o := range l.Owners {
		a.owner(p, o)
	}
	a.printRemoval(p, l)
	a.history(p, l.History)
	_, err := io.WriteString(a.stdout, p.String())
	return err
}

// printOutcome writes what happens to mail for the address, and under which conditions.
func (a *app) printOutcome(p *terminal.Page, l control.LookupAnswer) {
	colour := map[control.Outcome]string{control.Accepted: "32", control.Refused: "31"}[l.Outcome]
	if colour == "" {
		colour = "33"
	}
	p.WriteString(text.Printable(l.Address) + ": " + p.Paint(text.Printable(string(l.Outcome)), colour) + "\n")
	if l.Offline {
		p.Line("daemon", p.Warn("no daemon is running; this is what its store makes of it"))
	}
	if !l.At.IsZero() {
		p.Line("as of", a.at(l.At))
		for _, s := range l.Assumed {
			p.More(text.Printable(s))
		}
	}
	p.Line("reply", text.Printable(l.Reply))
	if l.WouldRefuse {
		p.More("in mode enforce it would be " + text.Printable(l.WouldReply))
	}
}

// printReason writes the row of the decision table, and the state that the row depends on.
func (a *app) printReason(p *terminal.Page, l control.LookupAnswer) {
	because := text.Printable(l.Reason)
	if l.Entry != "" {
		because += ": " + text.Printable(l.Entry)
	}
	p.Line("because", fmt.Sprintf("%s (verdict %s, row %d)", because, text.Printable(l.Verdict), l.Rule))
	if l.Error != "" {
		p.Line("error", p.Warn(text.Printable(l.Error)))
	}
	if l.DirectoryState != "" {
		s := stateWords(p, l.DirectoryState)
		if l.Directory != "" {
			s = text.Printable(l.Directory) + " is " + s
		}
		p.Line("directory", s)
	}
	if l.Harvest != nil {
		p.Line("harvest limit", a.harvestLine(*l.Harvest))
	}
}

// printForms writes the forms of the address: canonical, at the target of a domain alias, as
// found in the index, and in the log.
func printForms(p *terminal.Page, l control.LookupAnswer) {
	canonical := "cannot be read as an address"
	if l.Canonical != "" {
		canonical = text.Printable(l.Canonical)
	}
	p.Line("canonical form", canonical)
	whole := cmp.Or(l.JudgedAs, l.Canonical)
	if l.AliasedBy != "" {
		p.Line("judged as", text.Printable(whole)+", by "+text.Printable(l.AliasedBy))
	}
	if l.Matched != "" && l.Matched != whole {
		p.Line("found as", text.Printable(l.Matched)+", without the extension")
	}
	if l.LoggedAs != "" {
		p.Line("in the log", text.Printable(l.LoggedAs))
	}
	if l.Domain != "" {
		p.Line("domain", text.Printable(l.Domain)+", mode "+text.Printable(l.Mode))
	}
}

// printRemoval writes when the last owner lost the address.
func (a *app) printRemoval(p *terminal.Page, l control.LookupAnswer) {
	if l.Removed.IsZero() {
		return
	}
	s := a.at(l.Removed)
	if l.RemovedPass != 0 {
		s += fmt.Sprintf(", by pass %d", l.RemovedPass)
	}
	p.Line("removed", s)
}

// historyShown is how many rows are printed, the latest ones.
const historyShown = 20

func (a *app) history(p *terminal.Page, rows []control.JournalRow) {
	label := "history"
	if more := len(rows) - historyShown; more > 0 {
		p.Line(label, text.Count(more, "earlier change", "earlier changes")+", which --json lists")
		label, rows = "", rows[more:]
	}
	for _, r := range rows {
		change := strings.TrimRight(text.Printable(r.Change)+" "+r.Note(), " ")
		p.Line(label, fmt.Sprintf("%s %s, pass %d of %s: %s", change, a.at(r.Time), r.Pass, text.Printable(r.Directory),
			text.Printable(r.DN)))
		label = ""
	}
}

func (a *app) owner(p *terminal.Page, o control.Owner) {
	p.Line("owner", text.Printable(o.DN))
	if o.Class != "" {
		p.More(fmt.Sprintf("%s, attribute %s, directory %s, GUID %s",
			text.Printable(o.Class), text.Printable(o.Attribute), text.Printable(o.Directory), text.Printable(o.GUID)))
	} else {
		p.More(fmt.Sprintf("it lost the address since; directory %s, GUID %s", text.Printable(o.Directory),
			text.Printable(o.GUID)))
	}
	if !o.Learned.IsZero() && o.Class == "" {
		p.More("learned " + a.at(o.Learned))
	} else if !o.Learned.IsZero() {
		p.More(fmt.Sprintf("learned %s, in pass %d from %s at USN %d", a.at(o.Learned), o.Pass,
			text.Printable(o.DomainController), o.USN))
	}
	if o.InternalOnly {
		p.More("internal-only: accepts mail from inside senders only")
	}
	if o.Gone {
		p.More(p.Warn("no longer in the directory; the removal is not in effect yet"))
	}
	if o.BecomesInternalOnly {
		p.More(p.Warn("internal-only in the directory; that is not in effect yet"))
	}
}
