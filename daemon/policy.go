package daemon

import (
	"net/netip"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/policy"
	"rcpt-milter/policy/harvest"
)

// queryChecks are the checks that apply only to a query about the present. The zero value has none.
type queryChecks struct {
	confirmer directoryConfirmer
	harvest   *harvest.Limit
}

// harvestLimit returns the limit for a policy. It returns a nil interface if there is none.
func (checks queryChecks) harvestLimit() policy.HarvestLimit {
	if checks.harvest == nil {
		return nil
	}
	return checks.harvest
}

// newPolicy creates the policy of a configuration, for the daemon and for lookups, including lookups in the
// past. The caller passes the parts that outlive the configuration.
func newPolicy(c *config.Config, i policy.Index, files policy.Table, l queryChecks,
	now func() time.Time) (*policy.Policy, error) {
	refuse := make([]string, 0, len(c.Refuse))
	for _, a := range c.Refuse {
		refuse = append(refuse, a.String())
	}
	return policy.New(policy.Config{
		Index: i, HasAddresses: hasAddresses(c, i, files), Domains: c.Domains,
		AlwaysAccept: append([]string{}, c.AlwaysAccept...), RemovalGrace: c.RemovalGrace,
		Accept: c.Accept, Refuse: refuse, AcceptFiles: files, AcceptPatterns: c.AcceptPatterns,
		RecipientDelimiter: c.RecipientDelimiter, StripPrefixes: c.StripPrefixes,
		DomainAliases: c.DomainAliases, InsideNetworks: c.Inside.Networks,
		ExemptNetworks: c.Exempt.Networks, ExemptAuthenticated: c.Exempt.Authenticated,
		Confirm: l.confirmer.policy(), Harvest: l.harvestLimit(), HarvestScopeAll: c.Harvest.All,
		HarvestReply: harvestReply(c.Harvest), HarvestReportOnly: c.Harvest.Mode == config.Report,
		NAT64:     append([]netip.Prefix{}, c.NAT64...), // not nil, which would be the default
		WhenStale: c.WhenStale, WhenNotReady: c.WhenNotReady, Now: now,
	})
}
