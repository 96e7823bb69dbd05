package control

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/policy"
)

// VerdictRow counts the recipients of a verdict.
type VerdictRow struct {
	Verdict     string
	Outcome     Outcome
	Recipients  int64
	WouldRefuse int64 // of these, accepted only because the mode is report
}

// VerdictRows returns the verdicts that occurred, in the order of the decision table. Those
// of another version of the daemon follow.
func (s Status) VerdictRows() []VerdictRow {
	var rows []VerdictRow
	add := func(verdict string) {
		if n := s.Decisions[verdict]; n > 0 {
			rows = append(rows, VerdictRow{verdict, policy.Verdict(verdict).Outcome(), n, s.WouldRefuse[verdict]})
		}
	}
	named := map[string]bool{}
	for _, v := range policy.Verdicts() {
		named[string(v)] = true
		add(string(v))
	}
	for _, verdict := range slices.Sorted(maps.Keys(s.Decisions)) {
		if !named[verdict] {
			add(verdict)
		}
	}
	return rows
}

// DomainRow is one domain of the configuration or of the index.
type DomainRow struct {
	Domain     string
	Mode       string // empty if the domain is not judged
	Addresses  int64
	Pattern    bool // stands for all sub-domains, which have rows of their own
	Configured bool // named in the configuration
}

// DomainRows returns the domains of the configuration by name, then the others by size.
func (s Status) DomainRows() []DomainRow {
	var rows, others []DomainRow
	for _, domain := range slices.Sorted(maps.Keys(s.Modes)) {
		rows = append(rows, DomainRow{domain, s.Modes[domain], s.Domains[domain], strings.HasPrefix(domain, "."), true})
	}
	for _, domain := range slices.Sorted(maps.Keys(s.Domains)) {
		if _, named := s.Modes[domain]; !named {
			mode, _ := address.LookupDomain(s.Modes, domain)
			others = append(others, DomainRow{Domain: domain, Mode: mode, Addresses: s.Domains[domain]})
		}
	}
	slices.SortStableFunc(others, func(x, y DomainRow) int { return cmp.Compare(y.Addresses, x.Addresses) })
	return append(rows, others...)
}
