package postfix

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/internal/text"
)

// shownAddresses limits the addresses in one finding.
const shownAddresses = 8

// aliasMaps are the parameters whose tables define addresses that the directory may not have.
var aliasMaps = []string{"virtual_alias_maps", "canonical_maps", "recipient_canonical_maps"}

// checkMaps checks that the daemon accepts addresses that Postfix rewrites or redirects,
// because it sees the address before.
func (e *examination) checkMaps() {
	done := map[string]bool{}
	for _, parameter := range aliasMaps {
		if parameter == "canonical_maps" && !slices.Contains(list(e.Value(nil, "canonical_classes")),
			"envelope_recipient") && e.Value(nil, "canonical_classes") != "" {
			continue
		}
		for _, word := range list(e.Value(nil, parameter)) {
			for _, table := range members(word) {
				if !done[table] && isTable(table) {
					done[table] = true
					e.checkMap(parameter, table)
				}
			}
		}
	}
	if e.inMyDestination() == "" {
		return
	}
	for _, table := range list(e.Value(nil, "alias_maps")) {
		builtIn := strings.HasPrefix(table, "nis:") && !e.Set["alias_maps"] // a default of some systems
		if isTable(table) && !done[table] && !builtIn {
			done[table] = true
			e.checkMap("alias_maps", table)
		}
	}
}

// inMyDestination returns a judged domain of mydestination, or "".
func (e *examination) inMyDestination() string {
	domains, _ := e.domainList("mydestination")
	for _, r := range domains {
		if e.judged(r.domain) {
			return r.domain
		}
	}
	return ""
}

func (e *examination) checkMap(parameter, table string) {
	var keys []address.Address
	var domains []rewritten
	err := e.host.Keys(table, func(key, value string) {
		key = strings.TrimSuffix(key, ":")
		if domain, whole := strings.CutPrefix(key, "@"); whole {
			if canonical, err := address.ParseDomain(domain); err == nil && e.judged(canonical) {
				domains = append(domains, rewrittenBy(canonical, value)...)
			}
			return
		}
		if !strings.Contains(key, "@") {
			if key = e.bareUser(parameter, key); key == "" {
				return
			}
		}
		if a, err := address.Parse(key); err == nil && e.judged(a.Domain()) {
			keys = append(keys, a)
		}
	})
	if err != nil {
		e.unreadable(parameter, table, err)
		return
	}
	e.refusedKeys(parameter, table, keys)
	e.refusedDomains(parameter, table, domains)
}

// bareUser returns the address of a key without a domain in a judged domain, or "". A bare
// domain is no user.
func (e *examination) bareUser(parameter, key string) string {
	if origin := canonicalDomain(e.Value(nil, "myorigin")); parameter != "alias_maps" && e.judged(origin) &&
		!strings.Contains(key, ".") {
		return key + "@" + origin
	}
	if own := e.inMyDestination(); own != "" && !strings.Contains(key, ".") {
		return key + "@" + own
	}
	return ""
}

func canonicalDomain(text string) string {
	domain, err := address.ParseDomain(text)
	if err != nil {
		return ""
	}
	return domain
}

// refusedKeys finds the addresses of a table that the daemon would reject.
func (e *examination) refusedKeys(parameter, table string, keys []address.Address) {
	answers, err := e.judge(keys)
	if err != nil {
		return // checkDaemon reports it
	}
	var refused []string
	for i, a := range keys {
		if !answers[i].Accepted {
			refused = append(refused, a.String())
		}
	}
	if len(refused) == 0 {
		return
	}
	fix := fmt.Sprintf("in config.yaml: accept: [%s]", strings.Join(yamlQuoted(refused[:min(len(refused), 3)]), ", "))
	if file, ok := sourceOf(table); ok && parameter != "alias_maps" {
		fix = fmt.Sprintf("in config.yaml: accept_files: [%s]", file)
	}
	e.find("alias-not-accepted", Problem, fmt.Sprintf("%s has %s that the daemon does not accept: %s",
		inTable(parameter, table),
		text.Count(len(refused), "address", "addresses"), text.List(refused, shownAddresses)),
		"Postfix rewrites or redirects them, but asks the daemon first, and the directory does not have them.", fix)
}

// judge asks the daemon about addresses. Without an error, it returns one answer for each.
func (e *examination) judge(all []address.Address) ([]Judgement, error) {
	if e.daemon.State == "" {
		return nil, errors.New("the daemon does not answer")
	}
	if len(all) == 0 {
		return nil, nil
	}
	answers, err := e.host.Judge(all)
	if err == nil && len(answers) != len(all) {
		err = fmt.Errorf("the daemon answered for %d of %d addresses", len(answers), len(all))
	}
	return answers, err
}

func inTable(parameter, table string) string { return table + ", of " + parameter + "," }

// unreadable reports a table that could not be read.
func (e *examination) unreadable(parameter, table string, err error) {
	if errors.Is(err, ErrCannotList) {
		e.find("map-unreadable", Note, inTable(parameter, table)+" cannot be listed here: "+err.Error(),
			"The daemon rejects addresses in it that the directory does not have.",
			"in config.yaml: accept_patterns or accept_files for these addresses")
		return
	}
	e.find("map-broken", Problem, inTable(parameter, table)+" cannot be read: "+err.Error(),
		"If Postfix cannot read it either, it defers mail. Its addresses could not be "+
			"checked.", "postmap "+text.ShellQuoted(table))
}

// sourceOf returns the source file of a table.
func sourceOf(table string) (file string, ok bool) {
	kind, name, _ := strings.Cut(table, ":")
	switch kind {
	case "hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash":
		return name, strings.HasPrefix(name, "/")
	}
	return "", false
}

// yamlQuoted quotes words for a YAML list.
func yamlQuoted(words []string) []string {
	var all []string
	for _, word := range words {
		all = append(all, fmt.Sprintf("%q", word))
	}
	return all
}

// checkProbe checks that the daemon accepts the sender of address probes, because other
// servers verify it.
func (e *examination) checkProbe() {
	sender := e.Value(nil, "address_verify_sender")
	if sender == "" || sender == "<>" {
		return
	}
	if !strings.Contains(sender, "@") {
		sender += "@" + e.Value(nil, "myorigin")
	}
	a, err := address.Parse(sender)
	if err != nil || !e.judged(a.Domain()) {
		return
	}
	answers, err := e.judge([]address.Address{a})
	if err != nil || answers[0].Accepted {
		return
	}
	fix := fmt.Sprintf("in config.yaml: accept: [%q]", a)
	if ttl, ok := e.time(nil, "address_verify_sender_ttl"); ok && ttl > 0 { // the local part changes over time
		fix = fmt.Sprintf("in config.yaml: accept_patterns: ['%s[0-9a-z]*@%s']", regexQuoted(a.Local()),
			regexQuoted(a.Domain()))
	}
	e.find("probe-sender", Problem, "the daemon rejects "+a.String()+
		", the sender of address probes (address_verify_sender)",
		"Servers that verify senders reject address probes of this host.", fix)
}

func regexQuoted(text string) string { return strings.ReplaceAll(text, ".", `\.`) }

// checkRoles checks that role addresses, which are always accepted, have a mailbox.
func (e *examination) checkRoles() {
	var all []address.Address
	for _, domain := range sortedDomains(e.daemon.Domains) {
		if strings.HasPrefix(domain, ".") || !e.judged(domain) {
			continue
		}
		for _, local := range []string{"postmaster", "abuse"} {
			if a, err := address.Parse(local + "@" + domain); err == nil &&
				slices.Contains(e.daemon.AlwaysAccept, local) {
				all = append(all, a)
			}
		}
	}
	answers, err := e.judge(all)
	if err != nil {
		return
	}
	var ownerless []string
	for i, a := range all {
		if !answers[i].Owned && !e.ownedAsAlias(a) && !e.redirected(a) {
			ownerless = append(ownerless, a.String())
		}
	}
	if len(ownerless) == 0 {
		return
	}
	e.find("role-ownerless", Problem, text.List(ownerless, shownAddresses)+
		" are always accepted, but no object in the directory has them",
		"Mail to them bounces later. RFC 5321 requires postmaster, RFC 2142 abuse.",
		"give the addresses to a mailbox in the directory, or redirect them in virtual_alias_maps")
}

// redirected reports whether Postfix redirects an address.
func (e *examination) redirected(a address.Address) bool {
	for _, parameter := range aliasMaps {
		if e.tableHas(parameter, a.String(), "@"+a.Domain()) {
			return true
		}
	}
	if canonicalDomain(e.Value(nil, "myorigin")) == a.Domain() {
		return e.tableHas("virtual_alias_maps", a.Local())
	}
	domains, _ := e.domainList("mydestination")
	return slices.ContainsFunc(domains, func(r relayed) bool { return r.domain == a.Domain() }) &&
		e.tableHas("alias_maps", a.Local())
}
