package milter

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/policy"
)

// now is the current time in the policies of tests.
var now = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

// fakeIndex has entries by canonical address. Every domain except stale.test is fresh.
type fakeIndex struct {
	entries map[string]policy.Entry
	asked   func(address.Address) // called before each lookup; may panic
}

func (f *fakeIndex) Lookup(a address.Address) (policy.Entry, error) {
	if f.asked != nil {
		f.asked(a)
	}
	switch a.Local() {
	case "broken":
		return policy.Entry{}, errors.New("the index is closed")
	case "panic":
		panic("index")
	}
	return f.entries[a.String()], nil
}

func (f *fakeIndex) Freshness(domain string) policy.Freshness {
	if domain == "stale.test" {
		return policy.Freshness{State: policy.Stale, Directory: "corp"}
	}
	return policy.Freshness{State: policy.Fresh, Directory: "corp"}
}

// testIndex has user@ in all domains, and staff@ as internal-only. It removed gone@ 10 minutes ago.
func testIndex() *fakeIndex {
	f := &fakeIndex{entries: map[string]policy.Entry{}}
	for _, domain := range []string{"enforce.test", "report.test", "stale.test", "xn--mnchen-3ya.test"} {
		f.entries["user@"+domain] = policy.Entry{Known: true}
		f.entries["staff@"+domain] = policy.Entry{Known: true, InternalOnly: true}
		f.entries["gone@"+domain] = policy.Entry{Removed: now.Add(-10 * time.Minute)}
	}
	return f
}

// testPolicy returns a policy with testIndex.
func testPolicy(t testing.TB, change func(*policy.Config)) *policy.Policy {
	t.Helper()
	cfg := policy.Config{
		Index: testIndex(),
		Domains: map[string]policy.Mode{
			"enforce.test": policy.ModeEnforce, "report.test": policy.ModeReport,
			"stale.test": policy.ModeEnforce, "münchen.test": policy.ModeEnforce,
		},
		RemovalGrace: time.Hour,
		Now:          func() time.Time { return now },
	}
	if change != nil {
		change(&cfg)
	}
	p, err := policy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	noUser   = "550 5.1.1 <%>: Recipient address rejected: User unknown"
	tryLater = "450 4.1.1 <%>: Recipient address rejected: Temporarily not available, please try again later"
	noAnswer = "451 4.3.0 <%>: Recipient address cannot be checked at the moment, please try again later"
	hangUp   = "421 4.7.0 <%>: Recipient address rejected: Too many unknown recipients, please try again later"
	goOn     = "continue"
)

// expect inserts an address into an expected reply.
func expect(reply, addr string) string { return strings.Replace(reply, "%", addr, 1) }

// answers are recipients of every kind with the replies of testPolicy.
var answers = []struct{ recipient, reply string }{
	{"nobody@foreign.test", goOn},
	{"postmaster@enforce.test", goOn},
	{"user@enforce.test", goOn},
	{"USER@ENFORCE.TEST", goOn},
	{"user@münchen.test", goOn},
	{"staff@enforce.test", noUser},
	{"gone@enforce.test", tryLater},
	{"nobody@stale.test", noAnswer},
	{"nobody@enforce.test", noUser},
	{`us"er@enforce.test`, noUser},
	{"nobody@report.test", goOn},
	{"broken@enforce.test", noAnswer},
	{"panic@enforce.test", noAnswer},
	{"broken@report.test", goOn},
	{"panic@report.test", goOn},
}

// oneTable is an accept file with one line.
type oneTable struct{ address string }

func (t oneTable) Find(a address.Address) (string, int, bool) {
	if a.String() == t.address {
		return "/table", 7, false
	}
	return "", 0, false
}

// guessersLimit limits 192.0.2.0/24.
type guessersLimit struct{}

func (guessersLimit) Limited(q policy.Query) bool {
	return netip.MustParsePrefix("192.0.2.0/24").Contains(q.Client)
}

func (guessersLimit) Charge(policy.Query, string, bool) {}
