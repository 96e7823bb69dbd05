// Package nagios writes a status as the line of a Nagios plugin, with performance data.
package nagios

import (
	"fmt"
	"strings"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/text"
)

// State is the state of a plugin. Its value is the exit status.
type State int

// The states of the plugin interface.
const (
	OK State = iota
	Warning
	Critical
	Unknown
)

// String returns the state as Nagios writes it.
func (s State) String() string {
	switch s {
	case OK:
		return "OK"
	case Warning:
		return "WARNING"
	case Critical:
		return "CRITICAL"
	}
	return "UNKNOWN"
}

// Limits are the limits of the configuration that performance data have.
type Limits struct {
	LateAfter, StaleAfter time.Duration
	Connections           int
}

// Line returns the line of the plugin. Performance data follow a bar:
// 'label'=value[unit];[warning];[critical]. Without limits the data have none.
func Line(state State, s control.Status, limits *Limits, now time.Time) string {
	return fmt.Sprintf("RCPT-MILTER %v - %s | %s\n", state, oneLine(problemsOf(s, now)),
		performanceData(s, limits, now))
}

// ErrorLine returns the line of the plugin if there is no status.
func ErrorLine(err error) string {
	return fmt.Sprintf("RCPT-MILTER %v - %s\n", Unknown, oneLine(strings.Split(err.Error(), "\n")))
}

// oneLine joins sentences to one line without bars.
func oneLine(sentences []string) string {
	return text.Printable(strings.ReplaceAll(strings.Join(sentences, "; "), "|", "/"))
}

// problemsOf returns what is wrong, the worst first, and the size of the index.
func problemsOf(s control.Status, now time.Time) []string {
	all := append([]string{}, s.Alarms...)
	for _, l := range s.Closed() {
		all = append(all, l.Text())
	}
	for _, domain := range s.EmptyDomains {
		all = append(all, s.EmptyDomainText(domain))
	}
	for _, d := range s.Directories {
		if d.State != control.Fresh && d.State != control.Retired {
			all = append(all, fmt.Sprintf("directory %s is %s", d.Name, strings.ReplaceAll(string(d.State), "_", " ")))
		}
		if d.LastError != "" {
			all = append(all, fmt.Sprintf("directory %s fails: %s", d.Name, d.LastError))
		}
		if d.HeldRemovals > 0 {
			all = append(all, fmt.Sprintf("directory %s: %s held back", d.Name, text.Count(d.HeldRemovals, "removal",
				"removals")))
		}
	}
	for _, f := range s.AcceptFiles {
		if f.State == control.Stale {
			all = append(all, fmt.Sprintf("accept file %s: %s", f.File, f.StaleText(now)))
		}
		if f.Trouble != "" {
			all = append(all, fmt.Sprintf("accept file %s: its last good copy stays in effect: %s", f.File, f.Trouble))
		}
	}
	if trouble := s.ExportTrouble(); trouble != "" {
		all = append(all, trouble)
	}
	if s.ReloadError != "" {
		all = append(all, "the configuration was rejected: "+s.ReloadError)
	}
	if len(all) == 0 {
		all = append(all, string(s.State))
	}
	return append(all, fmt.Sprintf("%s in %s", text.Count(s.Addresses, "address", "addresses"),
		text.Count(int64(len(s.Domains)), "domain", "domains")))
}

// performanceData returns the performance data. Counters end in c, seconds in s. Unknown limits
// are left out, because zero would be one.
func performanceData(s control.Status, limits *Limits, now time.Time) string {
	var all []string
	add := func(label string, value any, unit, thresholds string) {
		label = strings.NewReplacer("'", "", "=", "", "|", "").Replace(text.Printable(label))
		all = append(all, fmt.Sprintf("'%s'=%v%s%s", label, value, unit, thresholds))
	}
	age, sessions := ";;;0", ";;;0"
	if limits != nil {
		age = fmt.Sprintf(";%d;%d;0", int64(limits.LateAfter.Seconds()), int64(limits.StaleAfter.Seconds()))
		sessions = fmt.Sprintf(";;;0;%d", limits.Connections)
	}
	for _, d := range s.Directories {
		if !d.LastSuccess.IsZero() {
			add("age_"+d.Name, int64(max(0, now.Sub(d.LastSuccess.Time).Seconds())), "s", age)
		}
		add("usn_lag_"+d.Name, d.USNLag(), "", ";;;0")
		add("held_"+d.Name, d.HeldRemovals, "", ";0;;0")
	}
	add("addresses", s.Addresses, "", ";;;0")
	add("objects", s.Objects, "", ";;;0")
	add("sessions", s.Sessions, "", sessions)
	decided := s.Judged()
	add("accepted", decided.Accepted, "c", "")
	add("let_through", decided.ReportOnly, "c", "") // as would_refuse; graphs have this name
	add("put_off", decided.Deferred, "c", "")
	add("refused", decided.Refused, "c", "")
	add("would_refuse", decided.ReportOnly, "c", "")
	return strings.Join(all, " ")
}
