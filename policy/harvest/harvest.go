// Package harvest limits clients that guess addresses.
//
// A [Limit] counts the distinct addresses that the network of each client tries, over all its sessions, and how
// many of them are rejected. If both the number of rejected addresses and their share are too high, the network
// is limited for a time. During that time nothing is counted. Afterwards, counting starts from zero.
//
// An IPv6 client counts in two networks, because a customer usually has more than one /64. The larger network,
// a site, has a larger budget.
//
// The recipients of null senders have budgets of their own. A bounce has one recipient, and a bounce to a
// forged sender is not a guess of the server that sends it. The first recipient of each bounce therefore counts
// in a large budget, and further recipients count in a small one.
//
// A [Memory] takes at most [MaxBytes]. It keeps a sample of limited size for each network. If there are too
// many networks, it evicts those that tried the fewest addresses.
package harvest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"rcpt-milter/policy"
)

// Config determines when a network is limited, and for how long.
type Config struct {
	// Memory stores what networks have tried. It is required. It outlives a Limit, so new settings lose nothing.
	Memory *Memory
	// Unknown is the number of distinct rejected addresses at which a network is limited; at least 1. A site gets
	// SiteFactor times as many, and first recipients of bounces get FirstFactor times as many.
	Unknown int
	// Ratio is the minimum share of rejected addresses among all addresses that the network tried, from 0 to 1. A
	// legitimate sender with a long list mostly has valid recipients.
	Ratio float64
	// Window is how long an address counts after the network last tried it.
	Window time.Duration
	// Penalty is how long a network is limited.
	Penalty time.Duration
	// IPv4 and IPv6 are the prefix lengths of networks.
	IPv4, IPv6 int
	// Site is the prefix length of the larger network of an IPv6 client. There is none if Site is zero or not
	// less than IPv6.
	Site int
	// NAT64 are the prefixes of translators, whose clients count as IPv4 clients.
	NAT64 policy.Translators
	// ReportOnly changes only the log line; the caller must not enforce the limit.
	ReportOnly bool
	// Logger receives a line for each network that becomes limited; nil means no log.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Larger budgets, as multiples of Config.Unknown.
const (
	SiteFactor  = 5  // for all networks of a site together
	FirstFactor = 10 // for first recipients of bounces
)

// check validates a configuration.
func (c Config) check() error {
	switch {
	case c.Memory == nil:
		return errors.New("no memory")
	case c.Unknown < 1:
		return fmt.Errorf("unknown must be at least 1, got %d", c.Unknown)
	case !(c.Ratio >= 0 && c.Ratio <= 1):
		return fmt.Errorf("ratio must be between 0 and 1, got %v", c.Ratio)
	case c.Window <= 0 || c.Penalty <= 0:
		return errors.New("window and penalty must be positive")
	case c.IPv4 < 1 || c.IPv4 > 32 || c.IPv6 < 1 || c.IPv6 > 128:
		return fmt.Errorf("invalid prefix lengths of networks: /%d (IPv4), /%d (IPv6)", c.IPv4, c.IPv6)
	case c.Site < 0 || c.Site > 128:
		return fmt.Errorf("invalid prefix length of sites: /%d", c.Site)
	}
	return nil
}

// Limit is a policy.HarvestLimit. Its methods are safe for concurrent use. Create it with New.
type Limit struct{ cfg Config }

// New validates a configuration and returns a limit for it.
func New(cfg Config) (*Limit, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("harvest limit: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Limit{cfg}, nil
}

// network returns the network in which a client counts. It reports false if the client has no IP address.
func (h *Limit) network(client netip.Addr) (netip.Prefix, bool) {
	return h.cfg.NAT64.Network(client, h.cfg.IPv4, h.cfg.IPv6)
}

// budget limits the rejected addresses of one network, for one kind of mail.
type budget struct {
	account
	unknown int // number of rejected addresses at which the network is limited
}

// budgets calls visit for each budget in which mail of this kind from the client counts, until visit returns
// false.
func (h *Limit) budgets(client netip.Addr, k kind, visit func(budget) bool) {
	network, ok := h.network(client)
	if !ok {
		return
	}
	unknown := h.cfg.Unknown
	if k == firstOfBounce {
		unknown *= FirstFactor
	}
	if visit(budget{account{network, k}, unknown}) && network.Addr().Is6() && 0 < h.cfg.Site &&
		h.cfg.Site < network.Bits() {
		site := netip.PrefixFrom(network.Addr(), h.cfg.Site).Masked()
		visit(budget{account{site, k}, unknown * SiteFactor})
	}
}

// kindOf returns the kind of mail that a query belongs to.
func kindOf(q policy.Query) kind {
	switch {
	case !q.IsBounce():
		return ordinary
	case q.Nth > 1:
		return restOfBounce
	}
	return firstOfBounce
}

// limitedBy returns the first account of a client that is limited for one of these kinds of mail.
func (h *Limit) limitedBy(client netip.Addr, kinds ...kind) (by account, limited bool) {
	now := uint32(h.cfg.Now().Unix())
	for _, k := range kinds {
		h.budgets(client, k, func(b budget) bool {
			if by, limited = b.account, h.cfg.Memory.limited(b.account, now, h.cfg.Penalty); limited {
				return false
			}
			return true
		})
		if limited {
			break
		}
	}
	return by, limited
}

// Limited implements policy.HarvestLimit. A client that is limited for bounces may still send other mail, and
// vice versa.
func (h *Limit) Limited(q policy.Query) (limited bool) {
	if q.IsBounce() {
		_, limited = h.limitedBy(q.Client, firstOfBounce, restOfBounce)
	} else {
		_, limited = h.limitedBy(q.Client, ordinary)
	}
	return limited
}

// Charge implements policy.HarvestLimit. While one of a client's networks is limited, the other is not charged.
func (h *Limit) Charge(q policy.Query, recipient string, rejected bool) {
	if h.Limited(q) {
		return
	}
	now := h.cfg.Now()
	h.budgets(q.Client, kindOf(q), func(b budget) bool {
		count, over := h.cfg.Memory.charge(&h.cfg, b, recipient, rejected, uint32(now.Unix()))
		if over {
			h.logOver(b, q, count, now.Add(h.cfg.Penalty))
		}
		return !over
	})
}

// logOver logs that a network has exceeded its limit.
func (h *Limit) logOver(b budget, q policy.Query, count counted, until time.Time) {
	message, level := "network goes over the harvest limit", slog.LevelWarn
	if h.cfg.ReportOnly {
		message, level = "network would go over the harvest limit", slog.LevelInfo
	}
	h.cfg.Logger.Log(context.Background(), level, message, "network", b.network.String(), "client", q.ClientLabel(),
		"bounces", b.kind != ordinary, "unknown", count.unknown, "recipients", count.all, "until", until)
}

// State describes one network in a Memory, for one kind of mail.
type State struct {
	Network netip.Prefix
	Bounces bool // the counts are for mail from null senders
	// estimated number of rejected addresses in the window; while limited, the number when the limit was reached
	Unknown    int
	Recipients int       // estimated number of all addresses in the window
	Until      time.Time // end of the penalty; zero means not limited
}

// State returns the state of the client's network: of a limited one if there is one, otherwise of the smallest
// one, for ordinary mail. It reports false if the client has no IP address.
func (h *Limit) State(client netip.Addr) (State, bool) {
	network, ok := h.network(client)
	if !ok {
		return State{}, false
	}
	shown := account{network, ordinary}
	if by, limited := h.limitedBy(client, ordinary, firstOfBounce, restOfBounce); limited {
		shown = by
	}
	return h.cfg.Memory.state(&h.cfg, shown, uint32(h.cfg.Now().Unix())), true
}

// Summary is a summary of a Memory.
type Summary struct {
	Networks int     // number of networks, counted once for each kind of mail
	Bytes    int     // memory used; at most MaxBytes
	Limited  int     // number of limited networks
	Longest  []State // limited networks with the latest ends of penalties
}

// Summary summarizes all networks and lists at most most limited ones.
func (h *Limit) Summary(most int) Summary {
	var sum Summary
	now := uint32(h.cfg.Now().Unix())
	for i := range h.cfg.Memory.shards {
		sum.add(&h.cfg.Memory.shards[i], &h.cfg, now)
		slices.SortFunc(sum.Longest, func(x, y State) int {
			return cmp.Or(y.Until.Compare(x.Until), x.Network.Compare(y.Network))
		})
		sum.Longest = sum.Longest[:min(most, len(sum.Longest))]
	}
	return sum
}

func (sum *Summary) add(s *shard, cfg *Config, now uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.Networks += len(s.list)
	sum.Bytes += s.bytes
	for _, r := range s.list {
		if r.limited(now, cfg.Penalty) {
			sum.Limited++
			sum.Longest = append(sum.Longest, r.state(cfg, now))
		}
	}
}
