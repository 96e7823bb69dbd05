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
