package policy

import (
	"context"
	"testing"

	"rcpt-milter/address"
)

// searched is a Confirmer that notes its searches.
type searched struct{ n *int }

func (s searched) Confirm(context.Context, address.Address, bool) (Entry, error) {
	*s.n++
	return Entry{}, nil
}

// freshIndex is a fresh index without addresses, which notes its lookups.
type freshIndex struct{ lookups *int }

func (i freshIndex) Lookup(address.Address) (Entry, error) {
	*i.lookups++
	return Entry{}, nil
}

func (freshIndex) Freshness(string) Freshness { return Freshness{State: Fresh} }

// TestProbeQuery: the test of the daemon is about an unknown recipient of a judged domain, and searches no directory.
func TestProbeQuery(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   Verdict
	}{
		{"an enforced domain", func(c *Config) { c.Domains = map[string]Mode{"x.test": ModeEnforce} }, VerdictUnknown},
		{"a domain in report", func(c *Config) { c.Domains = map[string]Mode{"x.test": ModeReport} }, VerdictUnknown},
		{"sub-domains", func(c *Config) { c.Domains = map[string]Mode{".x.test": ModeEnforce} }, VerdictUnknown},
		{"sub-domains but one", func(c *Config) {
			c.Domains = map[string]Mode{".x.test": ModeEnforce, "watchdog.x.test": ModePass, "y.test": ModeEnforce}
		}, VerdictUnknown},
		{"after one that is not judged", func(c *Config) {
			c.Domains = map[string]Mode{"a.test": ModePass, "x.test": ModeEnforce}
		}, VerdictUnknown},
		{"after one that accepts all", func(c *Config) {
			c.Domains = map[string]Mode{"a.test": ModeEnforce, "x.test": ModeEnforce}
			c.Accept = []string{"@a.test"}
		}, VerdictUnknown},
		{"an alias", func(c *Config) {
			c.Domains = map[string]Mode{"a.test": ModeEnforce, "x.test": ModeEnforce}
			c.DomainAliases = map[string]string{"a.test": "x.test"}
		}, VerdictUnknown},
		{"in refuse", func(c *Config) {
			c.Domains = map[string]Mode{"x.test": ModeEnforce}
			c.Refuse = []string{probeLocal + "@x.test"}
		}, VerdictDenylisted},
		{"no judged domain", func(c *Config) { c.Domains = map[string]Mode{"x.test": ModePass} }, VerdictNotOurs},
		{"no domain", func(*Config) {}, VerdictNotOurs},
	} {
		t.Run(test.name, func(t *testing.T) {
			var lookups, searches int
			c := Config{Index: freshIndex{&lookups}, Confirm: searched{&searches}}
			test.change(&c)
			p, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			d := p.Decide(t.Context(), p.ProbeQuery())
			if d.Verdict != test.want || searches != 0 {
				t.Errorf("verdict %s with %d searches, want %s without", d.Verdict, searches, test.want)
			}
			if test.want == VerdictUnknown && lookups == 0 {
				t.Error("the index was not asked")
			}
		})
	}
}
