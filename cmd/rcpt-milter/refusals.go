package main

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

const (
	refusalShards = 16
	shardPending  = 1024 // refusals that a shard holds until it is emptied
	gatherEvery   = time.Second
	keepEvery     = time.Minute
)

// refusals is the record of what was refused. Between RCPT and reply a refusal is only
// noted, in one of several shards, by client; a goroutine of its own gathers them into
// the record of the hour and keeps that in the store once a minute and at the end.
// Whatever is asked of the daemon, this takes a bounded amount of memory and disk: what
// comes too fast is counted and not looked at.
type refusals struct {
	store *store.Store
	log   *slog.Logger
	now   func() time.Time

	seed   maphash.Seed
	shards [refusalShards]refusalShard

	mu      sync.Mutex               // guards what follows; not taken between RCPT and reply
	keep    time.Duration            // how long hours are kept
	network clientNetworks           // what counts as one
	conceal func(text string) string // how an address is kept; nil: as it is
	hour    *store.Refusals
	changed bool // since it was last kept
	failing bool // the last attempt to keep it failed
}

// clientNetworks is how many bits of a client's address name its network.
type clientNetworks struct{ ipv4, ipv6 int }

// refusalShard is what some of the clients caused since it was last emptied.
type refusalShard struct {
	mu                  sync.Mutex
	pending             []pendingRefusal
	missed, missedWould int64
}

// pendingRefusal is a refusal that was not looked at yet.
type pendingRefusal struct {
	address address.Address
	domain  string
	client  netip.Addr
	verdict policy.Verdict
	would   bool
}

// newRefusals goes on with the record of the hour where there is one.
func newRefusals(s *store.Store, log *slog.Logger, now func() time.Time) *refusals {
	r := &refusals{store: s, log: log, now: now, seed: maphash.MakeSeed()}
	r.begin(now())
	return r
}

// begin goes on with the record of the hour in which a time falls.
func (r *refusals) begin(now time.Time) {
	var err error
	if r.hour, err = r.store.RefusalsOf(now); err != nil {
		r.log.Warn("record of refusals cannot be read, the hour begins anew", "error", err)
	}
}

// Set follows a configuration: how long hours are kept, what a client network is, and
// whether addresses are kept as hashes, as in the log.
func (r *refusals) Set(c *config.Config, conceal func(text string) string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep, r.network, r.conceal = c.Journal.Keep, clientNetworks{c.Harvest.IPv4, c.Harvest.IPv6}, conceal
}

// hashed begins the text of an address that is kept as a hash: no canonical address has
// a colon outside quotes.
const hashed = "hash:"

// spell is the text under which an address is kept; the caller has the lock.
func (r *refusals) spell(a address.Address) string {
	if r.conceal == nil || a.IsZero() {
		return a.String()
	}
	return hashed + r.conceal(a.String())
}

// Observe notes a decision that is a refusal.
func (r *refusals) Observe(q policy.Query, d policy.Decision) {
	if !isRefusal(d) {
		return
	}
	s := &r.shards[maphash.Comparable(r.seed, q.Client)%refusalShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.pending) < shardPending:
		s.pending = append(s.pending, pendingRefusal{d.Address, d.Domain, q.Client, d.Verdict, d.WouldRefuse})
	case d.WouldRefuse:
		s.missedWould++
	default:
		s.missed++
	}
}

// isRefusal reports whether the recipient is rejected, or would be in mode enforce. Deferred
// recipients do not count, unless the harvest limit deferred them.
func isRefusal(d policy.Decision) bool {
	return d.Enforced().Outcome() == policy.Refused || d.Verdict == policy.VerdictHarvestLimited
}

// Run gathers until ctx ends, and keeps what there is then.
func (r *refusals) Run(ctx context.Context) error {
	gather, keep := time.NewTicker(gatherEvery), time.NewTicker(keepEvery)
	defer gather.Stop()
	defer keep.Stop()
	for {
		select {
		case <-ctx.Done():
			r.Keep()
			return nil
		case <-gather.C:
			r.gather()
		case <-keep.C:
			r.Keep()
		}
	}
}

// gather empties the shards into the record of the hour.
func (r *refusals) gather() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if !store.NewRefusals(now).From.Equal(r.hour.From) { // also back, if the clock was set back
		r.write()
		r.begin(now)
		if err := r.store.DropRefusals(now.Add(-r.keep)); err != nil {
			r.log.Warn("old refusals not forgotten", "error", err)
		}
	}
	for i := range r.shards {
		r.empty(&r.shards[i], now)
	}
}

func (r *refusals) empty(s *refusalShard, now time.Time) {
	s.mu.Lock()
	pending, missed, missedWould := s.pending, s.missed, s.missedWould
	s.pending, s.missed, s.missedWould = nil, 0, 0
	s.mu.Unlock()
	r.changed = r.changed || len(pending) > 0
	for _, p := range pending {
		r.hour.Add(store.Refusal{Time: now, Address: r.spell(p.address), Domain: p.domain, Network: r.network.of(p.client),
			Verdict: string(p.verdict), WouldRefuse: p.would})
	}
	if missed+missedWould > 0 {
		r.hour.AddUnlisted(missed, missedWould)
		r.changed = true
	}
}

// of returns the network of a client, or "" if the client has no IP address.
func (n clientNetworks) of(client netip.Addr) string {
	if network, ok := policy.ClientNetwork(client, n.ipv4, n.ipv6); ok {
		return network.String()
	}
	return ""
}

// Keep gathers, and writes the hour to the store if it has changed.
func (r *refusals) Keep() error {
	r.gather()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write()
}

// write keeps the hour; the caller has the lock. That it cannot be kept is said once.
func (r *refusals) write() error {
	if !r.changed {
		return nil
	}
	err := r.store.PutRefusals(r.hour)
	if err != nil && !r.failing {
		r.log.Warn("record of refusals not kept", "error", err)
	}
	r.changed, r.failing = err != nil, err != nil
	return err
}
