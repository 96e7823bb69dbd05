// Package harvest limits clients that guess addresses.
//
// A [Limit] counts, for the network of each client and over all its sessions, the
// different addresses that it asked about, and how many of these never existed. Above a
// number of the latter, and a ratio of the two, the network is limited for a time, during
// which nothing is counted. Then it starts again. The recipients of a null sender are not
// counted: a bounce to a forged sender is no guess of the server that sends it.
//
// A [Memory] takes at most [MaxBytes]. Of each network it keeps a sample of limited size.
// If there are too many networks, it forgets those that asked about the fewest addresses.
package harvest

import (
	"cmp"
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
	// Unknown is the number of different addresses that never existed at which a network is
	// limited. At least 1.
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
	// Logger gets a line for each network that is limited; nil means no log.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

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
	return policy.ClientNetwork(client, h.cfg.IPv4, h.cfg.IPv6)
}

// Limited implements policy.HarvestLimit.
func (h *Limit) Limited(q policy.Query) bool {
	network, ok := h.network(q.Client)
	return ok && h.cfg.Memory.limited(network, uint32(h.cfg.Now().Unix()), h.cfg.Penalty)
}

// Charge implements policy.HarvestLimit. It does not charge a null sender.
func (h *Limit) Charge(q policy.Query, recipient string, unknown bool) {
	network, ok := h.network(q.Client)
	if !ok || q.From == "" || q.From == "<>" {
		return
	}
	now := h.cfg.Now()
	count, over := h.cfg.Memory.charge(&h.cfg, network, recipient, unknown, uint32(now.Unix()))
	if over {
		h.cfg.Logger.Warn("network goes over the harvest limit", "network", network.String(), "client", q.ClientLabel(),
			"unknown", count.unknown, "recipients", count.all, "until", now.Add(h.cfg.Penalty))
	}
}

// State is what a Memory holds about one network.
type State struct {
	Network    netip.Prefix
	Unknown    int       // estimate: addresses in the window that never existed; if limited, at the time it went over
	Recipients int       // estimate: all addresses in the window
	Until      time.Time // end of its penalty; zero: not limited
}

// State returns the state of a client's network. It reports false if the client has no IP
// address.
func (h *Limit) State(client netip.Addr) (State, bool) {
	network, ok := h.network(client)
	if !ok {
		return State{}, false
	}
	return h.cfg.Memory.state(&h.cfg, network, uint32(h.cfg.Now().Unix())), true
}

// Summary sums up a Memory.
type Summary struct {
	Networks int     // in memory
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
