package postfix

import (
	"maps"
	"slices"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/internal/text"
)

// relayed is one entry of relay_domains.
type relayed struct {
	domain string // canonical; ".domain" for sub-domains only
	subs   bool   // sub-domains too (parent_domain_matches_subdomains)
}

// domainList returns the domains of a list such as relay_domains: words, tables and files. It
// returns the names of tables that cannot be listed.
func (e *examination) domainList(parameter string) (domains []relayed, blind []string) {
	parents := slices.Contains(list(e.Value(nil, "parent_domain_matches_subdomains")), parameter)
	add := func(word string) {
		bare, sub := strings.CutPrefix(word, ".")
		domain, err := address.ParseDomain(bare)
		switch {
		case err != nil:
		case sub:
			domains = append(domains, relayed{"." + domain, false})
		default:
			domains = append(domains, relayed{domain, parents})
		}
	}
	for _, word := range list(e.Value(nil, parameter)) {
		if !isTable(word) && !strings.HasPrefix(word, "/") {
			add(word)
			continue
		}
		for _, table := range members(word) {
			if err := e.host.Keys(table, func(key, _ string) { add(key) }); err != nil {
				blind = append(blind, table)
			}
		}
	}
	return domains, blind
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
		switch {
		case r.domain != bare && e.modeOf("any"+r.domain) == "" || r.domain == bare && e.modeOf(bare) == "":
			unserved = append(unserved, r.domain)
		case r.subs && e.modeOf("any."+bare) == "":
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
	for _, domain := range slices.Sorted(maps.Keys(e.daemon.Domains)) {
		if e.daemon.Domains[domain] != "pass" && !e.takesMailFor(domain) {
			foreign = append(foreign, domain)
		}
	}
	if len(foreign) == 0 {
		return
	}
	e.find("served-not-relayed", Problem,
		"Postfix does not accept mail for "+text.List(foreign, 10)+", which domains names",
		"Clients get \"Relay access denied\" before the daemon is asked.",
		e.set("relay_domains", strings.TrimPrefix(strings.TrimSpace(e.Parameters["relay_domains"])+", "+
			strings.Join(foreign, ", "), ", ")))
}

// takesMailFor reports whether a domain is in one of the address classes of Postfix.
func (e *examination) takesMailFor(domain string) bool {
	bare, sub := strings.CutPrefix(domain, ".")
	for _, parameter := range []string{"relay_domains", "mydestination", "virtual_alias_domains",
		"virtual_mailbox_domains"} {
		domains, _ := e.domainList(parameter)
		for _, r := range domains {
			own := strings.TrimPrefix(r.domain, ".")
			switch {
			case r.domain == domain,
				sub && r.domain != own && strings.HasSuffix(domain, r.domain), // .example.com in domains, .com in Postfix
				// one sub-domain is enough, except the name of this host
				sub && parameter != "mydestination" && strings.HasSuffix(own, domain),
				r.subs && (own == bare && sub || strings.HasSuffix(bare, "."+own)), // by its parent
				!sub && r.domain != own && strings.HasSuffix(bare, r.domain):
				return true
			}
		}
		if e.tableHas(parameter, bare, domain) {
			return true
		}
	}
	return false
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
