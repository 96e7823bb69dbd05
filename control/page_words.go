package control

import (
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// pageWords are the functions of the templates.
func pageWords(now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"ago":     func(t Time) string { return agoWords(now().Sub(t.Time)) },
		"clock":   func(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") },
		"when":    func(t Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") },
		"number":  groupedNumber,
		"words":   func(text any) string { return strings.ReplaceAll(fmt.Sprint(text), "_", " ") },
		"domains": domainRows,
		"blind":   func(d DirectoryStatus) bool { return d.DeletedObjectsVisible != nil && !*d.DeletedObjectsVisible },
		"weight":  stateWeight,
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

// domainRow is one domain of the configuration or of the index.
type domainRow struct {
	Domain, Mode string
	Addresses    int64
	Pattern      bool // it stands for all sub-domains
}

// domainRows lists those of the configuration, and the largest of the others.
func domainRows(s Status) []domainRow {
	var rows []domainRow
	for _, domain := range slices.Sorted(maps.Keys(s.Modes)) {
		rows = append(rows, domainRow{domain, s.Modes[domain], s.Domains[domain], strings.HasPrefix(domain, ".")})
	}
	return rows
}
