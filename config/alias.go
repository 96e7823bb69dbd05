package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Inside are clients that count as authenticated for internal-only recipients, and for
// nothing else.
type Inside struct {
	Networks []netip.Prefix // by address; default none
}

// parseInside reads a network of inside clients that is not every client.
func parseInside(text string) (netip.Prefix, error) {
	network, err := parseNetwork(text)
	if err == nil && network.Bits() == 0 {
		return network, fmt.Errorf("%s is every client, which would open internal-only recipients to all; "+
			"set internal_only to accept for that", quoted(text))
	}
	return network, err
}

// parseBareDomain reads a domain that stands for itself alone.
func parseBareDomain(text string) (string, error) {
	domain, err := parseDomain(text)
	if err == nil && strings.HasPrefix(domain, ".") {
		return "", fmt.Errorf("expected one domain such as %s, got %s; name each sub-domain by itself",
			quoted(domain[1:]), quoted(text))
	}
	return domain, err
}

// domainAliases reads domains and the domains that they are aliases of.
func domainAliases(target *map[string]string) field {
	return func(v value) {
		if v.node.kind != mapping {
			v.expected("domains with the domain that each is an alias of, such as \"example.net: example.com\"")
			return
		}
		aliases, lines := map[string]string{}, map[string]int{}
		for _, e := range v.node.entries {
			name := value{v.reader, v.path, e.key}
			source, ok := name.text("a domain in quotes")
			if !ok {
				continue
			}
			alias, err := parseBareDomain(source)
			if err != nil {
				name.fail("%v", err)
				continue
			}
			if line, twice := lines[alias]; twice {
				name.fail("%s for the second time; the first is in line %d", quoted(source), line)
				continue
			}
			lines[alias] = e.key.line
			path := fmt.Sprintf("%s[%q]", v.path, alias)
			v.at[path] = e.key.position
			before := len(v.errs)
			var of string
			if scalar(&of, parseBareDomain)(value{v.reader, path, e.value}); len(v.errs) == before {
				aliases[alias] = of
			}
		}
		if *target = nil; len(aliases) > 0 {
			*target = aliases
		}
	}
}

// checkAliases finds domain aliases that lead nowhere. One that is not in domains would accept
// every recipient, which is what its line is there to prevent.
func (r *reader) checkAliases(c *Config) {
	for _, alias := range slices.Sorted(maps.Keys(c.DomainAliases)) {
		at := r.at[fmt.Sprintf("domain_aliases[%q]", alias)]
		targets, loops := c.AliasTargets(alias)
		switch {
		case loops:
			r.failAt(at, "domain_aliases: %q leads back to itself (%s); leave out one of the steps",
				alias, strings.Join(append([]string{alias}, targets...), " → "))
		case !c.HasEntry(alias) && len(c.Domains) > 0:
			r.failAt(at, "domain_aliases: %q is not judged here, so every recipient in it would be accepted; "+
				"add it to domains with a mode of its own", alias)
		}
	}
}

// AliasTargets returns the domains that a canonical domain is an alias of, step by step. It
// reports whether they lead back to the domain, or go round without it.
func (c *Config) AliasTargets(domain string) (targets []string, loops bool) {
	for at := domain; ; {
		next, alias := c.DomainAliases[at]
		if !alias {
			return targets, false
		}
		loops = next == domain || slices.Contains(targets, next)
		if targets = append(targets, next); loops {
			return targets, true
		}
		at = next
	}
}
