package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestTranslated checks the examples of RFC 6052 section 2.4, and clients that must not be translated.
func TestTranslated(t *testing.T) {
	for _, c := range []struct{ prefix, client, want string }{
		{"2001:db8::/32", "2001:db8:c000:221::", "192.0.2.33"},
		{"2001:db8:100::/40", "2001:db8:1c0:2:21::", "192.0.2.33"},
		{"2001:db8:122::/48", "2001:db8:122:c000:2:2100::", "192.0.2.33"},
		{"2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::", "192.0.2.33"},
		{"2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::", "192.0.2.33"},
		{"2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33", "192.0.2.33"},
		{"64:ff9b::/96", "64:ff9b::192.0.2.33%eth0", "192.0.2.33"},
		{"64:ff9b:1::/48", "64:ff9b:1:c000:2:2100::", "192.0.2.33"}, // RFC 8215
		{"64:ff9b::/96", "64:ff9b:0:0:0:1:c000:221", "64:ff9b::1:c000:221"},
		{"64:ff9b::/96", "::ffff:192.0.2.33", "192.0.2.33"},
		{"64:ff9b::/96", "192.0.2.33", "192.0.2.33"},
		{"64:ff9b::/96", "::192.0.2.33", "::c000:221"},
	} {
		t.Run(c.client, func(t *testing.T) {
			prefix := netip.MustParsePrefix(c.prefix)
			if err := CheckNAT64(prefix); err != nil {
				t.Error(err)
			}
			if got := (Translators{prefix}).Canonical(netip.MustParseAddr(c.client)).String(); got != c.want {
				t.Errorf("below %s: %s, want %s", c.prefix, got, c.want)
			}
		})
	}
	for _, wrong := range []string{"192.0.2.0/24", "::ffff:192.0.2.0/120", "64:ff9b::/95", "64:ff9b::/128",
		"64:ff9b::1/96", "2001:db8::/0"} {
		prefix := netip.MustParsePrefix(wrong)
		_, err := New(Config{Index: testIndex(), NAT64: []netip.Prefix{prefix}})
		if err == nil || !strings.Contains(err.Error(), "NAT64: "+wrong+" is not an IPv6 network") {
			t.Errorf("%s: error %v", wrong, err)
		}
	}
	if (Translators{WellKnownNAT64}).Canonical(netip.Addr{}).IsValid() {
		t.Error("no address became one")
	}
}

// TestTranslatorsOfPolicy checks that the configured prefixes replace the well-known prefix in every list.
func TestTranslatorsOfPolicy(t *testing.T) {
	for _, c := range []struct {
		nat64  []netip.Prefix
		client string
		exempt bool
	}{
		{nil, "64:ff9b::192.0.2.1", true},
		{[]netip.Prefix{}, "64:ff9b::192.0.2.1", false},
		{[]netip.Prefix{netip.MustParsePrefix("2001:db8:64::/96")}, "64:ff9b::192.0.2.1", false},
		{[]netip.Prefix{netip.MustParsePrefix("2001:db8:64::/96")}, "2001:db8:64::192.0.2.1", true},
	} {
		t.Run(fmt.Sprint(c.client, " with ", c.nat64), func(t *testing.T) {
			p := testPolicy(t, func(cfg *Config) {
				cfg.NAT64, cfg.ExemptNetworks = c.nat64, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			})
			d := p.Decide(t.Context(), Query{Recipient: "nobody@enforce.test", Client: netip.MustParseAddr(c.client)})
			if exempt := d.Verdict == VerdictExempt; exempt != c.exempt {
				t.Errorf("%s with %v: exempt %t, want %t", c.client, c.nat64, exempt, c.exempt)
			}
		})
	}
}
