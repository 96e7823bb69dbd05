package daemon

import (
	"rcpt-milter/address"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// index combines the store with the freshness of the directories in one configuration, and of its accept files.
// It is immutable.
type index struct {
	store       *store.Store
	directories directorySet
	ages        fileAges
}

var _ policy.Index = index{}

func (i index) Lookup(a address.Address) (policy.Entry, error) {
	p, err := i.store.Lookup(a)
	if err != nil {
		return policy.Entry{}, err
	}
	return entryOf(p), nil
}

func entryOf(p store.Presence) policy.Entry {
	return policy.Entry{Known: p.Known, InternalOnly: p.InternalOnly, Removed: p.Removed, Doubt: p.Doubt}
}

// Freshness returns the worst state among the directories that may own the domain and the accept files that
// name it. Of equal ones, a file in doubt comes first, because when_stale: refuse does not apply to it.
func (i index) Freshness(domain string) policy.Freshness {
	worst := policy.Freshness{State: policy.Fresh}
	for _, d := range i.directories {
		if !d.config.MayOwn(domain) {
			continue
		}
		if state, since := d.State(); worst.Directory == "" || state.Rank() > worst.State.Rank() {
			worst = policy.Freshness{State: state, Directory: d.Name(), Since: since}
		}
	}
	files := i.ages.freshness(domain)
	if more := files.State.Rank() - worst.State.Rank(); more > 0 || more == 0 && files.Doubt != "" {
		return files
	}
	return worst
}

func (i index) HasDomain(domain string) bool { return i.store.HasDomain(domain) }
