package config

// ModeOf returns the mode of a canonical domain: that of its own entry, else that of its
// nearest parent, else Pass.
func (c *Config) ModeOf(domain string) Mode {
	if mode, named := c.Domains[domain]; named {
		return mode
	}
	for i := range len(domain) {
		if domain[i] != '.' {
			continue
		}
		if mode, named := c.Domains[domain[i:]]; named {
			return mode
		}
	}
	return Pass
}

// Judges reports whether recipients of a canonical domain are judged: its mode is enforce or
// report. HasEntry tells whether domains has an entry for it in any mode.
func (c *Config) Judges(domain string) bool { return c.ModeOf(domain) != Pass }

// HasEntry reports whether domains has an entry for a canonical domain, of its own or of a
// parent, in any mode: its recipients are judged, now or once the mode is no longer pass.
func (c *Config) HasEntry(domain string) bool { return c.ours(domain) }
