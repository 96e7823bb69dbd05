package daemon

import (
	"slices"
	"time"

	"rcpt-milter/config"
)

// shared returns how long another directory than the named one may need to hear of an
// address of a mail domain that the named one gave away: the longer lag of the two; zero if
// no other one may have it. Of the empty domain it returns the longest of all. A directory
// that the configuration no longer has counts as long as the store has addresses of it.
func (f *syncManager) shared(c *config.Config, name string, lag time.Duration) func(domain string) time.Duration {
	return func(domain string) (longest time.Duration) {
		for _, d := range c.Directories {
			if d.Name != name && (domain == "" || d.MayOwn(domain)) {
				longest = max(longest, lag, d.ReplicationLag)
			}
		}
		left := func(other string) bool { return other != name && !inConfig(c, other) }
		if longest == 0 && slices.ContainsFunc(f.store.Directories(), left) {
			longest = lag
		}
		return longest
	}
}

func inConfig(c *config.Config, name string) bool {
	return slices.ContainsFunc(c.Directories, func(d config.Directory) bool { return d.Name == name })
}
