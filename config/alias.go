package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"rcpt-milter/address"
)

// Inside are clients that count as authenticated for internal-only recipients, and for
// nothing else.
type Inside struct {
	Networks []netip.Prefix // by address; default none
}

// parseInside reads a network of inside clients, which must not be every client.
func parseInside(text string) (netip.Prefix, error) {
	network, err := parseNetwork(text)
	if err == nil && network.Bits() == 0 {
		return network, fmt.Errorf("%s matches every client, which opens internal-only recipients to all; "+
			"use internal_only: accept for that", quoted(text))
	}
	return network, err
}

// parseBareDomain reads a single domain, not a pattern for sub-domains.
func parseBareDomain(text string) (string, error) {
	domain, err := parseDomain(text)
	if err == nil && strings.HasPrefix(domain, ".") {
		return "", fmt.Errorf("expected one domain such as %s, got %s; list each sub-domain",
			quoted(domain[1:]), quoted(text))
	}
	return domain, err
}

// domainAliases reads a mapping of domains to the domains that they are aliases of.
func domainAliases(target *map[string]string) field {
	return func(v value) {
		if v.node.kind != mapping {
			v.expected("domains and their targets, such as \"example.net: example.com\"")
			return
		}
		aliases := map[string]string{}
		v.eachDomain(parseBareDomain, func(alias string, of value) {
			before := len(v.errs)
			var target string
			if scalar(&target, parseBareDomain)(of); len(v.errs) == before {
				aliases[alias] = target
				of.checkHost(target)
			}
		})
		if *target = nil; len(aliases) > 0 {
			*target = aliases
		}
	}
}

// checkAliases finds domain aliases that form a loop, and those that domains does not name:
// all of their recipients would be accepted.
func (r *reader) checkAliases(c *Config) {
	for _, alias := range slices.Sorted(maps.Keys(c.DomainAliases)) {
		at := r.at[fmt.Sprintf("domain_aliases[%q]", alias)]
		targets, loops := c.AliasTargets(alias)
		switch {
		case loops:
			r.failAt(at, "domain_aliases: %q leads into a loop (%s); remove one of the steps",
				alias, strings.Join(append([]string{alias}, targets...), " → "))
		case !c.HasEntry(alias) && len(c.Domains) > 0:
			r.failAt(at, "domain_aliases: %q has no entry in domains, so all of its recipients would be accepted; "+
				"add it to domains", alias)
		}
	}
}

// AliasTargets returns the domains that a canonical domain is an alias of, step by step. It
// reports whether the steps form a loop.
func (c *Config) AliasTargets(domain string) (targets []string, loops bool) {
	return address.AliasChain(c.DomainAliases, domain)
}
