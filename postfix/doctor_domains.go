package postfix

import (
	"maps"
	"slices"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/internal/text"
)

// relayed is one entry of relay_domains, or of a list like it.
type relayed struct {
	domain string // canonical; ".domain" for sub-domains only
	subs   bool   // sub-domains too (parent_domain_matches_subdomains)
	not    bool   // it excludes what it matches, and what follows in the list does not count for that
}

// covers reports whether an entry matches a domain, or all sub-domains of ".domain".
func (r relayed) covers(domain string) bool {
	bare, sub := strings.CutPrefix(domain, ".")
	own, below := strings.CutPrefix(r.domain, ".")
	return r.domain == domain || below && strings.HasSuffix(domain, r.domain) ||
		r.subs && (sub && bare == own || strings.HasSuffix(bare, "."+own))
}

// domainList returns the domains of a list such as relay_domains: words, tables and files. It
// returns the names of tables that cannot be listed.
func (e *examination) domainList(parameter string) (domains []relayed, blind []string) {
	all, blind := e.patterns(parameter)
	for i, r := range all {
		excluded := func(other relayed) bool { return other.not && other.covers(r.domain) }
		if !r.not && !slices.ContainsFunc(all[:i], excluded) {
			domains = append(domains, r)
		}
	}
	return domains, blind
}

// patterns returns the entries of a list in their order, with those that exclude domains, as "!domain" does.
func (e *examination) patterns(parameter string) (all []relayed, blind []string) {
	parents := slices.Contains(list(e.Value(nil, "parent_domain_matches_subdomains")), parameter)
	add := func(word string, not bool) {
		bare, sub := strings.CutPrefix(word, ".")
		domain, err := address.ParseDomain(bare)
		switch {
		case err != nil:
		case sub:
			all = append(all, relayed{"." + domain, false, not})
		default:
			all = append(all, relayed{domain, parents, not})
		}
	}
	for _, word := range list(e.Value(nil, parameter)) {
		word, not := negated(word)
		if !isTable(word) && !strings.HasPrefix(word, "/") {
			add(word, not)
			continue
		}
		for _, table := range members(word) {
			if err := e.host.Keys(table, func(key, _ string) {
				inner := false
				if strings.HasPrefix(table, "/") {
					key, inner = negated(key)
				}
				add(key, not != inner)
			}); err != nil {
				blind = append(blind, table)
			}
		}
	}
	return all, blind
}

// negated removes each "!" before a word, and reports whether they negate it (match_list of Postfix).
func negated(word string) (rest string, not bool) {
	rest = strings.TrimLeft(word, "!")
	return rest, (len(word)-len(rest))%2 == 1
}

// isTable reports whether a word is "type:name".
func isTable(word string) bool {
	kind, _, found := strings.Cut(word, ":")
	return found && kind != "" && strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

// members returns the tables of a word: without proxy:, and the parts of a unionmap.
func members(word string) []string {
	for {
		bare, proxied := strings.CutPrefix(word, "proxy:")
		if !proxied {
			break
		}
		word = bare
	}
	inner, union := strings.CutPrefix(word, "unionmap:")
	if !union {
		return []string{word}
	}
	var all []string
	if strings.HasPrefix(inner, "{") {
		inner, _ = inBraces(inner)
	}
	for _, part := range list(inner) {
		all = append(all, members(part)...)
	}
	return all
}

// sortedDomains returns the domains of a map of modes.
func sortedDomains(modes map[string]string) []string { return slices.Sorted(maps.Keys(modes)) }

// modeOf returns the mode of a canonical domain, or "" if domains has no entry for it.
func (e *examination) modeOf(domain string) string {
	mode, _ := address.LookupDomain(e.daemon.Domains, domain)
	return mode
}

// judged reports whether the mode of a domain is enforce or report.
func (e *examination) judged(domain string) bool {
	mode := e.modeOf(domain)
	return mode == "enforce" || mode == "report"
}

// checkRelayed checks that domains has an entry for every domain that Postfix relays.
func (e *examination) checkRelayed() {
	domains, blind := e.domainList("relay_domains")
	var unserved, below []string
	for _, r := range domains {
		bare := strings.TrimPrefix(r.domain, ".")
		local := func() bool { return r.domain == bare && e.inClass("mydestination", bare) } // it counts first
		switch {
		case r.domain != bare && e.modeOf("any"+r.domain) == "" || r.domain == bare && e.modeOf(bare) == "":
			if !local() {
				unserved = append(unserved, r.domain)
			}
		case r.subs && e.modeOf("any."+bare) == "" && !local():
			below = append(below, bare)
		}
	}
	if len(unserved) > 0 {
		e.find("relayed-not-served", Problem, "Postfix relays "+text.List(unserved, 10)+", which domains does not name",
			"Every recipient there is accepted.",
			"in config.yaml, under domains: "+unserved[0]+": report (or pass, if this is intended)")
	}
	if len(below) > 0 {
		e.find("subdomains-not-served", Note, "Postfix also relays all sub-domains of "+text.List(below, 10)+
			" (parent_domain_matches_subdomains), which domains does not name",
			"Every recipient there is accepted.", "in config.yaml, under domains: ."+below[0]+": "+
				"report", e.set("parent_domain_matches_subdomains", e.withoutParents("relay_domains")))
	}
	for _, table := range blind {
		e.find("map-unreadable", Note, "relay_domains names "+table+", which cannot be listed here",
			"Its domains could not be compared with domains in config.yaml.")
	}
}

func (e *examination) withoutParents(parameter string) string {
	return strings.Join(slices.DeleteFunc(list(e.Value(nil, "parent_domain_matches_subdomains")),
		func(word string) bool { return word == parameter }), ", ")
}

// checkServed checks that Postfix accepts mail for every judged domain.
func (e *examination) checkServed() {
	var foreign []string
	for _, domain := range sortedDomains(e.daemon.Domains) {
		if e.daemon.Domains[domain] != "pass" && e.classOf(domain) == "" {
			foreign = append(foreign, domain)
		}
	}
	if len(foreign) == 0 {
		return
	}
	relay, added := strings.TrimSpace(e.Parameters["relay_domains"]), strings.Join(foreign, ", ")
	if strings.Contains(relay, "!") { // what excludes a domain counts for what follows
		relay, added = added, relay
	}
	e.find("served-not-relayed", Problem,
		"Postfix does not accept mail for "+text.List(foreign, 10)+", which domains names",
		"Clients get \"Relay access denied\" before the daemon is asked.",
		e.set("relay_domains", strings.TrimPrefix(relay+", "+added, ", ")))
}

// classes are the parameters of the address classes of Postfix, in the order in which it looks for a domain.
var classes = []string{"mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains"}

// classOf returns the parameter of the address class of a domain, or "".
func (e *examination) classOf(domain string) string {
	for _, parameter := range classes {
		if e.inClass(parameter, domain) {
			return parameter
		}
	}
	return ""
}

// inClass reports whether a parameter lists a domain. One sub-domain is enough for ".domain", except a name of this
// host.
func (e *examination) inClass(parameter, domain string) bool {
	bare, sub := strings.CutPrefix(domain, ".")
	all, _ := e.patterns(parameter)
	for _, r := range all {
		if r.covers(domain) {
			return !r.not
		}
		if sub && !r.not && parameter != "mydestination" &&
			strings.HasSuffix(strings.TrimPrefix(r.domain, "."), domain) {
			return true
		}
	}
	return e.tableHas(parameter, bare, domain)
}

// tableHas looks keys up in the tables of a list, including those that cannot be listed.
func (e *examination) tableHas(parameter string, keys ...string) bool {
	for _, word := range list(e.Value(nil, parameter)) {
		for _, table := range members(word) {
			for _, key := range keys {
				if has, _ := e.has(table, key); has {
					return true
				}
			}
		}
	}
	return false
}

func (e *examination) has(table, key string) (bool, error) {
	if !isTable(table) {
		return false, nil
	}
	return e.host.Has(table, key)
}
