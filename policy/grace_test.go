package policy

import (
	"context"
	"testing"
	"time"
)

// TestGraceWithAWrongClock: an address that went while the clock was ahead has no grace
// until the clock gets there again, and takes none from another form of the recipient.
func TestGraceWithAWrongClock(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		what    string
		removed map[string]time.Duration // by local part, from now on
		want    Verdict
	}{
		{"a while ago", map[string]time.Duration{"a+b": -10 * time.Minute}, VerdictInGrace},
		{"long ago", map[string]time.Duration{"a+b": -2 * time.Hour}, VerdictUnknown},
		{"in a minute", map[string]time.Duration{"a+b": time.Minute}, VerdictInGrace},
		{"in two hours", map[string]time.Duration{"a+b": 2 * time.Hour}, VerdictUnknown},
		{"in ten years", map[string]time.Duration{"a+b": 10 * year}, VerdictUnknown},
		{"one form in ten years, the other a while ago", map[string]time.Duration{"a+b": 10 * year,
			"a": -10 * time.Minute}, VerdictInGrace},
		{"one form a while ago, the other in ten years", map[string]time.Duration{"a+b": -10 * time.Minute,
			"a": 10 * year}, VerdictInGrace},
		{"both in ten years", map[string]time.Duration{"a+b": 10 * year, "a": 10 * year}, VerdictUnknown},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := testPolicy(t, func(cfg *Config) {
				cfg.RecipientDelimiter = "+"
				for local, from := range c.removed {
					cfg.Index.(*fakeIndex).entries[local+"@enforce.test"] = Entry{Removed: now.Add(from)}
				}
			})
			if got := p.Decide(context.Background(), Query{Recipient: "a+b@enforce.test"}); got.Verdict != c.want {
				t.Errorf("removed %s: %s, want %s", c.what, got.Verdict, c.want)
			}
		})
	}
}
