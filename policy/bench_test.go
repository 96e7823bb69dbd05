package policy

import (
	"context"
	"testing"
)

// BenchmarkDecide measures Decide alone, by outcome.
func BenchmarkDecide(b *testing.B) {
	p := testPolicy(b, nil)
	for _, recipient := range []string{"user@enforce.test", "user@a.sub.test", "nobody@foreign.test",
		"nobody@enforce.test", "nobody@report.test", "nobody@stale.test"} {
		b.Run(recipient, func(b *testing.B) {
			b.ReportAllocs()
			q := Query{Recipient: recipient}
			for b.Loop() {
				p.Decide(context.Background(), q)
			}
		})
	}
}
