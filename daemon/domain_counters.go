package daemon

import (
	"sync/atomic"

	"rcpt-milter/address"
	"rcpt-milter/policy"
)

// countedOutcomes are the outcomes of a decision, in the order of outcomeCounts.
var countedOutcomes = [...]policy.Outcome{policy.Accepted, policy.Refused, policy.Deferred, policy.ReportOnly}

// outcomeCounts count the decisions of one entry of domains, by outcome.
type outcomeCounts [len(countedOutcomes)]atomic.Int64

// domainCounters count decisions since the start of the daemon, by the entry of domains that they
// belong to, so the number of counters depends on the configuration alone. Decisions of other
// domains are not counted. The methods may be called concurrently; Set comes first.
type domainCounters struct {
	entries atomic.Pointer[map[string]*outcomeCounts] // by entry; the map is immutable
}

// Set replaces the entries. An entry that stays keeps its counts.
func (c *domainCounters) Set(domains map[string]policy.Mode) {
	next := make(map[string]*outcomeCounts, len(domains))
	var before map[string]*outcomeCounts
	if now := c.entries.Load(); now != nil {
		before = *now
	}
	for entry := range domains {
		if next[entry] = before[entry]; next[entry] == nil {
			next[entry] = new(outcomeCounts)
		}
	}
	c.entries.Store(&next)
}

// Count counts one decision.
func (c *domainCounters) Count(d policy.Decision) {
	counts, ours := address.LookupDomain(*c.entries.Load(), d.Domain)
	if !ours {
		return
	}
	outcome := d.Outcome()
	for i, o := range countedOutcomes {
		if o == outcome {
			counts[i].Add(1)
		}
	}
}

// Counts returns the number of decisions by entry and outcome, 0 for those that never occurred.
func (c *domainCounters) Counts() map[string]map[string]int64 {
	var entries map[string]*outcomeCounts // nil of a stopped daemon
	if now := c.entries.Load(); now != nil {
		entries = *now
	}
	all := make(map[string]map[string]int64, len(entries))
	for entry, counts := range entries {
		all[entry] = make(map[string]int64, len(counts))
		for i, o := range countedOutcomes {
			all[entry][string(o)] = counts[i].Load()
		}
	}
	return all
}
