package harvest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"rcpt-milter/policy"
)

// attack is a way to guess addresses around the limit. It returns the query of the n-th guess.
type attack struct {
	name  string
	query func(n int) policy.Query
	most  int // guesses that are answered with a limit of 20
}

func ordinaryFrom(client netip.Addr) policy.Query {
	return policy.Query{Client: client, From: "from@client.test", Nth: 1}
}

// in64 returns a client in the n-th /64 of a /48, with a varying interface ID.
func in64(n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:5:%x::%x", n&0xffff, n+1))
}

var attacks = []attack{
	{"one client", func(int) policy.Query { return ordinaryFrom(netip.MustParseAddr("192.0.2.1")) }, 20},
	{"all clients of a /24", func(n int) policy.Query {
		return ordinaryFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}))
	}, 20},
	{"one bounce of many recipients", func(n int) policy.Query {
		return policy.Query{Client: netip.MustParseAddr("192.0.2.1"), Nth: n + 1}
	}, 1 + 20},
	{"bounces of two recipients", func(n int) policy.Query {
		return policy.Query{Client: netip.MustParseAddr("192.0.2.1"), From: "<>", Nth: 1 + n%2}
	}, 2 * 20},
	{"bounces of one recipient", func(int) policy.Query {
		return policy.Query{Client: netip.MustParseAddr("192.0.2.1"), From: "<>", Nth: 1}
	}, 200},
	{"bounces whose recipients are not counted", func(int) policy.Query {
		return policy.Query{Client: netip.MustParseAddr("192.0.2.1")}
	}, 200},
	{"mail and bounces in turn", func(n int) policy.Query {
		q := ordinaryFrom(netip.MustParseAddr("192.0.2.1"))
		if n%2 == 1 {
			q.From, q.Nth = "", 2
		}
		return q
	}, 20 + 20},
	{"one /64", func(n int) policy.Query {
		return ordinaryFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:5:6::%x", n+1)))
	}, 20},
	{"a new /64 of a /48 for each guess", func(n int) policy.Query { return ordinaryFrom(in64(n)) }, 100},
	{"ten /64 of a /48", func(n int) policy.Query { return ordinaryFrom(in64(n % 10)) }, 100},
	{"two /64 of a /48", func(n int) policy.Query { return ordinaryFrom(in64(n % 2)) }, 40},
	{"a new /64 for each bounce", func(n int) policy.Query {
		return policy.Query{Client: in64(n), From: "<>", Nth: 2}
	}, 100},
	{"an IPv4-mapped client", func(n int) policy.Query {
		return ordinaryFrom(netip.MustParseAddr(fmt.Sprintf("::ffff:192.0.2.%d", n%200)))
	}, 20},
	{"a client behind a NAT64 of its own prefix", func(n int) policy.Query {
		return ordinaryFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:64::192.0.2.%d", n%200)))
	}, 20},
}

// TestAttacks checks how many of 500 guesses are answered. Counts beyond the size of a sample are estimates.
func TestAttacks(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			h := attackedHarvester(t)
			answered := 0
			for n := range 500 {
				q := a.query(n)
				if !h.Limited(q) {
					answered++
					h.Charge(q, fmt.Sprintf("guess%d@corp.example", n), true)
				}
			}
			off := answered - a.most
			if exact := a.most <= sampleSize; exact && off != 0 || max(off, -off) > a.most/5 {
				t.Errorf("%d of 500 guesses were answered, want %d", answered, a.most)
			}
			h.wantSound()
		})
	}
}

// attackedHarvester returns a harvester with the default limit.
func attackedHarvester(t testing.TB) *harvester {
	h := newHarvester(t)
	h.cfg.Unknown, h.cfg.Penalty, h.cfg.Site = 20, time.Hour, 48
	h.cfg.NAT64 = append(h.cfg.NAT64, netip.MustParsePrefix("2001:db8:64::/96"))
	return h
}

// TestHonest checks clients that must not be limited.
func TestHonest(t *testing.T) {
	for name, client := range map[string]struct {
		query  func(n int) policy.Query
		exists func(n int) bool
		every  time.Duration
		asks   int
	}{
		"a server that returns mail with forged senders": {func(int) policy.Query {
			return policy.Query{Client: netip.MustParseAddr("192.0.2.1"), Nth: 1}
		}, func(int) bool { return false }, 30 * time.Second, 1000},
		"a list of old addresses": {func(int) policy.Query {
			return ordinaryFrom(netip.MustParseAddr("192.0.2.1"))
		}, func(n int) bool { return n%2 == 0 }, time.Second, 2000},
		"a site with a typing error in each network": {func(n int) policy.Query {
			return ordinaryFrom(in64(n % 50))
		}, func(n int) bool { return n%4 != 0 }, time.Second, 2000},
	} {
		t.Run(name, func(t *testing.T) {
			h := attackedHarvester(t)
			for n := range client.asks {
				q := client.query(n)
				if h.Limited(q) {
					t.Fatalf("limited at recipient %d", n)
				}
				h.Charge(q, fmt.Sprintf("r%d@corp.example", n), !client.exists(n))
				h.now = h.now.Add(client.every)
			}
		})
	}
}

// TestSeparateBudgets checks that a network limited for bounces can still send mail, and vice versa. A limited
// /64 must not be charged to its site, so one client cannot use up the budget of its neighbours.
func TestSeparateBudgets(t *testing.T) {
	h := attackedHarvester(t)
	mail, bounce := ordinaryFrom(in64(1)), policy.Query{Client: in64(1), Nth: 2}
	for n := range 400 {
		h.Charge(bounce, fmt.Sprintf("guess%d@corp.example", n), true)
	}
	if !h.Limited(bounce) || h.Limited(mail) {
		t.Errorf("limited for bounces: %t, for mail: %t", h.Limited(bounce), h.Limited(mail))
	}
	if got, _ := h.State(in64(1)); !got.Bounces || got.Until.IsZero() || got.Network.Bits() != 64 {
		t.Errorf("state of the client: %+v", got)
	}
	for n := range 400 {
		h.Charge(mail, fmt.Sprintf("guess%d@corp.example", n), true)
	}
	if neighbour := ordinaryFrom(in64(2)); !h.Limited(mail) || h.Limited(neighbour) {
		t.Errorf("limited: %t, and its neighbour: %t", h.Limited(mail), h.Limited(neighbour))
	}
	if sum := h.Summary(10); sum.Limited != 2 || sum.Networks != 4 {
		t.Errorf("summary: %+v, want two limited of two networks with two kinds of mail", sum)
	}
}

// TestReportOnlyLog checks the log line of a limit that only reports.
func TestReportOnlyLog(t *testing.T) {
	h := newHarvester(t)
	h.cfg.ReportOnly = true
	h.guess("192.0.2.1", "a", 9)
	const want = `level=INFO msg="network would go over the harvest limit" network=192.0.2.0/24 ` +
		`client=unknown[192.0.2.1] bounces=false unknown=5 recipients=5 until=2024-05-01T12:30:00.000Z` + "\n"
	if got := h.log.String(); got != want {
		t.Errorf("log:\n%swant:\n%s", got, want)
	}
}
