package policy

import (
	"net/netip"
	"slices"
	"testing"
)

// TestInternalOnlyIsSearched checks that an internal-only recipient costs the same searches as an unknown one,
// and is accepted if the directory no longer restricts it.
func TestInternalOnlyIsSearched(t *testing.T) {
	confirmer := &fakeConfirmer{}
	p := testPolicy(t, func(cfg *Config) {
		index := cfg.Index.(*fakeIndex)
		index.entries["staff@enforce.test"] = Entry{Known: true, InternalOnly: true}
		index.entries["fresh@enforce.test"] = Entry{Known: true, InternalOnly: true}
		cfg.Confirm = confirmer
		cfg.InsideNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	outside, inside := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("10.0.0.1")
	for name, c := range map[string]struct {
		recipient string
		client    netip.Addr
		verdict   Verdict
		asked     []string
	}{
		"unknown":       {"nobody@enforce.test", outside, VerdictUnknown, []string{"nobody@enforce.test"}},
		"internal-only": {"staff@enforce.test", outside, VerdictRestricted, []string{"staff@enforce.test"}},
		"open since":    {"fresh@enforce.test", outside, VerdictConfirmed, []string{"fresh@enforce.test"}},
		"from inside":   {"staff@enforce.test", inside, VerdictKnown, nil},
	} {
		t.Run(name, func(t *testing.T) {
			confirmer.asked = nil
			d := p.Decide(t.Context(), Query{Recipient: c.recipient, Client: c.client})
			if d.Verdict != c.verdict || !slices.Equal(confirmer.asked, c.asked) {
				t.Errorf("%s after searches for %q, want %s after %q", d.Verdict, confirmer.asked, c.verdict, c.asked)
			}
		})
	}
}
