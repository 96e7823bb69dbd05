package daemon

import (
	"net/netip"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/policy"
)

// TestNAT64OfThePolicy: an empty list of translators means none, not the default.
func TestNAT64OfThePolicy(t *testing.T) {
	for _, c := range []struct {
		name, key string
		exempt    bool
	}{
		{"default", "", true},
		{"the default, written", `nat64: ["64:ff9b::/96"]`, true},
		{"another", `nat64: ["2001:db8:64::/96"]`, false},
		{"none", "nat64: []", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf, err := config.Parse("config.yaml", []byte("domains: {corp.example: enforce}\ndirectories: []\n"+
				"accept_files: [/etc/list]\nexempt: {networks: [192.0.2.0/24]}\n"+c.key+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			p, err := newPolicy(conf, nobody{policy.Fresh}, nil, queryChecks{}, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			d := p.Decide(t.Context(), policy.Query{Recipient: "nobody@corp.example",
				Client: netip.MustParseAddr("64:ff9b::192.0.2.1")})
			if got := d.Verdict == policy.VerdictExempt; got != c.exempt {
				t.Errorf("verdict %s, want exempt: %t", d.Verdict, c.exempt)
			}
		})
	}
}
