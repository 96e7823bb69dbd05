package policy

import (
	"context"
	"hash/maphash"
	"strconv"

	"rcpt-milter/address"
)

// spendUnknownCost does the lookups and searches of an unknown recipient. It uses addresses that cannot exist,
// because an index or a directory that has the address would take a different time. The searches use at most half
// of the budget, like those for suspects; the rest is reserved for recipients that may exist.
func (p *Policy) spendUnknownCost(ctx context.Context, r recipient) {
	for n, form := range r.all() {
		r.form[n] = decoy(form)
	}
	if _, err := p.lookup(&r); err != nil || r.notReady(Entry{}) != "" || r.freshness.State == Stale {
		return
	}
	p.confirmed(ctx, Query{}, &r, true)
}

// decoySeed makes decoys unpredictable.
var decoySeed = maphash.MakeSeed()

// decoy returns an address in the domain of a that cannot be guessed. For equal arguments it returns equal
// decoys, so their answers are cached like those for a.
func decoy(a address.Address) address.Address {
	local := strconv.FormatUint(maphash.Comparable(decoySeed, a), 36)
	unguessable, err := address.Parse(local + "@" + a.Domain())
	if err != nil {
		return a
	}
	return unguessable
}
