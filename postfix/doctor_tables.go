package postfix

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"rcpt-milter/internal/text"
)

// checkOldTable checks that only the daemon decides which recipients exist: by the milter, or by
// its socketmap.
func (e *examination) checkOldTable() {
	var tables []string
	for _, word := range list(e.Value(nil, "relay_recipient_maps")) {
		for _, table := range members(word) {
			switch kind, _, _ := strings.Cut(table, ":"); {
			case kind == "static": // matches every address
			case kind == "socketmap":
				e.checkSocketmap(table)
			default:
				tables = append(tables, table)
			}
		}
	}
	if len(tables) == 0 {
		return
	}
	for _, table := range tables {
		e.checkEdgeSync(table)
	}
	what := fmt.Sprintf("relay_recipient_maps is still in effect (%s)", text.List(tables, 5))
	why := "Postfix rejects other recipients before it asks the daemon, so new ones in the directory get no mail."
	if slices.ContainsFunc(tables, e.isExport) {
		why = "The daemon exports this table for the time without a daemon. Until the next export, Postfix rejects new " +
			"recipients."
	} else if slices.ContainsFunc(tables, func(t string) bool { return strings.HasPrefix(t, "ldap:") }) {
		why = "Postfix asks the directory for each recipient, before it asks the daemon: an outage of the directory " +
			"defers all mail, and what its filter lacks is rejected."
	}
	enforced, others := e.byMode()
	switch {
	case len(enforced) == 0 && len(e.daemon.Domains) > 0:
		e.find("old-table", Note, what, "This is right until a domain is in mode enforce. Then remove it.",
			"in config.yaml: set domains to enforce; then", e.set("relay_recipient_maps", ""))
	case len(others) == 0:
		e.find("old-table", Problem, what, why, e.set("relay_recipient_maps", ""))
	default:
		e.phasedTable(what, why, tables, enforced, others)
	}
}

// edgePorts are the ports of the AD LDS of an Edge Transport server, which EdgeSync fills: LDAP and LDAPS.
var edgePorts = []string{"50389", "50636"}

// checkEdgeSync notes an ldap: table whose file names a port of an Edge Transport server. The file may
// hold a password, so the finding shows nothing of it.
func (e *examination) checkEdgeSync(table string) {
	file, ok := strings.CutPrefix(table, "ldap:")
	if !ok || !path.IsAbs(file) {
		return
	}
	found := false
	err := e.host.Keys(file, func(word, _ string) {
		for _, port := range edgePorts {
			at := strings.LastIndex(word, port)
			found = found || at >= 0 && (at == 0 || strings.ContainsRune(":=", rune(word[at-1]))) &&
				strings.Trim(word[at+len(port):], "/,;") == ""
		}
	})
	if err != nil || !found {
		return
	}
	e.find("edge-sync", Note, table+" asks the AD LDS of an Edge Transport server, which EdgeSync fills",
		"The daemon does not support AD LDS. It needs a domain controller, or a read-only one, that "+
			"this host can reach. Keep the Edge subscription until all domains are in mode enforce; without it the "+
			"table rejects what is new. See docs/moving-over.md.")
}

// byMode returns the domains in mode enforce, and those in mode report.
func (e *examination) byMode() (enforced, others []string) {
	for _, domain := range sortedDomains(e.daemon.Domains) {
		switch e.daemon.Domains[domain] {
		case "enforce":
			enforced = append(enforced, domain)
		case "report":
			others = append(others, domain)
		}
	}
	return enforced, others
}

// phasedTable gives the advice for an old table while some domains are still in mode report. The
// table protects those; it must let every recipient of an enforced domain through to the daemon.
func (e *examination) phasedTable(what, why string, tables, enforced, others []string) {
	var closed, fix []string
	for _, domain := range enforced {
		if strings.HasPrefix(domain, ".") || !e.tableHas("relay_recipient_maps", "@"+domain) {
			closed = append(closed, domain)
		}
	}
	if len(closed) == 0 {
		e.find("old-table", Note, what, "It still protects "+text.List(others, 10)+
			" (mode report), and leaves the enforced domains to the daemon. Remove it with the last of them.",
			"in config.yaml: set domains to enforce; then", e.set("relay_recipient_maps", ""))
		return
	}
	for _, domain := range closed {
		if parent, sub := strings.CutPrefix(domain, "."); sub {
			fix = append(fix, "in the source of the table, for each sub-domain of "+parent+": @SUB"+domain+" OK")
			continue
		}
		fix = append(fix, "in the source of the table: @"+domain+" OK")
	}
	if _, ok := sourceOf(tables[0]); ok {
		fix = append(fix, "postmap "+text.ShellQuoted(tables[0]))
	}
	e.find("old-table", Problem, what, why+" Keep it for "+text.List(others, 10)+
		", which the daemon does not protect yet (mode report).", fix...)
}

// isExport reports whether a table is made from the file that the daemon exports.
func (e *examination) isExport(table string) bool {
	file, ok := sourceOf(table)
	return ok && e.daemon.Export != "" && path.Clean(file) == e.daemon.Export
}

// checkSocketmap checks a socketmap of relay_recipient_maps.
func (e *examination) checkSocketmap(table string) {
	at, name := strings.TrimPrefix(table, "socketmap:"), ""
	if i := strings.LastIndexByte(at, ':'); i >= 0 {
		at, name = at[:i], at[i+1:]
	}
	ours := slices.ContainsFunc(e.those(func(l listener) bool { return l.role == outside }), func(l listener) bool {
		return e.reaches(l.Service, at, e.daemon.Socketmap)
	})
	switch {
	case !ours && len(e.daemon.Socketmap) == 0 && !strings.Contains(at, "rcpt-milter"):
		e.find("socketmap-foreign", Note, "relay_recipient_maps has "+table+", which is not of this daemon",
			"Postfix rejects what it does not find before it asks the daemon.")
	case !ours:
		e.find("socketmap-missing", Problem, "the daemon does not listen at "+table+" of relay_recipient_maps",
			"Postfix defers all mail with 451.", "in config.yaml: listen_socketmap: unix:"+e.queue()+"/rcpt-milter/map.sock",
			e.set("relay_recipient_maps", "socketmap:unix:rcpt-milter/map.sock:recipients"))
	case name != "recipients":
		e.find("socketmap-name", Problem, "the map of the daemon is called recipients, not "+name,
			"Postfix defers all mail with 451.", e.set("relay_recipient_maps", "socketmap:"+at+":recipients"))
	}
}

// checkDelimiter checks that Postfix and the daemon find the same extensions.
func (e *examination) checkDelimiter() {
	theirs, ours := e.Value(nil, "recipient_delimiter"), e.daemon.Delimiter
	missing := func(from, in string) bool {
		return strings.ContainsFunc(from, func(r rune) bool { return !strings.ContainsRune(in, r) })
	}
	switch {
	case missing(theirs, ours) && e.looksExtensionsUp():
		e.find("delimiter", Note, fmt.Sprintf("recipient_delimiter is %q in Postfix and %q in config.yaml", theirs, ours),
			"The daemon rejects ann"+theirs[:1]+"news@ unless the directory has it. This is right only if the server behind "+
				"Postfix does not deliver it to ann@.",
			fmt.Sprintf("in config.yaml: recipient_delimiter: %q", theirs))
	case missing(ours, theirs):
		e.find("delimiter", Note, fmt.Sprintf("recipient_delimiter is %q in Postfix and %q in config.yaml", theirs, ours),
			"The daemon accepts extensions that Postfix does not know. This is right only if a server behind Postfix does.",
			e.set("recipient_delimiter", ours))
	}
}

// looksExtensionsUp reports whether recipient_delimiter of Postfix can concern a judged recipient:
// by a table of recipients or of aliases, or by delivery on this host. Mail that is only relayed
// keeps its extension.
func (e *examination) looksExtensionsUp() bool {
	return e.inMyDestination() != "" ||
		slices.ContainsFunc(append([]string{"relay_recipient_maps"}, aliasMaps...), func(parameter string) bool {
			return e.Set[parameter] && e.Value(nil, parameter) != ""
		})
}

// checkProbing reports that Postfix verifies recipients by address probes.
func (e *examination) checkProbing() {
	for _, l := range e.those(func(l listener) bool { return l.role == outside }) {
		for _, parameter := range []string{"smtpd_relay_restrictions", "smtpd_recipient_restrictions"} {
			words := list(e.Value(l.Service, parameter))
			if !slices.ContainsFunc(words, func(w string) bool { return w == "reject_unverified_recipient" }) {
				continue
			}
			rest := slices.DeleteFunc(words, func(w string) bool { return w == "reject_unverified_recipient" })
			e.find("probing", Note, l.String()+" also verifies recipients by address probes "+
				"(reject_unverified_recipient in "+parameter+")",
				"Postfix asks the next server before the daemon. It remembers a rejection for hours, so a new recipient "+
					"gets no mail in that time. Drop it when all domains are in mode enforce.",
				e.set(parameter, strings.Join(rest, ", ")))
			return
		}
	}
}

// denialAge is the age from which a denial says nothing about the present.
const denialAge = 24 * time.Hour

// checkDenied reports a connection of smtpd that SELinux has denied, in the last day and since the
// start of the daemon.
func (e *examination) checkDenied() {
	denial := e.host.Denied()
	if denial.Text != "" && time.Since(denial.Time) <= denialAge && !denial.Time.Before(e.daemon.Started.Truncate(time.Second)) {
		e.find("selinux-denied", Problem, "SELinux denied smtpd a connection to the socket at "+
			denial.Time.Format(time.DateTime)+": "+denial.Text,
			"Postfix takes its default action, although owner and mode of the socket are right.",
			"ausearch -m avc -ts recent -c smtpd | audit2allow -M rcpt-milter-local",
			"semodule -i rcpt-milter-local.pp")
	}
}
