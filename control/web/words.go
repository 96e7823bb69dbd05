package web

import (
	"fmt"
	"html/template"
	"reflect"
	"slices"
	"strings"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/text"
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
		"first": func(all []control.HarvestNetwork) []control.HarvestNetwork {
			return all[:min(len(all), networksShown)]
		},
		"counted": func(n any, one, many string) string {
			return text.CountBy(integer(n), one, many, gap)
		},
		"words":   func(name any) string { return strings.ReplaceAll(fmt.Sprint(name), "_", " ") },
		"outcome": outcomeWord,
		"blind": func(d control.DirectoryStatus) bool {
			return d.DeletedObjectsVisible != nil && !*d.DeletedObjectsVisible
		},
		"named":      control.ObjectName,
		"yes":        func(b *bool) bool { return b != nil && *b },
		"weight":     stateWeight,
		"subdomains": func(domain string) bool { return strings.HasPrefix(domain, ".") },
		"due": func(t control.Time) string {
			if !t.After(now()) {
				return "due"
			}
			return text.Age(now(), t.Time)
		},
		"troubled": func(files []control.AcceptFile) bool {
			return slices.ContainsFunc(files,
				func(f control.AcceptFile) bool { return f.Trouble != "" || f.State == control.Stale })
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

// outcomeWord returns an outcome in words, which is also the class of its style.
func outcomeWord(o control.Outcome) string {
	if o == control.Deferred {
		return "deferred"
	}
	return string(o)
}
