package testenv_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/testenv"
)

// A random life in a real domain, beside the one on simulated controllers in soak: fewer
// operations and fewer faults, but the real Samba, daemon and Postfix.

var (
	randomOps  = flag.Int("random.ops", 120, "operations of the random life on Samba")
	randomSeed = flag.Uint64("random.seed", 1, "its seed")
)

const (
	// randomEach limits one operation, including all waiting.
	randomEach = 3 * time.Second
	// randomPool is the number of addresses that move between objects.
	randomPool = 40
	// randomPeople is the approximate number of objects.
	randomPeople = 30
)

// life is one random life. A failure prints the operations since the last quiet point.
type life struct {
	*edge
	world  *model
	domain *testenv.Domain
	rnd    *rand.Rand
	prober *prober
	steps  []string
	ops    int

	known   map[string]bool   // addresses that the index had at a quiet point
	digests map[string]string // recipients of the index, by its digest
	counts  map[string]int    // number of operations, by kind
	quiets  int
}

// TestRandomSamba: at each quiet point the index equals a model of the domain, and no valid
// address is ever rejected. The same seed repeats the same operations.
func TestRandomSamba(t *testing.T) {
	l := newLife(t)
	defer l.report()
	began := time.Now()
	calm := 20 + l.rnd.IntN(20)
	for l.ops = 0; l.ops < *randomOps && !t.Failed(); l.ops++ {
		l.one()
		if calm--; calm == 0 {
			l.quiet()
			calm = 20 + l.rnd.IntN(20)
		}
	}
	l.quiet()
	t.Logf("seed %d: %d operations, %d quiet points, %.0f s: %v", *randomSeed, l.ops, l.quiets,
		time.Since(began).Seconds(), l.counts)
}

func newLife(t *testing.T) *life {
	t.Helper()
	e := require(t)
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline+time.Duration(*randomOps)*randomEach)
	t.Cleanup(cancel)
	e.ctx = ctx
	l := &life{edge: e, rnd: rand.New(rand.NewPCG(*randomSeed, 0x5a3ba)), known: map[string]bool{},
		digests: map[string]string{}, counts: map[string]int{}}
	l.connect()
	t.Cleanup(l.clean)
	l.must(l.domain.DeleteTree(lifeOU)) // of a run that was interrupted
	l.world = newModel()
	l.must(l.world.furnish(l.domain))
	l.must(l.Stop(l.ctx, testenv.Milter))
	l.startEmpty(l.edits()...)
	_, err := l.AwaitCaughtUp(l.ctx, l.domain)
	l.must(err)
	prober, stop := l.probe(l.world.anchors()...)
	l.prober = prober
	t.Cleanup(stop)
	return l
}

// connect connects to dc1, again after an outage.
func (l *life) connect() {
	l.t.Helper()
	if l.domain != nil {
		l.domain.Close()
	}
	domain, err := l.Administrator(l.ctx)
	l.must(err)
	l.domain = domain
}

// clean restores dc1.
func (l *life) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
	defer cancel()
	l.domain.Close()
	domain, err := l.Administrator(ctx)
	if err == nil {
		defer domain.Close()
		err = domain.DeleteTree(lifeOU)
	}
	if err == nil {
		err = l.ListDeleted(ctx, testenv.MailDN, true)
	}
	if err != nil {
		l.t.Errorf("cleaning up: %v", err)
	}
}

// report prints how to reproduce a failure.
func (l *life) report() {
	if l.t.Failed() {
		l.t.Logf("seed %d, steps since the last quiet point:\n%s\nto see it again: go run ./cmd/testenv test "+
			"./testenv -v -run TestRandomSamba -args -random.seed %d -random.ops %d",
			*randomSeed, strings.Join(l.steps, "\n"), *randomSeed, l.ops+1)
	}
}

// edits returns the rules of the model as edits of the configuration.
func (l *life) edits() []func(string) string {
	r := l.world.rules
	bases, err := json.Marshal(r.Bases)
	l.must(err)
	keys := fmt.Sprintf("    poll: 1s\n    bases: %s\n", bases)
	if r.ProxiesOnly {
		keys += "    address_attributes: [proxyAddresses]\n"
	}
	if r.OmitDisabled {
		keys += "    disabled_accounts: omit\n"
	}
	edits := []func(string) string{testenv.Replace("    poll: 1s\n", keys)}
	if r.Grace {
		edits = append(edits, testenv.Replace("removal_grace: 0s", "removal_grace: 1h"))
	}
	return edits
}

// note records an operation.
func (l *life) note(format string, args ...any) {
	l.steps = append(l.steps, fmt.Sprintf("%4d  ", l.ops)+fmt.Sprintf(format, args...))
}

// change applies an operation to the model and then to the domain. It first takes the
// addresses that become invalid from the prober; they return at the next quiet point.
func (l *life) change(c change) {
	l.t.Helper()
	l.note("%s", c.what)
	c.model()
	l.expect()
	if err := c.domain(l.domain); err != nil {
		l.t.Fatalf("%s: %v", c.what, err)
	}
}

// expect makes the prober ask for the valid addresses of the model.
func (l *life) expect() {
	valid := l.world.valid()
	for _, a := range l.prober.list() {
		if !valid[a] {
			l.prober.remove(a)
		}
	}
}

func draw[T any](l *life, list []T) T { return list[l.rnd.IntN(len(list))] }

// address draws from a small pool, which makes collisions likely.
func (l *life) address() string {
	return fmt.Sprintf("life%d@%s", l.rnd.IntN(randomPool), draw(l,
		[]string{"corp.example", "corp.example", "lab.sub.example"}))
}

// proxy spells an address as a value of proxyAddresses.
func (l *life) proxy(address string) string {
	return draw(l, []string{"smtp:", "SMTP:", "sMtP:"}) + draw(l,
		[]string{address, strings.ToUpper(address[:1]) + address[1:]})
}

// one runs one operation.
func (l *life) one() {
	l.t.Helper()
	people := l.world.living()
	if len(people) < randomPeople/2 || len(people) < randomPeople && l.rnd.IntN(6) == 0 {
		l.counts["create"]++
		l.create(l.address())
		return
	}
	someone, other := draw(l, people), draw(l, people)
	operations := []struct {
		name   string
		weight int
		do     func()
	}{
		{"create", 8, func() { l.create(l.address()) }},
		{"add", 9, func() { l.add(someone, l.address()) }},
		{"remove", 6, func() { l.remove(someone) }},
		{"mail", 5, func() {
			l.change(l.world.setMail(someone, draw(l, []string{"", l.address(), l.address()})))
		}},
		{"move-alias", 12, func() { l.moveAlias(someone, other) }},
		{"share", 4, func() { l.share(someone, other) }},
		{"rename", 4, func() { l.change(l.world.move(someone, l.world.newName(), someone.ou)) }},
		{"move", 10, func() { l.change(l.world.move(someone, someone.name, draw(l, l.world.places()))) }},
		{"move-ou", 5, func() {
			l.change(l.world.moveOU(draw(l, l.world.wander), draw(l, l.world.fixed())))
		}},
		{"disable", 6, func() { l.disable(someone) }},
		{"delete", 7, func() { l.change(l.world.delete(someone)) }},
		{"replace", 4, func() { l.replace(someone) }},
		{"undelete", 6, l.undelete},
		{"pass", 4, func() { l.note("sync"); l.sync() }},
		{"right", 2, l.right},
		{"reload", 3, l.reload},
		{"kill", 2, func() {
			l.note("the daemon is killed")
			l.must(l.Kill(l.ctx, testenv.Milter))
			l.must(l.Start(l.ctx, testenv.Milter))
		}},
		{"restart-dc", 1, func() {
			l.note("dc1 is restarted")
			l.must(l.Restart(l.ctx, testenv.DC))
			l.connect()
		}},
	}
	all := 0
	for _, o := range operations {
		all += o.weight
	}
	n := l.rnd.IntN(all)
	for _, o := range operations {
		if n -= o.weight; n < 0 {
			l.counts[o.name]++
			o.do()
			return
		}
	}
}

func (l *life) create(addresses ...string) {
	l.t.Helper()
	o := person{name: l.world.newName(), class: draw(l, []string{"user", "user", "user", "group", "contact"}),
		ou: draw(l, l.world.places())}
	for _, a := range addresses {
		o.proxies = append(o.proxies, l.proxy(a))
	}
	if l.rnd.IntN(3) == 0 {
		o.proxies = append(o.proxies, "sip:"+o.name+"@corp.example", "X500:/o=Corp/cn="+o.name)
	}
	if l.rnd.IntN(3) == 0 {
		o.mail = l.address()
	}
	l.change(l.world.create(&o))
}

// add gives a random object an alias that it does not have.
func (l *life) add(o *person, address string) {
	l.t.Helper()
	if !o.hasProxy(address) {
		l.change(l.world.addProxy(o, l.proxy(address)))
	}
}

// remove removes an alias, if there is one.
func (l *life) remove(o *person) {
	l.t.Helper()
	if len(o.proxies) > 0 {
		l.change(l.world.removeProxy(o, draw(l, o.proxies)))
	}
}

// moveAlias moves an alias to another object. Usually the new owner gets it first. A pass may
// run between the two steps.
func (l *life) moveAlias(from, to *person) {
	l.t.Helper()
	aliases := from.smtp()
	if len(aliases) == 0 || from == to {
		l.add(to, l.address())
		return
	}
	value := draw(l, aliases)
	_, address, _ := strings.Cut(value, ":")
	halves := []func(){
		func() { l.add(to, strings.ToLower(address)) },
		func() { l.change(l.world.removeProxy(from, value)) },
	}
	if l.rnd.IntN(3) == 0 {
		slices.Reverse(halves)
	}
	halves[0]()
	if l.rnd.IntN(4) == 0 {
		l.note("sync")
		l.sync()
	}
	halves[1]()
}

// share gives an address of one object to another as well.
func (l *life) share(from, to *person) {
	l.t.Helper()
	if aliases := from.smtp(); len(aliases) > 0 {
		_, address, _ := strings.Cut(draw(l, aliases), ":")
		l.add(to, strings.ToLower(address))
	}
}

func (l *life) disable(o *person) {
	l.t.Helper()
	if o.class == "user" {
		l.change(l.world.disable(o, !o.disabled))
	}
}

// replace deletes an object and creates another one with its addresses, in either order.
func (l *life) replace(o *person) {
	l.t.Helper()
	addresses := slices.Compact(slices.Sorted(slices.Values(o.addresses(false))))
	if l.rnd.IntN(2) == 0 {
		l.create(addresses...)
		l.change(l.world.delete(o))
		return
	}
	l.change(l.world.delete(o))
	l.create(addresses...)
}

func (l *life) undelete() {
	l.t.Helper()
	if dead := l.world.deleted(); len(dead) > 0 {
		o := draw(l, dead)
		l.change(l.world.undelete(o, draw(l, l.world.places())))
		// The tombstone has lost them.
		l.change(l.world.addProxy(o, l.proxy(l.address())))
	}
}

// right removes or restores the right to see deleted objects.
func (l *life) right() {
	l.t.Helper()
	l.world.blind = !l.world.blind
	l.note("deleted objects can be seen: %t", !l.world.blind)
	l.must(l.ListDeleted(l.ctx, testenv.MailDN, !l.world.blind))
}

// reload changes the rules of the running daemon.
func (l *life) reload() {
	l.t.Helper()
	l.world.rules = rules{
		Bases:        draw(l, [][]string{{lifeIn}, {lifeIn, lifeSecond}, {lifeSecond}}),
		ProxiesOnly:  l.rnd.IntN(3) == 0,
		OmitDisabled: l.rnd.IntN(2) == 0,
		Grace:        l.rnd.IntN(2) == 0,
	}
	l.note("reload with %+v", l.world.rules)
	l.expect()
	l.must(l.Configure(l.ctx, l.edits()...))
	out, err := l.RunMilter(l.ctx, "reload")
	if l.must(err); out.Status != 0 {
		l.t.Fatalf("reload: exit status %d: %s%s", out.Status, out.Stdout, out.Stderr)
	}
}

// sync runs a pass. After an outage of a controller, the first pass may find a dead
// connection.
func (l *life) sync(args ...string) {
	l.t.Helper()
	l.must(testenv.AwaitNil(l.ctx, poll, func(ctx context.Context) error { return l.Sync(ctx, args...) }))
}

// quiet compares the index with the model, address by address. It asks Postfix for each
// address that has or had an owner.
func (l *life) quiet() {
	l.t.Helper()
	l.quiets++
	var full []string
	if l.world.blind { // otherwise deletions take up to ten minutes
		full = []string{"--full"}
	}
	l.sync(full...)
	status, err := l.AwaitCaughtUp(l.ctx, l.domain)
	l.must(err)
	valid := l.world.valid()
	want := slices.Sorted(maps.Keys(valid))
	l.model()
	if diff := cmp.Diff(want, l.exported()); diff != "" {
		l.t.Errorf("the index (-model +index):\n%s", diff)
	}
	out, err := l.RunMilter(l.ctx, "compare")
	if l.must(err); out.Status != 0 {
		l.t.Errorf("compare: exit status %d: %s%s", out.Status, out.Stdout, out.Stderr)
	}
	l.digest(status, strings.Join(want, " "))
	l.answers(valid)
	if l.t.Failed() {
		l.t.FailNow()
	}
	for a := range valid {
		l.known[a] = true
	}
	l.prober.add(want...)
	l.t.Logf("quiet point after %d operations: %d objects, %d addresses in the index, %v", l.ops,
		len(l.world.objects), len(want), l.world.rules)
	l.steps = nil
}

// model compares the model with the domain, to distinguish an error of the model from one of
// the daemon.
func (l *life) model() {
	l.t.Helper()
	have, err := l.domain.Objects(lifeOU)
	l.must(err)
	if diff := cmp.Diff(l.world.list(), have); diff != "" {
		l.t.Fatalf("the model is wrong (-model +domain):\n%s", diff)
	}
}

// exported lists the index.
func (l *life) exported() []string {
	l.t.Helper()
	out, err := l.RunMilter(l.ctx, "export", "--format", "json", "--all")
	l.must(err)
	var rows []struct {
		Address string `json:"address"`
		Source  string `json:"source"`
	}
	if err := json.Unmarshal([]byte(out.Stdout), &rows); err != nil {
		l.t.Fatalf("export: exit status %d, %v: %s", out.Status, err, out.Stderr)
	}
	var list []string
	for _, r := range rows {
		if r.Source == "index" {
			list = append(list, r.Address)
		}
	}
	slices.Sort(list)
	return list
}

// digest checks that equal digests mean equal recipients, and the reverse.
func (l *life) digest(status testenv.Status, holds string) {
	l.t.Helper()
	for digest, held := range l.digests {
		if (digest == status.Digest) != (held == holds) {
			l.t.Errorf("digest %s of %q, and %s of %q before", status.Digest, holds, digest, held)
		}
	}
	l.digests[status.Digest] = holds
}

// answers asks Postfix for every address of the pool.
func (l *life) answers(valid map[string]bool) {
	l.t.Helper()
	ask := l.world.anchors()
	for n := range randomPool {
		ask = append(ask, fmt.Sprintf("life%d@corp.example", n), fmt.Sprintf("life%d@lab.sub.example", n))
	}
	replies, err := l.AskAll(l.ctx, ask)
	l.must(err)
	for _, a := range ask {
		want := []int{550}
		switch {
		case valid[a]:
			want = []int{250}
		case l.world.rules.Grace && l.known[a]:
			want = []int{450}
		case l.world.rules.Grace: // it may have been added and removed since the last quiet point
			want = []int{450, 550}
		}
		if !slices.Contains(want, replies[a].Code()) {
			l.t.Errorf("edge replied %q to %s, want %d", replies[a], a, want)
		}
	}
}
