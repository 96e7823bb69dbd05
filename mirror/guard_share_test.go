package mirror

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"rcpt-milter/store"
)

// defaultGuard is the guard of a directory without the key removal_guard.
var defaultGuard = Guard{Percent: 5, Count: 50, Max: 500, Share: 30, Window: 24 * time.Hour}

// losing returns the losses of a directory with owned addresses that loses n of them, all in one domain.
func losing(n, owned, known int) losses {
	return losses{owned: int64(owned), pending: store.Pending{Owned: n, Objects: n},
		domains: map[string]domainLoss{"x.test": {pending: n, known: int64(known)}}}
}

func (l losses) before(directory, domain int) losses {
	d := l.domains["x.test"]
	d.recent = domain
	l.recent, l.domains = directory, map[string]domainLoss{"x.test": d}
	return l
}

func (l losses) unjudged() losses {
	l.domains = map[string]domainLoss{}
	return l
}

// TestGuardShare checks the share of a small directory, and of a small domain in a large one.
func TestGuardShare(t *testing.T) {
	off := defaultGuard
	off.Share = 0
	all := defaultGuard
	all.Share = 100
	maxOff := defaultGuard
	maxOff.Max = 0
	for _, c := range []struct {
		name   string
		guard  Guard
		l      losses
		want   string // part of the reason; empty means not held
		domain bool   // only the removals of the domain are held
	}{
		{"40 of 41", defaultGuard, losing(40, 41, 41),
			"40 addresses (97.6 % of the directory) would have gone within 24h, " +
				"which is more than removal_guard.share (30)", false},
		{"3 of 9", defaultGuard, losing(3, 9, 9), "removal_guard.share", false},
		{"exactly the share", defaultGuard, losing(3, 10, 10), "", false},
		{"the share and one more", defaultGuard, losing(4, 10, 10), "removal_guard.share", false},
		{"2 of 4", defaultGuard, losing(2, 4, 4), "", false},
		{"2 of 2", defaultGuard, losing(2, 2, 2), "no address of the domain x.test would be left", true},
		{"1 of 1", defaultGuard, losing(1, 1000, 1), "no address of the domain x.test would be left", true},
		{"a subsidiary", defaultGuard, losing(200, 100_000, 200), "no address of the domain x.test would be left",
			true},
		{"the greater part of a subsidiary", defaultGuard, losing(150, 100_000, 200),
			"150 addresses (75.0 % of the domain x.test) would have gone within 24h, " +
				"which is more than removal_guard.share (30)", true},
		{"a part of a subsidiary", defaultGuard, losing(60, 100_000, 200), "", false},
		{"one more than that", defaultGuard, losing(61, 100_000, 200), "removal_guard.share", true},
		{"a subsidiary that is not judged", defaultGuard, losing(200, 100_000, 200).unjudged(), "", false},
		{"the directory, no domain of which is judged", defaultGuard, losing(40, 41, 40).unjudged(),
			"of the directory", false},
		{"several passes, of the directory", defaultGuard, losing(1, 8, 1000).before(2, 0),
			"3 addresses (30.0 % of the directory)", false},
		{"several passes, of the domain", defaultGuard, losing(1, 1000, 7).before(3, 3),
			"4 addresses (40.0 % of the domain x.test)", true},
		{"several passes, exactly the share", defaultGuard, losing(1, 1000, 8).before(2, 2), "", false},
		{"few of several passes", defaultGuard, losing(1, 1000, 3).before(1, 1), "", false},
		{"nothing goes now", defaultGuard, losing(0, 3, 3).before(7, 7), "", false},
		{"share off, 40 of 41", off, losing(40, 41, 1000), "", false},
		{"share off, a domain is emptied", off, losing(40, 41, 40), "would be left", true},
		{"share off, count and percent", off, losing(51, 1000, 100_000), "removal_guard.count", false},
		{"share of 100, all but one", all, losing(40, 41, 41), "", false},
		{"share of 100, all", all, losing(40, 40, 41), "", false},
		{"guard off", maxOff, losing(40, 41, 40), "", false},
		{"max comes first", defaultGuard, losing(600, 700, 700), "removal_guard.max (500)", false},
		{"count and percent come before share", defaultGuard, losing(60, 100, 100), "removal_guard.count", false},
		{"max below the share", Guard{Max: 2, Share: 30, Percent: 100, Window: time.Hour}, losing(3, 1000, 1000),
			"removal_guard.max (2)", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.Contains(c.want, "30.0 %") { // 3 of 10 is not more than 30
				c.guard.Share = 29
			}
			h := c.guard.judge(c.l)
			if c.want == "" && h.reason != "" || !strings.Contains(h.reason, c.want) {
				t.Errorf("held because %q, want %q", h.reason, c.want)
			}
			if c.domain != (len(h.domains) == 1) {
				t.Errorf("held domains: %+v", h.domains)
			}
		})
	}
}

// TestGuardManyDomains checks that all removals are held if the store cannot keep that many domains.
func TestGuardManyDomains(t *testing.T) {
	for n, all := range map[int]bool{2: false, 45: false, store.MaxHeldDomains: false, store.MaxHeldDomains + 1: true} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			l := losses{owned: 10_000_000, pending: store.Pending{Owned: n},
				domains: map[string]domainLoss{"fine.test": {pending: 1, known: 1000}}}
			for i := range n {
				l.domains[fmt.Sprintf("d%02d.test", i)] = domainLoss{pending: 1, known: 1}
			}
			guard := defaultGuard
			guard.Max, guard.Share = 2*store.MaxHeldDomains, 0
			h := guard.judge(l)
			if all != (len(h.domains) == 0) || !all && len(h.domains) != n || !strings.Contains(h.reason, "d00.test") {
				t.Errorf("%d domains: held because %q, domains %+v", n, h.reason, h.domains)
			}
			if n > 3 && (!strings.Contains(h.reason, fmt.Sprintf("%d more domains", n-3)) || len(h.reason) > 500) {
				t.Errorf("%d domains: %q", n, h.reason)
			}
		})
	}
}

// TestGuardProperties checks with random numbers that more removals or fewer remaining addresses never end a
// hold, and that a reason about one domain holds no other domain.
func TestGuardProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		g := Guard{Percent: float64(r.IntN(101)), Count: r.IntN(20), Max: 1 + r.IntN(60), Share: float64(r.IntN(101)),
			Window: time.Hour}
		known := 1 + r.IntN(40)
		n := 1 + r.IntN(known)
		l := losing(n, known+r.IntN(200), known).before(r.IntN(20), r.IntN(20))
		h := g.judge(l)
		more := l.before(l.recent+r.IntN(5), l.domains["x.test"].recent+r.IntN(5))
		if m := g.judge(more); h.reason != "" && m.reason == "" {
			t.Fatalf("%+v holds %+v and lets %+v go", g, l, more)
		}
		sum, percent := l.recent+n, 100*float64(l.recent+n)/float64(l.owned+int64(l.recent))
		inDomain := l.domains["x.test"].recent + n
		domainPercent := 100 * float64(inDomain) / float64(known+l.domains["x.test"].recent)
		directory := sum > g.Max || sum > g.Count && percent > g.Percent || g.Share > 0 && sum >= 3 && percent > g.Share
		domain := n >= known || g.Share > 0 && inDomain >= 3 && domainPercent > g.Share
		if (h.reason != "") != (directory || domain) || (len(h.domains) == 1) != (domain && !directory) {
			t.Fatalf("%+v of %+v: held because %q, domains %v; want directory %t, domain %t", g, l, h.reason,
				h.domains, directory, domain)
		}
	}
}
