package daemon

import (
	"slices"
	"time"

	"rcpt-milter/config"
)

// handoverLag returns a function for a directory that has lost an address in a mail domain. The function
// returns how long another directory may take to receive that address: the longer replication lag of the two.
// It returns zero if no other directory may own the domain. For the empty domain, it returns the maximum over
// all domains. A directory that is no longer configured counts while the store has addresses of it, for another one
// that is, with the lag that it had: it may have been taken out by mistake.
func (sm *syncManager) handoverLag(
	c *config.Config, name string, lag time.Duration,
) func(domain string) time.Duration {
	return func(domain string) (longest time.Duration) {
		for _, d := range c.Directories {
			if d.Name != name && (domain == "" || d.MayOwn(domain)) {
				longest = max(longest, lag, d.ReplicationLag)
			}
		}
		for _, other := range sm.store.Directories() {
			if other != name && inConfig(c, name) && !inConfig(c, other) {
				longest = max(longest, lag, sm.lagOfLeft(other, domain))
			}
		}
		return longest
	}
}

// rememberLeft keeps the entries of the active directories that are not in a configuration any more.
func (sm *syncManager) rememberLeft(c *config.Config) {
	sm.mu.Lock()
	defer sm.mu.Unlock()
	for _, d := range sm.active() {
		if !inConfig(c, d.config.Name) {
			sm.left[d.config.Name] = d.config
		}
	}
}

// lagOfLeft returns the replication lag that a directory had before it left the configuration. It returns zero if the
// directory could not own the domain, or left before this process started.
func (sm *syncManager) lagOfLeft(name, domain string) time.Duration {
	sm.mu.Lock()
	defer sm.mu.Unlock()
	if d, known := sm.left[name]; known && (domain == "" || d.MayOwn(domain)) {
		return d.ReplicationLag
	}
	return 0
}

func inConfig(c *config.Config, name string) bool {
	return slices.ContainsFunc(c.Directories, func(d config.Directory) bool { return d.Name == name })
}
