package web

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/control"
	"rcpt-milter/internal/text"
	"rcpt-milter/policy"
)

// networksShown limits the networks over the harvest limit on the page.
const networksShown = 5

// pageWords are the functions of the templates.
func pageWords(now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"ago":    func(t control.Time) string { return text.Age(now(), t.Time) },
		"clock":  func(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") },
		"when":   func(t control.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") },
		"number": groupedNumber,
		"first":  func(all []control.HarvestNetwork) []control.HarvestNetwork { return all[:min(len(all), networksShown)] },
		"counted": func(n any, one, many string) string {
			return text.CountBy(integer(n), one, many, gap)
		},
		"words":   func(name any) string { return strings.ReplaceAll(fmt.Sprint(name), "_", " ") },
		"domains": domainRows,
		"judged":  verdictRows,
		"blind": func(d control.DirectoryStatus) bool {
			return d.DeletedObjectsVisible != nil && !*d.DeletedObjectsVisible
		},
		"weight": stateWeight,
		"empty":  control.EmptyDomainText,
		"due": func(t control.Time) string {
			if !t.After(now()) {
				return "due"
			}
			return text.Age(now(), t.Time)
		},
		"troubled": func(files []control.AcceptFile) bool {
			return slices.ContainsFunc(files, func(f control.AcceptFile) bool { return f.Trouble != "" })
		},
	}
}

// stateWeight returns the style class of a state.
func stateWeight(s control.State) string {
	switch s {
	case control.Fresh:
		return "good"
	case control.Late, control.Retired:
		return "fair"
	}
	return "bad"
}

// gap separates thousands: a narrow no-break space.
const gap = "\u202f"

// groupedNumber returns a number of any integer type with a gap at every thousand.
func groupedNumber(n any) string { return text.NumberBy(integer(n), gap) }

// integer returns a number of any integer type.
func integer(n any) int64 {
	v := reflect.ValueOf(n)
	if v.CanUint() {
		return int64(v.Uint())
	}
	return v.Int()
}

// verdictRow counts a verdict.
type verdictRow struct {
	Verdict           string
	Outcome           string // also the class of the style
	Recipients, Would int64
}

// verdictRows returns the verdicts that occurred, in the order of the decision table.
func verdictRows(s control.Status) []verdictRow {
	words := map[policy.Outcome]string{policy.Accepted: "accepted", policy.Deferred: "deferred",
		policy.Refused: "refused"}
	var rows []verdictRow
	add := func(verdict string) {
		if n := s.Decisions[verdict]; n > 0 {
			outcome := words[policy.Verdict(verdict).Outcome()]
			rows = append(rows, verdictRow{verdict, outcome, n, s.WouldRefuse[verdict]})
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

// domainRow is one domain of the configuration or of the index.
type domainRow struct {
	Domain, Mode string
	Addresses    int64
	Pattern      bool // for all sub-domains
}

// othersShown limits the domains that are only in the index.
const othersShown = 10

// domainRows returns the domains of the configuration and the largest of the others.
func domainRows(s control.Status) []domainRow {
	var rows, others []domainRow
	for _, domain := range slices.Sorted(maps.Keys(s.Modes)) {
		rows = append(rows, domainRow{domain, s.Modes[domain], s.Domains[domain], strings.HasPrefix(domain, ".")})
	}
	for _, domain := range slices.Sorted(maps.Keys(s.Domains)) {
		if _, named := s.Modes[domain]; !named {
			mode, _ := address.LookupDomain(s.Modes, domain)
			others = append(others, domainRow{Domain: domain, Mode: mode, Addresses: s.Domains[domain]})
		}
	}
	slices.SortStableFunc(others, func(x, y domainRow) int { return cmp.Compare(y.Addresses, x.Addresses) })
	return append(rows, others[:min(len(others), othersShown)]...)
}
