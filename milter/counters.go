package milter

import (
	"sync/atomic"

	"rcpt-milter/policy"
)

// Counters counts decisions since the server was created. Create it with newCounters. Its methods are safe for
// concurrent use.
type Counters struct {
	verdicts    []policy.Verdict // in the order of the decision table
	decisions   []atomic.Int64   // by index of the verdict
	wouldRefuse []atomic.Int64
	wouldLimit  atomic.Int64
}

func newCounters() *Counters {
	all := policy.Verdicts()
	return &Counters{verdicts: all, decisions: make([]atomic.Int64, len(all)),
		wouldRefuse: make([]atomic.Int64, len(all))}
}

// Decisions returns the number of decisions by verdict, including zeros.
func (c *Counters) Decisions() map[policy.Verdict]int64 { return c.read(c.decisions) }

// WouldRefuse returns the number of decisions, by verdict, that only mode report turned into continue.
func (c *Counters) WouldRefuse() map[policy.Verdict]int64 { return c.read(c.wouldRefuse) }

// WouldLimit returns the number of decisions that the harvest limit would have made if it did not only report.
func (c *Counters) WouldLimit() int64 { return c.wouldLimit.Load() }

func (c *Counters) read(counts []atomic.Int64) map[policy.Verdict]int64 {
	m := make(map[policy.Verdict]int64, len(counts))
	for i, v := range c.verdicts {
		m[v] = counts[i].Load()
	}
	return m
}

// count counts one decision.
func (c *Counters) count(d policy.Decision) {
	if d.WouldLimit {
		c.wouldLimit.Add(1)
	}
	for i, v := range c.verdicts {
		if v != d.Verdict {
			continue
		}
		c.decisions[i].Add(1)
		if d.WouldRefuse {
			c.wouldRefuse[i].Add(1)
		}
		return
	}
}
