package postfix

import (
	"fmt"
	"slices"
	"strings"

	"rcpt-milter/internal/text"
)

// checkHostTables checks the tables by which Postfix rejects recipients in the domains of this host, before it asks
// the daemon.
func (e *examination) checkHostTables() {
	e.checkHostTable("mydestination", "local_recipient_maps", false)
	agent, _, _ := strings.Cut(e.Value(nil, "virtual_transport"), ":")
	e.checkHostTable("virtual_mailbox_domains", "virtual_mailbox_maps", agent == "virtual")
}

// checkHostTable checks the tables of one address class. If delivers is set, the tables also say where the mailboxes
// are.
func (e *examination) checkHostTable(class, parameter string, delivers bool) {
	if e.Value(nil, parameter) == "" {
		return
	}
	enforced, reported, below := e.closedDomains(class, parameter)
	if len(enforced)+len(reported)+len(below) == 0 {
		return
	}
	tables := e.recipientTables(parameter)
	if len(tables) == 0 {
		return
	}
	const rejects = "Postfix rejects other recipients there before it asks the daemon, "
	level, domains, why := Problem, enforced, rejects+"so those that only the directory has get no mail."
	switch {
	case len(enforced) > 0 && slices.ContainsFunc(tables, e.isExport):
		level, why = Note, "The daemon exports one of them. "+untilExport
	case len(enforced) > 0:
	case len(below) > 0:
		level, domains, why = Note, below, rejects+"which is right only if the directory has none there."
	default:
		level, domains, why = Note, reported, rejects+"also those that only the directory has. Correct it before "+
			"you set the mode to enforce."
	}
	all := text.List(domains, len(domains))
	fix := []string{fmt.Sprintf("if another server has the mailboxes, in main.cf: move %s from %s to relay_domains",
		all, class)}
	if delivers {
		fix = append(fix, "if this host has them: give each recipient of the directory an entry in "+parameter)
	} else {
		var open []string
		for _, domain := range domains {
			open = append(open, "@"+domain+"=OK")
		}
		fix = append(fix, "if this host delivers mail for every recipient of the directory: "+
			e.set(parameter, e.Parameters[parameter]+" inline:{"+strings.Join(open, ",")+"}"))
	}
	e.find("old-table", level, fmt.Sprintf("%s is in effect for %s (%s)", parameter, text.List(domains, 10),
		text.List(tables, 5)), why, fix...)
}

// closedDomains returns the domains of an address class in which the tables of a parameter decide: those that
// domains names, by mode, and those that are below an enforced ".domain" only. The latter may be names of this host.
// smtpd accepts each recipient of a domain that a table of aliasMaps rewrites as a whole.
func (e *examination) closedDomains(class, parameter string) (enforced, reported, below []string) {
	closed := func(domain string) bool {
		return e.classOf(domain) == class && !slices.ContainsFunc(append([]string{parameter}, aliasMaps...),
			func(maps string) bool { return e.tableHas(maps, "@"+domain) })
	}
	for _, domain := range sortedDomains(e.daemon.Domains) {
		switch mode := e.daemon.Domains[domain]; {
		case strings.HasPrefix(domain, ".") || !e.judged(domain) || !closed(domain):
		case mode == "enforce":
			enforced = append(enforced, domain)
		default:
			reported = append(reported, domain)
		}
	}
	domains, _ := e.domainList(class)
	for _, r := range domains {
		_, named := e.daemon.Domains[r.domain]
		if !named && r.domain[0] != '.' && e.modeOf(r.domain) == "enforce" && !e.isHostName(r.domain) &&
			closed(r.domain) {
			below = append(below, r.domain)
		}
	}
	return enforced, reported, below
}

// isHostName reports whether a domain is a usual name of this host.
func (e *examination) isHostName(domain string) bool {
	return domain == canonicalDomain(e.Value(nil, "myhostname")) || domain == "localhost" ||
		strings.HasPrefix(domain, "localhost.")
}
