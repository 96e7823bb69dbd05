package main

import (
	"context"
	"fmt"
	"strings"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/text"
)

// nagiosStates are the states of a Nagios plugin by exit status.
var nagiosStates = [...]string{exitOK: "OK", exitFailure: "WARNING", exitTemporary: "CRITICAL",
	exitNotReachable: "UNKNOWN"}

// nagios prints the line of a Nagios plugin. Performance data follow a bar:
// 'label'=value[unit];[warning];[critical].
func (a *app) nagios(ctx context.Context) error {
	client, err := a.client()
	if err != nil {
		return a.printUnknown(err)
	}
	s, err := client.Status(ctx)
	if err != nil {
		return a.printUnknown(err)
	}
	c, _ := a.load() // nil if the file is invalid now; the limits are unknown then
	status := statusExit(s)
	fmt.Fprintf(a.stdout, "RCPT-MILTER %s - %s | %s\n", nagiosStates[status], nagiosText(problemsOf(s)),
		a.performanceData(s, c))
	if status != exitOK {
		return &exitError{status: status}
	}
	return nil
}

// printUnknown prints an error on standard output, where Nagios reads it.
func (a *app) printUnknown(err error) error {
	fmt.Fprintf(a.stdout, "RCPT-MILTER UNKNOWN - %s\n", nagiosText(strings.Split(err.Error(), "\n")))
	return &exitError{status: exitNotReachable}
}

// nagiosText joins sentences to one line without bars.
func nagiosText(sentences []string) string {
	return text.Printable(strings.ReplaceAll(strings.Join(sentences, "; "), "|", "/"))
}

// problemsOf returns what is wrong, the worst first, and the size of the index.
func problemsOf(s control.Status) []string {
	all := append([]string{}, s.Alarms...)
	for _, domain := range s.EmptyDomains {
		all = append(all, control.EmptyDomainText(domain))
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
		if f.Trouble != "" {
			all = append(all, fmt.Sprintf("accept file %s: its last good copy stays in effect: %s", f.File, f.Trouble))
		}
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

// performanceData returns the performance data. Counters end in c, seconds in s. Without a
// configuration there are no limits, because zero would be one.
func (a *app) performanceData(s control.Status, c *config.Config) string {
	var all []string
	add := func(label string, value any, unit, limits string) {
		label = strings.NewReplacer("'", "", "=", "", "|", "").Replace(text.Printable(label))
		all = append(all, fmt.Sprintf("'%s'=%v%s%s", label, value, unit, limits))
	}
	age, sessions := ";;;0", ";;;0"
	if c != nil {
		age = fmt.Sprintf(";%d;%d;0", int64(c.LateAfter.Seconds()), int64(c.StaleAfter.Seconds()))
		sessions = fmt.Sprintf(";;;0;%d", c.Limits.Connections)
	}
	for _, d := range s.Directories {
		if !d.LastSuccess.IsZero() {
			add("age_"+d.Name, int64(max(0, a.now().Sub(d.LastSuccess.Time).Seconds())), "s", age)
		}
		add("usn_lag_"+d.Name, d.USNLag(), "", ";;;0")
		add("held_"+d.Name, d.HeldRemovals, "", ";0;;0")
	}
	add("addresses", s.Addresses, "", ";;;0")
	add("objects", s.Objects, "", ";;;0")
	add("sessions", s.Sessions, "", sessions)
	decided := s.Judged()
	add("accepted", decided.Accepted, "c", "")
	add("let_through", decided.ReportOnly, "c", "")
	add("put_off", decided.Deferred, "c", "")
	add("refused", decided.Refused, "c", "")
	return strings.Join(all, " ")
}
