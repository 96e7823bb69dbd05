package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"rcpt-milter/testenv/adsim"
)

// truth records which addresses each domain controller shows, and since when.
type truth struct {
	domains []*adsim.Directory

	mu    sync.Mutex // guards the fields below, and is held during each change of a directory
	shown []map[string]bool
	lives map[string]*life
	valid []string // addresses that all controllers show
	gone  []string // addresses that no controller shows, and some controller has shown
}

// life is the life of one address.
type life struct {
	since   time.Time // when the last controller began to show it; zero: one of them does not
	shownBy int       // number of controllers
	first   bool      // no controller has lost it yet
	goneAt  time.Time // when the last controller lost it
	events  []string
}

func newTruth(domains []*adsim.Directory) *truth {
	t := &truth{domains: domains, lives: map[string]*life{}}
	for range domains {
		t.shown = append(t.shown, map[string]bool{})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range domains {
		t.observe(i, "start")
	}
	return t
}

// change changes a controller, and records what it shows afterwards. A change that the simulator
// rejects has no effect.
func (t *truth) change(controller int, what string, do func(*adsim.Directory) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := do(t.domains[controller])
	t.observe(controller, what)
	return err
}

// observe records what a controller shows now.
func (t *truth) observe(controller int, what string) {
	now := map[string]bool{}
	for a := range t.domains[controller].Owners() {
		now[a] = true
	}
	before := t.shown[controller]
	changed := false
	event := func(l *life, sign string) {
		l.events = append(l.events, fmt.Sprintf("%s %sdc%d (%s)", time.Now().Format("15:04:05.000"), sign, controller+1,
			what))
		changed = true
	}
	for a := range before {
		if now[a] {
			continue
		}
		l := t.lives[a]
		event(l, "-")
		l.since, l.first = time.Time{}, false
		if l.shownBy--; l.shownBy == 0 {
			l.goneAt = time.Now()
		}
	}
	for a := range now {
		if before[a] {
			continue
		}
		l := t.lives[a]
		if l == nil {
			l = &life{first: true}
			t.lives[a] = l
		}
		event(l, "+")
		if l.shownBy++; l.shownBy == len(t.domains) {
			l.since = time.Now()
		}
	}
	t.shown[controller] = now
	if changed {
		t.list()
	}
}

// replicate replicates until the controllers are equal, one object at a time.
func (t *truth) replicate() {
	for changed := 1; changed > 0; {
		changed = 0
		for to := range t.domains {
			from := t.domains[(to+1)%len(t.domains)]
			t.change(to, "replicated", func(d *adsim.Directory) error {
				changed += d.ReplicateFrom(from, 1)
				return nil
			})
		}
	}
}

// list updates the lists to draw from. They are sorted, so the same seed draws the same address.
func (t *truth) list() {
	t.valid, t.gone = t.valid[:0], t.gone[:0]
	for _, a := range slices.Sorted(maps.Keys(t.lives)) {
		switch t.lives[a].shownBy {
		case len(t.domains):
			t.valid = append(t.valid, a)
		case 0:
			t.gone = append(t.gone, a)
		}
	}
}

// count returns how many addresses the first controller shows.
func (t *truth) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.shown[0])
}

// story returns the events of an address. The caller holds the lock.
func (l *life) story() string { return strings.Join(l.events, ", ") }
