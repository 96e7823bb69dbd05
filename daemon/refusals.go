package daemon

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
	refusalShards   = 16
	maxShardPending = 1024 // maximum number of pending refusals per shard
	gatherInterval  = time.Second
	flushInterval   = time.Minute
)

// refusals records rejected recipients for the report. Between RCPT and reply, it only appends to one of
// several shards, chosen by client. A goroutine of its own adds the refusals to the record of the hour, and
// writes the record to the store once a minute and at the end. Memory and disk usage are limited: a refusal
// that does not fit in its shard is counted, but not listed.
type refusals struct {
	store *store.Store
	log   *slog.Logger
	now   func() time.Time

	seed   maphash.Seed
	shards [refusalShards]refusalShard

	mu          sync.Mutex               // guards the fields below; never locked between RCPT and reply
	retention   time.Duration            // of the hourly records
	network     clientNetworks           // determines the network of a client
	redact      func(text string) string // form of addresses in the record; nil means unchanged
	hour        *store.Refusals
	changed     bool // since the last write
	writeFailed bool // the last attempt to write has failed
}

// clientNetworks are the settings that determine the network of a client.
type clientNetworks struct {
	nat64      policy.Translators
	ipv4, ipv6 int
}

// refusalShard has the refusals of some clients since the shard was last drained.
type refusalShard struct {
	mu                  sync.Mutex
	pending             []pendingRefusal
	missed, missedWould int64
}

// pendingRefusal is a refusal that is not yet in a record.
type pendingRefusal struct {
	address address.Address
	domain  string
	client  netip.Addr
	verdict policy.Verdict
	would   bool // WouldRefuse
	limit   bool // WouldLimit
}

// newRefusals continues the record of the current hour.
func newRefusals(s *store.Store, log *slog.Logger, now func() time.Time) *refusals {
	r := &refusals{store: s, log: log, now: now, seed: maphash.MakeSeed()}
	r.openHour(now())
	return r
}

// openHour reads the record of the hour of now. If there is none, it starts one.
func (r *refusals) openHour(now time.Time) {
	var err error
	if r.hour, err = r.store.RefusalsOf(now); err != nil {
		r.log.Warn("cannot read record of refusals; starting a new record for this hour", "error", err)
	}
}

// Set sets the retention, the network size of clients, and the stored form of addresses.
func (r *refusals) Set(c *config.Config, redact func(text string) string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retention, r.network, r.redact = c.Journal.Keep, clientNetworks{c.NAT64, c.Harvest.IPv4, c.Harvest.IPv6}, redact
}

// hashPrefix starts the stored form of a hashed address. A canonical address has no colon outside of quotes.
const hashPrefix = "hash:"

// storedForm returns the text under which an address is stored. The caller holds the lock.
func (r *refusals) storedForm(a address.Address) string {
	if r.redact == nil || a.IsZero() {
		return a.String()
	}
	return hashPrefix + r.redact(a.String())
}

// Observe records a decision if it is a refusal.
func (r *refusals) Observe(q policy.Query, d policy.Decision) {
	if !isRefusal(d) {
		return
	}
	s := &r.shards[maphash.Comparable(r.seed, q.Client)%refusalShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.pending) < maxShardPending:
		s.pending = append(s.pending, pendingRefusal{d.Address, d.Domain, q.Client, d.Verdict, d.WouldRefuse,
			d.WouldLimit})
	case d.WouldRefuse:
		s.missedWould++
	default:
		s.missed++
	}
}

// probe acquires and releases the locks of Observe.
func (r *refusals) probe() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		_ = s.pending
		s.mu.Unlock()
	}
}

// isRefusal reports whether the recipient is rejected, or would be in mode enforce. As in status and metrics,
// deferred recipients do not count.
func isRefusal(d policy.Decision) bool { return d.Enforced().Outcome() == policy.Refused }

// Run gathers refusals until ctx ends, and then flushes them.
func (r *refusals) Run(ctx context.Context) error {
	gather, keep := time.NewTicker(gatherInterval), time.NewTicker(flushInterval)
	defer gather.Stop()
	defer keep.Stop()
	for {
		select {
		case <-ctx.Done():
			r.Flush()
			return nil
		case <-gather.C:
			r.gather()
		case <-keep.C:
			r.Flush()
		}
	}
}

// gather moves the refusals from the shards into the record of the hour.
func (r *refusals) gather() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if !store.NewRefusals(now).From.Equal(r.hour.From) { // also true if the clock was set back
		r.write()
		r.openHour(now)
		if err := r.store.DropRefusals(now.Add(-r.retention)); err != nil {
			r.log.Warn("cannot prune old refusals", "error", err)
		}
	}
	for i := range r.shards {
		r.drain(&r.shards[i], now)
	}
}

func (r *refusals) drain(s *refusalShard, now time.Time) {
	s.mu.Lock()
	pending, missed, missedWould := s.pending, s.missed, s.missedWould
	s.pending, s.missed, s.missedWould = nil, 0, 0
	s.mu.Unlock()
	r.changed = r.changed || len(pending) > 0
	for _, p := range pending {
		r.hour.Add(store.Refusal{Time: now, Address: r.storedForm(p.address), Domain: p.domain,
			Network: r.network.of(p.client),
			Verdict: string(p.verdict), WouldRefuse: p.would, WouldLimit: p.limit})
	}
	if missed+missedWould > 0 {
		r.hour.AddUnlisted(missed, missedWould)
		r.changed = true
	}
}

// of returns the network of a client, or "" if the client has no IP address.
func (n clientNetworks) of(client netip.Addr) string {
	if network, ok := n.nat64.Network(client, n.ipv4, n.ipv6); ok {
		return network.String()
	}
	return ""
}

// Flush gathers refusals, and writes the record of the hour if it has changed.
func (r *refusals) Flush() error {
	r.gather()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write()
}

// write writes the record of the hour. After several failures in a row, it logs only the first. The caller
// holds the lock.
func (r *refusals) write() error {
	if !r.changed {
		return nil
	}
	err := r.store.PutRefusals(r.hour)
	if err != nil && !r.writeFailed {
		r.log.Warn("cannot write record of refusals", "error", err)
	}
	r.changed, r.writeFailed = err != nil, err != nil
	return err
}
