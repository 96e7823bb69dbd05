package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

// reportRows is the default of --limit.
const reportRows = 20

func (a *app) reportCommand() *cobra.Command {
	var since string
	var limit int
	var asJSON bool
	command := &cobra.Command{
		Use:   "report",
		Short: "Show rejected recipients, also those of mode report",
		Long: "Shows the recipients that were rejected, and those that only mode report\n" +
			"accepted: by address, domain and client network. It marks rejected addresses\n" +
			"that are known now, and lists near misses: rejected addresses that differ from\n" +
			"a known address by one typing error. Clients never learn of near misses.\n\n" +
			"With log.addresses: hash the addresses are hashes, and near misses are not\n" +
			"available.\n\n" +
			"Counters are kept by hour, for as long as journal.keep in the configuration\n" +
			"says. Each hour keeps the 500 most frequent addresses, 100 domains and 250\n" +
			"networks.\n\n" +
			"Exit status: 0.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			at, err := a.parsePast("since", since)
			if err != nil {
				return err
			}
			if limit < 0 {
				return &exitError{exitUsage, fmt.Errorf("--limit: expected a number of rows, or 0 for all, got %d",
					limit)}
			}
			if asJSON && !command.Flags().Changed("limit") {
				limit = 0
			}
			return a.refused(command.Context(), control.ReportQuery{Since: control.Time{Time: at}, Limit: limit},
				asJSON)
		},
	}
	flags := command.Flags()
	flags.StringVar(&since, "since", "24h", "from this `TIME` on: a duration ago, \"2026-01-31 15:04\", or RFC 3339")
	flags.IntVar(&limit, "limit", reportRows, "show at most this number of `ROWS` of each list; 0 shows all, like --json")
	flags.BoolVar(&asJSON, "json", false, "as JSON, for tools")
	return command
}

func (a *app) refused(ctx context.Context, q control.ReportQuery, asJSON bool) error {
	return a.ask(ctx, func(from reader) error {
		r, err := from.Report(ctx, q)
		switch {
		case err != nil:
			return err
		case asJSON:
			return text.WriteJSON(a.stdout, r)
		}
		return a.printReport(r, q.Limit)
	})
}

func (a *app) printReport(r control.Report, limit int) error {
	p := terminal.NewPage(a.stdout)
	since := "ever"
	if !r.From.IsZero() {
		since = "since " + a.moment(r.From.Time)
	}
	fmt.Fprintf(p, "Refused %s: %s", since, text.Count(r.Refused, "recipient", "recipients"))
	if r.WouldRefuse > 0 {
		fmt.Fprintf(p, "; would refuse %s more (mode report)", text.Number(r.WouldRefuse))
	}
	p.WriteByte('\n')
	for _, verdict := range slices.Sorted(maps.Keys(r.Verdicts)) {
		p.Line(text.Printable(verdict), text.Number(r.Verdicts[verdict]))
	}
	if r.WouldLimit > 0 {
		p.Line("harvest limit", text.Number(r.WouldLimit)+" of them would have been deferred; it is in mode report")
	}
	if r.Unlisted > 0 {
		p.Line("not looked at", text.Number(r.Unlisted)+", which came too fast and are in no list")
	}
	if r.Incomplete != "" {
		p.Line("incomplete", p.Warn("the last minutes are missing"))
		p.More(text.Printable(r.Incomplete))
	}
	a.refusedAddresses(p, r.Addresses)
	a.refusedNames(p, "Domain", r.Domains)
	a.refusedNames(p, "Client network", r.Networks)
	a.nearMissTable(p, r)
	if limit > 0 && max(len(r.Addresses), len(r.Domains), len(r.Networks)) == limit {
		fmt.Fprintf(p, "\nThe first %d of each; --limit 0 shows all that is kept.\n", limit)
	}
	_, err := io.WriteString(a.stdout, p.String())
	return err
}

func (a *app) refusedAddresses(p *terminal.Page, all []control.RefusedAddress) {
	rows := [][]string{{"Address", "Refused", "Would refuse", "Last", "Client network", "Now"}}
	known := 0
	for _, r := range all {
		now := text.Printable(r.Now)
		if r.Now == control.NowKnown {
			known++
		}
		rows = append(rows, []string{text.Printable(r.Name), text.Number(r.Refused), text.Number(r.WouldRefuse),
			a.shortTime(r.Last), text.Printable(r.Network), now})
	}
	p.Table(rows, 1, 2)
	if known > 0 {
		p.WriteString(p.Warn(fmt.Sprintf("%s known by now: mail to it was refused before, or would have been.",
			isOrAre(known, "of these addresses"))) + "\n")
	}
}

func isOrAre(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %s are", n, what)
}

func (a *app) refusedNames(p *terminal.Page, title string, all []control.RefusedName) {
	rows := [][]string{{title, "Refused", "Would refuse", "Last"}}
	for _, r := range all {
		rows = append(rows, []string{text.Printable(r.Name), text.Number(r.Refused), text.Number(r.WouldRefuse),
			a.shortTime(r.Last)})
	}
	p.Table(rows, 1, 2)
}

func (a *app) nearMissTable(p *terminal.Page, r control.Report) {
	rows := [][]string{{"Near miss", "Known address", "Refused", "Would refuse", "Last"}}
	for _, m := range r.NearMisses {
		rows = append(rows, []string{text.Printable(m.Name), text.Printable(strings.Join(m.Known, ", ")),
			text.Number(m.Refused), text.Number(m.WouldRefuse), a.shortTime(m.Last)})
	}
	p.Table(rows, 2, 3)
	if len(r.NearMisses) > 0 {
		p.WriteString("Near misses differ from a known address by one typing error. Only this report shows\n" +
			"them: clients get the same reply as for any other unknown recipient.\n")
	}
}

// shortTime returns the time of day, and the date unless it is today.
func (a *app) shortTime(t control.Time) string {
	local, now := t.In(a.now().Location()), a.now()
	if local.YearDay() == now.YearDay() && local.Year() == now.Year() {
		return local.Format("15:04:05")
	}
	return local.Format("2006-01-02 15:04")
}
