package policy

import (
	"testing"

	"rcpt-milter/address"
)

// renewedTable has its lines once the freshness was asked for.
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

// renewingIndex renews the table just before it tells that all is fresh.
type renewingIndex struct {
	Index
	renewed *bool
}

func (i renewingIndex) Freshness(domain string) Freshness {
	*i.renewed = true
	return i.Index.Freshness(domain)
}

// TestFileRenewedMeanwhile: a file that makes its domain fresh during a decision, and has the
// recipient, does not lead to a rejection by its former version.
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
				cfg.AcceptFiles = renewedTable{fakeTable{"filed@enforce.test": 7, "@late.test": 8, "never@enforce.test": 9},
					&renewed}
				cfg.Refuse = []string{"never@enforce.test"}
			})
			d := p.Decide(t.Context(), Query{Recipient: c.recipient})
			if d.Verdict != c.verdict || d.Entry != c.entry && c.entry != "" {
				t.Errorf("%s: %s by %q, want %s by %q", c.recipient, d.Verdict, d.Entry, c.verdict, c.entry)
			}
		})
	}
}
