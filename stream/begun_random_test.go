package stream

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRandomBackups lives a random life of backups: a hub that stops, starts and publishes a new generation, an
// edge that restarts, whose passes do not end, or that knows nothing yet, and an engine that is restored from
// any earlier backup. All people stay in the directory, so the edge goes back exactly if it forgets one that it
// has known. Only a full pass that an operator requests may do so. In the end the edge has everybody. The
// environment sets SEEDS and SEED, as for the other random tests.
func TestRandomBackups(t *testing.T) {
	first, seeds := number(t, "SEED", 0), number(t, "SEEDS", 2)
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			l := newBackupLife(t, uint64(seed))
			for range 25 {
				l.step()
			}
			l.end()
		})
	}
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// backupLife is the world of one seed.
type backupLife struct {
	*trio
	r       *rand.Rand
	cut     *scissors
	people  []string
	known   map[string]bool // people that the edge has known
	wanted  bool            // an operator has requested a full pass, and no pass has ended since
	backups []string
	log     []string
}

func newBackupLife(t *testing.T, seed uint64) *backupLife {
	l := &backupLife{r: rand.New(rand.NewPCG(seed, 0)), known: map[string]bool{},
		trio: &trio{t: t, engine: newEngine(t, nil), domain: newDomain(t)}}
	for range 20 {
		l.person()
	}
	l.hub = newHub(t, "hub", l.domain, l.engine.client("hub")).start()
	l.edge = newEdge(t, "edge", l.engine.client("edge"))
	l.cut = l.edge.withScissors()
	eventually(t, "the hub has published", func() bool { return !l.hub.publisher.Status().Published.IsZero() })
	l.backup()
	if l.r.IntN(2) == 0 {
		l.cut.arm(l.r.IntN(30))
	}
	l.edge.start()
	l.check()
	return l
}

func (l *backupLife) note(format string, values ...any) {
	l.log = append(l.log, fmt.Sprintf(format, values...))
}

func (l *backupLife) person() {
	name := fmt.Sprintf("p%d", len(l.people))
	l.domain.add(name, name+"@corp.example")
	l.people = append(l.people, name+"@corp.example")
}

// published waits until a hub that runs has published what there is.
func (l *backupLife) published() {
	if l.isUp() {
		at := time.Now()
		eventually(l.t, "the hub has published", func() bool { return l.hub.publisher.Status().Published.After(at) })
		l.note("the hub has published")
	}
}

// isUp reports whether the hub runs.
func (l *backupLife) isUp() bool { return l.hub.cancel != nil }

func (l *backupLife) step() {
	switch l.r.IntN(12) {
	case 0, 1:
		l.person()
		l.note("another person")
	case 2:
		if l.isUp() {
			l.hub.stop()
		} else {
			l.hub.start()
		}
		l.note("the hub runs: %t", l.isUp())
	case 3:
		l.generation()
	case 4:
		l.interrupt()
	case 5:
		l.cut.cut.Store(false)
		l.note("passes end")
	case 6:
		l.edge.stop()
		l.edge.start()
		l.note("the edge restarts")
	case 7:
		l.backup()
	case 8, 9:
		l.restore()
	case 10:
		l.operator()
	case 11:
		l.published()
	}
	l.check()
}

// interrupt lets passes end after some objects, or after all of them. Half the time there is a backup of this
// moment, so the passes read something newer.
func (l *backupLife) interrupt() {
	keep := l.r.IntN(60)
	l.cut.arm(keep)
	l.note("passes end after %d objects", keep)
	if l.r.IntN(2) == 0 {
		l.backup()
		l.person()
	}
}

// generation begins a new generation of the stream, and waits until it is published if the hub runs.
func (l *backupLife) generation() {
	l.hub.stop()
	_ = l.engine.admin().DeleteStream(l.t.Context(), streamName("corp")) // it may be deleted already
	l.person()
	l.hub.start()
	eventually(l.t, "the hub has published", func() bool { return !l.hub.publisher.Status().Published.IsZero() })
	if l.r.IntN(2) == 0 {
		l.check()
		l.hub.stop()
	}
	l.note("a new generation, the hub runs: %t", l.isUp())
}

func (l *backupLife) backup() {
	l.stopped(func() { l.backups = append(l.backups, l.engine.backup()) })
	l.note("backup %d", len(l.backups)-1)
}

func (l *backupLife) restore() {
	i := l.r.IntN(len(l.backups))
	if l.r.IntN(2) == 0 {
		i = len(l.backups) - 1
	}
	if l.r.IntN(2) == 0 { // nothing repairs the stream
		l.hub.stop()
	}
	if l.r.IntN(2) == 0 {
		defer l.cut.cut.Store(false)
	}
	l.stopped(func() { l.engine.restore(l.backups[i]) })
	l.note("backup %d is restored, the hub runs: %t", i, l.isUp())
}

// stopped does something while the engine is stopped. Then it waits for the edge, and sometimes for the hub, so
// either of them may be the first to see the engine again.
func (l *backupLife) stopped(do func()) {
	l.t.Helper()
	began := time.Now()
	l.engine.stop()
	do()
	l.engine.start()
	nodes := []*node{l.edge}
	if l.isUp() && l.r.IntN(2) == 0 {
		nodes = append(nodes, l.hub)
	}
	for _, n := range nodes {
		eventually(l.t, n.name+" is connected again", func() bool {
			s := n.client.Status()
			return s.Connected && s.Since.After(began)
		})
	}
	if len(nodes) == 2 {
		l.published()
	}
}

// operator requests a full pass. It follows whatever the stream shows.
func (l *backupLife) operator() {
	l.wanted = true
	r := <-l.edge.mirror.Sync(true)
	l.note("full pass: %v", r.Err)
}

// check lets the edge make a pass, and compares what it knows with what it has known. After a request,
// the first pass that ends may have followed an older stream.
func (l *backupLife) check() {
	l.t.Helper()
	r := <-l.edge.mirror.Sync(false)
	l.note("  pass: %v", r.Err)
	if l.wanted {
		clear(l.known)
		l.wanted = r.Err != nil
	}
	for _, p := range l.people {
		has := l.edge.has(p)
		if l.known[p] && !has {
			l.t.Fatalf("the edge forgot %s\n%s", p, l.story())
		}
		l.known[p] = l.known[p] || has
	}
}

func (l *backupLife) story() string { return strings.Join(l.log, "\n") }

// end lets everything work again.
func (l *backupLife) end() {
	l.cut.cut.Store(false)
	if !l.isUp() {
		l.hub.start()
	}
	l.person()
	eventually(l.t, "the edge has everybody", func() bool {
		for _, p := range l.people {
			has := l.edge.has(p)
			if l.known[p] && !has {
				l.t.Fatalf("the edge forgot %s at the end\n%s", p, l.story())
			}
			if !has {
				return false
			}
		}
		return true
	})
	equal(l.t, l.hub, l.edge)
	eventually(l.t, "no error stays", func() bool { return l.edge.mirror.Status().LastError == nil })
}
