package mirror

import (
	"slices"
	"time"
)

// handoverLag returns how long another directory may take to receive an address in a mail domain that this
// directory lost. It returns 0 if no other directory may own the domain. For the empty domain, it returns the
// longest of these times. Without Limits.HandoverLag, every directory in the store may own every address.
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
