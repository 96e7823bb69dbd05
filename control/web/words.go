package web

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/control"
)

// networksShown limits the networks over the harvest limit on the page.
const networksShown = 5

// pageWords are the functions of the templates.
func pageWords(now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"ago":    func(t control.Time) string { return agoWords(now().Sub(t.Time)) },
		"clock":  func(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") },
		"when":   func(t control.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") },
		"number": groupedNumber,
		"first":  func(all []control.HarvestNetwork) []control.HarvestNetwork { return all[:min(len(all), networksShown)] },
		"counted": func(n any, one, many string) string {
			if fmt.Sprint(n) == "1" {
				return "1 " + one
			}
			return groupedNumber(n) + " " + many
		},
		"words":   func(text any) string { return strings.ReplaceAll(fmt.Sprint(text), "_", " ") },
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
			return agoWords(now().Sub(t.Time))
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

// agoWords formats a duration as "… ago", or "in …" if it is negative.
func agoWords(d time.Duration) string {
	if d < 0 {
		return "in " + spanWords(-d)
	}
	return spanWords(d) + " ago"
}

func spanWords(d time.Duration) string {
	for _, unit := range []struct {
		name string
		d    time.Duration
	}{{"days", 24 * time.Hour}, {"hours", time.Hour}, {"minutes", time.Minute}, {"seconds", time.Second}} {
		if n := int64(d / unit.d); n >= 2 {
			return strconv.FormatInt(n, 10) + " " + unit.name
		}
	}
	return "a moment"
}

// groupedNumber formats a number with thin spaces between groups of three digits.
func groupedNumber(v any) string {
	digits := fmt.Sprint(v)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return digits
}

// verdictRow counts a verdict.
type verdictRow struct {
	Verdict           string
	Told              control.Told
	Class             string // of the style
	Recipients, Would int64
}

// verdictRows returns the verdicts that occurred, in the order of the decision table.
func verdictRows(s control.Status) []verdictRow {
	class := map[control.Told]string{
		control.ToldAccepted: "accepted", control.ToldPutOff: "putoff", control.ToldRefused: "refused",
	}
	var rows []verdictRow
	add := func(verdict string) {
		if n := s.Decisions[verdict]; n > 0 {
			told := control.ToldBy(verdict)
			rows = append(rows, verdictRow{verdict, told, class[told], n, s.WouldRefuse[verdict]})
		}
	}
	named := map[string]bool{}
	for _, verdict := range control.Verdicts() {
		named[verdict] = true
		add(verdict)
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
