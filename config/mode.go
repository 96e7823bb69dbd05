package config

import "rcpt-milter/address"

// ModeOf returns the mode of a canonical domain: that of its own entry, otherwise that of
// its nearest parent, otherwise Pass.
func (c *Config) ModeOf(domain string) Mode {
	if mode, configured := address.LookupDomain(c.Domains, domain); configured {
		return mode
	}
	return Pass
}

// Judges reports whether recipients of a canonical domain are judged: its mode is enforce or
// report. HasEntry tells whether domains has an entry for it in any mode.
func (c *Config) Judges(domain string) bool { return c.ModeOf(domain) != Pass }

// HasEntry reports whether domains has an entry for a canonical domain, of its own or of a
// parent, in any mode.
func (c *Config) HasEntry(domain string) bool {
	_, configured := address.LookupDomain(c.Domains, domain)
	return configured
}

// Guards reports whether a canonical domain has addresses that decide about judged recipients: its
// own, or those of a domain alias that leads to it.
func (c *Config) Guards(domain string) bool {
	if c.Judges(domain) {
		return true
	}
	for alias := range c.DomainAliases {
		if c.Judges(alias) && c.leadsTo(alias, domain) {
			return true
		}
	}
	return false
}

// leadsTo reports whether a domain is a target of an alias, directly or through others.
func (c *Config) leadsTo(alias, domain string) bool {
	target, more := c.DomainAliases[alias]
	for more && target != domain { // an alias does not lead back to itself
		target, more = c.DomainAliases[target]
	}
	return more
}
