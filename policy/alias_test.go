package policy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
)

// aliasTable is a fakeTable with domain aliases.
type aliasTable struct {
	fakeTable
	aliases map[string][]aliasLine
}

type aliasLine struct {
	target string
	line   int
}

func (t aliasTable) Aliases(domain string, visit func(target, file string, line int)) {
	for _, a := range t.aliases[domain] {
		visit(a.target, "/table", a.line)
	}
}

// aliased returns fullPolicy with aliases of every kind.
func aliased(t testing.TB, change func(*Config)) *Policy {
	return fullPolicy(t, func(cfg *Config) {
		index := cfg.Index.(*fakeIndex)
		for _, domain := range []string{"alias.test", "reported.test", "second.test", "waiting.test", "old.test",
			"filed.test", "outward.test", "twice.test", "sub.test", "xn--bcher-kva.test"} {
			cfg.Domains[domain] = ModeEnforce
		}
		cfg.Domains["reported.test"], cfg.Domains["passed.test"] = ModeReport, ModePass
		cfg.Domains[".below.test"] = ModeEnforce
		cfg.DomainAliases = map[string]string{
			"Alias.test": "ENFORCE.test.", "reported.test": "enforce.test", "second.test": "alias.test",
			"waiting.test": "notready.test", "old.test": "stale.test", "bücher.test": "münchen.test",
			"passed.test": "enforce.test", "unserved.test": "enforce.test",
			"a.below.test": "enforce.test", "inward.test": "internal.test",
		}
		cfg.Domains["inward.test"] = ModeEnforce
		for text, entry := range map[string]Entry{
			"own@alias.test": {Known: true}, "staff@alias.test": {Known: true}, "closed@alias.test": {Known: true,
				InternalOnly: true},
			"closed@enforce.test": {Known: true, InternalOnly: true}, "half@alias.test": {Known: true,
				InternalOnly: true}, "half@enforce.test": {Known: true},
			"barred@alias.test": {Known: true}, "barred@enforce.test": {Known: true},
			"went@alias.test": {Removed: now.Add(-10 * time.Minute)}, "ann@internal.test": {Known: true},
			"unwanted@enforce.test": {Known: true}, "quit@alias.test": {Removed: now.Add(-2 * time.Hour)},
			"denied@sub.test": {Removed: now.Add(-2 * time.Hour)}, "shut@sub.test": {Known: true,
				InternalOnly: true}, "split@sub.test": {Known: true},
		} {
			index.entries[text] = entry
		}
		cfg.Refuse = append(cfg.Refuse, "unwanted@alias.test", "barred@enforce.test", "denied@enforce.test",
			"shut@enforce.test", "split@enforce.test")
		cfg.AcceptFiles = aliasTable{fakeTable{"filed@enforce.test": 7, "only@filed.test": 3}, map[string][]aliasLine{
			"filed.test":   {{"widening.test", 4}, {"enforce.test", 5}},
			"outward.test": {{"foreign.test", 6}},
			"twice.test":   {{"enforce.test", 8}, {"sub.test", 8}},
		}}
		cfg.InsideNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"),
			netip.MustParsePrefix("2001:db8:5::/48")}
		cfg.ExemptNetworks = nil
		if change != nil {
			change(cfg)
		}
	})
}

// aliasDecisions have the deciding form in match and the source of the alias in by.
var aliasDecisions = []struct {
	name, recipient string
	row             int
	verdict         Verdict
	match, by       string
	reply           string
}{
	{"known at the target", "user@alias.test", 6, VerdictKnown, "user@enforce.test", aliasedByKey, goOn},
	{"in any spelling", "USER@Alias.Test", 6, VerdictKnown, "user@enforce.test", aliasedByKey, goOn},
	{"with an extension", "user+x@alias.test", 6, VerdictKnown, "user@enforce.test", aliasedByKey, goOn},
	{"quoted", `"two words"@alias.test`, 6, VerdictKnown, `"two words"@enforce.test`, aliasedByKey, goOn},
	{"international", "user@bücher.test", 6, VerdictKnown, "user@xn--mnchen-3ya.test", aliasedByKey, goOn},
	{"known as written", "own@alias.test", 6, VerdictKnown, "own@alias.test", "", goOn},
	{"known as written, with an extension", "own+x@alias.test", 6, VerdictKnown, "own@alias.test", "", goOn},
	{"open as written, internal-only there", "staff@alias.test", 6, VerdictKnown, "staff@alias.test", "", goOn},
	{"internal-only as written, open there", "half@alias.test", 6, VerdictKnown, "half@enforce.test", aliasedByKey,
		goOn},
	{"internal-only in both", "closed@alias.test", 6, VerdictRestricted, "closed@enforce.test", aliasedByKey, noUser},
	{"internal-only in both, inside", "10.1.2.3 closed@alias.test", 6, VerdictKnown, "closed@alias.test", "", goOn},
	{"in neither", "nobody@alias.test", 12, VerdictUnknown, "", aliasedByKey, noUser},
	{"always accepted", "abuse@alias.test", 4, VerdictAlways, "abuse@alias.test", "", goOn},
	{"accepted there", "extra@alias.test", 5, VerdictAllowlisted, "extra@enforce.test", aliasedByKey, goOn},
	{"in a file there", "filed@alias.test", 5, VerdictAllowlisted, "filed@enforce.test", aliasedByKey, goOn},
	{"by a pattern there", "srs0=x@alias.test", 5, VerdictAllowlisted, "srs0=x@enforce.test", aliasedByKey, goOn},
	{"refused there", "barred+y@reported.test", 5, VerdictDenylisted, "barred@enforce.test", aliasedByKey, "report"},
	{"refused there, known as written", "barred@alias.test", 6, VerdictKnown, "barred@alias.test", "", goOn},
	{"refused as written, known there", "unwanted@alias.test", 5, VerdictDenylisted, "unwanted@alias.test", "", noUser},
	{"refused as written, with an extension", "unwanted+x@alias.test", 5, VerdictDenylisted, "unwanted@alias.test", "",
		noUser},
	{"refused at one of two targets, unknown at the other", "barred@twice.test", 5, VerdictDenylisted,
		"barred@enforce.test", "/table:8", noUser},
	{"refused at one of two targets, removed at the other", "denied@twice.test", 5, VerdictDenylisted,
		"denied@enforce.test", "/table:8", noUser},
	{"refused at one of two targets, internal-only at the other", "shut@twice.test", 6, VerdictRestricted,
		"shut@sub.test", "/table:8", noUser},
	{"refused at one of two targets, known at the other", "split@twice.test", 6, VerdictKnown, "split@sub.test",
		"/table:8", goOn},
	{"removed there", "gone@alias.test", 8, VerdictInGrace, "gone@enforce.test", aliasedByKey, tryLater},
	{"removed as written", "went@alias.test", 8, VerdictInGrace, "went@alias.test", "", tryLater},
	{"removed as written long ago", "quit@alias.test", 12, VerdictUnknown, "quit@alias.test", "", noUser},
	{"not ready there", "nobody@waiting.test", 7, VerdictNotReady, "", aliasedByKey, noAnswer},
	{"stale there", "nobody@old.test", 9, VerdictStale, "", aliasedByKey, noAnswer},
	{"found by a search there", "fresh@alias.test", 10, VerdictConfirmed, "fresh@alias.test", "", goOn},
	{"cannot tell", "broken@alias.test", 0, VerdictError, "", aliasedByKey, noAnswer},
	{"a defect", "panic@alias.test", 0, VerdictError, "", aliasedByKey, noAnswer},
	{"mode of the alias: report", "nobody@reported.test", 12, VerdictUnknown, "", aliasedByKey, "report"},
	{"mode of the alias: pass", "nobody@passed.test", 3, VerdictNotOurs, "", "", goOn},
	{"an alias that is not ours", "nobody@unserved.test", 3, VerdictNotOurs, "", "", goOn},
	{"an alias by its parent's entry", "user@a.below.test", 6, VerdictKnown, "user@enforce.test", aliasedByKey, goOn},
	{"an alias by its parent's entry, unknown", "nobody@a.below.test", 12, VerdictUnknown, "", aliasedByKey, noUser},
	{"no alias beside it", "user@b.below.test", 12, VerdictUnknown, "", "", noUser},
	{"a target that is not ours", "ann@inward.test", 6, VerdictKnown, "ann@internal.test", aliasedByKey, goOn},
	{"a target that is not ours, unknown", "nobody@inward.test", 12, VerdictUnknown, "", aliasedByKey, noUser},
	{"an alias of an alias", "user@second.test", 6, VerdictKnown, "user@enforce.test", aliasedByKey, goOn},
	{"an alias of an alias, half-way", "own@second.test", 6, VerdictKnown, "own@alias.test", aliasedByKey, goOn},
	{"over the limit", "192.0.2.1 nobody@alias.test", 11, VerdictHarvestLimited, "", aliasedByKey, hangUp},
	{"over the limit, known", "192.0.2.1 user@alias.test", 6, VerdictKnown, "user@enforce.test", aliasedByKey, goOn},
	{"not readable", `us"er@alias.test`, 12, VerdictUnknown, "", aliasedByKey, noUser},
	{"bare postmaster", "postmaster", 2, VerdictAlways, "", "", goOn},

	{"file: known at the first target", "user@filed.test", 6, VerdictKnown, "user@widening.test", "/table:4", goOn},
	{"file: known at the second target", "closed@filed.test", 7, VerdictNotReady, "", "/table:4", noAnswer},
	{"file: the line of an address", "only@filed.test", 5, VerdictAllowlisted, "only@filed.test", "", goOn},
	{"file: not everybody", "nobody@filed.test", 7, VerdictNotReady, "", "/table:4", noAnswer},
	{"file: to a domain that is not judged", "nobody@outward.test", 5, VerdictAllowlisted, "", "/table:6", goOn},
}

func TestDomainAliases(t *testing.T) {
	p := aliased(t, nil)
	for _, c := range aliasDecisions {
		t.Run(c.name, func(t *testing.T) {
			q, recipient := fullQuery(t, c.recipient)
			d := p.Decide(context.Background(), q)
			want := expect(c.reply, recipient)
			if c.reply == "report" {
				want = goOn
			}
			if d.Row != c.row || d.Verdict != c.verdict || d.Reply.String() != want ||
				d.WouldRefuse != (c.reply == "report") {
				t.Errorf("Decide(%q) = row %d, %s, %q, want row %d, %s, %q", c.recipient, d.Row, d.Verdict, d.Reply,
					c.row, c.verdict, want)
			}
			if d.AliasedBy != c.by || d.Match.String() != c.match {
				t.Errorf("Decide(%q): match %q, by %q, want %q, %q", c.recipient, d.Match, d.AliasedBy, c.match, c.by)
			}
			if whole, err := address.Parse(recipient); err == nil &&
				(d.Address != whole || d.Domain != whole.Domain()) {
				t.Errorf("Decide(%q): address %q in %q, want it as written", c.recipient, d.Address, d.Domain)
			}
		})
	}
}

// TestAliasSearches checks that a recipient which the index knows under one of its forms causes no search in
// the directories. For any other recipient, all forms must be searched for.
func TestAliasSearches(t *testing.T) {
	for recipient, want := range map[string]string{
		"user@alias.test":   "",
		"own@alias.test":    "",
		"nobody@alias.test": "nobody@alias.test nobody@enforce.test",
		"nobody@test.test":  "",
	} {
		t.Run(recipient, func(t *testing.T) {
			confirmer := &fakeConfirmer{}
			p := aliased(t, func(cfg *Config) { cfg.Confirm = confirmer })
			p.Decide(context.Background(), query(recipient))
			if got := strings.Join(confirmer.asked, " "); got != want {
				t.Errorf("Decide(%q) searched for %q, want %q", recipient, got, want)
			}
		})
	}
}

func TestAliasTargets(t *testing.T) {
	table := aliasTable{aliases: map[string][]aliasLine{
		"a.test": {{"b.test", 1}, {"c.test", 2}}, "b.test": {{"a.test", 3}}, "c.test": {{"d.test", 4}},
	}}
	for i := range 40 {
		table.aliases[fmt.Sprintf("n%d.test", i)] = []aliasLine{{fmt.Sprintf("n%d.test", i+1), 9}}
	}
	p := testPolicy(t, func(cfg *Config) {
		cfg.DomainAliases, cfg.AcceptFiles = map[string]string{"x.test": "a.test", "d.test": "enforce.test"}, table
	})
	for domain, want := range map[string]string{
		"enforce.test": "",
		"x.test": "a.test domain_aliases, b.test /table:1, c.test /table:2, d.test /table:4, " +
			"enforce.test domain_aliases",
		"d.test": "enforce.test domain_aliases",
	} {
		t.Run(domain, func(t *testing.T) {
			var got []string
			for _, target := range p.AliasTargets(domain) {
				got = append(got, target.Domain+" "+target.By)
			}
			if strings.Join(got, ", ") != want {
				t.Errorf("AliasTargets(%q) = %q, want %q", domain, got, want)
			}
		})
	}
	got := p.AliasTargets("n0.test")
	if len(got) != MaxTargets+1 || !got[MaxTargets].Foreign {
		t.Errorf("a long chain leads to %+v, want %d targets and one that is not looked up", got, MaxTargets)
	}
}

// TestTooManyTargets checks an alias with more targets than are looked up. Its recipients must be accepted,
// because one of the other targets may have them.
func TestTooManyTargets(t *testing.T) {
	for _, n := range []int{1, MaxTargets, MaxTargets + 1, 3 * MaxTargets} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			aliases := map[string][]aliasLine{}
			p := testPolicy(t, func(cfg *Config) {
				cfg.Domains["alias.test"] = ModeEnforce
				for i := range n {
					domain := fmt.Sprintf("t%d.test", i)
					cfg.Domains[domain] = ModeEnforce
					aliases["alias.test"] = append(aliases["alias.test"], aliasLine{domain, 1})
					cfg.Index.(*fakeIndex).entries[fmt.Sprintf("u%d@%s", i, domain)] = Entry{Known: true}
				}
				cfg.AcceptFiles = aliasTable{aliases: aliases}
			})
			for i := range n {
				recipient := fmt.Sprintf("u%d@alias.test", i)
				if d := p.Decide(context.Background(), query(recipient)); !d.Reply.IsContinue() {
					t.Errorf("%s: %s", recipient, d.Verdict)
				}
			}
			d := p.Decide(context.Background(), query("nobody@alias.test"))
			if accepted := d.Reply.IsContinue(); accepted != (n > MaxTargets) {
				t.Errorf("unknown in %d targets: %s", MaxTargets, d.Verdict)
			}
		})
	}
}

// TestAliasOfEmptyDomain checks that an alias needs no addresses of its own, but that its target does.
func TestAliasOfEmptyDomain(t *testing.T) {
	for _, c := range []struct {
		name, recipient string
		populated       []string
		verdict         Verdict
	}{
		{"the alias has none", "nobody@alias.test", []string{"enforce.test"}, VerdictUnknown},
		{"nor has the one between", "nobody@second.test", []string{"enforce.test"}, VerdictUnknown},
		{"the target has none", "nobody@alias.test", []string{"alias.test"}, VerdictNotReady},
		{"the end of the chain has none", "nobody@second.test", []string{"alias.test", "second.test"}, VerdictNotReady},
		{"known all the same", "own@alias.test", []string{"alias.test"}, VerdictKnown},
		{"one target of a line has none", "nobody@twofold.test", []string{"enforce.test"}, VerdictNotReady},
		{"aliases of each other", "nobody@this.test", nil, VerdictNotReady},
		{"aliases of each other, with addresses", "nobody@this.test", []string{"this.test", "that.test"},
			VerdictUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := aliased(t, func(cfg *Config) {
				cfg.HasAddresses = func(domain string) bool { return slices.Contains(c.populated, domain) }
				for _, domain := range []string{"twofold.test", "this.test", "that.test"} {
					cfg.Domains[domain] = ModeEnforce
				}
				cfg.AcceptFiles = aliasTable{aliases: map[string][]aliasLine{
					"twofold.test": {{"enforce.test", 1}, {"catchal.test", 1}}, "this.test": {{"that.test",
						2}}, "that.test": {{"this.test", 3}},
				}}
				cfg.Domains["catchal.test"] = ModeEnforce
			})
			if d := p.Decide(context.Background(), query(c.recipient)); d.Verdict != c.verdict {
				t.Errorf("Decide(%q) = %s (%s), want %s", c.recipient, d.Verdict, d.Reason, c.verdict)
			}
		})
	}
}

func TestNewRejectsAliases(t *testing.T) {
	for _, c := range []struct {
		aliases map[string]string
		want    string
	}{
		{map[string]string{"a.test": "a.test"}, `domain alias "a.test" leads back to itself`},
		{map[string]string{"a.test": "b.test", "B.test": "A.test."}, "leads back to itself"},
		{map[string]string{"a.test": "b.test", "A.test": "c.test"}, `domain alias "a.test" is configured twice`},
		{map[string]string{".a.test": "b.test"}, `domain alias ".a.test": `},
		{map[string]string{"a.test": "@b.test"}, `target "@b.test": `},
		{map[string]string{"a.test": ""}, `target "": `},
	} {
		t.Run(c.want, func(t *testing.T) {
			p, err := New(Config{Index: testIndex(), DomainAliases: c.aliases})
			if err == nil || p != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New with %v: %v, want %q", c.aliases, err, c.want)
			}
		})
	}
}

// TestAliasCharge checks that a guess at an alias is charged as the same guess at the target, whether the
// address has existed or not, and that mode report charges nothing.
func TestAliasCharge(t *testing.T) {
	for recipient, want := range map[string]string{
		"nobody@alias.test":      "invalid IP nobody@enforce.test true",
		"nobody+x@alias.test":    "invalid IP nobody@enforce.test true",
		"user@alias.test":        "invalid IP user@enforce.test false",
		"quit@alias.test":        "invalid IP quit@enforce.test true",
		"past@alias.test":        "invalid IP past@enforce.test true",
		"nobody@reported.test":   "",
		"anybody@outward.test":   "",
		"closed@alias.test":      "invalid IP closed@enforce.test true",
		"10.0.0.1 nobody@x.test": "",
	} {
		t.Run(recipient, func(t *testing.T) {
			charged := &charges{}
			p := aliased(t, func(cfg *Config) { cfg.Harvest = charged })
			q, _ := fullQuery(t, recipient)
			p.Charge(q, p.Decide(context.Background(), q))
			if got := strings.Join(charged.made, ", "); got != want {
				t.Errorf("%s is charged %q, want %q", recipient, got, want)
			}
		})
	}
}
