package policy

import (
	"context"
	"hash/maphash"
	"strconv"

	"rcpt-milter/address"
)

// spend does the lookups and searches of an unknown recipient, for addresses that cannot exist:
// an index or a directory that has the address would take another time. The searches use at most
// half of the budget, as those of suspects do: the rest is for recipients that may exist.
func (p *Policy) spend(ctx context.Context, r recipient) {
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

// decoy returns an address in the domain of a that cannot be guessed. It is always the same for a,
// so its answers are cached as those for a would be.
func decoy(a address.Address) address.Address {
	local := strconv.FormatUint(maphash.Comparable(decoySeed, a), 36)
	unguessable, err := address.Parse(local + "@" + a.Domain())
	if err != nil {
		return a
	}
	return unguessable
}
