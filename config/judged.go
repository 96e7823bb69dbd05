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

// Judges reports whether recipients of a canonical domain are judged.
func (c *Config) Judges(domain string) bool { return c.ModeOf(domain) != Pass }
