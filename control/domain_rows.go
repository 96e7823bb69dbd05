package control

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"rcpt-milter/address"
)

// DomainRow is one domain of the configuration or of the index.
type DomainRow struct {
	Domain     string
	Mode       string // empty if the domain is not judged
	Addresses  int64
	Pattern    bool    // stands for all sub-domains, which have rows of their own
	Configured bool    // named in the configuration
	Judged     *Judged // recipients since the start; nil means that this row does not count them
}

// recipients returns the number of recipients of a row, or -1 if the row does not count them.
func (r DomainRow) recipients() int64 {
	if r.Judged == nil {
		return -1
	}
	return r.Judged.Total()
}

// DomainRows returns the domains of the configuration, those with the most recipients first, then the
// others by size. Equal ones are in the order of their names.
func (s Status) DomainRows() []DomainRow {
	var rows, others []DomainRow
	for _, domain := range slices.Sorted(maps.Keys(s.Modes)) {
		rows = append(rows, DomainRow{Domain: domain, Mode: s.Modes[domain], Addresses: s.Domains[domain],
			Pattern: strings.HasPrefix(domain, "."), Configured: true, Judged: judgedIn(s.DomainDecisions[domain])})
	}
	for _, domain := range slices.Sorted(maps.Keys(s.Domains)) {
		if _, named := s.Modes[domain]; !named {
			mode, _ := address.LookupDomain(s.Modes, domain)
			others = append(others, DomainRow{Domain: domain, Mode: mode, Addresses: s.Domains[domain]})
		}
	}
	busiestFirst(rows)
	slices.SortStableFunc(others, func(x, y DomainRow) int { return cmp.Compare(y.Addresses, x.Addresses) })
	return append(rows, others...)
}

// busiestFirst sorts rows by their recipients. Rows that count none come last. Equal ones keep their order.
func busiestFirst(rows []DomainRow) {
	slices.SortStableFunc(rows, func(x, y DomainRow) int { return cmp.Compare(y.recipients(), x.recipients()) })
}

// judgedIn returns counts by outcome. Without any, as of a stopped daemon, it returns nil.
func judgedIn(outcomes map[string]int64) *Judged {
	if len(outcomes) == 0 {
		return nil
	}
	j := JudgedIn(outcomes)
	return &j
}

// DomainSummary is the part of the rows of domains that is shown to people.
type DomainSummary struct {
	Rows       []DomainRow
	More       int  // rows of the configuration that it omits
	MoreOthers int  // other rows that it omits
	Counted    bool // a row counts recipients
}

// Limits of a DomainSummary.
const (
	shownDomains = 20 // of the configuration
	shownOthers  = 10 // of those that only the index has
)

// DomainSummary returns the busiest domains of the configuration, and the largest of the others.
func (s Status) DomainSummary() DomainSummary {
	rows := s.DomainRows()
	configured := len(s.Modes)
	ours, others := min(configured, shownDomains), min(len(rows)-configured, shownOthers)
	return DomainSummary{
		Rows: slices.Concat(rows[:ours], rows[configured:configured+others]),
		More: configured - ours, MoreOthers: len(rows) - configured - others,
		Counted: counted(rows),
	}
}

// DomainSummary returns the busiest domains of the tenant.
func (s TenantStatus) DomainSummary() DomainSummary {
	var rows []DomainRow
	for _, d := range s.Domains {
		rows = append(rows, DomainRow{Domain: d.Domain, Mode: d.Mode, Addresses: d.Addresses,
			Pattern: strings.HasPrefix(d.Domain, "."), Configured: d.Mode != "", Judged: judgedIn(d.Decisions)})
	}
	busiestFirst(rows)
	shown := min(len(rows), shownDomains)
	return DomainSummary{Rows: rows[:shown], More: len(rows) - shown, Counted: counted(rows)}
}

// counted reports whether a row counts recipients.
func counted(rows []DomainRow) bool {
	return slices.ContainsFunc(rows, func(r DomainRow) bool { return r.Judged != nil })
}
