package testenv_test

import (
	"context"
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
	"rcpt-milter/testenv/soak/model"
)

// A random life in a real domain, beside the one on simulated controllers in soak/simulated: fewer
// operations and fewer faults, but the real Samba, daemon and Postfix.

var (
	randomOps  = flag.Int("random.ops", 120, "operations of the random life on Samba")
	randomSeed = flag.Uint64("random.seed", 1, "its seed")
)

// randomEach limits one operation, including all waiting.
const randomEach = 3 * time.Second

// life is one random life. A failure prints the operations since the last quiet point.
type life struct {
	*edge
	world  *model.Model
	blind  bool // the daemon may not see deleted objects
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
	l.world = model.New("Life", l.rnd)
	l.must(l.domain.DeleteTree(l.world.Root)) // of a run that was interrupted
	l.must(l.world.Furnish(l.domain, 2))
	l.must(l.Stop(l.ctx, testenv.Milter))
	l.startEmpty(l.edits()...)
	_, err := l.AwaitCaughtUp(l.ctx, l.domain)
	l.must(err)
	prober, stop := l.probe(l.world.Anchors()...)
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
		err = domain.DeleteTree(l.world.Root)
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
func (l *life) edits() []func(string) string { return l.world.Rules.Edits("") }

// note records an operation.
func (l *life) note(format string, args ...any) {
	l.steps = append(l.steps, fmt.Sprintf("%4d  ", l.ops)+fmt.Sprintf(format, args...))
}

// change applies a change to the model and then to the domain. It first takes the
// addresses that become invalid from the prober; they return at the next quiet point.
func (l *life) change(c model.Change) {
	l.t.Helper()
	l.note("%s", c.What)
	c.Model()
	l.expect()
	if err := c.Domain(l.domain); err != nil {
		l.t.Fatalf("%s: %v", c.What, err)
	}
}

// expect makes the prober ask for the valid addresses of the model.
func (l *life) expect() {
	valid := l.world.Valid()
	for _, a := range l.prober.list() {
		if !valid[a] {
			l.prober.remove(a)
		}
	}
}

// one runs one operation.
func (l *life) one() {
	l.t.Helper()
	type operation struct {
		name   string
		weight int
		do     func()
	}
	list := []operation{
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
	for _, o := range l.world.Operations() {
		list = append(list, operation{o.Name, o.Weight, func() { l.apply(o.Draw()) }})
	}
	o := model.Choose(l.rnd, list, func(o operation) int { return o.weight })
	l.counts[o.name]++
	o.do()
}

// apply applies the steps of an operation. A pass may run between two steps.
func (l *life) apply(steps []model.Step) {
	l.t.Helper()
	for i, step := range steps {
		if i > 0 && l.rnd.IntN(4) == 0 {
			l.note("sync")
			l.sync()
		}
		l.change(step())
	}
}

// right removes or restores the right to see deleted objects.
func (l *life) right() {
	l.t.Helper()
	l.blind = !l.blind
	l.note("deleted objects can be seen: %t", !l.blind)
	l.must(l.ListDeleted(l.ctx, testenv.MailDN, !l.blind))
}

// reload changes the rules of the running daemon.
func (l *life) reload() {
	l.t.Helper()
	l.world.Rules = model.DrawRules(l.rnd)
	l.world.Rules.Bases = l.world.DrawBases(l.rnd)
	l.note("reload with %+v", l.world.Rules)
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
	if l.blind { // otherwise deletions take up to ten minutes
		full = []string{"--full"}
	}
	l.sync(full...)
	status, err := l.AwaitCaughtUp(l.ctx, l.domain)
	l.must(err)
	valid := l.world.Valid()
	want := slices.Sorted(maps.Keys(valid))
	l.compareModel()
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
		l.world.Objects(), len(want), l.world.Rules)
	l.steps = nil
}

// compareModel compares the model with the domain, to distinguish an error of the model from one of
// the daemon.
func (l *life) compareModel() {
	l.t.Helper()
	have, err := l.domain.Objects(l.world.Root)
	l.must(err)
	if diff := cmp.Diff(l.world.List(), have); diff != "" {
		l.t.Fatalf("the model is wrong (-model +domain):\n%s", diff)
	}
}

// exported lists the index.
func (l *life) exported() []string {
	l.t.Helper()
	list, err := l.Exported(l.ctx)
	l.must(err)
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
	ask := append(l.world.Anchors(), l.world.Pool()...)
	replies, err := l.AskAll(l.ctx, ask)
	l.must(err)
	populated := map[string]bool{}
	for a := range valid {
		_, domain, _ := strings.Cut(a, "@")
		populated[domain] = true
	}
	for _, a := range ask {
		want := []int{550}
		_, domain, _ := strings.Cut(a, "@")
		switch {
		case valid[a]:
			want = []int{250}
		case !populated[domain]: // not ready: the index knows no address of the domain
			want = []int{451}
		case l.world.Rules.Grace && l.known[a]:
			want = []int{450}
		case l.world.Rules.Grace: // it may have been added and removed since the last quiet point
			want = []int{450, 550}
		}
		if !slices.Contains(want, replies[a].Code()) {
			l.t.Errorf("edge replied %q to %s, want %d", replies[a], a, want)
		}
	}
}
