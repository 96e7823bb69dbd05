package simulated

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/policy"
)

const (
	// staleAfter is the age of the last good pass from which the index rejects no recipient.
	staleAfter = 4 * time.Hour
	// grace is how long a removed address is deferred.
	grace = 30 * time.Minute
	// sharedDomain is a domain of which both forests have recipients.
	sharedDomain = "shared.example"
)

// oracle asks the policy about recipients, as the daemon does.
type oracle struct {
	policy  *policy.Policy
	aliases map[string]string // alias domain to target
}

// index joins the store with the state of the mirrors, as the index of the daemon does.
type index struct{ w *world }

func (i index) Lookup(a address.Address) (policy.Entry, error) {
	p, err := i.w.store.Lookup(a)
	return policy.Entry{Known: p.Known, InternalOnly: p.InternalOnly, Removed: p.Removed, Doubt: p.Doubt}, err
}

// Freshness returns the worst state of the directories that may own a domain.
func (i index) Freshness(domain string) policy.Freshness {
	worst := policy.Fresh
	for _, f := range i.w.forests {
		if state, _ := f.mirror.State(); f.mayOwn(domain) && state.Rank() > worst.Rank() {
			worst = state
		}
	}
	return policy.Freshness{State: worst}
}

// mayOwn reports whether a forest may have addresses of a domain.
func (f *forest) mayOwn(domain string) bool { return domain == f.domain || domain == sharedDomain }

// shared returns HandoverLag of the mirror. For some seeds it is nil, and the mirror finds out by
// itself that there is another directory.
func (f *forest) shared() func(domain string) time.Duration {
	if !f.w.knowsOwners() {
		return nil
	}
	return func(domain string) time.Duration {
		if domain == "" || domain == sharedDomain {
			return lag
		}
		return 0
	}
}

// knowsOwners reports whether the mirrors are configured with the domains that other directories may
// own.
func (w *world) knowsOwners() bool { return w.seed/2%2 == 0 }

// handsOver returns a function that reports whether another forest may have an address. Such an
// address stays known for the lag after this forest lost it, unless its object was deleted.
func (f *forest) handsOver() func(at pair) bool {
	othersRead := true
	for _, other := range f.w.forests {
		othersRead = othersRead && (other == f || other.promise.followed != nil)
	}
	return func(at pair) bool {
		return othersRead && (!f.w.knowsOwners() || strings.HasSuffix(at.address, "@"+sharedDomain))
	}
}

// aliasDomains are the domains that a configuration may make an alias of another one.
var aliasDomains = []string{"corp.test", "other.test", "shared.test"}

// reload makes the policy of a configuration with other domain aliases.
func (w *world) reload() {
	w.oracle.aliases = pick(w.rnd, []map[string]string{nil, {"corp.test": "corp.example"},
		{"corp.test": "corp.example", "other.test": "other.example", "shared.test": sharedDomain},
		{"corp.test": "other.example", "shared.test": "corp.test"}, {"other.test": sharedDomain}})
	domains := map[string]policy.Mode{sharedDomain: policy.ModeEnforce}
	for _, f := range w.forests {
		domains[f.domain] = policy.ModeEnforce
	}
	for _, alias := range aliasDomains {
		domains[alias] = policy.ModeEnforce
	}
	made, err := policy.New(policy.Config{Index: index{w},
		HasAddresses: func(domain string) bool { return w.store.HasDomain(domain) },
		Domains:      domains, DomainAliases: w.oracle.aliases, RemovalGrace: grace, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	w.oracle.policy = made
	w.note("domain aliases: %v", w.oracle.aliases)
	w.check("after a reload")
}

// decide asks the policy about a recipient of a sender from inside or outside.
func (o *oracle) decide(w *world, recipient string, inside bool) policy.Decision {
	q := policy.Query{Recipient: recipient}
	if inside {
		q.Authenticated = "ann"
	}
	return o.policy.Decide(w.t.Context(), q)
}

// names returns a recipient and its names in the domains that are aliases of its own.
func (o *oracle) names(recipient string) []string {
	local, domain, _ := strings.Cut(recipient, "@")
	names := []string{recipient}
	for _, alias := range aliasDomains {
		target := alias
		for next, ok := o.aliases[target]; ok; next, ok = o.aliases[target] {
			target = next
		}
		if target == domain {
			names = append(names, local+"@"+alias)
		}
	}
	return names
}

// mustNotReject fails if the policy permanently rejects a recipient by any of its names. The
// key of a recipient that takes mail from outside ends with "!"; others are asked about from
// inside only.
func (w *world) mustNotReject(key, when string, because ...any) {
	recipient, open := strings.CutSuffix(key, "!")
	for n, name := range w.oracle.names(recipient) {
		if n > 0 && !w.inTurn(key, 4) {
			break // it takes long to ask for all names each time
		}
		if d := w.oracle.decide(w, name, !open); d.Reply.Code() >= 500 {
			w.fail("%s: %s is rejected: %s, %s (index %s): %s", when, name, d.Verdict, d.Reason, d.Freshness.State,
				fmt.Sprint(because...))
		}
	}
}

// noteValid updates which keys every controller of a forest has shown since when.
func (f *forest) noteValid() {
	for key := range f.valid {
		if !f.shownByAll(key) {
			delete(f.valid, key)
		}
	}
	for key := range f.controllers[0].view.since {
		if _, known := f.valid[key]; !known && f.shownByAll(key) {
			f.valid[key] = f.w.now()
		}
	}
}

func (f *forest) shownByAll(key string) bool {
	return !slices.ContainsFunc(f.controllers, func(c *controller) bool {
		_, shown := c.view.since[key]
		return !shown
	})
}

// clockSetBack starts the waits of all recipients anew: times before and after do not compare.
func (w *world) clockSetBack() {
	for _, f := range w.forests {
		f.setBack = true
		for key := range f.valid {
			f.valid[key] = w.now()
		}
	}
}

// checkPolicy asks the policy about every recipient that it must not permanently reject now,
// whether the index knows it or not.
func (w *world) checkPolicy(when string) {
	for _, f := range w.forests {
		for key := range f.widenedNow() {
			if !w.sampled(key) {
				continue
			}
			w.mustNotReject(key, when, "the rules of before do not show it, and no pass has read by those of now")
		}
		if f.setBack {
			continue
		}
		for key, since := range f.valid {
			if w.now().Sub(since) > staleAfter && !f.promise.promises(key) && w.sampled(key) {
				w.mustNotReject(key, when, "every controller has shown it since ", since.Format(time.DateTime))
			}
		}
	}
}

// widenedNow is widened, computed once in each step.
func (f *forest) widenedNow() map[string]bool {
	if f.widenedStep != f.w.step {
		f.widenedStep, f.widenedKeys = f.w.step, f.widened()
	}
	return f.widenedKeys
}

// widened returns the keys that every controller shows under the rules of now, and none
// under those that were read by last. Before the first pass these are all keys.
func (f *forest) widened() map[string]bool {
	if f.read.is(f.knobs, f.catalog) {
		return nil
	}
	keys := keysOf(f.controllers[0].truth())
	for _, c := range f.controllers {
		now := keysOf(c.truth())
		maps.DeleteFunc(keys, func(key string, _ bool) bool { return !now[key] })
		if f.read.any {
			before := keysOf(c.truthUnder(f.read.knobs, f.read.catalog))
			maps.DeleteFunc(keys, func(key string, _ bool) bool { return before[key] })
		}
	}
	return keys
}

// readRules are the rules and the view of the last good pass.
type readRules struct {
	any     bool
	knobs   knobs
	catalog bool
}

func (r readRules) is(k knobs, catalog bool) bool {
	return r.any && r.catalog == catalog && r.knobs.String() == k.String()
}

// keysOf returns the keys of a truth, see view.
func keysOf(pairs map[pair]bool) map[string]bool {
	keys := map[string]bool{}
	for at := range shares(pairs) {
		keys[at.key] = true
	}
	return keys
}

// compareDecisions compares what the policy says of every address with the truth.
func (w *world) compareDecisions() {
	open := map[string]bool{} // owned addresses: does one owner take mail from outside?
	for _, f := range w.forests {
		for p, restricted := range f.promise.followed.truth() {
			open[p.address] = open[p.address] || !restricted
		}
	}
	all, populated := slices.Collect(maps.Keys(open)), map[string]bool{}
	for _, recipient := range all {
		populated[address.DomainOf(recipient)] = true
	}
	for n := range pool {
		for _, domain := range []string{w.forests[0].domain, w.forests[1].domain, sharedDomain} {
			all = append(all, fmt.Sprintf("a%d@%s", n, domain), fmt.Sprintf("s%d@%s", n, domain))
		}
	}
	for _, recipient := range all {
		fromOutside, owned := open[recipient]
		rejection := policy.VerdictNotReady // of a domain without any address
		if populated[address.DomainOf(recipient)] {
			rejection = policy.VerdictUnknown
		}
		for _, name := range w.oracle.names(recipient) {
			w.mustDecide(name, false, fromOutside, rejection)
			w.mustDecide(name, true, owned, rejection)
		}
	}
}

// mustDecide fails unless a recipient is accepted or gets a verdict for one that is not valid.
// One that was removed a short while ago may be deferred.
func (w *world) mustDecide(name string, inside, accepted bool, otherwise policy.Verdict) {
	d := w.oracle.decide(w, name, inside)
	verdict := d.Verdict
	if verdict == policy.VerdictRestricted { // known, and to the sender the same as unknown
		verdict = policy.VerdictUnknown
	}
	inGrace := verdict == policy.VerdictInGrace && w.now().Sub(d.Removed).Abs() < grace
	if accepted && verdict != policy.VerdictKnown || !accepted && verdict != otherwise && !inGrace {
		w.fail("%s at a quiet point, inside %t: %s, %s, %v; accepted must be %t", name, inside, d.Verdict, d.Reason,
			d.Reply, accepted)
	}
}
