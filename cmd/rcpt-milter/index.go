package main

import (
	"rcpt-milter/address"
	"rcpt-milter/milter"
	"rcpt-milter/store"
)

// index joins what the store holds with how far it can be trusted, for the policy.
type index struct {
	store    *store.Store
	follower *follower
}

var _ milter.Index = index{}

func (i index) Lookup(a address.Address) (milter.Entry, error) {
	p, err := i.store.Lookup(a)
	if err != nil {
		return milter.Entry{}, err
	}
	return milter.Entry{Known: p.Known, InternalOnly: p.Restricted, Removed: p.Removed}, nil
}

func (i index) Freshness(domain string) milter.Freshness { return i.follower.Freshness(domain) }
