package postfix

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/internal/text"
)

// relayed is one entry of relay_domains.
type relayed struct {
	domain string // canonical; with a dot in front where only sub-domains are meant
	subs   bool   // its sub-domains too, by parent_domain_matches_subdomains
}

// domainList reads a list of domains such as relay_domains: words, tables and files.
// Tables that cannot be listed come back by name.
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
			if err := e.world.Keys(table, func(key, _ string) { add(key) }); err != nil {
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

// members are the tables that a word stands for: without the proxy in front, and the
// parts of a union.
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

// modeOf is the mode of a canonical domain, its own or that of its nearest parent; empty:
// it is not in our domains.
func (e *examination) modeOf(domain string) string {
	if mode, own := e.daemon.Domains[domain]; own {
		return mode
	}
	for i := range len(domain) {
		if domain[i] == '.' && (i > 0 || len(domain) > 1) {
			if mode, parent := e.daemon.Domains[domain[i:]]; parent {
				return mode
			}
		}
	}
	return ""
}

// judged reports whether recipients in a domain may be refused, now or in mode enforce.
func (e *examination) judged(domain string) bool {
	mode := e.modeOf(domain)
	return mode == "enforce" || mode == "report"
}

// checkRelayed: every domain that Postfix relays is one of ours.
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
		e.find("relayed-not-served", Fault, "Postfix relays "+text.List(unserved, 10)+", which our domains do not name",
			"Every recipient there is accepted, whoever it is.", "in config.yaml, under domains: "+unserved[0]+": report (or pass, where that is meant)")
	}
	if len(below) > 0 {
		e.find("subdomains-not-served", Note, "Postfix also relays all sub-domains of "+text.List(below, 10)+" (parent_domain_matches_subdomains), which our domains do not name",
			"Every recipient there is accepted.", "in config.yaml, under domains: ."+below[0]+": report", e.set("parent_domain_matches_subdomains", e.withoutParents("relay_domains")))
	}
	for _, table := range blind {
		e.find("map-unreadable", Note, "relay_domains names "+table+", which cannot be listed here", "Domains that stand only there could not be compared with ours.")
	}
}

func (e *examination) withoutParents(parameter string) string {
	return strings.Join(slices.DeleteFunc(list(e.Value(nil, "parent_domain_matches_subdomains")), func(word string) bool { return word == parameter }), ", ")
}

// checkServed: every domain of ours is one that Postfix takes mail for.
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
	e.find("served-not-relayed", Fault, "Postfix does not take mail for "+text.List(foreign, 10)+", which our domains name",
		"Clients are told \"Relay access denied\" before anybody is asked.",
		e.set("relay_domains", strings.TrimPrefix(strings.TrimSpace(e.Parameters["relay_domains"])+", "+strings.Join(foreign, ", "), ", ")))
}

// takesMailFor asks all classes of domains.
func (e *examination) takesMailFor(domain string) bool {
	bare, sub := strings.CutPrefix(domain, ".")
	for _, parameter := range []string{"relay_domains", "mydestination", "virtual_alias_domains", "virtual_mailbox_domains"} {
		domains, _ := e.domainList(parameter)
		for _, r := range domains {
			own := strings.TrimPrefix(r.domain, ".")
			switch {
			case r.domain == domain,
				sub && r.domain != own && strings.HasSuffix(domain, r.domain),         // .example.com of ours, .com of theirs
				sub && parameter != "mydestination" && strings.HasSuffix(own, domain), // one is enough, but for this host's own name
				r.subs && (own == bare && sub || strings.HasSuffix(bare, "."+own)),    // by its parent
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

// tableHas asks the tables of a list of domains, those that cannot be listed as well.
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
	return e.world.Has(table, key)
}

// checkOldTable: nothing but the daemon decides which recipients exist.
func (e *examination) checkOldTable() {
	var tables []string
	for _, word := range list(e.Value(nil, "relay_recipient_maps")) {
		if !strings.HasPrefix(word, "static:") { // knows everybody
			tables = append(tables, word)
		}
	}
	if len(tables) == 0 {
		return
	}
	level, why := Fault, "Postfix refuses what is not in there before it asks the daemon: whoever is new in the directory gets no mail until the table is made again."
	mend := []string{e.set("relay_recipient_maps", "")}
	if !slices.Contains(slices.Collect(maps.Values(e.daemon.Domains)), "enforce") && len(e.daemon.Domains) > 0 {
		level, why = Note, "That is right as long as no domain is in mode enforce. Then it has to go."
		mend = append([]string{"in config.yaml: the domains to enforce; then"}, mend...)
	}
	e.find("old-table", level, fmt.Sprintf("relay_recipient_maps is still in force (%s)", text.List(tables, 5)), why, mend...)
}
