package daemon

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/address"
	"rcpt-milter/policy"
)

// noAddresses is a fresh index without addresses.
type noAddresses struct{}

func (noAddresses) Lookup(address.Address) (policy.Entry, error) { return policy.Entry{}, nil }
func (noAddresses) Freshness(string) policy.Freshness            { return policy.Freshness{State: policy.Fresh} }

// rejection returns a 550 reply.
func rejection(t *testing.T) policy.Reply {
	t.Helper()
	p, err := policy.New(policy.Config{Index: noAddresses{},
		Domains: map[string]policy.Mode{"x.test": policy.ModeEnforce}})
	if err != nil {
		t.Fatal(err)
	}
	reply := p.Decide(t.Context(), policy.Query{Recipient: "who@x.test"}).Reply
	if reply.Outcome() != policy.Refused {
		t.Fatal(reply)
	}
	return reply
}

// TestDomainCounters checks that each decision counts for its entry of domains, and that a reload keeps the
// counts of entries that stay.
func TestDomainCounters(t *testing.T) {
	rejected, deferred := rejection(t), policy.CannotTell("x@example.com")
	var c domainCounters
	c.Set(map[string]policy.Mode{"example.com": policy.ModeEnforce, ".example.org": policy.ModeReport,
		"later.example": policy.ModePass})
	for _, d := range []policy.Decision{
		{Domain: "example.com"}, {Domain: "example.com", Reply: rejected}, {Domain: "example.com", Reply: rejected},
		{Domain: "example.com", Reply: deferred},
		{Domain: "a.example.org", WouldRefuse: true, WouldReply: rejected}, {Domain: "a.b.example.org"},
		{Domain: "example.org"}, {Domain: "victim.example", Reply: rejected}, {Domain: ""}, {Domain: "sub.example.com"},
	} {
		c.Count(d)
	}
	c.Set(map[string]policy.Mode{"example.com": policy.ModeReport, ".example.org": policy.ModeReport,
		"new.example": policy.ModeEnforce})
	c.Count(policy.Decision{Domain: "later.example"})
	c.Count(policy.Decision{Domain: "example.com"})
	want := map[string]map[string]int64{
		"example.com":  {"accepted": 2, "refused": 2, "temporary": 1, "report-only": 0},
		".example.org": {"accepted": 1, "refused": 0, "temporary": 0, "report-only": 1},
		"new.example":  {"accepted": 0, "refused": 0, "temporary": 0, "report-only": 0},
	}
	if diff := cmp.Diff(want, c.Counts()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	all := map[string]int64{"accepted": 7, "refused": 3, "temporary": 1, "report-only": 1}
	if diff := cmp.Diff(all, c.Outcomes()); diff != "" {
		t.Errorf("of all domains, -want +got:\n%s", diff)
	}
}

// TestDomainCountersAllocate checks that counting allocates nothing, because it happens for every recipient.
func TestDomainCountersAllocate(t *testing.T) {
	var c domainCounters
	c.Set(map[string]policy.Mode{".example.org": policy.ModeEnforce})
	d := policy.Decision{Domain: "a.b.c.example.org", Reply: rejection(t)}
	if n := testing.AllocsPerRun(100, func() { c.Count(d) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
