package policy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"rcpt-milter/address"
)

// oldDecide is the table as it was at 8d02676, with the names of today.
func (p *Policy) oldDecide(ctx context.Context, q Query, r recipient) Decision {
	if p.exempt(q, &r) {
		return r.answer(1, VerdictExempt, Reply{}, "")
	}
	if r.domain == "" && isPostmaster(r.text) {
		return r.answer(2, VerdictAlways, Reply{}, "")
	}
	if r.mode == ModePass {
		return r.answer(3, VerdictNotOurs, Reply{}, "")
	}
	if p.alwaysAccepts(&r) {
		return r.answer(4, VerdictAlways, Reply{}, "")
	}
	if found, reason := p.lists.find(&r); found == VerdictDenylisted {
		return r.answer(5, VerdictDenylisted, unknownUser(r.text), reason)
	} else if found == VerdictAllowlisted {
		return r.answer(5, VerdictAllowlisted, Reply{}, reason)
	}
	if (p.harvestAll || !r.readable()) && p.limited(q) {
		return r.answer(11, VerdictHarvestLimited, p.harvestReply.reply(r.text), "")
	}
	if !r.readable() {
		return r.answer(12, VerdictUnknown, unknownUser(r.text), "not readable as an address")
	}
	entry, err := p.lookup(&r)
	if err != nil {
		return r.failed(fmt.Errorf("index: %w", err))
	}
	if p.allowsSender(entry, q, &r) {
		return r.answer(6, VerdictKnown, Reply{}, r.found("in the index"))
	}
	if !r.freshness.State.Ready() {
		return r.answer(7, VerdictNotReady, p.whenNotReady.reply(entry, r.text), "")
	}
	if r.empty && !entry.Known {
		return r.answer(7, VerdictNotReady, p.whenNotReady.reply(entry, r.text), "")
	}
	if !r.removed.IsZero() && p.age(r.removed) < p.removalGrace {
		return r.answer(8, VerdictInGrace, removedRecently(r.text), "")
	}
	if r.freshness.State == Stale {
		return r.answer(9, VerdictStale, p.whenStale.reply(entry, r.text), "")
	}
	limited := p.limited(q)
	if found := p.confirmed(ctx, &r, limited); found.Known { // then: only if !entry.Known
		entry = found
	}
	if p.allowsSender(entry, q, &r) {
		return r.answer(10, VerdictConfirmed, Reply{}, "")
	}
	if limited {
		return r.answer(11, VerdictHarvestLimited, p.harvestReply.reply(r.text), "")
	}
	if entry.Known {
		return r.answer(6, VerdictRestricted, unknownUser(r.text), "")
	}
	return r.answer(12, VerdictUnknown, unknownUser(r.text), "")
}

type advIndex struct{ r *rand.Rand }

func (i advIndex) pick(s string) *rand.Rand {
	h := uint64(14695981039346656037)
	for _, b := range []byte(s) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(h, 7))
}
func (i advIndex) Lookup(a address.Address) (Entry, error) {
	r := i.pick(a.String())
	if r.IntN(20) == 0 {
		return Entry{}, errIndex
	}
	e := Entry{Known: r.IntN(2) == 0}
	e.InternalOnly = e.Known && r.IntN(2) == 0
	if !e.Known || e.InternalOnly {
		e.Removed = []time.Time{{}, now.Add(-time.Minute), now.Add(-3 * time.Hour), now.Add(time.Minute)}[r.IntN(4)]
	}
	return e, nil
}
func (i advIndex) Freshness(domain string) Freshness {
	return Freshness{State: []State{Fresh, Late, Stale, NotReady, Widening, "", Fresh, Fresh}[i.pick(domain).IntN(8)]}
}

type advConfirm struct{ n *int }

func (c advConfirm) Confirm(_ context.Context, a address.Address, _ bool) (Entry, error) {
	*c.n++
	r := advIndex{}.pick("c" + a.String())
	if r.IntN(4) == 0 {
		return Entry{Known: true}, errIndex
	}
	e := Entry{Known: r.IntN(3) == 0}
	e.InternalOnly = e.Known && r.IntN(2) == 0
	return e, nil
}

func TestAdvOldAndNew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	rows := map[string]int{}
	for n := range 200000 {
		asked := 0
		fb := []Fallback{FallbackTempfail, FallbackAccept, FallbackRefuse}
		cfg := Config{Index: advIndex{}, RemovalGrace: []time.Duration{0, time.Hour}[r.IntN(2)], Now: func() time.Time { return now },
			Domains:   map[string]Mode{"report.test": ModeReport, ".test": ModeEnforce, "pass.test": ModePass},
			WhenStale: fb[r.IntN(3)], WhenNotReady: fb[r.IntN(2)], HarvestScopeAll: r.IntN(2) == 0,
			HarvestReply:   []HarvestReply{HarvestHangup, HarvestTempfail}[r.IntN(2)],
			InsideNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/25")},
			Refuse:         []string{"left@e1.test"}, Accept: []string{"extra@e1.test"}}
		if r.IntN(2) == 0 {
			cfg.Confirm = advConfirm{&asked}
		}
		if r.IntN(2) == 0 {
			cfg.Harvest = fakeLimit{guessers}
		}
		if r.IntN(2) == 0 {
			cfg.RecipientDelimiter = "+"
		}
		if r.IntN(3) == 0 {
			cfg.DomainAliases = map[string]string{"e1.test": "e2.test", "e2.test": "e5.test", "report.test": "e3.test"}
		}
		if r.IntN(2) == 0 {
			cfg.HasAddresses = func(d string) bool { return advIndex{}.pick("h"+d).IntN(2) == 0 }
		}
		p, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		rcpt := fmt.Sprintf("u%d@e%d.test", r.IntN(60), r.IntN(12))
		switch r.IntN(12) {
		case 0:
			rcpt = fmt.Sprintf("u%d+x%d@e%d.test", r.IntN(60), r.IntN(5), r.IntN(12))
		case 1:
			rcpt = fmt.Sprintf(`us"er%d@e%d.test`, r.IntN(9), r.IntN(12))
		case 2:
			rcpt = []string{"postmaster", "left@e1.test", "extra@e1.test", "postmaster@e1.test", "x@pass.test", "nobody", `a"b@report.test`}[r.IntN(7)]
		case 3, 4:
			rcpt = fmt.Sprintf("u%d@report.test", r.IntN(60))
		}
		q := Query{Recipient: rcpt, Client: netip.MustParseAddr([]string{"192.0.2.1", "192.0.2.200", "10.1.1.1", "203.0.113.1"}[r.IntN(4)])}
		if r.IntN(5) == 0 {
			q.Authenticated = "x"
		}
		rec := p.recipient(q)
		for _, un := range []bool{false, true} {
			rec.unconfirmed, rec.aliased = un, un && r.IntN(2) == 0
			asked = 0
			old := p.oldDecide(context.Background(), q, rec)
			a1 := asked
			asked = 0
			got := p.decide(context.Background(), q, rec)
			old.Reason, got.Reason = "", ""
			if e1, e2 := fmt.Sprint(old.Err), fmt.Sprint(got.Err); e1 == e2 {
				old.Err, got.Err = nil, nil
			}
			rows[fmt.Sprint(got.Row, got.Verdict)]++
			if old != got || a1 != asked {
				t.Fatalf("%d: %+v\nold %+v %d\nnew %+v %d", n, q, old, a1, got, asked)
			}
		}
	}
	t.Log(rows)
}
