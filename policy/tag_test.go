package policy

import (
	"context"
	"slices"
	"testing"
	"time"

	"rcpt-milter/address"
)

// tagIndex records the addresses that are looked up.
type tagIndex struct {
	entries map[string]Entry
	asked   []string
	state   State
}

func (f *tagIndex) Lookup(a address.Address) (Entry, error) {
	f.asked = append(f.asked, a.String())
	return f.entries[a.String()], nil
}

func (f *tagIndex) Freshness(string) Freshness { return Freshness{State: f.state} }

// searches is a Confirmer that records the addresses that are searched for.
type searches struct {
	known map[string]bool
	asked []string
}

func (s *searches) Confirm(_ context.Context, a address.Address, _ bool) (Entry, error) {
	s.asked = append(s.asked, a.String())
	return Entry{Known: s.known[a.String()]}, nil
}

// tagConfig returns a policy with BATV tags. The index has ann, internal-only bob, and the removed gone. The
// directory also has new.
func tagConfig() (Config, *tagIndex, *searches) {
	index := &tagIndex{state: Fresh, entries: map[string]Entry{
		"ann@x.test": {Known: true}, "bob@x.test": {Known: true, InternalOnly: true},
		"gone@x.test": {Removed: now.Add(-time.Minute)}, "evil@x.test": {Known: true},
		"evil@target.test": {Known: true},
		"ann@target.test":  {Known: true}, "prvs=1=own@x.test": {Known: true, InternalOnly: true},
		"own@x.test": {Known: true},
	}}
	confirm := &searches{known: map[string]bool{"new@x.test": true, "evil@x.test": true}}
	return Config{Index: index, Confirm: confirm, Now: func() time.Time { return now }, RemovalGrace: time.Hour,
		Domains: map[string]Mode{"x.test": ModeEnforce, "alias.test": ModeEnforce,
			"target.test": ModeEnforce},
		DomainAliases:      map[string]string{"alias.test": "target.test"},
		RecipientDelimiter: "+", StripPrefixes: []string{"prvs=", "btv1=="}, AlwaysAccept: []string{"postmaster"},
		Accept: []string{"list@x.test", "prvs=9=evil@x.test", "listed+a@x.test"}, Refuse: []string{"evil@x.test",
			"evil@alias.test", "listed@x.test", "evil@target.test"},
		AcceptPatterns: []string{`pat.*@x\.test`}, AcceptFiles: fakeTable{"filed@x.test": 7},
	}, index, confirm
}

func TestStripPrefixes(t *testing.T) {
	for _, c := range []struct {
		name, recipient string
		verdict         Verdict
		match, stripped string
	}{
		{"known", "prvs=0123abcdef=ann@x.test", VerdictKnown, "ann@x.test", "prvs="},
		{"known, in any case", "PRVS=0123ABCDEF=Ann@X.test", VerdictKnown, "ann@x.test", "prvs="},
		{"second prefix", "btv1==0123==ann@x.test", VerdictKnown, "ann@x.test", "btv1=="},
		{"with an extension", "prvs=0123abcdef=ann+news@x.test", VerdictKnown, "ann@x.test", "prvs="},
		{"extension in the tag", "prvs=01+23=ann@x.test", VerdictKnown, "ann@x.test", "prvs="},
		{"untagged", "ann+news@x.test", VerdictKnown, "ann@x.test", ""},
		{"unknown", "prvs=0123abcdef=nobody@x.test", VerdictUnknown, "", ""},
		{"internal-only", "prvs=0123abcdef=bob@x.test", VerdictRestricted, "bob@x.test", "prvs="},
		{"whole address first", "prvs=1=own@x.test", VerdictRestricted, "prvs=1=own@x.test", ""},
		{"in grace", "prvs=0123abcdef=gone@x.test", VerdictInGrace, "gone@x.test", "prvs="},
		{"confirmed", "prvs=0123abcdef=new@x.test", VerdictConfirmed, "new@x.test", "prvs="},
		{"always", "prvs=0123abcdef=postmaster@x.test", VerdictAlways, "postmaster@x.test", "prvs="},
		{"accept", "prvs=0123abcdef=list@x.test", VerdictAllowlisted, "list@x.test", "prvs="},
		{"accept file", "prvs=0123abcdef=filed@x.test", VerdictAllowlisted, "filed@x.test", "prvs="},
		{"pattern", "prvs=0123abcdef=pat1@x.test", VerdictAllowlisted, "pat1@x.test", "prvs="},
		{"refuse, base", "evil@x.test", VerdictDenylisted, "evil@x.test", ""},
		{"refuse does not refuse a tag", "prvs=0123abcdef=evil@x.test", VerdictUnknown, "", ""},
		{"refuse of the base of an extension", "prvs=0123abcdef=evil+a@x.test", VerdictUnknown, "", ""},
		{"accept names the tagged one", "prvs=9=evil@x.test", VerdictAllowlisted, "prvs=9=evil@x.test", ""},
		{"accept before refuse", "prvs=1=listed+a@x.test", VerdictAllowlisted, "listed+a@x.test", "prvs="},
		{"alias", "prvs=0123abcdef=ann@alias.test", VerdictKnown, "ann@target.test", "prvs="},
		{"refuse under the alias", "prvs=0123abcdef=evil@alias.test", VerdictUnknown, "", ""},
		{"no tag", "prvs==ann@x.test", VerdictUnknown, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, _, _ := tagConfig()
			d := mustPolicy(t, cfg).Decide(t.Context(), Query{Recipient: c.recipient})
			if d.Verdict != c.verdict || d.Match.String() != c.match || d.Stripped != c.stripped {
				t.Errorf("%s, match %q, stripped %q", d.Verdict, d.Match, d.Stripped)
			}
		})
	}
}

func mustPolicy(t testing.TB, cfg Config) *Policy {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestStrippedCostsTheSame checks that a tagged address whose base is in refuse costs the lookups and searches
// of an unknown one, and that inside senders may write to a tagged internal-only address.
func TestStrippedCostsTheSame(t *testing.T) {
	cost := func(recipient string) (lookups, searched int) {
		cfg, index, confirm := tagConfig()
		mustPolicy(t, cfg).Decide(t.Context(), Query{Recipient: recipient})
		return len(index.asked), len(confirm.asked)
	}
	lookups, searched := cost("prvs=0123abcdef=nobody+a@x.test")
	for _, recipient := range []string{"prvs=0123abcdef=evil+a@x.test", "prvs=0123abcdef=bob+a@x.test"} {
		l, s := cost(recipient)
		if s != searched || recipient[16:20] == "evil" && l != lookups {
			t.Errorf("%s: %d lookups and %d searches, want %d and %d", recipient, l, s, lookups, searched)
		}
	}
	cfg, _, _ := tagConfig()
	d := mustPolicy(t, cfg).Decide(t.Context(), Query{Recipient: "prvs=0123abcdef=bob@x.test", Authenticated: "ann"})
	if d.Verdict != VerdictKnown {
		t.Errorf("an inside sender gets %s", d.Verdict)
	}
}

// TestStrippedGuessesCountOnce checks that tagged guesses of one address count once for the harvest limit.
func TestStrippedGuessesCountOnce(t *testing.T) {
	var charged []string
	cfg, _, _ := tagConfig()
	cfg.Harvest = guessLog{&charged}
	p := mustPolicy(t, cfg)
	for _, recipient := range []string{"prvs=0=nobody@x.test", "prvs=1=nobody+a@x.test", "nobody@x.test"} {
		q := Query{Recipient: recipient}
		p.Charge(q, p.Decide(t.Context(), q))
	}
	if want := slices.Repeat([]string{"nobody@x.test"}, 3); !slices.Equal(charged, want) {
		t.Errorf("charged %v", charged)
	}
}

// guessLog is a HarvestLimit that records its charges.
type guessLog struct{ all *[]string }

func (guessLog) Limited(Query) bool { return false }

func (c guessLog) Charge(_ Query, recipient string, _ bool) { *c.all = append(*c.all, recipient) }

func TestNewRejectsStripPrefixes(t *testing.T) {
	for _, prefix := range []string{"", "=", "prvs", "PRVS=", "pr\u00e4="} {
		cfg, _, _ := tagConfig()
		cfg.StripPrefixes = []string{prefix}
		if _, err := New(cfg); err == nil {
			t.Errorf("%q is accepted", prefix)
		}
	}
}

// FuzzStripPrefixes checks that the prefixes make no recipient worse off, and that every accepted recipient has
// a form that is accepted by itself.
func FuzzStripPrefixes(f *testing.F) {
	for _, seed := range []string{"prvs=0=ann", "prvs=0=bob", "prvs=0=evil+a", "prvs=1=own", `"prvs=0=a b"`,
		"prvs=0=gone", "prvs=0=prvs=0=ann", "btv1==0==new", "prvs=0=postmaster", "prvs=0=pat", "prvs=0=filed+x"} {
		f.Add(seed, uint8(0))
		f.Add(seed, uint8(1))
	}
	f.Fuzz(func(t *testing.T, local string, domain uint8) {
		recipient := local + "@" + []string{"x.test", "alias.test", "other.test"}[domain%3]
		with, _, _ := tagConfig()
		without, _, _ := tagConfig()
		without.StripPrefixes = nil
		p := mustPolicy(t, with)
		q := Query{Recipient: recipient}
		tried, before := p.Decide(t.Context(), q), mustPolicy(t, without).Decide(t.Context(), q)
		if strictness(tried) > strictness(before) {
			t.Errorf("%q: %s with the key, %s without", recipient, tried.Verdict, before.Verdict)
		}
		if tried.Stripped == "" {
			return
		}
		base := p.Decide(t.Context(), Query{Recipient: tried.Match.String()})
		if strictness(tried) < strictness(base) && tried.AliasedBy == "" {
			t.Errorf("%q: %s, and %s is %s", recipient, tried.Verdict, tried.Match, base.Verdict)
		}
	})
}
