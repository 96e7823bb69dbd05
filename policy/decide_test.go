package policy

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestDecideSwitches(t *testing.T) {
	for _, c := range []struct {
		name      string
		change    func(*Config)
		recipient string
		row       int
		verdict   Verdict
		reply     string
	}{
		{"exempt: authenticated", func(cfg *Config) { cfg.ExemptAuthenticated = true }, "* nobody@enforce.test", 1,
			VerdictExempt, goOn},
		{"exempt: only those who logged in", func(cfg *Config) { cfg.ExemptAuthenticated = true },
			"nobody@enforce.test", 12, VerdictUnknown, noUser},
		{"scope all: known", func(cfg *Config) { cfg.HarvestScopeAll = true }, "192.0.2.1 user@enforce.test", 11,
			VerdictHarvestLimited, hangUp},
		{"scope all: before not ready", func(cfg *Config) { cfg.HarvestScopeAll = true },
			"192.0.2.1 user@notready.test", 11, VerdictHarvestLimited, hangUp},
		{"scope all: after the lists", func(cfg *Config) { cfg.HarvestScopeAll = true }, "192.0.2.1 extra@enforce.test",
			5, VerdictAllowlisted, goOn},
		{"scope all: others", func(cfg *Config) { cfg.HarvestScopeAll = true }, "203.0.113.1 user@enforce.test", 6,
			VerdictKnown, goOn},
		{"scope all: report", func(cfg *Config) { cfg.HarvestScopeAll = true }, "192.0.2.1 user@report.test", 11,
			VerdictHarvestLimited, goOn},
		{"reply: tempfail", func(cfg *Config) { cfg.HarvestReply = HarvestTempfail }, "192.0.2.1 nobody@enforce.test",
			11, VerdictHarvestLimited, strings.Replace(hangUp, "421 4.7.0", "450 4.7.1", 1)},
		{"no limit", func(cfg *Config) { cfg.Harvest = nil }, "192.0.2.1 nobody@enforce.test", 12, VerdictUnknown,
			noUser},
		{"no confirm", func(cfg *Config) { cfg.Confirm = nil }, "fresh@enforce.test", 12, VerdictUnknown, noUser},
		{"no delimiter", func(cfg *Config) { cfg.RecipientDelimiter = "" }, "user+x@enforce.test", 12, VerdictUnknown,
			noUser},
		{"another delimiter", func(cfg *Config) { cfg.RecipientDelimiter = "=" }, "user=x@enforce.test", 6,
			VerdictKnown, goOn},
		{"no lists", func(cfg *Config) {
			cfg.Accept, cfg.Refuse, cfg.AcceptFiles, cfg.AcceptPatterns = nil, nil, nil, nil
		}, "left@enforce.test", 6, VerdictKnown, goOn},
		{"not ready accepts, but opens nothing", func(cfg *Config) { cfg.WhenNotReady = FallbackAccept },
			"staff@notready.test", 7, VerdictNotReady, noAnswer},
		{"stale accepts, but opens nothing", func(cfg *Config) { cfg.WhenStale = FallbackAccept }, "staff@stale.test",
			9, VerdictStale, noAnswer},
		{"stale refuses the restricted", func(cfg *Config) { cfg.WhenStale = FallbackRefuse }, "staff@stale.test", 9,
			VerdictStale, noUser},
		{"when not ready: accept", func(cfg *Config) { cfg.WhenNotReady = FallbackAccept }, "nobody@notready.test",
			7, VerdictNotReady, goOn},
		{"when not ready: tempfail", func(cfg *Config) { cfg.WhenNotReady = FallbackTempfail }, "nobody@notready.test",
			7, VerdictNotReady, noAnswer},
		{"when stale: accept", func(cfg *Config) { cfg.WhenStale = FallbackAccept }, "nobody@stale.test", 9,
			VerdictStale, goOn},
		{"when stale: refuse", func(cfg *Config) { cfg.WhenStale = FallbackRefuse }, "nobody@stale.test", 9,
			VerdictStale, noUser},
		{"when stale: tempfail", func(cfg *Config) { cfg.WhenStale = FallbackTempfail }, "nobody@stale.test",
			9, VerdictStale, noAnswer},
		{"when stale says nothing of not ready", func(cfg *Config) { cfg.WhenStale = FallbackAccept },
			"nobody@notready.test", 7, VerdictNotReady, noAnswer},
		{"no grace", func(cfg *Config) { cfg.RemovalGrace = 0 }, "gone@enforce.test", 12, VerdictUnknown, noUser},
		{"grace just over", func(cfg *Config) { cfg.RemovalGrace = 10 * time.Minute }, "gone@enforce.test",
			12, VerdictUnknown, noUser},
		{"grace not yet over", func(cfg *Config) { cfg.RemovalGrace = 10*time.Minute + 1 }, "gone@enforce.test",
			8, VerdictInGrace, tryLater},
		{"nothing always accepted", func(cfg *Config) { cfg.AlwaysAccept = []string{} }, "postmaster@enforce.test",
			12, VerdictUnknown, noUser},
		{"bare postmaster all the same", func(cfg *Config) { cfg.AlwaysAccept = []string{} }, "postmaster",
			2, VerdictAlways, goOn},
		{"another always accepted", func(cfg *Config) { cfg.AlwaysAccept = []string{"HostMaster"} },
			"hostMASTER@enforce.test", 4, VerdictAlways, goOn},
		{"no domains", func(cfg *Config) { cfg.Domains = nil }, "nobody@enforce.test", 3, VerdictNotOurs, goOn},
		{"a domain in Unicode", func(cfg *Config) { cfg.Accept = []string{"@MÜNCHEN.test"} },
			"nobody@xn--mnchen-3ya.test", 5, VerdictAllowlisted, goOn},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, recipient := fullQuery(t, c.recipient)
			d := fullPolicy(t, c.change).Decide(context.Background(), q)
			if want := expect(c.reply, recipient); d.Row != c.row || d.Verdict != c.verdict ||
				d.Reply.String() != want {
				t.Errorf("Decide(%q) = row %d, %s, %q, want row %d, %s, %q", c.recipient, d.Row, d.Verdict, d.Reply,
					c.row, c.verdict, want)
			}
		})
	}
}

// TestDecideAsksConfirm checks that the directory is searched only for recipients that would be rejected as
// unknown, one form after the other until one is found or a search fails. Searches for clients over the harvest
// limit must be marked, because they do not use up the budget of other clients.
func TestDecideAsksConfirm(t *testing.T) {
	for recipient, want := range map[string]string{
		"Nobody@Enforce.Test":           "nobody@enforce.test",
		"nobody+x@enforce.test":         "nobody+x@enforce.test nobody@enforce.test",
		"mute+x@enforce.test":           "mute+x@enforce.test mute@enforce.test",
		"mute@enforce.test":             "mute@enforce.test",
		"fresh@enforce.test":            "fresh@enforce.test",
		"staff@enforce.test":            "staff@enforce.test",
		"user@enforce.test":             "",
		"gone@enforce.test":             "",
		"nobody@stale.test":             "",
		"nobody@notready.test":          "",
		"nobody@foreign.test":           "",
		`us"er@enforce.test`:            "",
		"198.51.100.7 x@enforce.test":   "",
		"192.0.2.1 nobody@enforce.test": "nobody@enforce.test suspect",
	} {
		t.Run(recipient, func(t *testing.T) {
			confirm := &fakeConfirmer{}
			q, _ := fullQuery(t, recipient)
			fullPolicy(t, func(cfg *Config) { cfg.Confirm = confirm }).Decide(context.Background(), q)
			got := strings.Join(confirm.asked, " ")
			if got += strings.Repeat(" suspect", confirm.suspects); got != want {
				t.Errorf("Decide(%q) asked the directory for %q, want %q", recipient, got, want)
			}
		})
	}
}

// TestLookupIsSuspect checks that the searches of an operator's lookup get the part of the budget that suspects
// get, and that the answer stays the same.
func TestLookupIsSuspect(t *testing.T) {
	for _, c := range []struct {
		recipient string
		searches  int
		verdict   Verdict
	}{
		{"fresh@enforce.test", 1, VerdictConfirmed},
		{"nobody@enforce.test", 1, VerdictUnknown},
		{"nobody+x@enforce.test", 2, VerdictUnknown},
		{"user@enforce.test", 0, VerdictKnown},
	} {
		t.Run(c.recipient, func(t *testing.T) {
			confirm := &fakeConfirmer{}
			q, _ := fullQuery(t, c.recipient)
			q.Lookup = true
			d := fullPolicy(t, func(cfg *Config) { cfg.Confirm = confirm }).Decide(context.Background(), q)
			if len(confirm.asked) != c.searches || confirm.suspects != c.searches || d.Verdict != c.verdict {
				t.Errorf("%d searches, %d for suspects, verdict %s, want %d and %s", len(confirm.asked),
					confirm.suspects, d.Verdict, c.searches, c.verdict)
			}
		})
	}
}

// TestExtensionIsNoWayAround checks that a rejected recipient cannot be reached with an extension, in any
// spelling, unless the whole address is listed or has an owner.
func TestExtensionIsNoWayAround(t *testing.T) {
	p := fullPolicy(t, func(cfg *Config) { cfg.AcceptPatterns = nil })
	for _, local := range []string{"left", "staff", "nobody"} {
		for _, form := range []string{
			"%+x", "%-x", "%+", "%++", "%+x+y", "%-+x", `"%+x"`, `"%"`, `"%+x y"`, `"%\+x"`, "%+postmaster", "%+abuse",
			`%.`, "%+é", "%=x", "+%", "%\u0301+x",
		} {
			recipient := strings.ReplaceAll(form, "%", local) + "@enforce.test"
			if d := p.Decide(context.Background(), query(recipient)); d.Reply.Code() != 550 {
				t.Errorf("Decide(%q) = row %d, %s, %q, want 550", recipient, d.Row, d.Verdict, d.Reply)
			}
		}
	}
}

// TestRestrictedLooksUnknown checks that clients cannot distinguish internal-only recipients from unknown ones:
// both get the same reply in every state of the index and of the client.
func TestRestrictedLooksUnknown(t *testing.T) {
	for _, client := range []string{"", "192.0.2.1 ", "203.0.113.1 "} {
		for _, domain := range []string{"enforce.test", "report.test", "notready.test", "widening.test", "late.test",
			"stale.test"} {
			p := fullPolicy(t, func(cfg *Config) {
				cfg.Index.(*fakeIndex).entries["staff@late.test"] = Entry{Known: true, InternalOnly: true}
			})
			restricted, _ := fullQuery(t, client+"staff@"+domain)
			unknown, _ := fullQuery(t, client+"ffats@"+domain)
			got := p.Decide(context.Background(), restricted).Reply.String()
			want := p.Decide(context.Background(), unknown).Reply.String()
			if got != strings.ReplaceAll(want, "ffats", "staff") {
				t.Errorf("Decide(%q) = %q, and for the unknown %q", client+"staff@"+domain, got, want)
			}
		}
	}
}

// TestDecideFoldedDomain: Postfix folds straße.test into another domain. The argument of RCPT TO shows the
// intended domain, but counts only if folding changed it.
func TestDecideFoldedDomain(t *testing.T) {
	p := testPolicy(t, func(cfg *Config) {
		cfg.Domains = map[string]Mode{"straße.test": ModeEnforce, ".βόλος.test": ModeEnforce}
		index := cfg.Index.(*fakeIndex)
		index.entries["user@xn--strae-oqa.test"] = Entry{Known: true}
	})
	for _, c := range []struct {
		recipient, argument string
		row                 int
	}{
		{"user@strasse.test", "<User@Straße.test>", 6},
		{"nobody@strasse.test", "<nobody@straße.test>", 12},
		{"nobody@strasse.test", "<@a,@b:nobody@straße.test>", 12},
		{`"no body"@strasse.test`, `<"no body"@straße.test>`, 12},
		{"user@xn--strae-oqa.test", "<user@xn--strae-oqa.test>", 6},
		{"nobody@xn--strae-oqa.test", "<nobody@XN--STRAE-OQA.test>", 12},
		{"nobody@strasse.test", "<nobody@strasse.test>", 3}, // a different domain
		{"nobody@strasse.test", "<nobody@faß.test>", 3},
		{"nobody@elsewhere.test", "<nobody@straße.test>", 3},
		{"nobody@a.βόλοσ.test", "<nobody@a.βόλος.test>", 12},
		{"nobody@a.βόλοσ.test", "<nobody@a.ΒΌΛΟΣ.test>", 3},
	} {
		d := p.Decide(context.Background(), Query{Recipient: c.recipient, Argument: c.argument})
		if d.Row != c.row {
			t.Errorf("Decide(%q, %q) = row %d, domain %s, want row %d", c.recipient, c.argument, d.Row, d.Domain, c.row)
		}
	}
}

// TestPattern checks that a pattern matches only whole addresses, in any case.
func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, address string
		want             bool
	}{
		{`a|b@x\.test`, "b@x.test", true},
		{`a|b@x\.test`, "a@x.test", false},
		{`a|b@x\.test`, "ab@x.test", false},
		{`a.*@x\.test`, "a@x.test", true},
		{`a.*@x\.test`, "ba@x.test", false},
		{`a.*@x\.test`, "a@x.test.y", false},
		{`A@X\.test`, "a@x.test", true},
		{`(?-i)A@x\.test`, "a@x.test", false},
		{`(?i)A@x\.test`, "a@x.test", true},
		{`\Qa.b@x.test`, "a.b@x.test", true},
		{`\Qa.b@x.test`, "aab@x.test", false},
		{`\Qa.b\E@x\.test`, "a.b@x.test", true},
		{`(?m)^a@x\.test$`, "a@x.test", true},
		{`^a@x\.test$`, "a@x.test", true},
		{`[A-C]+@x\.test`, "abc@x.test", true},
		{`ü+@x\.test`, "üü@x.test", true},
		{`a@x\.test\\`, "a@x.test", false},
	} {
		p, err := newPattern(c.pattern)
		if err != nil {
			t.Errorf("newPattern(%q): %v", c.pattern, err)
		} else if got := p.MatchString(c.address); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.pattern, c.address, got, c.want)
		}
	}
}

func TestNewRejectsLists(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(cfg *Config) { cfg.Accept = []string{"nobody"} }, `accept: "nobody": not a mailbox address`},
		{func(cfg *Config) { cfg.Accept = []string{"@"} }, `accept: "@": not a mailbox address`},
		{func(cfg *Config) { cfg.Refuse = []string{"@enforce.test"} },
			`refuse: "@enforce.test": not a mailbox address`},
		{func(cfg *Config) { cfg.AcceptPatterns = []string{"a("} },
			"accept patterns: error parsing regexp: missing closing ): `a(`"},
		{func(cfg *Config) { cfg.AcceptPatterns = []string{"a)|(b"} },
			"accept patterns: error parsing regexp: unexpected ): `a)|(b`"},
		{func(cfg *Config) { cfg.AcceptPatterns = []string{""} }, "accept patterns: an empty pattern"},
		{func(cfg *Config) { cfg.RecipientDelimiter = "é" }, `recipient delimiter: "é" is not ASCII`},
		{func(cfg *Config) { cfg.HarvestReply = "drop" }, `harvest reply: "drop" is not one of`},
	} {
		cfg := Config{Index: testIndex(), Domains: map[string]Mode{"enforce.test": ModeEnforce}}
		c.change(&cfg)
		if p, err := New(cfg); err == nil || p != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New: error %v, want one with %q", err, c.want)
		}
	}
}

// FuzzDecide checks that every query gets a decision with a reason. Mode report must turn every reply into
// continue, and only the rejecting rows may return a permanent error. No rejected recipient may be accepted
// with an extension.
func FuzzDecide(f *testing.F) {
	for _, c := range decisions {
		f.Add(query(c.recipient).Recipient, query(c.recipient).Argument, "", false)
	}
	for _, c := range fullDecisions {
		q, _ := fullQuery(f, c.recipient)
		f.Add(q.Recipient, q.Argument, q.Client.String(), q.Authenticated != "")
	}
	f.Add("user@strasse.test", "<User@Straße.test>", "", false)
	p := fullPolicy(f, nil)
	f.Fuzz(func(t *testing.T, recipient, argument, client string, login bool) {
		q := Query{Recipient: recipient, Argument: argument}
		q.Client, _ = netip.ParseAddr(client)
		if login {
			q.Authenticated = "ann"
		}
		d := p.Decide(context.Background(), q)
		would := d.Reply
		if d.WouldRefuse {
			would = d.WouldReply
		}
		switch {
		case d.Reason == "" || (d.Err != nil) != (d.Verdict == VerdictError) ||
			(d.Row == 0) != (d.Verdict == VerdictError):
			t.Fatalf("Decide(%+v) = %+v", q, d)
		case !d.Reply.IsContinue() && d.Mode != ModeEnforce:
			t.Fatalf("Decide(%+v) refuses in mode %s: %+v", q, d.Mode, d)
		case would.Code() == 550 && d.Row != 5 && d.Row != 6 && d.Row != 12:
			t.Fatalf("Decide(%+v) says %q in row %d", q, would, d.Row)
		case len(d.Reply.String()) > 500 || !isPrintable(d.Reply.String()):
			t.Fatalf("Decide(%+v) has the reply %q", q, d.Reply)
		}
		checkExtended(t, p, q, d)
	})
}

// checkExtended decides again about a rejected recipient, this time with an extension. Unless an entry matches
// the extended address, it must be rejected for the same reason.
func checkExtended(t *testing.T, p *Policy, q Query, d Decision) {
	t.Helper()
	if _, extended := d.Address.WithoutExtension("+-"); extended || (d.Verdict != VerdictDenylisted &&
		d.Verdict != VerdictRestricted) {
		return
	}
	content := strings.Trim(d.Address.Local(), `"`)
	q.Recipient = `"` + content + `+qqq"@` + d.Domain
	again := p.Decide(context.Background(), q)
	if _, split := again.Address.WithoutExtension("+-"); split && again.Verdict != d.Verdict {
		t.Fatalf("Decide(%q) is %s, and of %q %s, row %d", d.Address, d.Verdict, q.Recipient, again.Verdict, again.Row)
	}
}
