package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
)

func (a *app) lookupCommand() *cobra.Command {
	var q control.LookupQuery
	var at string
	var asJSON bool
	command := &cobra.Command{
		Use:   "lookup ADDRESS...",
		Short: "Tell which reply an address would get, and why",
		Long: "Tells which reply an address would get at RCPT TO, and why: the rule, who owns the address, since when\n" +
			"and by which pass, and what the journal has of it. It counts nothing.\n\n" +
			"With several addresses each is answered in turn. \"-\" stands for a list on standard input, one address a\n" +
			"line; empty lines and lines that begin with # are skipped. An address has a domain; only postmaster may\n" +
			"do without. JSON is an object for one ADDRESS, and a list for several and for \"-\".\n\n" +
			"With --at the index is taken as it was at that time, as far as the journal reaches (journal.keep in\n" +
			"the configuration), and all directories as fresh; the configuration is today's.\n\n" +
			"Where no daemon runs, its store answers, if it was closed in good order.\n\n" +
			"Exit status: 0 accepted, 1 refused, 2 temporary; of several addresses the highest one. 64 when a line of\n" +
			"standard input is no address with a domain; the others are answered all the same.",
		Args: lookupArguments,
		RunE: func(command *cobra.Command, args []string) error {
			if _, err := netip.ParseAddr(q.Client); q.Client != "" && err != nil {
				return &exit{exitUsage, fmt.Errorf("--client: expected an IP address, got %q", q.Client)}
			}
			if err := checkAddresses(args); err != nil {
				return &exit{exitUsage, err}
			}
			if command.Flags().Changed("at") {
				var err error
				if q.At.Time, err = a.past("at", at); err != nil {
					return err
				}
			}
			return a.lookup(command.Context(), newLookups(a, q, args, asJSON))
		},
	}
	flags := command.Flags()
	flags.StringVar(&q.Client, "client", "", "as if the client had this `IP` address")
	flags.BoolVar(&q.Authenticated, "authenticated", false, "as if the client had logged in")
	flags.StringVar(&at, "at", "", "as it was at this `TIME`: a duration ago such as 2h, \"2026-01-31 15:04\", or RFC 3339")
	flags.BoolVar(&asJSON, "json", false, "as JSON, for tools")
	return command
}

func (a *app) lookup(ctx context.Context, l *lookups) error {
	err := a.ask(ctx, func(from reader) error { return l.run(ctx, from) })
	if errors.Is(err, control.ErrNotKept) {
		return &exit{exitUsage, fmt.Errorf("--at: %w", err)}
	}
	if err == nil && l.status != exitOK {
		return &exit{status: l.status}
	}
	return err
}

// lookupExit is the outcome as an exit status.
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
	p := newPage(a.stdout)
	colour := map[control.Outcome]string{control.Accepted: "32", control.Refused: "31"}[l.Outcome]
	if colour == "" {
		colour = "33"
	}
	p.WriteString(printable(l.Address) + ": " + p.painted(printable(string(l.Outcome)), colour) + "\n")
	if l.Offline {
		p.line("daemon", p.warn("no daemon is running; this is what its store makes of it"))
	}
	if !l.At.IsZero() {
		p.line("as of", a.at(l.At))
		for _, text := range l.Assumed {
			p.more(printable(text))
		}
	}
	p.line("reply", printable(l.Reply))
	if l.WouldRefuse {
		p.more("in mode enforce it would be " + printable(l.WouldReply))
	}
	because := printable(l.Reason)
	if l.Entry != "" {
		because += ": " + printable(l.Entry)
	}
	p.line("because", fmt.Sprintf("%s (verdict %s, row %d)", because, printable(l.Verdict), l.Rule))
	if l.Error != "" {
		p.line("error", p.warn(printable(l.Error)))
	}
	if l.DirectoryState != "" {
		text := p.state(l.DirectoryState)
		if l.Directory != "" {
			text = printable(l.Directory) + " is " + text
		}
		p.line("directory", text)
	}
	if l.Harvest != nil {
		p.line("harvest limit", a.network(*l.Harvest))
	}
	canonical := "cannot be read as an address"
	if l.Canonical != "" {
		canonical = printable(l.Canonical)
	}
	p.line("canonical form", canonical)
	whole := l.Canonical
	if l.JudgedAs != "" {
		whole = l.JudgedAs
	}
	if l.AliasedBy != "" {
		p.line("judged as", printable(whole)+", by "+printable(l.AliasedBy))
	}
	if l.Matched != "" && l.Matched != whole {
		p.line("found as", printable(l.Matched)+", without the extension")
	}
	if l.LoggedAs != "" {
		p.line("in the log", printable(l.LoggedAs))
	}
	if l.Domain != "" {
		p.line("domain", printable(l.Domain)+", mode "+printable(l.Mode))
	}
	for _, o := range l.Owners {
		a.owner(p, o)
	}
	if !l.Removed.IsZero() {
		text := a.at(l.Removed)
		if l.RemovedPass != 0 {
			text += fmt.Sprintf(", by pass %d", l.RemovedPass)
		}
		p.line("removed", text)
	}
	a.history(p, l.History)
	_, err := io.WriteString(a.stdout, p.String())
	return err
}

// historyShown is how many rows are shown to people, the newest.
const historyShown = 20

func (a *app) history(p *page, rows []control.JournalRow) {
	label := "history"
	if more := len(rows) - historyShown; more > 0 {
		p.line(label, counted(more, "earlier change", "earlier changes")+", which --json lists")
		label, rows = "", rows[more:]
	}
	for _, r := range rows {
		change := strings.TrimRight(printable(r.Change)+" "+r.Note(), " ")
		p.line(label, fmt.Sprintf("%s %s, pass %d of %s: %s", change, a.at(r.Time), r.Pass,
			printable(r.Directory), printable(r.DN)))
		label = ""
	}
}

func (a *app) owner(p *page, o control.Owner) {
	p.line("owner", printable(o.DN))
	if o.Class != "" {
		p.more(fmt.Sprintf("%s, attribute %s, directory %s, GUID %s",
			printable(o.Class), printable(o.Attribute), printable(o.Directory), printable(o.GUID)))
	} else {
		p.more(fmt.Sprintf("it lost the address since; directory %s, GUID %s", printable(o.Directory), printable(o.GUID)))
	}
	if !o.Learned.IsZero() && o.Class == "" {
		p.more("learned " + a.at(o.Learned))
	} else if !o.Learned.IsZero() {
		p.more(fmt.Sprintf("learned %s, in pass %d from %s at USN %d", a.at(o.Learned), o.Pass, printable(o.DomainController), o.USN))
	}
	if o.InternalOnly {
		p.more("takes mail from inside senders only")
	}
	if o.Gone {
		p.more(p.warn("no longer in the directory; the removal is not in effect yet"))
	}
	if o.BecomesInternalOnly {
		p.more(p.warn("internal-only in the directory; that is not in effect yet"))
	}
}
