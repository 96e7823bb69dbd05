package milter

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// HarvestConfig says when the network of a client is taken for one that guesses
// addresses, and what becomes of it.
type HarvestConfig struct {
	// Memory is of what networks asked about. It is required, and outlives a Harvest:
	// new settings forget nothing.
	Memory *HarvestMemory
	// Unknown is how many different addresses that never existed a network may ask
	// about; with the last of them it is over the limit. At least 1.
	Unknown int
	// Ratio, from 0 to 1, is which part of all the addresses it asked about they have to
	// be as well. An honest sender to a long list knows most of his recipients.
	Ratio float64
	// Window is how long an address counts after it was last asked about.
	Window time.Duration
	// Penalty is how long a network over the limit is kept off. Then it begins anew.
	Penalty time.Duration
	// IPv4 and IPv6 are the prefix lengths of what is taken for one network.
	IPv4, IPv6 int
	// Logger is told of networks that go over the limit; nil: nobody is.
	Logger *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// check finds what makes no sense.
func (c HarvestConfig) check() error {
	switch {
	case c.Memory == nil:
		return errors.New("no memory")
	case c.Unknown < 1:
		return fmt.Errorf("a limit of %d unknown addresses", c.Unknown)
	case !(c.Ratio >= 0 && c.Ratio <= 1):
		return fmt.Errorf("a ratio of %v is not from 0 to 1", c.Ratio)
	case c.Window <= 0 || c.Penalty <= 0:
		return errors.New("window and penalty must be longer than nothing")
	case c.IPv4 < 1 || c.IPv4 > 32 || c.IPv6 < 1 || c.IPv6 > 128:
		return fmt.Errorf("there are no networks of /%d (IPv4) and /%d (IPv6)", c.IPv4, c.IPv6)
	}
	return nil
}

// Harvest is the limit for those who guess addresses. All methods may be called
// concurrently. Make it with NewHarvest.
type Harvest struct{ cfg HarvestConfig }

// NewHarvest checks the configuration.
func NewHarvest(cfg HarvestConfig) (*Harvest, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("harvest limit: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Harvest{cfg}, nil
}

// Charge counts for the harvest limit what the answer to a query says of its client. It
// is the part of an answer that Decide leaves to whoever gives it; who only wants to know
// the answer leaves it out. Nobody is charged in a domain of mode report, nor for what
// could not be told, nor for an address that somebody had once. An entry of a list that
// stands for any number of addresses is to nobody's credit: everybody knows some of them.
func (p *Policy) Charge(q Query, d Decision) {
	if p.harvest == nil || d.Mode != ModeEnforce {
		return
	}
	switch {
	case d.Verdict == VerdictUnknown && d.Removed.IsZero():
		p.harvest.Charge(q, p.guess(q, d), true)
	case d.Verdict == VerdictKnown, d.Verdict == VerdictConfirmed, d.Verdict == VerdictListed && !d.Shared:
		p.harvest.Charge(q, d.Match.String(), false)
	}
}

// guess is the address that a client guessed: with other extensions, and in the domain of an
// alias, it is the same.
func (p *Policy) guess(q Query, d Decision) string {
	if !d.JudgedAs.IsZero() {
		d.Address = d.JudgedAs
	}
	if bare, ok := d.Address.WithoutExtension(p.delimiters); ok {
		return bare.String()
	}
	if d.Address.IsZero() {
		return cmp.Or(q.Recipient, q.Argument)
	}
	return d.Address.String()
}

// network is what a client is counted in; false: it has no IP address.
func (h *Harvest) network(client netip.Addr) (netip.Prefix, bool) {
	client = CanonicalClient(client)
	length := h.cfg.IPv6
	if client.Is4() {
		length = h.cfg.IPv4
	}
	network, err := client.Prefix(length)
	return network, err == nil && network.IsValid()
}

// Limited implements HarvestLimit.
func (h *Harvest) Limited(q Query) bool {
	network, ok := h.network(q.Client)
	return ok && h.cfg.Memory.limited(network, uint32(h.cfg.Now().Unix()), h.cfg.Penalty)
}

// Charge implements HarvestLimit. A null sender is never charged: the bounces that come
// back to a forged sender are not their senders' guesses.
func (h *Harvest) Charge(q Query, recipient string, unknown bool) {
	network, ok := h.network(q.Client)
	if !ok || q.From == "" || q.From == "<>" {
		return
	}
	now := h.cfg.Now()
	count, over := h.cfg.Memory.charge(&h.cfg, network, recipient, unknown, uint32(now.Unix()))
	if over {
		h.cfg.Logger.Warn("network goes over the harvest limit", "network", network.String(), "client", client(q),
			"unknown", count.unknown, "recipients", count.all, "until", now.Add(h.cfg.Penalty))
	}
}

// HarvestState is what is remembered of one network.
type HarvestState struct {
	Network    netip.Prefix
	Unknown    int       // about how many addresses that never existed it asked about within the window, or had when it went over the limit
	Recipients int       // about how many in all, within the window
	Until      time.Time // end of its penalty; zero: it is not over the limit
}

// State is what is remembered of the network of a client; false: it is not counted.
func (h *Harvest) State(client netip.Addr) (HarvestState, bool) {
	network, ok := h.network(client)
	if !ok {
		return HarvestState{}, false
	}
	return h.cfg.Memory.state(&h.cfg, network, uint32(h.cfg.Now().Unix())), true
}

// HarvestSummary is what is remembered in all.
type HarvestSummary struct {
	Networks int            // of which something is remembered
	Octets   int            // that this takes; at most HarvestOctets
	Limited  int            // networks under their penalty
	Longest  []HarvestState // of these, those for whom it lasts longest
}

// Summary looks at all networks, and lists at most so many that are limited.
func (h *Harvest) Summary(most int) HarvestSummary {
	var sum HarvestSummary
	now := uint32(h.cfg.Now().Unix())
	for i := range h.cfg.Memory.shards {
		sum.add(&h.cfg.Memory.shards[i], &h.cfg, now)
		slices.SortFunc(sum.Longest, func(x, y HarvestState) int {
			return cmp.Or(y.Until.Compare(x.Until), x.Network.Compare(y.Network))
		})
		sum.Longest = sum.Longest[:min(most, len(sum.Longest))]
	}
	return sum
}

func (sum *HarvestSummary) add(s *harvestShard, cfg *HarvestConfig, now uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.Networks += len(s.list)
	sum.Octets += s.octets
	for _, r := range s.list {
		if r.limited(now, cfg.Penalty) {
			sum.Limited++
			sum.Longest = append(sum.Longest, r.state(cfg, now))
		}
	}
}
