package daemon

import (
	"time"

	"rcpt-milter/control/metrics"
	"rcpt-milter/policy"
)

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
