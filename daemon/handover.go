package daemon

import (
	"slices"
	"time"

	"rcpt-milter/config"
)

// handoverLag returns a function for a directory that has lost an address in a mail domain. The function
// returns how long another directory may take to receive that address: the longer replication lag of the two.
// It returns zero if no other directory may own the domain. For the empty domain, it returns the maximum over
// all domains. A directory that is no longer configured counts while the store has addresses of it.
func (sm *syncManager) handoverLag(
	c *config.Config, name string, lag time.Duration,
) func(domain string) time.Duration {
	return func(domain string) (longest time.Duration) {
		for _, d := range c.Directories {
			if d.Name != name && (domain == "" || d.MayOwn(domain)) {
				longest = max(longest, lag, d.ReplicationLag)
			}
		}
		left := func(other string) bool { return other != name && !inConfig(c, other) }
		if longest == 0 && slices.ContainsFunc(sm.store.Directories(), left) {
			longest = lag
		}
		return longest
	}
}

func inConfig(c *config.Config, name string) bool {
	return slices.ContainsFunc(c.Directories, func(d config.Directory) bool { return d.Name == name })
}
