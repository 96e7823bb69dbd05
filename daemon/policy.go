package daemon

import (
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control/metrics"
	"rcpt-milter/policy"
	"rcpt-milter/policy/harvest"
)

// queryChecks are the checks that apply only to a query of this moment. The zero value has
// none.
type queryChecks struct {
	confirmer directoryConfirmer
	harvest   *harvest.Limit
}

// harvestLimit returns the limit for a policy, which expects nil for none.
func (checks queryChecks) harvestLimit() policy.HarvestLimit {
	if checks.harvest == nil {
		return nil
	}
	return checks.harvest
}

// newPolicy creates the policy of a configuration, for the daemon and for lookups, also of the
// past. The caller passes what outlives the configuration.
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
		HarvestReply: harvestReply(c.Harvest), HarvestReportOnly: c.Harvest.Mode == config.Report, NAT64: c.NAT64,
		WhenStale: c.WhenStale, WhenNotReady: c.WhenNotReady, Now: now,
	})
}

// observer counts decisions and records refusals. It wakes the directories that knew more than
// the index.
type observer struct {
	metrics  *metrics.Metrics
	refusals *refusals
	domains  *domainCounters
	wake     func(domain string)
}

func (o observer) Observe(q policy.Query, d policy.Decision, took time.Duration) {
	o.metrics.ObserveDecision(took)
	o.refusals.Observe(q, d)
	o.domains.Count(d)
	if d.Verdict == policy.VerdictConfirmed {
		o.wake(d.Match.Domain()) // the directories know the target of an alias, not the alias
	}
}
