package mirror

import (
	"slices"
	"time"
)

// shared is how long another directory may need to hear of an address of a mail domain that
// this one gave away; zero: no other one may have it. For the empty domain it is the longest
// of all. If the limits do not say, every directory that the store knows may have every address.
func (m *Mirror) handoverLag(domain string) time.Duration {
	if shared := m.limits.Load().HandoverLag; shared != nil {
		return shared(domain)
	}
	others := slices.ContainsFunc(m.config.Store.Directories(), func(name string) bool { return name != m.config.Name })
	if !others {
		return 0
	}
	return m.config.ReplicationLag
}
