package daemon

import (
	"log/slog"
	"net/netip"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/policy"
	"rcpt-milter/policy/harvest"
)

// limitedShown limits the networks over the harvest limit that the status lists.
const limitedShown = 20

// newHarvest creates the harvest limit of a configuration. It returns nil if the limit is off.
func newHarvest(c config.Harvest, nat64 policy.Translators, memory *harvest.Memory, log *slog.Logger) (*harvest.Limit,
	error) {
	if c.Unknown == 0 {
		return nil, nil
	}
	return harvest.New(harvest.Config{
		Memory: memory, Unknown: c.Unknown, Ratio: c.Ratio, Window: c.Window, Penalty: c.Penalty,
		IPv4: c.IPv4, IPv6: c.IPv6, Site: c.IPv6Site, NAT64: nat64, ReportOnly: c.Mode == config.Report, Logger: log,
	})
}

func harvestReply(c config.Harvest) policy.HarvestReply {
	if c.Tempfail {
		return policy.HarvestTempfail
	}
	return policy.HarvestHangup
}

// addHarvest adds the harvest limit to a status. wouldLimit is the number of decisions that the limit would
// have made if its mode were not report.
func addHarvest(h *harvest.Limit, mode config.Mode, wouldLimit int64, s *control.Status) {
	if h == nil {
		return
	}
	sum := h.Summary(limitedShown)
	s.HarvestClients = sum.Limited
	s.Harvest = &control.HarvestStatus{Mode: string(mode), WouldLimit: wouldLimit, Networks: int64(sum.Networks),
		Octets: int64(sum.Bytes)}
	for _, n := range sum.Longest {
		s.Harvest.Limited = append(s.Harvest.Limited, networkOf(n))
	}
}

// harvestOf returns the state of the network of a client. It returns nil if there is no limit for the client.
func harvestOf(h *harvest.Limit, client netip.Addr) *control.HarvestNetwork {
	if h == nil {
		return nil
	}
	state, counted := h.State(client)
	if !counted {
		return nil
	}
	n := networkOf(state)
	return &n
}

func networkOf(s harvest.State) control.HarvestNetwork {
	return control.HarvestNetwork{Network: s.Network.String(), Bounces: s.Bounces, Unknown: int64(s.Unknown),
		Recipients: int64(s.Recipients), Until: control.Time{Time: s.Until}}
}
