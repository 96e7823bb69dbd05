package policy

import (
	"testing"

	"rcpt-milter/address"
)

// renewedTable has its lines only after the freshness was read.
type renewedTable struct {
	fakeTable
	renewed *bool
}

func (t renewedTable) Find(a address.Address) (string, int, bool) {
	if !*t.renewed {
		return "", 0, false
	}
	return t.fakeTable.Find(a)
}

// renewingIndex renews the table just before it returns the freshness.
type renewingIndex struct {
	Index
	renewed *bool
}

func (i renewingIndex) Freshness(domain string) Freshness {
	*i.renewed = true
	return i.Index.Freshness(domain)
}

// renewedAliases maps late.test to enforce.test, only after the freshness was read.
type renewedAliases struct{ renewedTable }

func (t renewedAliases) Aliases(domain string, visit func(target, file string, line int)) {
	if *t.renewed && domain == "late.test" {
		visit("enforce.test", "/table", 3)
	}
}

// TestAliasRenewedMeanwhile is TestFileRenewedMeanwhile for a new version that maps the domain to another one.
func TestAliasRenewedMeanwhile(t *testing.T) {
	for recipient, want := range map[string]Verdict{"ann@late.test": VerdictKnown, "nobody@late.test": VerdictUnknown} {
		t.Run(recipient, func(t *testing.T) {
			renewed := false
			p := testPolicy(t, func(cfg *Config) {
				cfg.Index.(*fakeIndex).entries["ann@enforce.test"] = Entry{Known: true}
				cfg.Index = renewingIndex{cfg.Index, &renewed}
				cfg.AcceptFiles = renewedAliases{renewedTable{fakeTable{}, &renewed}}
			})
			d := p.Decide(t.Context(), Query{Recipient: recipient})
			if d.Verdict != want || d.AliasedBy != "/table:3" {
				t.Errorf("%s by %q, want %s", d.Verdict, d.AliasedBy, want)
			}
		})
	}
}

// TestFileRenewedMeanwhile reloads a file during a decision. The new version makes its domain fresh and has the
// recipient, so the old version must not lead to a rejection.
func TestFileRenewedMeanwhile(t *testing.T) {
	for _, c := range []struct {
		name, recipient string
		verdict         Verdict
		entry           string
	}{
		{"in the new version", "filed@enforce.test", VerdictAllowlisted, "/table:7"},
		{"the whole domain", "nobody@late.test", VerdictAllowlisted, "/table:8"},
		{"in neither", "nobody@enforce.test", VerdictUnknown, ""},
		{"in refuse, which comes first", "never@enforce.test", VerdictDenylisted, ""},
		{"in the index", "user@enforce.test", VerdictKnown, ""},
		{"cannot be read", "@enforce.test", VerdictUnknown, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			renewed := false
			p := testPolicy(t, func(cfg *Config) {
				cfg.Index = renewingIndex{cfg.Index, &renewed}
				cfg.AcceptFiles = renewedTable{fakeTable{"filed@enforce.test": 7, "@late.test": 8,
					"never@enforce.test": 9}, &renewed}
				cfg.Refuse = []string{"never@enforce.test"}
			})
			d := p.Decide(t.Context(), Query{Recipient: c.recipient})
			if d.Verdict != c.verdict || d.Entry != c.entry && c.entry != "" {
				t.Errorf("%s: %s by %q, want %s by %q", c.recipient, d.Verdict, d.Entry, c.verdict, c.entry)
			}
		})
	}
}
