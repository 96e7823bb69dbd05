package console

import (
	"cmp"
	"slices"
	"strings"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

// longestName limits the bytes of a domain in a table, so one name does not move all numbers off the
// screen.
const longestName = 48

// domainTable writes the busiest domains of the configuration and the largest ones of the index. On a
// terminal that is too narrow it writes the recipients in a table of their own.
func domainTable(p *terminal.Page, s control.Status) {
	sum := s.DomainSummary()
	facts := [][]string{{"Domain", "Mode", "Addresses"}}
	counts := [][]string{{"Domain", "Accepted", "Refused", "Would refuse", "Deferred"}}
	both := [][]string{slices.Concat(facts[0], counts[0][1:])}
	for _, d := range sum.Rows {
		fact, count := factCells(d), countCells(d)
		facts = append(facts, fact)
		both = append(both, slices.Concat(fact, count[1:]))
		if d.Judged != nil {
			counts = append(counts, count)
		}
	}
	if sum.Counted && p.Fits(both) {
		p.Table(both, 2, 3, 4, 5, 6)
		omitted(p, sum)
	} else {
		p.Table(facts, 2)
		omitted(p, sum)
		p.Table(counts, 1, 2, 3, 4)
	}
	if sum.Counted {
		countNote(p, s)
	}
}

// name returns a domain as text for a table.
func name(d control.DomainRow) string { return text.Shortened(d.Domain, longestName) }

// factCells returns the cells of a domain without the numbers of recipients.
func factCells(d control.DomainRow) []string {
	addresses := text.Number(d.Addresses)
	if d.Pattern {
		addresses = ""
	}
	return []string{name(d), text.Printable(cmp.Or(d.Mode, "-")), addresses}
}

// countCells returns the cells of a domain with the numbers of recipients.
func countCells(d control.DomainRow) []string {
	if d.Judged == nil {
		return []string{name(d), "", "", "", ""}
	}
	return []string{name(d), text.Number(d.Judged.Accepted), text.Number(d.Judged.Refused),
		text.Number(d.Judged.ReportOnly), text.Number(d.Judged.Deferred)}
}

// omitted writes how many domains the table omits.
func omitted(p *terminal.Page, sum control.DomainSummary) {
	var more []string
	if sum.More > 0 {
		more = append(more, "and "+text.Number(int64(sum.More))+" more of the configuration")
	}
	if sum.MoreOthers > 0 {
		more = append(more, "and "+text.Number(int64(sum.MoreOthers))+" more of the index")
	}
	if len(more) > 0 {
		p.Title(strings.Join(more, ", ") + "; \"rcpt-milter status --json\" lists them")
	}
}

// countNote writes what the numbers of recipients mean.
func countNote(p *terminal.Page, s control.Status) {
	note := "Recipients are counted since the start of the daemon. Refused: a 5xx reply was sent. " +
		"Would refuse: accepted only because the mode was report."
	if s.Socketmap != nil {
		note += " Lookups in the socketmap are not included."
	}
	p.Title(note)
}
