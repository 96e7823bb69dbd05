package mirror

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// company returns a world with the default guard, in which only corp.example and the given domains are judged.
func company(t *testing.T, judged ...string) *world {
	return newWorld(t, func(w *world, c *Config) {
		c.Guard, c.ReplicationLag = defaultGuard, 0
		c.Guarded = func(domain string) bool { return domain == "corp.example" || slices.Contains(judged, domain) }
	})
}

// people adds users in a domain.
func (w *world) people(n int, domain string) (all []adsim.GUID) {
	for i := range n {
		all = append(all, w.user(fmt.Sprint(domain, " ", i), fmt.Sprintf("u%d@%s", i, domain)))
	}
	return all
}

func (w *world) leave(all ...adsim.GUID) {
	w.t.Helper()
	for _, guid := range all {
		w.must(w.d.Delete(guid))
	}
}

func (w *world) approve() store.PassInfo {
	w.t.Helper()
	info, err := w.store.Approve("corp", w.store.Directory("corp").Newest().Number, w.mirror.fingerprint, w.now())
	w.must(err)
	return info
}

// TestSmallCompany removes nearly all of 41 people at once.
func TestSmallCompany(t *testing.T) {
	w := company(t)
	all := w.people(41, "corp.example")
	w.pass(store.Full)
	before := w.known()
	w.leave(all[:40]...)
	if info := w.pass(store.Incremental); info.Held != 40 || info.Removed != 0 ||
		!strings.Contains(info.Hold, "removal_guard.share (30)") {
		t.Errorf("40 of 41: %+v", info)
	}
	w.wantKnown(before...)
	if info := w.approve(); info.Removed != 40 {
		t.Errorf("approval: %+v", info)
	}
	// Approved removals do not count again.
	more := w.people(9, "corp.example2")
	w.pass(store.Incremental)
	w.leave(more[:2]...)
	if info := w.pass(store.Incremental); info.Hold != "" || info.Removed != 2 {
		t.Errorf("two more: %+v", info)
	}
	w.wantEqual()
}

// TestSubsidiaryHoldsNobodyElse checks that a hold of one domain does not hold other removals.
func TestSubsidiaryHoldsNobodyElse(t *testing.T) {
	w := company(t, "sub.example")
	w.people(60, "corp.example")
	sub := w.people(5, "sub.example")
	both := w.user("Both", "both@corp.example", "both@sub.example")
	w.pass(store.Full)
	w.leave(sub[:3]...)
	w.leave(both)
	info := w.pass(store.Incremental)
	if info.Held != 4 || info.Removed != 1 ||
		!strings.Contains(info.Hold, "4 addresses (66.7 % of the domain sub.example)") {
		t.Errorf("the pass: %+v", info)
	}
	known := w.known()
	if slices.Contains(known, "both@corp.example") || !slices.Contains(known, "both@sub.example") ||
		!slices.Contains(known, "u0@sub.example") {
		t.Errorf("known: %q", known)
	}
	w.restart()
	w.leave(w.user("Gone", "gone@corp.example"))
	if info := w.pass(store.Incremental); info.Held != 4 {
		t.Errorf("the pass after a restart: %+v", info)
	}
	s := w.mirror.Status()
	if s.HeldAddresses != 4 || s.HoldReason == "" {
		t.Errorf("status: %d held because %q", s.HeldAddresses, s.HoldReason)
	}
	if info := w.approve(); info.Removed != 4 {
		t.Errorf("approval: %+v", info)
	}
	w.wantEqual()
}

// TestOneByOne simulates a script that deletes one address in a domain of ten between passes.
func TestOneByOne(t *testing.T) {
	w := company(t, "sub.example")
	w.people(100, "corp.example")
	sub := w.people(10, "sub.example")
	w.pass(store.Full)
	for i, guid := range sub[:5] {
		w.leave(guid)
		info := w.pass(store.Incremental)
		if held := i >= 3; held != (info.Hold != "") || held && info.Held != i-2 {
			t.Errorf("removal %d: %+v", i+1, info)
		}
		w.restart()
	}
	w.advance(25 * time.Hour) // after the window, two of the seven may be removed
	if info := w.pass(store.Full); info.Hold != "" || info.Held != 0 {
		t.Errorf("a day later: %+v", info)
	}
	w.wantEqual()
}

// TestDomainsThatAreNotJudged checks that external contacts may be added and removed freely. A domain that a
// reload makes a judged one is guarded from then on.
func TestDomainsThatAreNotJudged(t *testing.T) {
	w := company(t)
	w.people(10, "corp.example")
	guests := w.people(2, "customer-000123.example")
	w.pass(store.Full)
	w.leave(guests[0])
	if info := w.pass(store.Incremental); info.Hold != "" || info.Removed != 1 {
		t.Errorf("a contact: %+v", info)
	}
	limits := w.config.Limits
	limits.Guarded = func(string) bool { return true }
	w.mirror.SetLimits(limits)
	w.leave(guests[1])
	if info := w.pass(store.Incremental); info.Held != 1 ||
		!strings.Contains(info.Hold, "no address of the domain customer-000123.example") {
		t.Errorf("the last contact of a judged domain: %+v", info)
	}
	w.mirror.SetLimits(w.config.Limits)
	if info := w.pass(store.Incremental); info.Hold != "" || info.Removed != 1 {
		t.Errorf("after the domain is no longer judged: %+v", info)
	}
	w.wantEqual()
}

// TestComeBackWithinTheWindow checks that an address that is known again does not count as lost.
func TestComeBackWithinTheWindow(t *testing.T) {
	w := company(t, "sub.example")
	w.people(100, "corp.example")
	all := w.people(10, "sub.example")
	w.pass(store.Full)
	for range 4 {
		w.set(all[0])
		if info := w.pass(store.Incremental); info.Hold != "" || info.Removed != 1 {
			t.Fatalf("the address goes: %+v", info)
		}
		w.set(all[0], "u0@sub.example")
		w.pass(store.Incremental)
	}
	w.wantEqual()
}

// TestRetiredByDomain checks that, for a retired directory too, only the removals of the affected domain are
// held.
func TestRetiredByDomain(t *testing.T) {
	w := newWorld(t, nil)
	w.people(40, "corp.example")
	w.people(3, "sub.example")
	w.user("Guest", "guest@customer.example")
	w.pass(store.Full)
	w.other("corp2") // has the same objects, except those added below
	w.restart()
	w.user("New", "new@sub2.example", "guest2@customer.example")
	w.pass(store.Incremental)
	r := w.retire(defaultGuard)
	r.SetGuarded(func(domain string) bool { return domain != "customer.example" })
	info := w.retirePass(r)
	if info.Held != 1 || info.Removed != 45 ||
		!strings.Contains(info.Hold, "no longer in the configuration, and no address of the domain sub2.example") ||
		r.Gone() {
		t.Errorf("first pass: %+v, gone %t", info, r.Gone())
	}
	if again := w.retirePass(r); again.Number != 0 {
		t.Errorf("a pass with nothing new commits %+v", again)
	}
	if !w.knows("new@sub2.example") || w.knows("guest2@customer.example") || !w.knows("u0@sub.example") {
		t.Errorf("known: %q", w.known())
	}
	if info, err := r.Approve(t.Context(), 0); err != nil || info.Removed != 1 || !r.Gone() {
		t.Errorf("approval: %+v, %v, gone %t", info, err, r.Gone())
	}
}

// TestRetiredShare checks that a retired directory of three people is held.
func TestRetiredShare(t *testing.T) {
	w := newWorld(t, nil)
	w.people(3, "corp.example")
	w.pass(store.Full)
	w.user("Eve", "eve@corp.example") // in the other directory
	w.other("corp2")
	if info := w.retirePass(w.retire(defaultGuard)); info.Hold != "" {
		t.Errorf("all of them in another directory: %+v", info)
	}
	w = newWorld(t, nil)
	w.people(3, "corp.example")
	w.pass(store.Full)
	if info := w.retirePass(w.retire(defaultGuard)); info.Held != 3 ||
		!strings.Contains(info.Hold, "removal_guard.share") {
		t.Errorf("nowhere else: %+v", info)
	}
}

// TestRandomGuardedLives adds and removes addresses in several domains at random. An address may be removed
// only if the directory lacks it. Within the window, no judged domain may lose more than the guard permits. An
// approval must make the index equal to the directory.
func TestRandomGuardedLives(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 9))
			w := company(t, "a.example", "b.example")
			w.people(60, "corp.example")
			there := map[string][]adsim.GUID{}
			domains := []string{"a.example", "b.example", "guest.example"}
			sizes := map[string]int{}
			for _, d := range domains {
				sizes[d] = 5 + r.IntN(10)
				there[d] = w.people(sizes[d], d)
			}
			w.pass(store.Full)
			for range 12 {
				d := domains[r.IntN(len(domains))]
				for range r.IntN(4) {
					if n := len(there[d]); n > 0 {
						at := r.IntN(n)
						w.leave(there[d][at])
						there[d] = slices.Delete(there[d], at, at+1)
					}
				}
				w.pass(store.Incremental)
				w.checkJudged(sizes)
				if r.IntN(5) == 0 {
					w.restart()
				}
			}
			w.approve()
			w.wantEqual()
		})
	}
}

// checkJudged checks that no judged domain has lost more than the share, unless it lost fewer than three
// addresses.
func (w *world) checkJudged(sizes map[string]int) {
	w.t.Helper()
	for _, d := range []string{"a.example", "b.example"} {
		left := int(w.store.DomainAddresses(d))
		if gone := sizes[d] - left; left == 0 || gone >= 3 && 100*float64(gone) > 30*float64(sizes[d]) {
			w.t.Errorf("%d of %d addresses of %s went without approval", gone, sizes[d], d)
		}
	}
	if guests := w.store.Directory("corp"); guests.Holds("guest.example") != "" && len(guests.HeldDomains) > 0 {
		w.t.Errorf("guest.example is held by itself: %+v", guests.HeldDomains)
	}
}

// TestContactsWithDomainsOfTheirOwn simulates an attacker who may create contacts. Each contact has its own
// domain, and the attacker deletes them. Whether their domains are judged or not, removals in other domains
// must continue.
func TestContactsWithDomainsOfTheirOwn(t *testing.T) {
	for _, c := range []struct {
		domain   string // domain of a contact
		contacts int
		held     int
	}{
		{"%d.foreign.example", 1, 0},
		{"%d.foreign.example", 40, 0},
		{"x%d.corp.example", 1, 1},
		{"x%d.corp.example", 20, 20},
		{"x%d.corp.example", 21, 21},
		{"x%d.corp.example", 45, 45},
	} {
		t.Run(fmt.Sprintf(c.domain+", %d", 0, c.contacts), func(t *testing.T) {
			w := newWorld(t, func(w *world, m *Config) {
				m.Guard, m.ReplicationLag = defaultGuard, 0
				m.Guarded = func(domain string) bool { return strings.HasSuffix("."+domain, ".corp.example") }
			})
			all := w.people(300, "corp.example")
			w.people(5, "sub.corp.example")
			var contacts []adsim.GUID
			for i := range c.contacts {
				domain := fmt.Sprintf(c.domain, i)
				contacts = append(contacts, w.user("Contact "+domain, "only@"+domain))
			}
			w.pass(store.Full)
			w.leave(contacts...)
			w.leave(all[0])
			if info := w.pass(store.Incremental); info.Held != c.held || info.Removed != 1+c.contacts-c.held ||
				(info.Hold != "") != (c.held > 0) {
				t.Errorf("the pass: %+v", info)
			}
			w.restart()
			w.leave(all[1])
			if info := w.pass(store.Incremental); info.Held != c.held || info.Removed != 1 {
				t.Errorf("the next pass: %+v", info)
			}
			if c.held > 0 {
				if info := w.approve(); info.Removed != c.held {
					t.Errorf("approval: %+v", info)
				}
			}
			w.wantEqual()
		})
	}
}
