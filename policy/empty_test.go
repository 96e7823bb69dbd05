package policy

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"rcpt-milter/address"
)

// emptyPolicy returns a policy whose index has no addresses in these domains.
func emptyPolicy(t *testing.T, change func(*Config), domains ...string) *Policy {
	return testPolicy(t, func(cfg *Config) {
		cfg.HasAddresses = func(domain string) bool {
			for _, empty := range domains {
				if domain == empty {
					return false
				}
			}
			return true
		}
		if change != nil {
			change(cfg)
		}
	})
}

// TestDecideEmptyDomain checks that no recipient in an enforced domain without addresses is unknown.
func TestDecideEmptyDomain(t *testing.T) {
	accept := func(cfg *Config) { cfg.WhenNotReady = FallbackAccept }
	lists := func(cfg *Config) {
		cfg.Refuse = []string{"left@enforce.test"}
		cfg.AcceptPatterns = []string{`srs0=.*@enforce\.test`}
	}
	// An internal-only recipient is in the index, so its domain has an address.
	restricted := func(cfg *Config) {
		cfg.Index.(*fakeIndex).entries["staff@enforce.test"] = Entry{Known: true, InternalOnly: true}
	}
	for _, c := range []struct {
		name      string
		change    func(*Config)
		recipient string
		verdict   Verdict
		reply     string // prefix of the reply; empty means continue
	}{
		{"unknown", nil, "nobody@enforce.test", VerdictNotReady, "451 4.3.0 <nobody@enforce.test>"},
		{"in another spelling", nil, "Nobody@ENFORCE.test", VerdictNotReady, "451 4.3.0"},
		{"removed lately", nil, "gone@enforce.test", VerdictNotReady, "451 4.3.0"},
		{"removed long ago", nil, "past@enforce.test", VerdictNotReady, "451 4.3.0"},
		{"a sub-domain by its parent", nil, "nobody@a.sub.test", VerdictNotReady, "451 4.3.0"},
		{"another sub-domain of the same parent", nil, "nobody@b.sub.test", VerdictUnknown, "550 5.1.1"},
		{"A-labels", nil, "nobody@xn--mnchen-3ya.test", VerdictNotReady, "451 4.3.0"},
		{"another domain", nil, "nobody@late.test", VerdictUnknown, "550 5.1.1"},
		{"stale as well", nil, "nobody@stale.test", VerdictNotReady, "451 4.3.0"},
		{"not read", nil, "nobody@notready.test", VerdictNotReady, "451 4.3.0"},
		{"known since it was asked", nil, "user@enforce.test", VerdictKnown, ""},
		{"always accepted", nil, "postmaster@enforce.test", VerdictAlways, ""},
		{"cannot be read", nil, "@enforce.test", VerdictUnknown, "550 5.1.1"},
		{"mode pass", nil, "nobody@pass.test", VerdictNotOurs, ""},
		{"mode report", nil, "nobody@report.test", VerdictUnknown, ""},
		{"accept", accept, "nobody@enforce.test", VerdictNotReady, ""},
		{"refused by a list", lists, "left@enforce.test", VerdictDenylisted, "550 5.1.1"},
		{"accepted by a pattern", lists, "srs0=x@enforce.test", VerdictAllowlisted, ""},
		{"restricted", restricted, "staff@enforce.test", VerdictRestricted, "550 5.1.1"},
		{"beside a pattern", lists, "nobody@enforce.test", VerdictNotReady, "451 4.3.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := emptyPolicy(t, c.change, "enforce.test", "a.sub.test", "xn--mnchen-3ya.test", "stale.test",
				"notready.test", "pass.test", "report.test")
			d := p.Decide(context.Background(), query(c.recipient))
			if d.Verdict != c.verdict || c.reply == "" != d.Reply.IsContinue() ||
				!strings.HasPrefix(d.Reply.String(), c.reply) {
				t.Errorf("verdict %s (%s), reply %q, want %s and %q", d.Verdict, d.Reason, d.Reply, c.verdict, c.reply)
			}
			if d.Verdict == VerdictNotReady && d.Row != 7 {
				t.Errorf("row %d", d.Row)
			}
		})
	}
}

// firstIndex receives the first address of a domain while it is queried about the domain.
type firstIndex struct {
	known atomic.Bool
	when  string // the call during which the address is added
	asked int
}

func (i *firstIndex) Lookup(address.Address) (Entry, error) {
	known := i.known.Load()
	if i.asked++; i.asked == 1 && i.when == "after the first lookup" || i.asked == 2 && i.when == "after the second" {
		i.known.Store(true)
	}
	return Entry{Known: known}, nil
}

func (i *firstIndex) Freshness(string) Freshness { return Freshness{State: Fresh} }

func (i *firstIndex) HasAddresses(string) bool {
	has := i.known.Load()
	if i.when == "after the domain" {
		i.known.Store(true)
	}
	return has
}

// TestDecideWhileADomainGetsItsFirstAddress checks that the recipient is not unknown at any moment.
func TestDecideWhileADomainGetsItsFirstAddress(t *testing.T) {
	for _, when := range []string{"never", "after the first lookup", "after the domain", "after the second"} {
		t.Run(when, func(t *testing.T) {
			index := &firstIndex{when: when}
			p := testPolicy(t, func(cfg *Config) { cfg.Index, cfg.HasAddresses = index, index.HasAddresses })
			d := p.Decide(context.Background(), query("new@enforce.test"))
			if d.Verdict != VerdictKnown && d.Verdict != VerdictNotReady {
				t.Errorf("%s: verdict %s with %q", when, d.Verdict, d.Reply)
			}
		})
	}
}

// TestDomainIsAskedForRefusalsOnly checks that HasAddresses is called neither for known recipients nor in other
// modes.
func TestDomainIsAskedForRefusalsOnly(t *testing.T) {
	for recipient, want := range map[string]int{"user@enforce.test": 0, "nobody@enforce.test": 1,
		"nobody@report.test": 0, "nobody@pass.test": 0, "postmaster@enforce.test": 0} {
		t.Run(recipient, func(t *testing.T) {
			asked := 0
			p := testPolicy(t, func(cfg *Config) { cfg.HasAddresses = func(string) bool { asked++; return true } })
			p.Decide(context.Background(), query(recipient))
			if asked != want {
				t.Errorf("%s: the domain was queried %d times, want %d", recipient, asked, want)
			}
		})
	}
}
