package postfix

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"rcpt-milter/internal/text"
)

// checkOldTable checks that only the daemon decides which recipients exist: by the milter, or by
// its socketmap.
func (e *examination) checkOldTable() {
	tables := e.recipientTables("relay_recipient_maps")
	if len(tables) == 0 {
		return
	}
	for _, table := range tables {
		e.checkEdgeSync(table)
	}
	what := fmt.Sprintf("relay_recipient_maps is still in effect (%s)", text.List(tables, 5))
	enforced, others := e.byMode()
	if !slices.ContainsFunc(tables, func(table string) bool { return !e.isExport(table) }) {
		e.exportedTable(what, enforced)
		return
	}
	why := "Postfix rejects other recipients before it asks the daemon, so new ones in the directory get no mail."
	if slices.ContainsFunc(tables, e.isExport) {
		why = "The daemon exports one of them. " + untilExport
	} else if slices.ContainsFunc(tables, func(t string) bool { return strings.HasPrefix(t, "ldap:") }) {
		why = "Postfix asks the directory for each recipient, before it asks the daemon: an outage of the directory " +
			"defers all mail, and what its filter lacks is rejected."
	}
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
		parent, sub := strings.CutPrefix(domain, ".")
		switch {
		case sub && e.opensBelow(tables, domain): // the daemon may know further sub-domains
			fix = append(fix, eachBelow(parent))
		case sub || !e.tableHas("relay_recipient_maps", "@"+domain):
			closed = append(closed, domain)
		}
	}
	if len(closed) == 0 {
		e.find("old-table", Note, what, "It still protects "+text.List(others, 10)+
			" (mode report), and leaves the enforced domains to the daemon. Remove it with the last of them.",
			append(fix, "in config.yaml: set domains to enforce; then", e.set("relay_recipient_maps", ""))...)
		return
	}
	for _, domain := range closed {
		if parent, sub := strings.CutPrefix(domain, "."); sub {
			fix = append(fix, eachBelow(parent))
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

// eachBelow returns the line that opens a table for sub-domains.
func eachBelow(parent string) string {
	return "in the source of the table, for each sub-domain of " + parent + ": @SUB." + parent + " OK"
}

// opensBelow reports whether tables name a sub-domain, and let all recipients of each that they name through.
// Sub-domains with a mode of their own do not count.
func (e *examination) opensBelow(tables []string, parent string) bool {
	open, named := map[string]bool{}, map[string]bool{}
	for _, table := range tables {
		err := e.host.Keys(table, func(key, _ string) {
			at := strings.LastIndexByte(key, '@')
			domain := canonicalDomain(key[at+1:])
			_, own := e.daemon.Domains[domain]
			switch {
			case at < 0 || own || !strings.HasSuffix(domain, parent):
			case at == 0:
				open[domain] = true
			default:
				named[domain] = true
			}
		})
		if err != nil {
			return false
		}
	}
	for domain := range named {
		if !open[domain] {
			return false
		}
	}
	return len(open) > 0
}

// recipientTables returns the tables by which Postfix rejects recipients before it asks the daemon. Postfix asks the
// tables of a parameter in turn. So there are none if one of them matches every address or is the socketmap of
// the daemon, which recipientTables also checks.
func (e *examination) recipientTables(parameter string) (tables []string) {
	harmless := false
	for _, word := range list(e.Value(nil, parameter)) {
		for _, table := range members(word) {
			switch kind, _, _ := strings.Cut(table, ":"); kind {
			case "static":
				harmless = true
			case "socketmap":
				proxied := strings.HasPrefix(word, "proxy:") || strings.Contains(word, "proxy:"+table)
				harmless = e.checkSocketmap(parameter, table, proxied) || harmless
			default:
				tables = append(tables, table)
			}
		}
	}
	if harmless {
		return nil
	}
	return tables
}

// untilExport is the consequence of an exported table beside the daemon.
const untilExport = "Until the next export, Postfix rejects new recipients."

// exportedTable finds the exported table beside the milter. Unlike another table, it protects no domain in mode report,
// and its source is not the administrator's.
func (e *examination) exportedTable(what string, enforced []string) {
	defers := func(l listener) bool { return e.actionOf(l) != "accept" }
	switch remove := e.set("relay_recipient_maps", ""); {
	case e.exportDecides() && !slices.ContainsFunc(e.asked(), defers):
		e.find("old-table", Note, what, "While no daemon runs, Postfix rejects by this table, which the daemon "+
			"exports (default_action=accept). "+untilExport+" So keep export.every at some seconds.")
	case len(enforced) == 0:
		e.find("old-table", Note, what, "The daemon exports this table. "+untilExport, remove)
	default:
		e.find("old-table", Problem, what, "The daemon exports this table for the time without a daemon. "+untilExport,
			remove)
	}
}

// exportDecides reports whether the exported table knows the recipients of all enforced domains, without the daemon.
func (e *examination) exportDecides() bool {
	exported := false
	for _, word := range list(e.Value(nil, "relay_recipient_maps")) {
		exported = exported || slices.ContainsFunc(members(word), e.isExport)
	}
	enforced, _ := e.byMode()
	return exported && !slices.ContainsFunc(enforced, func(domain string) bool {
		return e.classOf(domain) != "relay_domains"
	})
}

// isExport reports whether a table is made from the file that the daemon exports.
func (e *examination) isExport(table string) bool {
	file, ok := sourceOf(table)
	return ok && e.daemon.Export != "" && path.Clean(file) == e.daemon.Export
}

// checkSocketmap checks a socketmap among the tables of a parameter. It reports whether it is meant to be that of the
// daemon.
func (e *examination) checkSocketmap(parameter, table string, proxied bool) bool {
	at, name := strings.TrimPrefix(table, "socketmap:"), ""
	if i := strings.LastIndexByte(at, ':'); i >= 0 {
		at, name = at[:i], at[i+1:]
	}
	ours := false
	sockets := map[string]bool{}
	for _, client := range e.mapClients(proxied) {
		if !e.reaches(client, at, e.daemon.Socketmap) {
			continue
		}
		ours = true
		if kind, where := (Milter{Endpoint: at}).split(); kind == "unix" {
			sockets[e.seenAs(client, where)] = true
		}
	}
	inPlace := func(right string) string {
		value := e.Parameters[parameter]
		if !strings.Contains(value, table) { // it is there by a $name
			value = e.Value(nil, parameter)
		}
		return e.set(parameter, strings.Replace(value, table, right, 1))
	}
	switch {
	case !ours && len(e.daemon.Socketmap) == 0 && !strings.Contains(at, "rcpt-milter"):
		e.find("socketmap-foreign", Note, parameter+" has "+table+", which is not of this daemon",
			"Postfix rejects what it does not find before it asks the daemon.")
		return false
	case !ours:
		e.find("socketmap-missing", Problem, "the daemon does not listen at "+table+" of "+parameter,
			"Postfix defers all mail with 451.", "in config.yaml: listen_socketmap: unix:"+e.queue()+
				"/rcpt-milter/map.sock",
			inPlace("socketmap:unix:rcpt-milter/map.sock:recipients"))
	case name != "recipients":
		e.find("socketmap-name", Problem, "the map of the daemon is called recipients, not "+name,
			"Postfix defers all mail with 451.", inPlace("socketmap:"+at+":recipients"))
	}
	for _, socket := range slices.Sorted(maps.Keys(sockets)) {
		e.checkSocket(socket, "defers all mail with 451.")
	}
	return true
}

// mapClients returns the services that connect to a socketmap of Postfix: those of smtpd for mail from outside, or
// proxymap(8), which is not chrooted unless master.cf says so.
func (e *examination) mapClients(proxied bool) (all []*Service) {
	if !proxied {
		for _, l := range e.those(func(l listener) bool { return l.role == outside }) {
			all = append(all, l.Service)
		}
		return all
	}
	for i := range e.Services {
		if e.Services[i].String() == "proxymap/unix" {
			return []*Service{&e.Services[i]}
		}
	}
	return []*Service{{Chroot: "n"}}
}

// checkDelimiter checks that Postfix and the daemon find the same extensions. A configuration that sets none excludes
// them.
func (e *examination) checkDelimiter() {
	theirs, ours := e.Value(nil, "recipient_delimiter"), e.daemon.Delimiter
	missing := func(from, in string) int {
		return strings.IndexFunc(from, func(r rune) bool { return !strings.ContainsRune(in, r) })
	}
	what := fmt.Sprintf("recipient_delimiter is %q in Postfix and %q in config.yaml", theirs, ours)
	enforced, _ := e.byMode()
	excluded := ours == "" && e.daemon.DelimiterSet
	at := missing(theirs, ours)
	switch {
	case at >= 0 && !excluded && (len(enforced) > 0 || e.looksExtensionsUp()):
		fix := []string{fmt.Sprintf("in config.yaml: recipient_delimiter: %q", theirs)}
		if ours == "" {
			fix = append(fix, `if that server does not deliver it, in config.yaml: recipient_delimiter: ""`)
		}
		e.find("delimiter", Note, what, "The daemon rejects ann"+theirs[at:at+1]+"news@ unless the directory has it. "+
			"This is right only if the server behind Postfix does not deliver it to ann@.", fix...)
	case missing(ours, theirs) >= 0:
		e.find("delimiter", Note, what,
			"The daemon accepts extensions that Postfix does not know. This is right only if a server behind "+
				"Postfix does.",
			e.set("recipient_delimiter", ours))
	}
}

// looksExtensionsUp reports whether Postfix itself may find judged recipients without their extension: by a
// table of recipients or of aliases, or by delivery on this host.
func (e *examination) looksExtensionsUp() bool {
	return e.inMyDestination() != "" ||
		slices.ContainsFunc(append([]string{"relay_recipient_maps"}, aliasMaps...), func(parameter string) bool {
			return e.Set[parameter] && e.Value(nil, parameter) != ""
		})
}

// denialAge is the age from which a denial says nothing about the present.
const denialAge = 24 * time.Hour

// checkDenied reports a connection of smtpd that SELinux has denied, in the last day and since the
// start of the daemon.
func (e *examination) checkDenied() {
	denial := e.host.Denied()
	if denial.Text != "" && time.Since(denial.Time) <= denialAge &&
		!denial.Time.Before(e.daemon.Started.Truncate(time.Second)) {
		e.find("selinux-denied", Problem, "SELinux denied smtpd a connection to the socket at "+
			denial.Time.Format(time.DateTime)+": "+denial.Text,
			"Postfix takes its default action, although owner and mode of the socket are right.",
			"ausearch -m avc -ts recent -c smtpd | audit2allow -M rcpt-milter-local",
			"semodule -i rcpt-milter-local.pp")
	}
}
