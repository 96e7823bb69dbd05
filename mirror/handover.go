package mirror

import (
	"slices"
	"time"
)

// handoverLag returns how long another directory may need to learn an address of a mail
// domain that this one lost; 0 if no other directory may own it. For the empty domain it is
// the longest of all. Without Limits.HandoverLag, every directory of the store may own
// every address.
func (m *Mirror) handoverLag(domain string) time.Duration {
	if lag := m.limits.Load().HandoverLag; lag != nil {
		return lag(domain)
	}
	others := slices.ContainsFunc(m.config.Store.Directories(), func(name string) bool { return name != m.config.Name })
	if !others {
		return 0
	}
	return m.config.ReplicationLag
}
