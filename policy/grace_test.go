package policy

import (
	"context"
	"strings"
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

// TestGraceOfInternalOnly: to outside senders an address that becomes internal-only is
// removed, and has a grace; to inside senders it is known.
func TestGraceOfInternalOnly(t *testing.T) {
	inside := Query{Authenticated: "ann"}
	for _, c := range []struct {
		what    string
		entries map[string]Entry // by local part
		query   Query
		want    Verdict
		row     int
		reply   string // its beginning; empty: continue
		match   string
	}{
		{"a while ago", map[string]Entry{"a": {Known: true, InternalOnly: true, Removed: now.Add(-10 * time.Minute)}},
			Query{}, VerdictInGrace, 8, "450 4.1.1 ", "a@enforce.test"},
		{"a while ago, from inside", map[string]Entry{"a": {Known: true, InternalOnly: true,
			Removed: now.Add(-10 * time.Minute)}}, inside, VerdictKnown, 6, "", "a@enforce.test"},
		{"long ago", map[string]Entry{"a": {Known: true, InternalOnly: true, Removed: now.Add(-2 * time.Hour)}},
			Query{}, VerdictRestricted, 6, "550 5.1.1 ", "a@enforce.test"},
		{"in ten years", map[string]Entry{"a": {Known: true, InternalOnly: true,
			Removed: now.Add(10 * 365 * 24 * time.Hour)}}, Query{}, VerdictRestricted, 6, "550 5.1.1 ",
			"a@enforce.test"},
		{"from the start", map[string]Entry{"a": {Known: true, InternalOnly: true}}, Query{},
			VerdictRestricted, 6, "550 5.1.1 ", "a@enforce.test"},
		{"from the start, the whole form gone a while ago", map[string]Entry{"a": {Known: true, InternalOnly: true},
			"a+b": {Removed: now.Add(-10 * time.Minute)}}, Query{}, VerdictInGrace, 8, "450 4.1.1 ", "a@enforce.test"},
		{"open", map[string]Entry{"a": {Known: true}, "a+b": {Removed: now.Add(-10 * time.Minute)}}, Query{},
			VerdictKnown, 6, "", "a@enforce.test"},
	} {
		p := testPolicy(t, func(cfg *Config) {
			cfg.RecipientDelimiter = "+"
			for local, entry := range c.entries {
				cfg.Index.(*fakeIndex).entries[local+"@enforce.test"] = entry
			}
		})
		c.query.Recipient = "a+b@enforce.test"
		got := p.Decide(context.Background(), c.query)
		reply := got.Reply.String()
		if got.Verdict != c.want || got.Row != c.row || got.Match.String() != c.match ||
			got.Reply.IsContinue() != (c.reply == "") || !strings.HasPrefix(reply, c.reply) {
			t.Errorf("%s: %s, row %d, %q, %s; want %s, row %d, %q, %s", c.what, got.Verdict, got.Row, reply, got.Match,
				c.want, c.row, c.reply, c.match)
		}
	}
}
