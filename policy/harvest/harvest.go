// Package harvest limits clients that guess addresses.
//
// A [Limit] counts, for the network of each client and over all its sessions, the
// different addresses that it asked about, and how many of these were rejected. Above a
// number of the latter, and a ratio of the two, the network is limited for a time, during
// which nothing is counted. Then it starts again.
//
// An IPv6 client counts in two networks, because a customer usually has more than one /64. The
// larger network, a site, may ask about more.
//
// The recipients of a null sender have budgets of their own. A bounce has one recipient, and
// one to a forged sender is no guess of the server that sends it. The first recipient of each
// therefore counts in a large budget, and every further one in a small one.
//
// A [Memory] takes at most [MaxBytes]. Of each network it keeps a sample of limited size.
// If there are too many networks, it forgets those that asked about the fewest addresses.
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

// Config says when a network is limited, and for how long.
type Config struct {
	// Memory holds what networks asked about. It is required. It outlives a Limit, so
	// new settings forget nothing.
	Memory *Memory
	// Unknown is the number of different rejected addresses at which a network is limited. At
	// least 1. A site may ask about SiteFactor times as many, and the first recipients of
	// bounces may be FirstFactor times as many.
	Unknown int
	// Ratio, from 0 to 1, is the minimum share of these in all addresses that the network
	// asked about. An honest sender to a long list knows most of its recipients.
	Ratio float64
	// Window is how long an address counts after the network last asked about it.
	Window time.Duration
	// Penalty is how long a network is limited.
	Penalty time.Duration
	// IPv4 and IPv6 are the prefix lengths of a network.
	IPv4, IPv6 int
	// Site is the prefix length of the larger network of an IPv6 client. Zero, and a length
	// that is not below IPv6, mean that there is none.
	Site int
	// NAT64 are prefixes of translators, whose clients count as IPv4.
	NAT64 policy.Translators
	// ReportOnly changes the log line: the caller does not limit anything.
	ReportOnly bool
	// Logger gets a line for each network that is limited; nil means no log.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// What a network may ask about, as a multiple of Config.Unknown.
const (
	SiteFactor  = 5  // all networks of a site together
	FirstFactor = 10 // as the first recipients of bounces
)

// check validates the configuration.
func (c Config) check() error {
	switch {
	case c.Memory == nil:
		return errors.New("no memory")
	case c.Unknown < 1:
		return fmt.Errorf("a limit of %d unknown addresses", c.Unknown)
	case !(c.Ratio >= 0 && c.Ratio <= 1):
		return fmt.Errorf("a ratio of %v is not from 0 to 1", c.Ratio)
	case c.Window <= 0 || c.Penalty <= 0:
		return errors.New("window and penalty must be positive")
	case c.IPv4 < 1 || c.IPv4 > 32 || c.IPv6 < 1 || c.IPv6 > 128:
		return fmt.Errorf("there are no networks of /%d (IPv4) and /%d (IPv6)", c.IPv4, c.IPv6)
	case c.Site < 0 || c.Site > 128:
		return fmt.Errorf("there are no sites of /%d", c.Site)
	}
	return nil
}

// Limit is a policy.HarvestLimit. Its methods may be called concurrently. Make it with New.
type Limit struct{ cfg Config }

// New validates the configuration and returns a limit for it.
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

// network returns the network in which a client counts. It reports false if the client has
// no IP address.
func (h *Limit) network(client netip.Addr) (netip.Prefix, bool) {
	return h.cfg.NAT64.Network(client, h.cfg.IPv4, h.cfg.IPv6)
}

// budget is what one network may ask about, in mail of one kind.
type budget struct {
	account
	unknown int // at this number of rejected addresses the network is limited
}

// budgets calls visit for the budgets in which mail of a kind from a client counts, until it
// returns false.
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

// kindOf returns the kind of the mail of a query.
func kindOf(q policy.Query) kind {
	switch {
	case !q.IsBounce():
		return ordinary
	case q.Nth > 1:
		return restOfBounce
	}
	return firstOfBounce
}

// limitedBy returns the first account of a client that is limited, in mail of some kinds.
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

// Limited implements policy.HarvestLimit. A client that is limited for bounces is not limited
// for other mail, and the reverse.
func (h *Limit) Limited(q policy.Query) (limited bool) {
	if q.IsBounce() {
		_, limited = h.limitedBy(q.Client, firstOfBounce, restOfBounce)
	} else {
		_, limited = h.limitedBy(q.Client, ordinary)
	}
	return limited
}

// Charge implements policy.HarvestLimit. While one of its networks is limited, a client is not
// charged in the other.
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

// logOver logs that a network has gone over its limit.
func (h *Limit) logOver(b budget, q policy.Query, count counted, until time.Time) {
	message, level := "network goes over the harvest limit", slog.LevelWarn
	if h.cfg.ReportOnly {
		message, level = "network would go over the harvest limit", slog.LevelInfo
	}
	h.cfg.Logger.Log(context.Background(), level, message, "network", b.network.String(), "client", q.ClientLabel(),
		"bounces", b.kind != ordinary, "unknown", count.unknown, "recipients", count.all, "until", until)
}

// State is what a Memory holds about one network, for one kind of mail.
type State struct {
	Network    netip.Prefix
	Bounces    bool      // it counts the recipients of a null sender
	Unknown    int       // estimate: rejected addresses in the window; if limited, at the time it went over
	Recipients int       // estimate: all addresses in the window
	Until      time.Time // end of its penalty; zero: not limited
}

// State returns the state of a client's network: of one that is limited if there is one,
// otherwise of the smallest, for ordinary mail. It reports false if the client has no IP address.
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

// Summary sums up a Memory.
type Summary struct {
	Networks int     // in memory, each once for a kind of mail
	Bytes    int     // they take; at most MaxBytes
	Limited  int     // of the networks
	Longest  []State // of the limited ones, those whose penalty ends last
}

// Summary sums up all networks, and lists at most so many that are limited.
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
