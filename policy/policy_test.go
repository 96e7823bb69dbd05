package policy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"rcpt-milter/address"
)

// now is the current time in all tests of the package.
var now = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

// fakeIndex has entries by canonical address and states by domain. A domain without a state is fresh.
type fakeIndex struct {
	entries map[string]Entry
	states  map[string]Freshness
	asked   func(address.Address) // called before each lookup; may panic
}

var errIndex = errors.New("the index is closed")

func (f *fakeIndex) Lookup(a address.Address) (Entry, error) {
	if f.asked != nil {
		f.asked(a)
	}
	switch a.Local() {
	case "broken":
		return Entry{Known: true}, errIndex // the error must win over the entry
	case "panic":
		panic("index")
	}
	return f.entries[a.String()], nil
}

func (f *fakeIndex) Freshness(domain string) Freshness {
	if state, ok := f.states[domain]; ok {
		return state
	}
	return Freshness{State: Fresh, Directory: "corp"}
}

// testIndex has user@ in all domains. It removed gone@ 10 minutes ago and past@ 2 hours ago.
func testIndex() *fakeIndex {
	f := &fakeIndex{entries: map[string]Entry{}, states: map[string]Freshness{
		"notready.test": {},
		"widening.test": {State: Widening, Directory: "corp"},
		"late.test":     {State: Late, Directory: "corp"},
		"stale.test":    {State: Stale, Directory: "corp"},
		"odd.test":      {State: "odd"},
	}}
	for _, domain := range []string{
		"enforce.test", "report.test", "pass.test", "foreign.test", "a.sub.test", "notready.test",
		"widening.test", "late.test", "stale.test", "odd.test", "xn--mnchen-3ya.test",
	} {
		f.entries["user@"+domain] = Entry{Known: true}
		f.entries[`"two words"@`+domain] = Entry{Known: true}
		f.entries["gone@"+domain] = Entry{Removed: now.Add(-10 * time.Minute)}
		f.entries["past@"+domain] = Entry{Removed: now.Add(-2 * time.Hour)}
		f.entries["clock@"+domain] = Entry{Removed: now.Add(time.Minute)}
	}
	return f
}

func testPolicy(t testing.TB, change func(*Config)) *Policy {
	t.Helper()
	cfg := Config{
		Index: testIndex(),
		Domains: map[string]Mode{
			"enforce.test": ModeEnforce, "Report.Test": ModeReport, "pass.test": ModePass,
			"notready.test": ModeEnforce, "widening.test": ModeEnforce, "late.test": ModeEnforce,
			"stale.test": ModeEnforce, "odd.test": ModeEnforce, "München.test": ModeEnforce,
			".sub.test": ModeEnforce, ".pass.sub.test": ModePass, "report.pass.sub.test": ModeReport,
			".both.test": ModePass, "both.test": ModeEnforce,
		},
		RemovalGrace: time.Hour,
		Now:          func() time.Time { return now },
	}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	noUser   = "550 5.1.1 <%>: Recipient address rejected: User unknown"
	tryLater = "450 4.1.1 <%>: Recipient address rejected: Temporarily not available, please try again later"
	noAnswer = "451 4.3.0 <%>: Recipient address cannot be checked at the moment, please try again later"
	goOn     = "continue"
)

// expect inserts an address into an expected reply.
func expect(reply, addr string) string { return strings.Replace(reply, "%", addr, 1) }

// decisions are the rows of the decision table, including special cases. Recipient is the address as the MTA
// sends it. A leading ! marks an argument of RCPT TO without the macro.
var decisions = []struct {
	recipient string
	row       int
	verdict   Verdict
	reply     string
}{
	// 2: bare postmaster.
	{"postmaster", 2, VerdictAlways, goOn},
	{"PostMaster", 2, VerdictAlways, goOn},
	{"!<postmaster>", 2, VerdictAlways, goOn},
	{"!<Postmaster", 2, VerdictAlways, goOn},
	{`!<"postmaster">`, 2, VerdictAlways, goOn},

	// 3: not ours.
	{"user@foreign.test", 3, VerdictNotOurs, goOn},
	{"nobody@foreign.test", 3, VerdictNotOurs, goOn},
	{"postmaster@foreign.test", 3, VerdictNotOurs, goOn},
	{"nobody@pass.test", 3, VerdictNotOurs, goOn},
	{"broken@pass.test", 3, VerdictNotOurs, goOn},
	{"nobody@sub.test", 3, VerdictNotOurs, goOn}, // .sub.test matches sub-domains only
	{"nobody@xsub.test", 3, VerdictNotOurs, goOn},
	{"nobody@test", 3, VerdictNotOurs, goOn},
	{"nobody@enforce.test.foreign.test", 3, VerdictNotOurs, goOn},
	{"nobody", 3, VerdictNotOurs, goOn},
	{"!<>", 3, VerdictNotOurs, goOn},
	{"!", 3, VerdictNotOurs, goOn},
	{"nobody@", 3, VerdictNotOurs, goOn},
	{"@", 3, VerdictNotOurs, goOn},
	{"nobody@enforce.test@foreign.test", 3, VerdictNotOurs, goOn}, // the last @ counts
	{`us"er@foreign.test`, 3, VerdictNotOurs, goOn},

	// 3: the most specific entry counts, exact ones first.
	{"nobody@a.sub.test", 12, VerdictUnknown, noUser},
	{"nobody@b.a.sub.test", 12, VerdictUnknown, noUser},
	{"nobody@pass.sub.test", 12, VerdictUnknown, noUser},
	{"nobody@a.pass.sub.test", 3, VerdictNotOurs, goOn},
	{"nobody@report.pass.sub.test", 12, VerdictUnknown, "report"},
	{"nobody@a.report.pass.sub.test", 3, VerdictNotOurs, goOn},
	{"nobody@both.test", 12, VerdictUnknown, noUser},
	{"nobody@a.both.test", 3, VerdictNotOurs, goOn},

	// 4: always accepted, in every state of the index.
	{"postmaster@enforce.test", 4, VerdictAlways, goOn},
	{"POSTMASTER@Enforce.TEST", 4, VerdictAlways, goOn},
	{`"postmaster"@enforce.test`, 4, VerdictAlways, goOn},
	{"abuse@enforce.test", 4, VerdictAlways, goOn},
	{"abuse@notready.test", 4, VerdictAlways, goOn},
	{"abuse@stale.test", 4, VerdictAlways, goOn},
	{"postmaster@report.test", 4, VerdictAlways, goOn},
	{"postmaster2@enforce.test", 12, VerdictUnknown, noUser},

	// 6: known, at any age of the index.
	{"user@enforce.test", 6, VerdictKnown, goOn},
	{"USER@ENFORCE.TEST", 6, VerdictKnown, goOn},
	{"user@enforce.test.", 6, VerdictKnown, goOn},
	{`"user"@enforce.test`, 6, VerdictKnown, goOn},
	{`"two words"@enforce.test`, 6, VerdictKnown, goOn},
	{"user@münchen.test", 6, VerdictKnown, goOn},
	{"user@xn--mnchen-3ya.test", 6, VerdictKnown, goOn},
	{"user@report.test", 6, VerdictKnown, goOn},
	{"user@a.sub.test", 6, VerdictKnown, goOn},
	{"user@notready.test", 6, VerdictKnown, goOn},
	{"user@widening.test", 6, VerdictKnown, goOn},
	{"user@late.test", 6, VerdictKnown, goOn},
	{"user@stale.test", 6, VerdictKnown, goOn},
	{"!<User@Enforce.Test>", 6, VerdictKnown, goOn},
	{"!User@Enforce.Test", 6, VerdictKnown, goOn},
	{"!<@a.test,@b.test:user@enforce.test>", 6, VerdictKnown, goOn},
	{"!Name <user@enforce.test", 6, VerdictKnown, goOn},

	// 7: not ready, also with the zero state and with an undefined one.
	{"nobody@notready.test", 7, VerdictNotReady, noAnswer},
	{"gone@notready.test", 7, VerdictNotReady, noAnswer},
	{"nobody@widening.test", 7, VerdictNotReady, noAnswer},
	{"nobody@odd.test", 7, VerdictNotReady, noAnswer},

	// 8: in grace, before stale.
	{"gone@enforce.test", 8, VerdictInGrace, tryLater},
	{"clock@enforce.test", 8, VerdictInGrace, tryLater},
	{"gone@report.test", 8, VerdictInGrace, "report"},
	{"gone@late.test", 8, VerdictInGrace, tryLater},
	{"gone@stale.test", 8, VerdictInGrace, tryLater},

	// 9: stale.
	{"nobody@stale.test", 9, VerdictStale, noAnswer},
	{"past@stale.test", 9, VerdictStale, noAnswer},

	// 12: unknown.
	{"nobody@enforce.test", 12, VerdictUnknown, noUser},
	{"past@enforce.test", 12, VerdictUnknown, noUser},
	{"nobody@late.test", 12, VerdictUnknown, noUser},
	{"user+ext@enforce.test", 12, VerdictUnknown, noUser},
	{"nobody@report.test", 12, VerdictUnknown, "report"},
	{"user@enforce.test@enforce.test", 12, VerdictUnknown, noUser},

	// 12: not parsable as an address, even while the index is not ready.
	{`us"er@enforce.test`, 12, VerdictUnknown, noUser},
	{"@enforce.test", 12, VerdictUnknown, noUser},
	{"(c)user@enforce.test", 12, VerdictUnknown, noUser},
	{`user\@enforce.test`, 12, VerdictUnknown, noUser},
	{`us"er@notready.test`, 12, VerdictUnknown, noUser},
	{`us"er@stale.test`, 12, VerdictUnknown, noUser},
	{`us"er@report.test`, 12, VerdictUnknown, "report"},
	{strings.Repeat("a", 250) + strings.Repeat("b", 350) + "@report.test", 12, VerdictUnknown, "report"},

	// Cannot tell.
	{"broken@enforce.test", 0, VerdictError, noAnswer},
	{"panic@enforce.test", 0, VerdictError, noAnswer},
	{"broken@stale.test", 0, VerdictError, noAnswer},
	{"broken@report.test", 0, VerdictError, "report"},
	{"panic@report.test", 0, VerdictError, "report"},
}

// query returns the Query of a row of the tables.
func query(recipient string) Query {
	if argument, raw := strings.CutPrefix(recipient, "!"); raw {
		return Query{Argument: argument}
	}
	return Query{Recipient: recipient, Argument: "<user@enforce.test>"} // the argument must be ignored
}

func TestDecide(t *testing.T) {
	p := testPolicy(t, nil)
	for _, c := range decisions {
		t.Run(c.recipient, func(t *testing.T) {
			d := p.Decide(context.Background(), query(c.recipient))
			want := expect(c.reply, c.recipient)
			if c.reply == "report" {
				want = goOn
			}
			if d.Row != c.row || d.Verdict != c.verdict || d.Reply.String() != want {
				t.Errorf("Decide(%q) = row %d, %s, %q, want row %d, %s, %q", c.recipient, d.Row, d.Verdict, d.Reply,
					c.row, c.verdict, want)
			}
			if d.WouldRefuse != (c.reply == "report") || d.WouldRefuse == d.WouldReply.IsContinue() {
				t.Errorf("Decide(%q): would refuse is %v with %q", c.recipient, d.WouldRefuse, d.WouldReply)
			}
			if (d.Err != nil) != (c.verdict == VerdictError) || d.Reason == "" {
				t.Errorf("Decide(%q): reason %q, error %v", c.recipient, d.Reason, d.Err)
			}
		})
	}
}

// TestReportMirrorsEnforce checks that WouldReply in mode report equals the reply in mode enforce.
func TestReportMirrorsEnforce(t *testing.T) {
	enforce := testPolicy(t, nil)
	report := testPolicy(t, func(cfg *Config) {
		for domain, mode := range cfg.Domains {
			if mode == ModeEnforce {
				cfg.Domains[domain] = ModeReport
			}
		}
	})
	for _, c := range decisions {
		t.Run(c.recipient, func(t *testing.T) {
			e, r := enforce.Decide(context.Background(), query(c.recipient)), report.Decide(context.Background(),
				query(c.recipient))
			if !r.Reply.IsContinue() {
				t.Errorf("Decide(%q) in mode report = %q", c.recipient, r.Reply)
			}
			if would := r.WouldReply; e.Mode == ModeEnforce && would != e.Reply || e.Verdict != r.Verdict {
				t.Errorf("Decide(%q) would be %s, %q, want %s, %q", c.recipient, r.Verdict, would, e.Verdict, e.Reply)
			}
		})
	}
}

func TestDecisionTells(t *testing.T) {
	d := testPolicy(t, nil).Decide(context.Background(), query("Gone@STALE.test"))
	a, err := address.Parse("gone@stale.test")
	if err != nil {
		t.Fatal(err)
	}
	want := Decision{
		Verdict: VerdictInGrace, Reply: removedRecently("Gone@STALE.test"), Row: 8,
		Reason:  "removed from the directory a short while ago",
		Address: a, Match: a, Domain: "stale.test", Mode: ModeEnforce,
		Removed: now.Add(-10 * time.Minute), Asked: true,
		Freshness: Freshness{State: Stale, Directory: "corp"},
	}
	if diff := cmp.Diff(want, d, cmp.AllowUnexported(address.Address{}, Reply{})); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
	d = testPolicy(t, nil).Decide(context.Background(), query("broken@report.test"))
	if !errors.Is(d.Err, errIndex) {
		t.Errorf("error is %v, want %v", d.Err, errIndex)
	}
}

// TestDecideAsksIndex checks that the index is queried for the canonical address, and only if a row needs it.
// It must be queried twice about an unknown address.
func TestDecideAsksIndex(t *testing.T) {
	for recipient, want := range map[string]string{
		"User@Enforce.Test":       "user@enforce.test",
		"nobody@MÜNCHEN.test":     "nobody@xn--mnchen-3ya.test nobody@xn--mnchen-3ya.test",
		"postmaster@enforce.test": "",
		"user@foreign.test":       "",
		`us"er@enforce.test`:      "",
	} {
		t.Run(recipient, func(t *testing.T) {
			var asked []string
			index := testIndex()
			index.asked = func(a address.Address) { asked = append(asked, a.String()) }
			testPolicy(t, func(cfg *Config) { cfg.Index = index }).Decide(context.Background(), query(recipient))
			if got := strings.Join(asked, " "); got != want {
				t.Errorf("Decide(%q) asked for %q, want %q", recipient, got, want)
			}
		})
	}
}

// lateIndex becomes ready, with the address in it, between the two lookups of a recipient.
type lateIndex struct{ ready bool }

func (i *lateIndex) Lookup(address.Address) (Entry, error) { return Entry{Known: i.ready}, nil }

func (i *lateIndex) Freshness(string) Freshness {
	i.ready = true
	return Freshness{State: Fresh}
}

// TestDecideWhileAPassEnds checks that a pass that ends during a decision does not make the recipient unknown,
// even though the first lookup misses it and the index is fresh afterwards.
func TestDecideWhileAPassEnds(t *testing.T) {
	d := testPolicy(t, func(cfg *Config) { cfg.Index = &lateIndex{} }).Decide(context.Background(),
		query("new@enforce.test"))
	if d.Verdict != VerdictKnown {
		t.Errorf("verdict is %s with %q, want %s", d.Verdict, d.Reply, VerdictKnown)
	}
}

func TestNewRejects(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(cfg *Config) { cfg.Index = nil }, "no index"},
		{func(cfg *Config) { cfg.RemovalGrace = -1 }, "negative"},
		{func(cfg *Config) { cfg.WhenStale = "drop" }, `"drop" is not one of`},
		{func(cfg *Config) { cfg.WhenNotReady = FallbackRefuse }, `"refuse" is not one of`},
		{func(cfg *Config) { cfg.Domains["x.test"] = "" }, `domain "x.test": mode ""`},
		{func(cfg *Config) { cfg.Domains["ENFORCE.test"] = ModePass }, `domain "enforce.test" is configured twice`},
		{func(cfg *Config) { cfg.Domains["a b.test"] = ModePass }, `domain "a b.test"`},
		{func(cfg *Config) { cfg.Domains["."] = ModePass }, `domain "."`},
		{func(cfg *Config) { cfg.Domains[""] = ModePass }, `domain ""`},
		{func(cfg *Config) { cfg.AlwaysAccept = []string{"a@b.test"} }, `"a@b.test" is not a local part`},
		{func(cfg *Config) { cfg.AlwaysAccept = []string{""} }, `"" is not a local part`},
	} {
		t.Run(c.want, func(t *testing.T) {
			cfg := Config{Index: testIndex(), Domains: map[string]Mode{"enforce.test": ModeEnforce}}
			c.change(&cfg)
			if p, err := New(cfg); err == nil || p != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New: error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestStateRank(t *testing.T) {
	for rank, state := range []State{Fresh, Late, Stale, Widening, NotReady, "odd"} {
		if got := state.Rank(); got != rank {
			t.Errorf("%q has rank %d, want %d", state, got, rank)
		}
		if ready := state.Ready(); ready != (rank < 3) {
			t.Errorf("%q is ready: %t", state, ready)
		}
	}
	if State("").Ready() {
		t.Error("the zero state is ready")
	}
}

// TestVerdictOutcomes checks in every row that the outcome of the verdict equals that of the reply.
func TestVerdictOutcomes(t *testing.T) {
	p, seen := fullPolicy(t, nil), map[Verdict]bool{}
	for _, c := range fullDecisions {
		q, _ := fullQuery(t, c.recipient)
		d := p.Decide(t.Context(), q)
		seen[d.Verdict] = true
		if got, want := d.Verdict.Outcome(), d.Enforced().Outcome(); got != want {
			t.Errorf("%s is %s, and the reply to %q is %s", d.Verdict, got, c.recipient, want)
		}
		if d.WouldRefuse != (d.Outcome() == ReportOnly) {
			t.Errorf("Decide(%q) is %s, would refuse %t", c.recipient, d.Outcome(), d.WouldRefuse)
		}
	}
	for _, v := range Verdicts() {
		if !seen[v] {
			t.Errorf("no row gives %s", v)
		}
	}
	if got := Verdict("melted").Outcome(); got != Refused {
		t.Errorf("an undefined verdict is %s", got)
	}
}
