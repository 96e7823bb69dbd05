package policy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"rcpt-milter/address"
)

// costs counts what a decision spends and charges. Besides the reply, that is all that a client can observe.
type costs struct {
	index    *fakeIndex
	limited  bool
	searches []string
	lookups  int
	charged  map[string]bool // distinct addresses
}

func (c *costs) Lookup(a address.Address) (Entry, error) {
	c.lookups++
	return c.index.Lookup(a)
}

func (c *costs) Freshness(domain string) Freshness { return c.index.Freshness(domain) }

func (c *costs) Confirm(_ context.Context, a address.Address, _ bool) (Entry, error) {
	c.searches = append(c.searches, a.String())
	e := c.index.entries[a.String()] // the directory equals the index
	return Entry{Known: e.Known, InternalOnly: e.InternalOnly}, nil
}

func (c *costs) Limited(Query) bool { return c.limited }

func (c *costs) Charge(_ Query, recipient string, unknown bool) {
	if !unknown {
		recipient = "known: " + recipient
	}
	c.charged[recipient] = true
}

// rejectedKinds are the kinds of recipients that get 550, with a local part of each kind.
var rejectedKinds = []struct {
	kind    string
	prepare func(cfg *Config, index *fakeIndex, a string)
}{
	{"unknown", func(*Config, *fakeIndex, string) {}},
	{"internal-only",
		func(_ *Config, i *fakeIndex, a string) { i.entries[a] = Entry{Known: true, InternalOnly: true} }},
	{"closed long ago", func(_ *Config, i *fakeIndex, a string) {
		i.entries[a] = Entry{Known: true, InternalOnly: true, Removed: now.AddDate(0, 0, -2)}
	}},
	{"removed long ago",
		func(_ *Config, i *fakeIndex, a string) { i.entries[a] = Entry{Removed: now.AddDate(0, 0, -2)} }},
	{"in refuse", func(cfg *Config, _ *fakeIndex, a string) { cfg.Refuse = append(cfg.Refuse, a) }},
	{"in refuse, and in the directory", func(cfg *Config, i *fakeIndex, a string) {
		cfg.Refuse = append(cfg.Refuse, a)
		i.entries[a] = Entry{Known: true}
	}},
	{"in refuse, and removed lately", func(cfg *Config, i *fakeIndex, a string) {
		cfg.Refuse = append(cfg.Refuse, a)
		i.entries[a] = Entry{Removed: now}
	}},
}

// TestRejectedCostTheSame checks that every recipient that gets 550 costs as many searches and lookups as an
// unknown one, is charged alike, and gets the same reply when the network is over the limit. Neither the
// harvest limit nor the time then reveals which recipients exist.
func TestRejectedCostTheSame(t *testing.T) {
	const local = "x-y" // has the delimiter, like a double first name
	settings := []string{"", "limited", "scope all", "limited, scope all", "no confirm", "report"}
	written := []string{"%@enforce.test", "%-tag@enforce.test", "%@alias.test", "%-tag@alias.test", "%@twice.test"}
	for _, setting := range settings {
		for _, form := range written {
			recipient := strings.ReplaceAll(form, "%", local)
			want := ""
			for _, owner := range []string{"enforce.test", "alias.test", "other.test"} {
				for _, kind := range rejectedKinds {
					got := costOf(t, setting, recipient, func(cfg *Config, index *fakeIndex) {
						kind.prepare(cfg, index, local+"@"+owner)
					})
					if want == "" {
						want = got // the first kind is the unknown recipient
					}
					if got != want {
						t.Errorf("%q, %s, %s at %s:\n%s, want as if unknown:\n%s", setting, recipient, kind.kind, owner,
							got, want)
					}
				}
			}
		}
	}
}

// costOf decides about a recipient and formats the reply and the costs.
func costOf(t *testing.T, setting, recipient string, prepare func(*Config, *fakeIndex)) string {
	c := &costs{limited: strings.HasPrefix(setting, "limited"), charged: map[string]bool{}}
	p := testPolicy(t, func(cfg *Config) {
		c.index = cfg.Index.(*fakeIndex)
		cfg.RecipientDelimiter = "-"
		cfg.Domains["alias.test"], cfg.Domains["twice.test"] = ModeEnforce, ModeEnforce
		cfg.DomainAliases = map[string]string{"alias.test": "enforce.test", "twice.test": "alias.test"}
		cfg.Index, cfg.Confirm, cfg.Harvest = c, c, c
		cfg.HarvestScopeAll = strings.HasSuffix(setting, "scope all")
		if setting == "no confirm" {
			cfg.Confirm = nil
		}
		if setting == "report" {
			for domain := range cfg.Domains {
				cfg.Domains[domain] = ModeReport
			}
		}
		prepare(cfg, c.index)
	})
	q := Query{Recipient: recipient}
	d := p.Decide(t.Context(), q)
	p.Charge(q, d)
	return fmt.Sprintf("%q (would be %q) after %d searches, charged: %v", d.Reply, d.WouldReply, len(c.searches),
		c.charged)
}

// TestGuessesCostTheSame guesses at random among recipients of one kind, in all spellings. The number of
// searches and of charged addresses must be the same for all kinds.
func TestGuessesCostTheSame(t *testing.T) {
	const recipients, guesses = 40, 2000
	var want string
	for _, kind := range rejectedKinds {
		c := &costs{charged: map[string]bool{}}
		p := testPolicy(t, func(cfg *Config) {
			c.index = cfg.Index.(*fakeIndex)
			cfg.RecipientDelimiter = "+"
			cfg.Domains["alias.test"] = ModeEnforce
			cfg.DomainAliases = map[string]string{"alias.test": "enforce.test"}
			cfg.Index, cfg.Confirm, cfg.Harvest = c, c, c
			for i := range recipients {
				kind.prepare(cfg, c.index, fmt.Sprintf("r%d@enforce.test", i))
			}
		})
		random := rand.New(rand.NewPCG(1, 2))
		for range guesses {
			local := fmt.Sprintf([]string{"r%d", "R%d", `"r%d"`, "r%d+x"}[random.IntN(4)], random.IntN(recipients))
			q := Query{Recipient: local + []string{"@enforce.test", "@alias.test"}[random.IntN(2)]}
			d := p.Decide(t.Context(), q)
			if d.Reply.Code() != 550 {
				t.Fatalf("%s: %q gets %q", kind.kind, q.Recipient, d.Reply)
			}
			p.Charge(q, d)
		}
		repeated := map[string]int{}
		for _, a := range c.searches {
			repeated[a]++
		}
		got := fmt.Sprintf("%d searches for %d addresses, %d lookups, %d charged", len(c.searches), len(repeated),
			c.lookups, len(c.charged))
		if want == "" {
			want = got
		}
		t.Logf("%s: %s", kind.kind, got)
		if got != want {
			t.Errorf("%s: %s, want %s", kind.kind, got, want)
		}
	}
}
