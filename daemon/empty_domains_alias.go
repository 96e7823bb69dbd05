package daemon

import (
	"slices"

	"rcpt-milter/address"
	"rcpt-milter/config"
	tables "rcpt-milter/postfix/table"
)

// domainsNeedingAddress returns the domains, and parents of subdomains, that need a known address. These are
// the enforced ones, with each alias replaced by its destinations.
func domainsNeedingAddress(c *config.Config, files *tables.Files) map[string]bool {
	if files == nil {
		files = tables.NewFiles(tables.Config{})
	}
	names := map[string]bool{}
	for domain, mode := range c.Domains {
		if mode == config.Enforce {
			names[domain] = true
		}
	}
	for _, alias := range allAliases(c, files.Snapshot()) {
		if c.ModeOf(alias) != config.Enforce {
			continue
		}
		delete(names, alias)
		for parent := range address.Parents(alias) { // the entry that determines the mode of the alias
			if _, own := c.Domains[alias]; !own {
				delete(names, parent)
			}
		}
		for _, end := range aliasDestinations(c, files, alias) {
			names[end] = true
		}
	}
	return names
}

// allAliases returns the domains that the configuration or a file makes aliases, sorted.
func allAliases(c *config.Config, files []*tables.Table) (all []string) {
	for alias := range c.DomainAliases {
		all = append(all, alias)
	}
	for _, table := range files {
		for alias := range table.AllAliases() {
			all = append(all, alias)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// aliasDestinations follows an alias through all steps and returns the domains that are not aliases. For a
// cycle, it returns all domains of the cycle. It omits unjudged domains that a file names, because all their
// recipients are accepted.
func aliasDestinations(c *config.Config, files *tables.Files, alias string) []string {
	direct := func(domain string) []string { return targetsOf(c, files, domain) }
	seen, ends := []string{alias}, []string{}
	for domain, isAlias := range address.FollowAliases(alias, direct, func(d string) string { return d }) {
		if seen = append(seen, domain); !isAlias {
			ends = append(ends, domain)
		}
	}
	if len(ends) == 0 {
		ends = seen
	}
	filed := func(domain string) bool { return c.ModeOf(domain) == config.Pass && !isTarget(c, domain) }
	return slices.DeleteFunc(ends, filed)
}

// targetsOf returns the direct targets of a domain.
func targetsOf(c *config.Config, files *tables.Files, domain string) (all []string) {
	if target, alias := c.DomainAliases[domain]; alias {
		all = append(all, target)
	}
	files.Aliases(domain, func(target, _ string, _ int) { all = append(all, target) })
	return all
}

// isTarget reports whether a domain is a target in domain_aliases.
func isTarget(c *config.Config, domain string) bool {
	for _, target := range c.DomainAliases {
		if target == domain {
			return true
		}
	}
	return false
}
