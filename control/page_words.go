package control

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"rcpt-milter/policy"
)

// networksShown is how many networks over the harvest limit the page shows.
const networksShown = 5

// pageWords are the functions of the templates.
func pageWords(now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"ago":    func(t Time) string { return agoWords(now().Sub(t.Time)) },
		"clock":  func(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") },
		"when":   func(t Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") },
		"number": groupedNumber,
		"first":  func(all []HarvestNetwork) []HarvestNetwork { return all[:min(len(all), networksShown)] },
		"counted": func(n any, one, many string) string {
			if fmt.Sprint(n) == "1" {
				return "1 " + one
			}
			return groupedNumber(n) + " " + many
		},
		"words":   func(text any) string { return strings.ReplaceAll(fmt.Sprint(text), "_", " ") },
		"domains": domainRows,
		"judged":  verdictRows,
		"blind":   func(d DirectoryStatus) bool { return d.DeletedObjectsVisible != nil && !*d.DeletedObjectsVisible },
		"weight":  stateWeight,
		"empty":   EmptyDomainText,
		"due": func(t Time) string {
			if !t.After(now()) {
				return "due"
			}
			return agoWords(now().Sub(t.Time))
		},
		"troubled": func(files []AcceptFile) bool {
			return slices.ContainsFunc(files, func(f AcceptFile) bool { return f.Trouble != "" })
		},
	}
}

// stateWeight is the class by which the style colours a state.
func stateWeight(s State) string {
	switch s {
	case Fresh:
		return "good"
	case Late, Retired:
		return "fair"
	}
	return "bad"
}

// agoWords says how long ago something was, or when it will be.
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

// groupedNumber is a number with a thin gap at every thousand.
func groupedNumber(v any) string {
	digits := fmt.Sprint(v)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return digits
}

// verdictRow is how often a verdict was given.
type verdictRow struct {
	Verdict           string
	Outcome           string // also the class of the style
	Recipients, Would int64
}

// verdictRows lists the verdicts that were given, in the order of the table by which
// recipients are judged.
func verdictRows(s Status) []verdictRow {
	words := map[Outcome]string{Accepted: "accepted", Deferred: "deferred", Refused: "refused"}
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
	Pattern      bool // it stands for all sub-domains
}

// othersShown is how many domains are shown that only the index has.
const othersShown = 10

// domainRows lists those of the configuration, and the largest of the others.
func domainRows(s Status) []domainRow {
	var rows, others []domainRow
	for _, domain := range slices.Sorted(maps.Keys(s.Modes)) {
		rows = append(rows, domainRow{domain, s.Modes[domain], s.Domains[domain], strings.HasPrefix(domain, ".")})
	}
	for _, domain := range slices.Sorted(maps.Keys(s.Domains)) {
		if _, named := s.Modes[domain]; !named {
			mode, _ := ParentMode(s.Modes, domain)
			others = append(others, domainRow{Domain: domain, Mode: mode, Addresses: s.Domains[domain]})
		}
	}
	slices.SortStableFunc(others, func(x, y domainRow) int { return cmp.Compare(y.Addresses, x.Addresses) })
	return append(rows, others[:min(len(others), othersShown)]...)
}
