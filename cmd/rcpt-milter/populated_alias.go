package main

import (
	"slices"

	"rcpt-milter/address"
	"rcpt-milter/config"
	tables "rcpt-milter/postfix/table"
)

// populatedNames are the domains, and parents of sub-domains, of which an address has to be
// known: those that are enforced, and in place of an enforced alias the domains to which it
// leads.
func populatedNames(c *config.Config, files *tables.Files) map[string]bool {
	if files == nil {
		files = tables.NewFiles(tables.Config{})
	}
	names := map[string]bool{}
	for domain, mode := range c.Domains {
		if mode == config.Enforce {
			names[domain] = true
		}
	}
	for _, alias := range allAliases(c, files) {
		if c.ModeOf(alias) != config.Enforce {
			continue
		}
		delete(names, alias)
		for parent := range address.Parents(alias) { // whose entry the alias is judged by
			if _, own := c.Domains[alias]; !own {
				delete(names, parent)
			}
		}
		for _, end := range aliasEnds(c, files, alias) {
			names[end] = true
		}
	}
	return names
}

// allAliases are the domains that the configuration or a file makes an alias, in order.
func allAliases(c *config.Config, files *tables.Files) (all []string) {
	for alias := range c.DomainAliases {
		all = append(all, alias)
	}
	for _, table := range files.Snapshot() {
		for alias := range table.AllAliases() {
			all = append(all, alias)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// aliasEnds are the domains to which an alias leads, over all its steps, and that are no
// aliases; all of them where they lead back to each other. It leaves out those that a file
// names and that are not judged: all of their recipients are accepted.
func aliasEnds(c *config.Config, files *tables.Files, alias string) []string {
	seen, ends := []string{alias}, []string{}
	for next := 0; next < len(seen); next++ {
		targets := targetsOf(c, files, seen[next])
		if len(targets) == 0 {
			ends = append(ends, seen[next])
		}
		for _, target := range targets {
			if !slices.Contains(seen, target) {
				seen = append(seen, target)
			}
		}
	}
	if len(ends) == 0 {
		ends = seen
	}
	filed := func(domain string) bool { return c.ModeOf(domain) == config.Pass && !isTarget(c, domain) }
	return slices.DeleteFunc(ends, filed)
}

// targetsOf are the targets of one domain, without further steps.
func targetsOf(c *config.Config, files *tables.Files, domain string) (all []string) {
	if target, alias := c.DomainAliases[domain]; alias {
		all = append(all, target)
	}
	files.Aliases(domain, func(target, _ string, _ int) { all = append(all, target) })
	return all
}

// isTarget reports whether domain_aliases has a domain as a target.
func isTarget(c *config.Config, domain string) bool {
	for _, target := range c.DomainAliases {
		if target == domain {
			return true
		}
	}
	return false
}
