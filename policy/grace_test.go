package policy

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestGrace lists which removals of the recipient a+b@enforce.test match row 8. A removal in the future,
// recorded before the clock was set back, has no grace until the clock reaches it. It does not cancel the grace
// of another form. For outside senders, becoming internal-only is a removal; for inside senders the address
// stays known.
func TestGrace(t *testing.T) {
	const year = 365 * 24 * time.Hour
	gone := func(from time.Duration) Entry { return Entry{Removed: now.Add(from)} }
	restricted := func(from time.Duration) Entry {
		return Entry{Known: true, InternalOnly: true, Removed: now.Add(from)}
	}
	const unknown, deferred = "550 5.1.1 ", "450 4.1.1 "
	inside := Query{Authenticated: "ann"}
	for _, c := range []struct {
		name    string
		entries map[string]Entry // by local part
		query   Query
		row     int
		want    Verdict
		reply   string // prefix of the reply; empty means continue
		match   string // local part
	}{
		{"a while ago", map[string]Entry{"a+b": gone(-10 * time.Minute)}, Query{}, 8, VerdictInGrace, deferred, "a+b"},
		{"long ago", map[string]Entry{"a+b": gone(-2 * time.Hour)}, Query{}, 12, VerdictUnknown, unknown, "a+b"},
		{"in a minute", map[string]Entry{"a+b": gone(time.Minute)}, Query{}, 8, VerdictInGrace, deferred, "a+b"},
		{"in two hours", map[string]Entry{"a+b": gone(2 * time.Hour)}, Query{}, 12, VerdictUnknown, unknown, "a+b"},
		{"in ten years", map[string]Entry{"a+b": gone(10 * year)}, Query{}, 12, VerdictUnknown, unknown, "a+b"},
		{"one form in ten years, the other a while ago",
			map[string]Entry{"a+b": gone(10 * year), "a": gone(-10 * time.Minute)}, Query{}, 8, VerdictInGrace,
			deferred, "a"},
		{"one form a while ago, the other in ten years",
			map[string]Entry{"a+b": gone(-10 * time.Minute), "a": gone(10 * year)}, Query{}, 8, VerdictInGrace,
			deferred, "a+b"},
		{"both in ten years", map[string]Entry{"a+b": gone(10 * year), "a": gone(10 * year)}, Query{},
			12, VerdictUnknown, unknown, "a+b"},

		{"internal-only a while ago", map[string]Entry{"a": restricted(-10 * time.Minute)}, Query{},
			8, VerdictInGrace, deferred, "a"},
		{"internal-only a while ago, from inside", map[string]Entry{"a": restricted(-10 * time.Minute)}, inside,
			6, VerdictKnown, "", "a"},
		{"internal-only long ago", map[string]Entry{"a": restricted(-2 * time.Hour)}, Query{},
			6, VerdictRestricted, unknown, "a"},
		{"internal-only in ten years", map[string]Entry{"a": restricted(10 * year)}, Query{},
			6, VerdictRestricted, unknown, "a"},
		{"internal-only from the start", map[string]Entry{"a": {Known: true, InternalOnly: true}}, Query{},
			6, VerdictRestricted, unknown, "a"},
		{"internal-only from the start, the whole form gone a while ago",
			map[string]Entry{"a": {Known: true, InternalOnly: true}, "a+b": gone(-10 * time.Minute)}, Query{},
			8, VerdictInGrace, deferred, "a"},
		{"known, the whole form gone a while ago", map[string]Entry{"a": {Known: true}, "a+b": gone(-10 * time.Minute)},
			Query{}, 6, VerdictKnown, "", "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testPolicy(t, func(cfg *Config) {
				cfg.RecipientDelimiter = "+"
				for local, entry := range c.entries {
					cfg.Index.(*fakeIndex).entries[local+"@enforce.test"] = entry
				}
			})
			c.query.Recipient = "a+b@enforce.test"
			got := p.Decide(context.Background(), c.query)
			if got.Verdict != c.want || got.Row != c.row || got.Match.Local() != c.match ||
				got.Reply.IsContinue() != (c.reply == "") || !strings.HasPrefix(got.Reply.String(), c.reply) {
				t.Errorf("%s, row %d, %q, match %q, want %s, row %d, %q, %q", got.Verdict, got.Row, got.Reply,
					got.Match, c.want, c.row, c.reply, c.match)
			}
		})
	}
}
