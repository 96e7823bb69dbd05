package policy

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestInsideNetworks checks that clients in the inside networks, in every form of their address, count as
// authenticated for internal-only recipients, and for nothing else.
func TestInsideNetworks(t *testing.T) {
	p := fullPolicy(t, func(cfg *Config) {
		cfg.ExemptNetworks, cfg.ExemptAuthenticated = nil, true
		cfg.InsideNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"),
			netip.MustParsePrefix("2001:db8:5::/48"), netip.MustParsePrefix("64:ff9b::198.51.100.0/120"),
			netip.MustParsePrefix("192.0.2.64/26")}
	})
	for _, c := range []struct {
		name, recipient string
		row             int
		verdict         Verdict
		entry           string
		reply           string
	}{
		{"internal-only", "10.1.2.3 staff@enforce.test", 6, VerdictKnown, "10.0.0.0/8", goOn},
		{"with an extension", "10.1.2.3 staff+x@enforce.test", 6, VerdictKnown, "10.0.0.0/8", goOn},
		{"IPv6", "2001:db8:5:1::1 staff@enforce.test", 6, VerdictKnown, "2001:db8:5::/48", goOn},
		{"IPv6 with a zone", "2001:db8:5::1%eth0 staff@enforce.test", 6, VerdictKnown, "2001:db8:5::/48", goOn},
		{"IPv4-mapped", "::ffff:10.1.2.3 staff@enforce.test", 6, VerdictKnown, "10.0.0.0/8", goOn},
		{"translated", "64:ff9b::10.1.2.3 staff@enforce.test", 6, VerdictKnown, "10.0.0.0/8", goOn},
		{"a translated network", "64:ff9b::198.51.100.7 staff@enforce.test", 6, VerdictKnown, "64:ff9b::c633:6400/120",
			goOn},
		{"found by a search", "10.1.2.3 freshinside@enforce.test", 10, VerdictConfirmed, "10.0.0.0/8", goOn},
		{"not ready", "10.1.2.3 staff@notready.test", 6, VerdictKnown, "10.0.0.0/8", goOn},
		{"over the harvest limit", "192.0.2.65 staff@enforce.test", 6, VerdictKnown, "192.0.2.64/26", goOn},
		{"mode report", "10.1.2.3 staff@report.test", 6, VerdictKnown, "10.0.0.0/8", goOn},

		{"an open recipient", "10.1.2.3 user@enforce.test", 6, VerdictKnown, "", goOn},
		{"not exempt as those are that have logged in", "10.1.2.3 nobody@enforce.test", 12, VerdictUnknown, "", noUser},
		{"nor from refuse", "10.1.2.3 left@enforce.test", 5, VerdictDenylisted, "", noUser},
		{"nor from the grace", "10.1.2.3 gone@enforce.test", 8, VerdictInGrace, "", tryLater},
		{"nor from the harvest limit", "192.0.2.65 nobody@enforce.test", 11, VerdictHarvestLimited, "", hangUp},
		{"beside the networks", "11.1.2.3 staff@enforce.test", 6, VerdictRestricted, "", noUser},
		{"beside the IPv6 network", "2001:db8:6::1 staff@enforce.test", 6, VerdictRestricted, "", noUser},
		{"another translated client", "64:ff9b::11.1.2.3 staff@enforce.test", 6, VerdictRestricted, "", noUser},
		{"another prefix with the same end", "64:ff9b:1::10.1.2.3 staff@enforce.test", 6, VerdictRestricted, "",
			noUser},
		{"no client address", "staff@enforce.test", 6, VerdictRestricted, "", noUser},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, recipient := fullQuery(t, c.recipient)
			d := p.Decide(context.Background(), q)
			if d.Row != c.row || d.Verdict != c.verdict || d.Entry != c.entry ||
				d.Reply.String() != expect(c.reply, recipient) {
				t.Errorf("Decide(%q) = row %d, %s, entry %q, %q, want row %d, %s, %q, %q",
					c.recipient, d.Row, d.Verdict, d.Entry, d.Reply, c.row, c.verdict, c.entry, c.reply)
			}
		})
	}
}

// TestClientForms checks that all lists of networks compare a client in the same form.
func TestClientForms(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	for client, want := range map[string]string{
		"192.0.2.1": "192.0.2.0/24", "::ffff:192.0.2.1": "192.0.2.0/24", "64:ff9b::192.0.2.1": "192.0.2.0/24",
		"2001:db8::1%eth0": "2001:db8::/32", "::192.0.2.1": "", "192.0.3.1": "", "64:ff9b:1::192.0.2.1": "",
	} {
		t.Run(client, func(t *testing.T) {
			network, found := (Translators{WellKnownNAT64}).containing(networks, netip.MustParseAddr(client))
			if found != (want != "") || found && network.String() != want {
				t.Errorf("containing(%s) = %v, %t, want %q", client, network, found, want)
			}
			p := testPolicy(t, func(cfg *Config) { cfg.ExemptNetworks = networks })
			q := query("nobody@enforce.test")
			q.Client = netip.MustParseAddr(client)
			if exempt := p.Decide(context.Background(), q).Verdict == VerdictExempt; exempt != found {
				t.Errorf("client %s: exempt %t, but in a network %t", client, exempt, found)
			}
		})
	}
	if _, found := (Translators{WellKnownNAT64}).containing(networks, netip.Addr{}); found {
		t.Error("no address is in a network")
	}
}

// TestDoubtfulEntry checks that an entry with a doubtful restriction is never rejected. Senders that may write
// to internal-only recipients must still be accepted.
func TestDoubtfulEntry(t *testing.T) {
	for _, stale := range []Fallback{FallbackTempfail, FallbackAccept, FallbackRefuse} {
		p := aliased(t, func(cfg *Config) {
			cfg.ExemptNetworks, cfg.WhenStale = nil, stale
			cfg.InsideNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
			index := cfg.Index.(*fakeIndex)
			for _, domain := range []string{"enforce.test", "report.test", "stale.test", "notready.test"} {
				index.entries["doubt@"+domain] = Entry{Known: true, InternalOnly: true, Doubt: errIndex,
					Removed: now.Add(-1000 * time.Hour)}
			}
		})
		for _, c := range []struct{ recipient, user, reply string }{
			{"doubt@enforce.test", "", noAnswer},
			{"doubt+x@enforce.test", "", noAnswer},
			{"doubt@alias.test", "", noAnswer},
			{"doubt@stale.test", "", noAnswer},
			{"doubt@notready.test", "", noAnswer},
			{"doubt@report.test", "", goOn},
			{"192.0.2.1 doubt@enforce.test", "", noAnswer}, // over the harvest limit
			{"10.1.2.3 doubt@enforce.test", "", goOn},
			{"10.1.2.3 doubt+x@alias.test", "", goOn},
			{"doubt@enforce.test", "ann", goOn},
		} {
			t.Run(fmt.Sprint(stale, " ", c.recipient, " ", c.user), func(t *testing.T) {
				q, recipient := fullQuery(t, c.recipient)
				q.Authenticated = c.user
				if d := p.Decide(t.Context(), q); d.Reply.String() != expect(c.reply, recipient) {
					t.Errorf("Decide(%q from %q) with when_stale %s = row %d, %s, %q, want %q", c.recipient, c.user,
						stale, d.Row, d.Verdict, d.Reply, c.reply)
				}
			})
		}
	}
}

// TestAnySender checks that a query for any sender finds internal-only recipients in every state, and otherwise
// has the result of a query without a sender.
func TestAnySender(t *testing.T) {
	p := fullPolicy(t, func(cfg *Config) { cfg.ExemptAuthenticated, cfg.WhenStale = true, FallbackRefuse })
	for _, c := range []struct {
		recipient string
		row       int
		verdict   Verdict
		reply     string
	}{
		{"staff@enforce.test", 6, VerdictKnown, goOn},
		{"staff@stale.test", 6, VerdictKnown, goOn},
		{"staff@notready.test", 6, VerdictKnown, goOn},
		{"staff@report.test", 6, VerdictKnown, goOn},
		{"freshinside@enforce.test", 10, VerdictConfirmed, goOn},
		{"user@enforce.test", 6, VerdictKnown, goOn},
		{"nobody@enforce.test", 12, VerdictUnknown, noUser},
		{"nobody@stale.test", 9, VerdictStale, noUser},
		{"left@enforce.test", 5, VerdictDenylisted, noUser},
		{"gone@enforce.test", 8, VerdictInGrace, tryLater},
	} {
		t.Run(c.recipient, func(t *testing.T) {
			q, recipient := fullQuery(t, c.recipient)
			q.AnySender = true
			d := p.Decide(context.Background(), q)
			if d.Row != c.row || d.Verdict != c.verdict || d.Reply.String() != expect(c.reply, recipient) {
				t.Errorf("row %d, %s, %q, want row %d, %s, %q", d.Row, d.Verdict, d.Reply, c.row, c.verdict, c.reply)
			}
		})
	}
}
