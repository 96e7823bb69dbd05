package policy

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// fullPolicy returns a policy that uses every row.
func fullPolicy(t testing.TB, change func(*Config)) *Policy {
	return testPolicy(t, func(cfg *Config) {
		index := cfg.Index.(*fakeIndex)
		for _, domain := range []string{"enforce.test", "report.test", "notready.test", "widening.test", "stale.test",
			"catchall.test"} {
			index.entries["staff@"+domain] = Entry{Known: true, InternalOnly: true}
			index.entries["staff+open@"+domain] = Entry{Known: true}
			index.entries["user+staff@"+domain] = Entry{Known: true, InternalOnly: true}
			index.entries["user+gone@"+domain] = Entry{Removed: now.Add(-10 * time.Minute)}
			index.entries["staff+gone@"+domain] = Entry{Removed: now.Add(-10 * time.Minute)}
			index.entries["past+gone@"+domain] = Entry{Removed: now.Add(-10 * time.Minute)}
			index.entries["gone+past@"+domain] = Entry{Removed: now.Add(-2 * time.Hour)}
			index.entries["left@"+domain] = Entry{Known: true}
			index.entries["left+own@"+domain] = Entry{Known: true}
		}
		cfg.Domains["catchall.test"] = ModeEnforce
		cfg.Accept = []string{"Extra@enforce.test", "left+kept@enforce.test", "@catchall.test",
			`"Odd One"@enforce.test`, "extra@report.test"}
		cfg.Refuse = []string{"Left@enforce.test", "extra+closed@enforce.test", "left@catchall.test",
			"left@report.test"}
		cfg.AcceptFiles = fakeTable{"filed@enforce.test": 7, "left+filed@enforce.test": 8, "@pass.test": 9}
		cfg.AcceptPatterns = []string{`srs[01]=.*@enforce\.test`, `Team-[a-z]+@ENFORCE\.test`, `left.*@.*`,
			`a|b@enforce\.test`}
		cfg.RecipientDelimiter = "+-"
		cfg.ExemptNetworks = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"),
			netip.MustParsePrefix("2001:db8::/32")}
		cfg.Confirm = &fakeConfirmer{}
		cfg.Harvest = fakeLimit{guessers}
		if change != nil {
			change(cfg)
		}
	})
}

const hangUp = "421 4.7.0 <%>: Recipient address rejected: Too many unknown recipients, please try again later"

// fullDecisions are the rows of the table with all features enabled. Recipient has the same form as in
// decisions, optionally after a client and a space. The client * is authenticated. An empty match means that
// nothing was found.
var fullDecisions = []struct {
	recipient string
	row       int
	verdict   Verdict
	match     string
	entry     string
	reply     string
}{
	// 1: exempt, before all other rows.
	{"198.51.100.7 nobody@enforce.test", 1, VerdictExempt, "", "198.51.100.0/24", goOn},
	{"198.51.100.7 left@enforce.test", 1, VerdictExempt, "", "198.51.100.0/24", goOn},
	{"198.51.100.7 staff@enforce.test", 1, VerdictExempt, "", "198.51.100.0/24", goOn},
	{"198.51.100.7 broken@enforce.test", 1, VerdictExempt, "", "198.51.100.0/24", goOn},
	{`198.51.100.7 us"er@enforce.test`, 1, VerdictExempt, "", "198.51.100.0/24", goOn},
	{"198.51.100.7 nobody@report.test", 1, VerdictExempt, "", "198.51.100.0/24", goOn},
	{"198.51.100.7 postmaster", 1, VerdictExempt, "", "198.51.100.0/24", goOn},
	{"::ffff:198.51.100.7 nobody@enforce.test", 1, VerdictExempt, "", "198.51.100.0/24", goOn},
	{"2001:db8:1::1 nobody@enforce.test", 1, VerdictExempt, "", "2001:db8::/32", goOn},
	{"2001:db8::1%eth0 nobody@enforce.test", 1, VerdictExempt, "", "2001:db8::/32", goOn},
	{"198.51.101.7 nobody@enforce.test", 12, VerdictUnknown, "", "", noUser},
	{"2001:db9::1 nobody@enforce.test", 12, VerdictUnknown, "", "", noUser},
	{"* nobody@enforce.test", 12, VerdictUnknown, "", "", noUser}, // exempt.authenticated is off

	// 3, even with an entry in a file.
	{"nobody@pass.test", 3, VerdictNotOurs, "", "", goOn},

	// 4, also with an extension.
	{"abuse@enforce.test", 4, VerdictAlways, "abuse@enforce.test", "", goOn},
	{"Abuse+x@enforce.test", 4, VerdictAlways, "abuse@enforce.test", "", goOn},
	{`"abuse-x"@enforce.test`, 4, VerdictAlways, "abuse@enforce.test", "", goOn},
	{"postmaster+x@enforce.test", 4, VerdictAlways, "postmaster@enforce.test", "", goOn},
	{"+abuse@enforce.test", 12, VerdictUnknown, "", "", noUser},
	{"abuse+x", 3, VerdictNotOurs, "", "", goOn},
	{"postmaster+x", 3, VerdictNotOurs, "", "", goOn},

	// 5: accept.
	{"EXTRA@enforce.test", 5, VerdictAllowlisted, "extra@enforce.test", "", goOn},
	{"extra+x@enforce.test", 5, VerdictAllowlisted, "extra@enforce.test", "", goOn},
	{"extra@report.test", 5, VerdictAllowlisted, "extra@report.test", "", goOn},
	{"extra@catchall.test", 5, VerdictAllowlisted, "", "@catchall.test", goOn},
	{`"odd one"@enforce.test`, 5, VerdictAllowlisted, `"odd one"@enforce.test`, "", goOn},
	{`"odd one+x"@enforce.test`, 5, VerdictAllowlisted, `"odd one"@enforce.test`, "", goOn},
	{"extra@enforce.test.foreign.test", 3, VerdictNotOurs, "", "", goOn},

	// 5: refuse, which neither an extension nor later lists bypass.
	{"left@enforce.test", 5, VerdictDenylisted, "left@enforce.test", "", noUser},
	{"left+x@enforce.test", 5, VerdictDenylisted, "left@enforce.test", "", noUser},
	{"left-x@enforce.test", 5, VerdictDenylisted, "left@enforce.test", "", noUser},
	{`"left+x y"@enforce.test`, 5, VerdictDenylisted, "left@enforce.test", "", noUser},
	{"left+own@enforce.test", 5, VerdictDenylisted, "left@enforce.test", "", noUser},
	{"left+filed@enforce.test", 5, VerdictDenylisted, "left@enforce.test", "", noUser},
	{"left+kept@enforce.test", 5, VerdictAllowlisted, "left+kept@enforce.test", "", goOn},
	{"left+kept+x@enforce.test", 5, VerdictDenylisted, "left@enforce.test", "", noUser},
	{"extra+closed@enforce.test", 5, VerdictDenylisted, "extra+closed@enforce.test", "", noUser},
	{"left@catchall.test", 5, VerdictDenylisted, "left@catchall.test", "", noUser},
	{"left+x@catchall.test", 5, VerdictDenylisted, "left@catchall.test", "", noUser},
	{"left@report.test", 5, VerdictDenylisted, "left@report.test", "", "report"},
	{"* left@enforce.test", 5, VerdictDenylisted, "left@enforce.test", "", noUser},

	// 5: files, patterns, domains.
	{"Filed@enforce.test", 5, VerdictAllowlisted, "filed@enforce.test", "/table:7", goOn},
	{"filed+x@enforce.test", 5, VerdictAllowlisted, "filed@enforce.test", "/table:7", goOn},
	{"SRS0=abc=de=foreign.test=x@enforce.test", 5, VerdictAllowlisted, "srs0=abc=de=foreign.test=x@enforce.test",
		`srs[01]=.*@enforce\.test`, goOn},
	{"srs2=x@enforce.test", 12, VerdictUnknown, "", "", noUser},
	{"xsrs0=a@enforce.test", 12, VerdictUnknown, "", "", noUser},
	{"srs0=a@enforce.test.foreign.test", 3, VerdictNotOurs, "", "", goOn},
	{"team-one@enforce.test", 5, VerdictAllowlisted, "team-one@enforce.test", `Team-[a-z]+@ENFORCE\.test`, goOn},
	{"team-one+x@enforce.test", 12, VerdictUnknown, "", "", noUser}, // its base form is team@
	{"a@enforce.test", 12, VerdictUnknown, "", "", noUser},          // each alternative must match the whole address
	{"b@enforce.test", 5, VerdictAllowlisted, "b@enforce.test", `a|b@enforce\.test`, goOn},
	{"nobody@catchall.test", 5, VerdictAllowlisted, "", "@catchall.test", goOn},
	{`us"er@catchall.test`, 5, VerdictAllowlisted, "", "@catchall.test", goOn},
	{"nobody@a.catchall.test", 3, VerdictNotOurs, "", "", goOn},

	// 6: the first form that is known counts, with its restriction.
	{"user@enforce.test", 6, VerdictKnown, "user@enforce.test", "", goOn},
	{"user+x@enforce.test", 6, VerdictKnown, "user@enforce.test", "", goOn},
	{"user-x@enforce.test", 6, VerdictKnown, "user@enforce.test", "", goOn},
	{"user+gone@enforce.test", 6, VerdictKnown, "user@enforce.test", "", goOn},
	{"staff+open@enforce.test", 6, VerdictKnown, "staff+open@enforce.test", "", goOn},
	{"staff@enforce.test", 6, VerdictRestricted, "staff@enforce.test", "", noUser},
	{"Staff+x@enforce.test", 6, VerdictRestricted, "staff@enforce.test", "", noUser},
	{"staff+open+x@enforce.test", 6, VerdictRestricted, "staff@enforce.test", "", noUser},
	{`"staff+x y"@enforce.test`, 6, VerdictRestricted, "staff@enforce.test", "", noUser},
	{"user+staff@enforce.test", 6, VerdictRestricted, "user+staff@enforce.test", "", noUser},
	{"staff@report.test", 6, VerdictRestricted, "staff@report.test", "", "report"},
	{"* staff@enforce.test", 6, VerdictKnown, "staff@enforce.test", "", goOn},
	{"* staff+x@enforce.test", 6, VerdictKnown, "staff@enforce.test", "", goOn},
	{"* user+staff@enforce.test", 6, VerdictKnown, "user+staff@enforce.test", "", goOn},
	{"* staff@notready.test", 6, VerdictKnown, "staff@notready.test", "", goOn},
	{"broken+x@enforce.test", 0, VerdictError, "", "", noAnswer},

	// 6: a restriction rejects only if unknown recipients are rejected too.
	{"staff@notready.test", 7, VerdictNotReady, "staff@notready.test", "", noAnswer},
	{"staff@widening.test", 7, VerdictNotReady, "staff@widening.test", "", noAnswer},
	{"staff@stale.test", 9, VerdictStale, "staff@stale.test", "", noAnswer},
	{"192.0.2.1 staff@enforce.test", 11, VerdictHarvestLimited, "staff@enforce.test", "", hangUp},
	{"192.0.2.1 * staff@enforce.test", 6, VerdictKnown, "staff@enforce.test", "", goOn},

	// 8: removed, in either form.
	{"gone+x@enforce.test", 8, VerdictInGrace, "gone@enforce.test", "", tryLater},
	{"past+gone@enforce.test", 8, VerdictInGrace, "past+gone@enforce.test", "", tryLater},
	{"gone+past@enforce.test", 8, VerdictInGrace, "gone@enforce.test", "", tryLater},
	{"staff+gone@enforce.test", 8, VerdictInGrace, "staff@enforce.test", "", tryLater},
	{"past+x@enforce.test", 12, VerdictUnknown, "past@enforce.test", "", noUser},
	{"gone+x@notready.test", 7, VerdictNotReady, "gone@notready.test", "", noAnswer},

	// 10: confirmed, with the restriction in the directory.
	{"fresh@enforce.test", 10, VerdictConfirmed, "fresh@enforce.test", "", goOn},
	{"fresh+x@enforce.test", 10, VerdictConfirmed, "fresh@enforce.test", "", goOn},
	{"fresh@report.test", 10, VerdictConfirmed, "fresh@report.test", "", goOn},
	{"192.0.2.1 fresh@enforce.test", 10, VerdictConfirmed, "fresh@enforce.test", "", goOn},
	{"freshinside@enforce.test", 6, VerdictRestricted, "freshinside@enforce.test", "", noUser},
	{"* freshinside@enforce.test", 10, VerdictConfirmed, "freshinside@enforce.test", "", goOn},
	{"mute@enforce.test", 12, VerdictUnknown, "", "", noUser},
	{"fresh@stale.test", 9, VerdictStale, "", "", noAnswer},
	{"fresh@notready.test", 7, VerdictNotReady, "", "", noAnswer},
	{"crash@enforce.test", 0, VerdictError, "", "", noAnswer},

	// 11: over the limit, which does not affect known recipients.
	{"192.0.2.1 nobody@enforce.test", 11, VerdictHarvestLimited, "", "", hangUp},
	{"192.0.2.1 nobody@report.test", 11, VerdictHarvestLimited, "", "", "report"},
	{`192.0.2.1 us"er@enforce.test`, 11, VerdictHarvestLimited, "", "", hangUp},
	{"192.0.2.1 user@enforce.test", 6, VerdictKnown, "user@enforce.test", "", goOn},
	{"192.0.2.1 gone@enforce.test", 8, VerdictInGrace, "gone@enforce.test", "", tryLater},
	{"192.0.2.1 nobody@stale.test", 9, VerdictStale, "", "", noAnswer},
	{"192.0.2.1 nobody@foreign.test", 3, VerdictNotOurs, "", "", goOn},
	{"192.0.2.1 left@enforce.test", 11, VerdictHarvestLimited, "left@enforce.test", "", hangUp},

	// 12: unknown.
	{"nobody+x@enforce.test", 12, VerdictUnknown, "", "", noUser},
}

// fullQuery returns the Query of a row of fullDecisions.
func fullQuery(t testing.TB, text string) (q Query, recipient string) {
	t.Helper()
	recipient = text
	var client netip.Addr
	var login string
	for {
		word, rest, more := strings.Cut(recipient, " ")
		if !more || strings.HasPrefix(word, `"`) {
			break
		}
		if word == "*" {
			login, recipient = "ann", rest
			continue
		}
		var err error
		if client, err = netip.ParseAddr(word); err != nil {
			break
		}
		recipient = rest
	}
	q = query(recipient)
	q.Client, q.Authenticated = client, login
	return q, recipient
}

func TestDecideFull(t *testing.T) {
	p := fullPolicy(t, nil)
	for _, c := range fullDecisions {
		t.Run(c.recipient, func(t *testing.T) {
			q, recipient := fullQuery(t, c.recipient)
			d := p.Decide(context.Background(), q)
			want := expect(c.reply, recipient)
			if c.reply == "report" {
				want = goOn
			}
			if d.Row != c.row || d.Verdict != c.verdict || d.Reply.String() != want {
				t.Errorf("Decide(%q) = row %d, %s, %q, want row %d, %s, %q", c.recipient, d.Row, d.Verdict, d.Reply,
					c.row, c.verdict, want)
			}
			if d.Match.String() != c.match && c.row > 3 || d.Entry != c.entry ||
				d.WouldRefuse != (c.reply == "report") {
				t.Errorf("Decide(%q): match %q, entry %q, would refuse %v, want %q, %q", c.recipient, d.Match, d.Entry,
					d.WouldRefuse, c.match, c.entry)
			}
		})
	}
}

// TestReportMirrorsEnforceFull checks in every row that WouldReply in mode report equals the reply in mode
// enforce.
func TestReportMirrorsEnforceFull(t *testing.T) {
	enforce := fullPolicy(t, nil)
	report := fullPolicy(t, func(cfg *Config) {
		for domain, mode := range cfg.Domains {
			if mode == ModeEnforce {
				cfg.Domains[domain] = ModeReport
			}
		}
	})
	for _, c := range fullDecisions {
		t.Run(c.recipient, func(t *testing.T) {
			q, _ := fullQuery(t, c.recipient)
			e, r := enforce.Decide(context.Background(), q), report.Decide(context.Background(), q)
			if e.Mode != ModeEnforce {
				return
			}
			if !r.Reply.IsContinue() || r.WouldReply != e.Reply || r.WouldRefuse == e.Reply.IsContinue() {
				t.Errorf("Decide(%q) = %q, would be %q, want %q", c.recipient, r.Reply, r.WouldReply, e.Reply)
			}
			if r.Row != e.Row || r.Verdict != e.Verdict || r.Match != e.Match || r.Entry != e.Entry {
				t.Errorf("Decide(%q) = row %d, %s in mode report, and row %d, %s in mode enforce", c.recipient, r.Row,
					r.Verdict, e.Row, e.Verdict)
			}
		})
	}
}
