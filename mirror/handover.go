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

// handoverLag is that of the mirror. A Global Catalog shows several domains, each of which replicates by itself: what
// one of them gave away may reach the same controller later, in another domain. How many domains there are is not
// known, so the address waits in a forest of one domain, too. A domain-only connection cannot show the gain at all.
func (r *passRun) handoverLag(domain string) time.Duration {
	lag := r.m.handoverLag(domain)
	if r.root.GlobalCatalog || r.domainOnly {
		lag = max(lag, r.m.config.ReplicationLag)
	}
	return lag
}
