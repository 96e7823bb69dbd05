package daemon

import (
	"slices"
	"sync/atomic"

	"rcpt-milter/address"
	"rcpt-milter/policy"
)

// countedOutcomes are the outcomes of a decision, in the order of outcomeCounts.
var countedOutcomes = [...]policy.Outcome{policy.Accepted, policy.Refused, policy.Deferred, policy.ReportOnly}

// outcomeCounts counts the decisions of one entry of domains, by outcome.
type outcomeCounts [len(countedOutcomes)]atomic.Int64

// domainCounters count decisions since the start of the daemon, by the entry of domains that they
// belong to, so the number of counters depends on the configuration alone. Decisions of other
// domains count in the sum of all only. The methods may be called concurrently; Set comes first.
type domainCounters struct {
	all     outcomeCounts
	entries atomic.Pointer[map[string]*outcomeCounts] // by entry; the map is immutable
}

// Set replaces the entries. Entries that stay keep their counts.
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
	outcome := slices.Index(countedOutcomes[:], d.Outcome())
	if outcome < 0 {
		return
	}
	c.all[outcome].Add(1)
	if counts, ours := address.LookupDomain(*c.entries.Load(), d.Domain); ours {
		counts[outcome].Add(1)
	}
}

// Outcomes returns the number of all decisions by outcome.
func (c *domainCounters) Outcomes() map[string]int64 { return c.all.byName() }

func (c *outcomeCounts) byName() map[string]int64 {
	all := make(map[string]int64, len(c))
	for i, o := range countedOutcomes {
		all[string(o)] = c[i].Load()
	}
	return all
}

// Counts returns the number of decisions by entry and outcome, 0 for those that never occurred.
func (c *domainCounters) Counts() map[string]map[string]int64 {
	var entries map[string]*outcomeCounts // nil before Set
	if now := c.entries.Load(); now != nil {
		entries = *now
	}
	all := make(map[string]map[string]int64, len(entries))
	for entry, counts := range entries {
		all[entry] = counts.byName()
	}
	return all
}
