package mirror

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv/adsim"
)

// TestRandomReplicas lets three controllers replicate partially, fail and recover, while two directories follow
// them and objects change, move between the directories, are deleted and are restored. The addresses in the
// newest state of an object that any pass has read must stay known for the replication lag. They must also stay
// open to outside senders if objects become internal-only. SEEDS=3000 tries more seeds; SEED=17 starts with
// that one.
func TestRandomReplicas(t *testing.T) {
	first, seeds := number(t, "SEED", 0), number(t, "SEEDS", 6)
	for seed := first; seed < first+seeds; seed++ {
		for _, two := range []bool{false, true} {
			for _, closing := range []bool{false, true} {
				t.Run(fmt.Sprintf("seed %d, two directories %t, internal-only %t", seed, two, closing),
					func(t *testing.T) {
						l := newReplicatedLife(t, uint64(seed), two, closing)
						for range 120 {
							l.step()
						}
					})
			}
		}
	}
}

// number reads a number from the environment.
func number(t *testing.T, name string, usual int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return usual
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const elsewhere = "OU=Left,DC=corp,DC=example"

// lifeState is one state of an object. The attribute info has its number.
type lifeState struct {
	deleted bool
	left    bool // in the OU of the second directory
	closed  bool // internal-only
	has     []string
}

// lifeObject is an object that is written at only one controller, which orders its states.
type lifeObject struct {
	guid    adsim.GUID
	home    *adsim.Directory
	states  []lifeState
	newest  int // newest state that any pass has read; -1 means none
	read    time.Time
	holds   bool            // a pass read it in the scope of its directory
	counted map[string]bool // those of its addresses that were known
}

// follows is one directory in the index.
type follows struct {
	*Mirror
	left bool // its base is the OU of the second directory
	all  bool // it has no bases
}

func (f follows) covers(s lifeState) bool { return f.all || f.left == s.left }

// replicatedLife is the world of one seed.
type replicatedLife struct {
	*world
	r            *rand.Rand
	ds           []*adsim.Directory
	ss           []*adsim.Server
	up           []bool
	objects      []*lifeObject
	followers    []follows
	closing      bool          // objects become internal-only and open again
	unreplicated time.Duration // time since all controllers last had the same state
	window       time.Duration // how long an address that was read stays known, even if it is gone
	log          []string
}

func newReplicatedLife(t *testing.T, seed uint64, two, closing bool) *replicatedLife {
	l := &replicatedLife{closing: closing, r: rand.New(rand.NewPCG(seed, 7)), up: []bool{true, true, true},
		window: 170 * time.Minute}
	l.world = newWorld(t, func(w *world, c *Config) {
		w.d.SetRecycleBin(true)
		l.ds, l.ss = []*adsim.Directory{w.d}, []*adsim.Server{w.server}
		for i := range 2 {
			d := w.d.NewReplica(fmt.Sprint("dc", i+2), uint64(5000*(i+1)))
			d.SetRecycleBin(true)
			s := adsim.StartTest(w.t, d, adsim.ServerConfig{MaxPageSize: 3})
			l.ds, l.ss = append(l.ds, d), append(l.ss, s)
			c.Candidates = append(c.Candidates, w.candidate(s))
		}
		for _, d := range l.ds {
			d.SetOriginTimes(seed%2 == 1)
		}
		if two {
			c.Rules.Bases = []string{people}
		}
		c.Rules.InternalOnly = closing
	})
	l.followers = []follows{{Mirror: l.mirror, all: !two}}
	l.user("Stays", "stays@corp.example")
	l.add(adsim.User, "CN=Stays too,"+elsewhere, "stays.too@corp.example")
	l.converge()
	if two {
		l.second()
	}
	for i := range 6 {
		o := &lifeObject{home: l.ds[l.r.IntN(3)], newest: -1, counted: map[string]bool{}}
		has := l.names(i)[:2]
		attrs := adsim.Attrs{"proxyAddresses": proxies(has), "info": {"0"}}
		guid, err := o.home.Add(adsim.User, fmt.Sprintf("CN=o%d,%s", i, people), attrs)
		l.must(err)
		o.guid, o.states = guid, []lifeState{{has: has}}
		l.objects = append(l.objects, o)
	}
	l.converge()
	for _, f := range l.followers { // the store must have both
		l.follow(f)
	}
	return l
}

// second adds the directory of the other OU, which prefers the controllers in reverse order.
func (l *replicatedLife) second() {
	config := l.config
	config.Name, config.Rules.Bases = "left", []string{elsewhere}
	config.Candidates = slices.Clone(config.Candidates)
	slices.Reverse(config.Candidates)
	m, err := New(config)
	l.must(err)
	l.t.Cleanup(m.Close)
	l.followers = append(l.followers, follows{Mirror: m, left: true})
}

func (l *replicatedLife) names(i int) []string {
	var names []string
	for _, letter := range "abc" {
		names = append(names, fmt.Sprintf("o%d%c@corp.example", i, letter))
	}
	return names
}

func proxies(addresses []string) []string {
	var list []string
	for _, a := range addresses {
		list = append(list, "smtp:"+a)
	}
	return list
}

func (l *replicatedLife) note(format string, a ...any) {
	l.log = append(l.log, l.now().Format("15:04:05 ")+fmt.Sprintf(format, a...))
}

// converge replicates until all controllers have the same state.
func (l *replicatedLife) converge() {
	for range 3 {
		for _, to := range l.ds {
			for _, from := range l.ds {
				if to != from {
					to.ReplicateFrom(from, 0)
				}
			}
		}
	}
	l.unreplicated = 0
	l.note("all have replicated")
}

func (l *replicatedLife) step() {
	switch l.r.IntN(8) {
	case 0, 1, 2:
		l.write(l.r.IntN(len(l.objects)))
	case 3:
		if i, j := l.r.IntN(3), l.r.IntN(3); i != j {
			l.note("dc%d replicates from dc%d: %d", i+1, j+1, l.ds[i].ReplicateFrom(l.ds[j], l.r.IntN(4)))
		}
	case 4:
		l.toggle(l.r.IntN(3))
	default:
		passed := time.Duration(1+l.r.IntN(300)) * time.Second
		l.advance(passed)
		if l.unreplicated += passed; l.unreplicated > 100*time.Minute {
			l.converge()
		}
		l.follow(l.followers[l.r.IntN(len(l.followers))])
	}
}

// write changes an object at its home controller.
func (l *replicatedLife) write(n int) {
	o := l.objects[n]
	last := o.states[len(o.states)-1]
	next, k := last, strconv.Itoa(len(o.states))
	switch {
	case last.deleted:
		next.deleted = false
		l.must(o.home.Undelete(o.guid, ""))
		l.must(o.home.Modify(o.guid, adsim.Set("info", k)))
	case l.closing && l.r.IntN(2) == 0:
		next.closed = !last.closed
		attr := adsim.Set("msExchRequireAuthToSendTo")
		if next.closed {
			attr = adsim.Set("msExchRequireAuthToSendTo", "TRUE")
		}
		l.must(o.home.Modify(o.guid, attr, adsim.Set("info", k)))
	case l.r.IntN(3) == 0:
		next.deleted = true
		l.must(o.home.Modify(o.guid, adsim.Set("info", k)))
		l.must(o.home.Delete(o.guid))
	case len(l.followers) > 1 && l.r.IntN(2) == 0:
		next.left = !last.left
		l.must(o.home.Move(o.guid, map[bool]string{false: people, true: elsewhere}[next.left]))
		l.must(o.home.Modify(o.guid, adsim.Set("info", k)))
	default:
		next.has = slices.DeleteFunc(l.names(n), func(string) bool { return l.r.IntN(2) == 0 })
		l.must(o.home.Modify(o.guid, adsim.Set("proxyAddresses", proxies(next.has)...), adsim.Set("info", k)))
	}
	o.states = append(o.states, next)
	l.note("%s writes o%d #%s: %+v", o.home.HostName(), n, k, next)
}

// toggle makes a controller fail or recover; at least one always works.
func (l *replicatedLife) toggle(i int) {
	working := 0
	for _, up := range l.up {
		if up {
			working++
		}
	}
	switch {
	case !l.up[i]:
		if err := l.ss[i].Up(); err != nil { // another process has taken its port
			l.note("dc%d: %v", i+1, err)
			return
		}
	case working > 1:
		l.ss[i].Down()
	default:
		return
	}
	l.up[i] = !l.up[i]
	l.note("dc%d works: %t", i+1, l.up[i])
}

// follow runs a pass of a directory and checks what must be known afterwards.
func (l *replicatedLife) follow(f follows) {
	l.t.Helper()
	result := f.Pass(l.t.Context(), l.r.IntN(12) == 0)
	i := result.Info
	l.note("%s: %v pass at %s (%s): +%d -%d, %v", f.Name(), i.Kind, i.Controller, i.Why, i.Added, i.Removed, result.Err)
	if result.Err != nil {
		return
	}
	at := l.ds[slices.IndexFunc(l.ds, func(d *adsim.Directory) bool { return d.HostName() == i.Controller })]
	l.check(at, f)
}

// check checks what must be known after a pass at a controller.
func (l *replicatedLife) check(at *adsim.Directory, f follows) {
	l.t.Helper()
	for _, o := range l.objects {
		o.saw(stateAt(at, o.guid), f, l.now())
	}
	if l.cannotTell() {
		return
	}
	open := l.open()
	for n, o := range l.objects {
		if o.newest < 0 || o.states[o.newest].deleted || l.now().Sub(o.read) > l.window {
			clear(o.counted)
			continue
		}
		for _, a := range l.names(n) {
			is, has := slices.Contains(open, a), !o.states[o.newest].closed &&
				slices.Contains(o.states[o.newest].has, a)
			if has && !is && (o.holds || o.counted[a]) {
				l.t.Fatalf("%s of o%d is lost (state #%d was read)\n%s", a, n, o.newest, l.story())
			}
			o.counted[a] = has && is
		}
	}
}

// cannotTell reports whether unknown recipients are deferred.
func (l *replicatedLife) cannotTell() bool {
	return slices.ContainsFunc(l.followers, func(f follows) bool {
		state, _ := f.State()
		return state != Fresh && state != Late
	})
}

func (l *replicatedLife) story() string { return strings.Join(l.log, "\n") }

// stateAt returns the number of the state that a controller has; -1 means none.
func stateAt(d *adsim.Directory, guid adsim.GUID) int {
	e, err := d.Get(guid)
	if err != nil || len(e.Attrs["info"]) == 0 {
		return -1
	}
	k, _ := strconv.Atoi(e.Attrs["info"][0])
	return k
}

// saw records the state that a directory has read. Outside of its bases, a directory learns only that an object
// was deleted, or that its own object has moved away.
func (o *lifeObject) saw(k int, f follows, now time.Time) {
	switch {
	case k < o.newest || k < 0:
	case f.covers(o.states[k]):
		o.newest, o.read, o.holds = k, now, true
	case k > o.newest && o.newest >= 0 && (o.states[k].deleted || o.was(f)):
		o.newest, o.read, o.holds = k, now, false
	}
}

// was reports whether a directory had the object at its last read.
func (o *lifeObject) was(f follows) bool {
	s := o.states[o.newest]
	return f.covers(s) && !s.deleted
}
