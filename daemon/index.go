package daemon

import (
	"slices"

	"rcpt-milter/address"
	"rcpt-milter/milter"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// index joins what the store holds with how far it can be trusted under one
// configuration, for the policy of that configuration. It never changes.
type index struct {
	store       *store.Store
	directories following
}

var _ milter.Index = index{}

func (i index) Lookup(a address.Address) (milter.Entry, error) {
	p, err := i.store.Lookup(a)
	if err != nil {
		return milter.Entry{}, err
	}
	return milter.Entry{Known: p.Known, InternalOnly: p.Restricted, Removed: p.Removed}, nil
}

// Freshness is the worst state among the directories that may own the domain.
func (i index) Freshness(domain string) milter.Freshness {
	worst := milter.Freshness{State: milter.FreshnessFresh}
	for _, d := range i.directories {
		if !d.config.MayOwn(domain) {
			continue
		}
		state, since := d.State()
		if s := freshnessOf(state); worst.Directory == "" || weight(s) > weight(worst.State) {
			worst = milter.Freshness{State: s, Directory: d.Name(), Since: since}
		}
	}
	return worst
}

// freshnessOf is the state of a mirror in the words of the policy; one it does not
// know is not trusted.
func freshnessOf(s mirror.State) milter.FreshnessState {
	switch s {
	case mirror.Fresh:
		return milter.FreshnessFresh
	case mirror.Late:
		return milter.FreshnessLate
	case mirror.Stale:
		return milter.FreshnessStale
	case mirror.Widening:
		return milter.FreshnessWidening
	default:
		return milter.FreshnessNotReady
	}
}

// weight orders states by how much they keep from being refused.
func weight(s milter.FreshnessState) int {
	return slices.Index([]milter.FreshnessState{milter.FreshnessFresh, milter.FreshnessLate, milter.FreshnessStale,
		milter.FreshnessWidening, milter.FreshnessNotReady}, s)
}
