package daemon

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/milter"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// nobody is an index without addresses, in a given state.
type nobody struct{ state policy.State }

func (nobody) Lookup(address.Address) (policy.Entry, error) { return policy.Entry{}, nil }
func (n nobody) Freshness(string) policy.Freshness          { return policy.Freshness{State: n.state} }

// refuser decides about unknown recipients and records the refusals.
type refuser struct {
	*refusals
	policy *policy.Policy
	stale  *policy.Policy
}

func newRefuser(t *testing.T, dir string, now func() time.Time) (*refuser, *store.Store) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c := &config.Config{Domains: map[string]config.Mode{"x.test": config.Enforce, "report.test": config.Report},
		Journal: config.Journal{Keep: 48 * time.Hour}, Harvest: config.Harvest{IPv4: 24, IPv6: 64}}
	r := &refuser{refusals: newRefusals(s, slog.New(slog.DiscardHandler), now)}
	r.Set(c, nil)
	if r.policy, err = newPolicy(c, nobody{policy.Fresh}, nil, queryChecks{}, now); err == nil {
		r.stale, err = newPolicy(c, nobody{policy.Stale}, nil, queryChecks{}, now)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r, s
}

func (r *refuser) ask(t *testing.T, p *policy.Policy, to, client string) {
	q := policy.Query{Argument: to}
	if client != "" {
		q.Client = netip.MustParseAddr(client)
	}
	r.Observe(q, p.Decide(t.Context(), q))
}

// TestRefusals checks that the report has all refusals, across a restart and the end of an hour, and no
// deferred recipients.
func TestRefusals(t *testing.T) {
	now := noon.Add(50 * time.Minute)
	clock := func() time.Time { return now }
	dir := t.TempDir()
	r, s := newRefuser(t, dir, clock)
	r.ask(t, r.policy, "Jane.Deo@x.test", "192.0.2.7")
	r.ask(t, r.policy, "jane.deo@x.test", "192.0.2.8")
	r.ask(t, r.policy, "b@report.test", "2001:db8:1:2:3::1")
	r.ask(t, r.policy, "a b c@d@x.test", "")            // unreadable
	r.ask(t, r.policy, "c@elsewhere.test", "192.0.2.7") // not ours
	r.ask(t, r.stale, "d@x.test", "192.0.2.7")          // 451
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	r, s = newRefuser(t, dir, clock)
	r.ask(t, r.policy, "jane.deo@x.test", "198.51.100.7")
	now = now.Add(time.Hour)
	r.ask(t, r.policy, "next@x.test", "192.0.2.7")
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	got, err := reportOf(t.Context(), s, control.ReportQuery{Since: before(0)}, now)
	if err != nil {
		t.Fatal(err)
	}
	if got.Refused != 5 || got.WouldRefuse != 1 || got.Verdicts["unknown"] != 6 || got.Unlisted != 0 {
		t.Errorf("refused %d, would refuse %d, %v", got.Refused, got.WouldRefuse, got.Verdicts)
	}
	rows := func(all []control.RefusedName) (text []string) {
		for _, r := range all {
			text = append(text, fmt.Sprintf("%s %d %d", r.Name, r.Refused, r.WouldRefuse))
		}
		return text
	}
	if diff := cmp.Diff([]string{"x.test 5 0", "report.test 0 1"}, rows(got.Domains)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"192.0.2.0/24 3 0", "198.51.100.0/24 1 0", "2001:db8:1:2::/64 0 1"},
		rows(got.Networks)); diff != "" {
		t.Error(diff)
	}
	jane := got.Addresses[0]
	if jane.Name != "jane.deo@x.test" || jane.Refused != 3 || jane.Network != "198.51.100.0/24" ||
		jane.Verdict != "unknown" || jane.Now != control.NowUnknown {
		t.Errorf("the first address is %+v", jane)
	}
	// After three days, the first hours are pruned.
	now = now.Add(72 * time.Hour)
	r.ask(t, r.policy, "later@x.test", "192.0.2.7")
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, err = reportOf(t.Context(), s, control.ReportQuery{}, now); err != nil || got.Refused != 1 {
		t.Errorf("after three days: refused %d, %v", got.Refused, err)
	}
}

// TestRefusalsAreRejections checks that the report counts the same recipients as refused as status and metrics
// do.
func TestRefusalsAreRejections(t *testing.T) {
	ip := netip.MustParseAddr("192.0.2.7")
	for _, mode := range []config.Mode{config.Enforce, config.Report} {
		c := &config.Config{Domains: map[string]config.Mode{"x.test": mode}}
		for _, state := range []policy.State{policy.Fresh, policy.Stale} {
			p, err := newPolicy(c, nobody{state}, nil, queryChecks{}, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			d := p.Decide(t.Context(), policy.Query{Argument: "a@x.test", Client: ip})
			if got, want := isRefusal(d), d.Verdict.Outcome() == policy.Refused; got != want {
				t.Errorf("%s in mode %s: %v, want %v", d.Verdict, mode, got, want)
			}
		}
	}
	limited := policy.Decision{Verdict: policy.VerdictHarvestLimited,
		Reply: policy.CannotTell("too many unknown recipients")}
	if isRefusal(limited) {
		t.Error("a recipient that the harvest limit deferred counts as refused")
	}
}

// TestRefusalsConcealed checks that the report has hashes if the log has hashes, in the same form, and that
// hashed addresses are not looked up. Networks are those of the harvest limit.
func TestRefusalsConcealed(t *testing.T) {
	r, s := newRefuser(t, t.TempDir(), func() time.Time { return noon })
	redact := milter.HashAddress([]byte("key"))
	r.Set(&config.Config{Harvest: config.Harvest{IPv4: 16, IPv6: 48}}, redact)
	r.ask(t, r.policy, "Jane.Deo@x.test", "192.0.2.7")
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	got, err := reportOf(t.Context(), s, control.ReportQuery{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if a := got.Addresses[0]; a.Name != redact("jane.deo@x.test") || a.Now != control.NowHidden ||
		a.Network != "192.0.0.0/16" || len(got.NearMisses) != 0 {
		t.Errorf("the record has %+v and the near misses %v", a, got.NearMisses)
	}
}

// TestRefusalsThatComeTooFast checks that refusals beyond the limit of a shard are counted, but not kept.
func TestRefusalsThatComeTooFast(t *testing.T) {
	r, s := newRefuser(t, t.TempDir(), func() time.Time { return noon })
	const each, clients = 2500, 8
	var group sync.WaitGroup
	for c := range clients {
		group.Go(func() {
			for i := range each {
				r.ask(t, r.policy, fmt.Sprintf("guess%d@x.test", i), fmt.Sprintf("192.0.%d.1", c))
			}
		})
	}
	group.Wait()
	for i := range r.shards {
		if n := len(r.shards[i].pending); n > maxShardPending {
			t.Errorf("shard %d has %d", i, n)
		}
	}
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	got, err := reportOf(t.Context(), s, control.ReportQuery{}, noon)
	if err != nil || got.Refused != each*clients || got.Unlisted == 0 ||
		got.Verdicts["unknown"]+got.Unlisted != each*clients {
		t.Errorf("refused %d, unlisted %d, %v, %v", got.Refused, got.Unlisted, got.Verdicts, err)
	}
}

// BenchmarkRefusal measures the cost of a refusal between RCPT and reply.
func BenchmarkRefusal(b *testing.B) {
	s, err := store.Open(b.Context(), store.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r := newRefusals(s, slog.New(slog.DiscardHandler), time.Now)
	p, err := newPolicy(&config.Config{Domains: map[string]config.Mode{"x.test": config.Enforce}},
		nobody{policy.Fresh}, nil, queryChecks{}, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	q := policy.Query{Argument: "a@x.test", Client: netip.MustParseAddr("192.0.2.1")}
	d := p.Decide(b.Context(), q)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%maxShardPending == 0 {
			b.StopTimer()
			r.gather()
			b.StartTimer()
		}
		r.Observe(q, d)
	}
}

// TestRefusalsWithAWrongClock checks that refusals are in the report after the clock was wrong by years. A
// clock that is ahead cannot be recognized, so the earlier hours are dropped in that case.
func TestRefusalsWithAWrongClock(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for wrong, want := range map[time.Duration]int64{10 * year: 1, -10 * year: 2} {
		now := noon
		r, s := newRefuser(t, t.TempDir(), func() time.Time { return now })
		for _, wrong := range []time.Duration{0, wrong, 0} {
			now = noon.Add(wrong)
			r.ask(t, r.policy, "a@x.test", "192.0.2.7")
			if err := r.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := reportOf(t.Context(), s, control.ReportQuery{Since: before(0)}, now); err != nil ||
			got.Refused != want {
			t.Errorf("wrong by %v: refused %d, %v, want %d", wrong, got.Refused, err, want)
		}
	}
}

// TestClientNetworkOfReport checks that the record of refusals assigns a client to the same network as all
// other lists.
func TestClientNetworkOfReport(t *testing.T) {
	for client, want := range map[string]string{
		"192.0.2.1": "192.0.2.0/24", "::ffff:192.0.2.1": "192.0.2.0/24", "64:ff9b::192.0.2.1": "192.0.2.0/24",
		"2001:db8:1:2::3": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		networks := clientNetworks{policy.Translators{policy.WellKnownNAT64}, 24, 64}
		if got := networks.of(netip.MustParseAddr(client)); got != want {
			t.Errorf("client %s is counted in %s, want %s", client, got, want)
		}
	}
}
