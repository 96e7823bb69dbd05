package policy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
)

// TestAliasIsNeverStricter checks random configurations in every state of the index. An address of an alias
// must get the most lenient reply that one of its forms would get alone, unless an entry in refuse matches it
// as written.
func TestAliasIsNeverStricter(t *testing.T) {
	for seed := range uint64(3000) {
		w := newAliasWorld(seed)
		with, without := w.policy(t, true), w.policy(t, false)
		for _, local := range aliasLocals {
			q, _ := fullQuery(t, local+"@a.test")
			q.Client, q.Authenticated = w.client, w.login
			got := with.Decide(context.Background(), q)
			var forms []Decision
			var replies []int
			for _, domain := range w.chain {
				q.Recipient = local + "@" + domain
				d := without.Decide(context.Background(), q)
				forms, replies = append(forms, d), append(replies, replied(d))
			}
			want := slices.Min(replies)
			if inRefuse(without, forms[0]) {
				want = replies[0]
			}
			if replied(got) != want {
				t.Fatalf("seed %d: Decide(%s@a.test) = %s %q; its forms get %s", seed, local, got.Verdict, got.Reply,
					shown(forms))
			}
		}
	}
}

var aliasLocals = []string{"ann", "bob", "cid", "dan", "ann+x", "dan+x", "abuse"}

// inRefuse reports whether an entry in refuse rejected a recipient. The harvest limit may have changed the
// reply.
func inRefuse(p *Policy, d Decision) bool {
	r := p.recipient(query(d.Address.String()))
	verdict, _ := p.lists.find(&r)
	return verdict == VerdictDenylisted && !d.Enforced().IsContinue()
}

func replied(d Decision) int {
	if d.WouldRefuse {
		d.Reply = d.WouldReply
	}
	return strictness(d)
}

func shown(all []Decision) string {
	var words []string
	for _, d := range all {
		words = append(words, fmt.Sprintf("%s: %s %s", d.Address, d.Verdict, d.Reply))
	}
	return strings.Join(words, "; ")
}

// aliasWorld is a random index with a random configuration for a.test, b.test and c.test.
type aliasWorld struct {
	cfg    Config
	chain  []string
	client netip.Addr
	login  string
	empty  bool // the last domain of the chain has no addresses
}

func newAliasWorld(seed uint64) *aliasWorld {
	r := rand.New(rand.NewPCG(seed, 1))
	one := func(n int) bool { return r.IntN(n) == 0 }
	index := &fakeIndex{entries: map[string]Entry{}, states: map[string]Freshness{}}
	w := &aliasWorld{chain: []string{"a.test", "b.test", "c.test"}[:2+r.IntN(2)]}
	mode := []Mode{ModeEnforce, ModeReport}[r.IntN(2)]
	w.cfg = Config{Index: index, Domains: map[string]Mode{}, RemovalGrace: time.Hour,
		Now: func() time.Time { return now }}
	confirmer := knowing{}
	for _, domain := range w.chain {
		w.cfg.Domains[domain] = mode
		index.states[domain] = Freshness{State: []State{NotReady, Widening, Fresh, Late, Stale}[r.IntN(5)]}
		for _, local := range aliasLocals {
			text := local + "@" + domain
			index.entries[text] = []Entry{{}, {}, {Known: true}, {Known: true, InternalOnly: true},
				{Removed: now.Add(-time.Minute)}, {Removed: now.Add(-2 * time.Hour)}}[r.IntN(6)]
			confirmer[text] = Entry{Known: one(4), InternalOnly: one(2)}
			if one(12) {
				w.cfg.Refuse = append(w.cfg.Refuse, text)
			}
			if one(15) {
				w.cfg.Accept = append(w.cfg.Accept, text)
			}
		}
		if one(20) {
			w.cfg.Accept = append(w.cfg.Accept, "@"+domain)
		}
	}
	if w.empty = one(5); w.empty {
		w.cfg.HasAddresses = func(domain string) bool { return domain != w.chain[len(w.chain)-1] }
	}
	w.cfg.RecipientDelimiter = []string{"", "+"}[r.IntN(2)]
	w.cfg.WhenStale = []Fallback{FallbackTempfail, FallbackAccept, FallbackRefuse}[r.IntN(3)]
	w.cfg.WhenNotReady = []Fallback{FallbackTempfail, FallbackAccept}[r.IntN(2)]
	w.cfg.InsideNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	w.client = netip.MustParseAddr([]string{"10.0.0.1", "192.0.2.1", "198.51.100.1"}[r.IntN(3)])
	w.login = []string{"", "ann"}[r.IntN(2)]
	if one(2) {
		w.cfg.Confirm = confirmer
	}
	if one(2) {
		w.cfg.Harvest, w.cfg.HarvestScopeAll = fakeLimit{guessers}, one(2)
	}
	return w
}

// policy returns the policy of the world, with or without its aliases.
func (w *aliasWorld) policy(t *testing.T, aliases bool) *Policy {
	cfg := w.cfg
	if aliases {
		if cfg.HasAddresses == nil { // an alias needs no addresses of its own
			cfg.HasAddresses = func(domain string) bool { return domain == w.chain[len(w.chain)-1] }
		}
		cfg.DomainAliases = map[string]string{w.chain[0]: w.chain[1]}
		if len(w.chain) > 2 {
			cfg.DomainAliases[w.chain[1]] = w.chain[2]
		}
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// knowing is a directory with these entries.
type knowing map[string]Entry

func (k knowing) Confirm(_ context.Context, a address.Address, _ bool) (Entry, error) {
	if entry, known := k[a.String()]; known {
		return entry, nil
	}
	return Entry{}, errors.New("no answer")
}

// FuzzAlias checks arbitrary local parts: an alias must get the most lenient decision about its forms, and the
// reply must be about the address as written.
func FuzzAlias(f *testing.F) {
	for _, c := range aliasDecisions {
		q, _ := fullQuery(f, c.recipient)
		f.Add(strings.TrimSuffix(q.Recipient, "@alias.test"), q.Client.String())
	}
	p := aliased(f, nil)
	alone := aliased(f, func(cfg *Config) { cfg.DomainAliases = nil })
	f.Fuzz(func(t *testing.T, local, client string) {
		q := Query{Recipient: local + "@alias.test"}
		q.Client, _ = netip.ParseAddr(client)
		d, own := p.Decide(context.Background(), q), alone.Decide(context.Background(), q)
		q.Recipient = local + "@enforce.test"
		target := alone.Decide(context.Background(), q)
		want := min(replied(own), replied(target))
		if inRefuse(alone, own) {
			want = replied(own)
		}
		if replied(d) != want || d.Address != own.Address || d.Domain != "alias.test" {
			t.Fatalf("%q: %s %q; as written %s, at the target %s", local, d.Verdict, d.Reply, own.Verdict,
				target.Verdict)
		}
		if text := d.Reply.String(); !d.Reply.IsContinue() && d.Address != (address.Address{}) && strings.Contains(text,
			"@enforce.test>:") && !strings.Contains(local, "@enforce.test") {
			t.Fatalf("%q: the reply %q names the target", local, text)
		}
	})
}
