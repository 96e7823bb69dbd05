package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"
)

// fault is something that goes wrong, and how it ends.
type fault struct {
	name  string
	begin func()
	end   func()
}

// disturb lets faults come and go for the duration of the run. It ends all of them.
func (w *world) disturb(rnd *rand.Rand) {
	if *calmFlag {
		w.wait(*durationFlag)
		return
	}
	for until := w.began.Add(*durationFlag + time.Since(w.began)); time.Now().Before(until); {
		var now []fault
		var names []string
		for range 1 + rnd.IntN(4)/3 + rnd.IntN(8)/7 { // mostly one, sometimes two or three
			f := w.draw(rnd)
			if !slices.Contains(names, f.name) {
				now, names = append(now, f), append(names, f.name)
			}
		}
		name := strings.Join(names, ", ")
		length := w.length(rnd)
		w.note("%s, for %.1f s", name, length.Seconds())
		for _, f := range now {
			w.set(f.name, true)
			f.begin()
			w.wait(time.Duration(rnd.IntN(300)) * time.Millisecond)
		}
		w.wait(length)
		rnd.Shuffle(len(now), func(i, j int) { now[i], now[j] = now[j], now[i] })
		for _, f := range now {
			f.end()
			w.set(f.name, false)
		}
		w.awaitFollowing(name)
		w.wait(time.Duration(rnd.IntN(1500)) * time.Millisecond)
	}
}

// length draws how long a fault lasts: in a long run sometimes longer than anything stays fresh, or
// than a lease lasts.
func (w *world) length(rnd *rand.Rand) time.Duration {
	longest := 3 * time.Second
	switch n := rnd.IntN(10); {
	case *durationFlag < time.Minute:
		longest = time.Second
	case n < 3:
		longest = staleAfter + 6*time.Second
	case n < 4:
		longest = 25 * time.Second
	}
	return time.Duration(rnd.Int64N(int64(longest))) + 100*time.Millisecond
}

func (w *world) set(fault string, lasts bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.faults[fault] = lasts; !lasts {
		delete(w.faults, fault)
	}
}

// wait waits for a time, or the end of the test.
func (w *world) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.t.Context().Done():
	}
}

// draw draws a fault.
func (w *world) draw(rnd *rand.Rand) fault {
	one := func(list []*host) []*host { return []*host{list[rnd.IntN(len(list))]} }
	switch rnd.IntN(16) {
	case 0:
		return w.controllersDown(rnd.IntN(controllers))
	case 1:
		return w.controllersDown(0, 1)
	case 2, 3:
		return killed(one(w.hubs)...)
	case 4:
		return killed(w.hubs...)
	case 5, 6:
		return killed(one(w.engines)...)
	case 7:
		two := slices.Clone(w.engines)
		rnd.Shuffle(len(two), func(i, j int) { two[i], two[j] = two[j], two[i] })
		return killed(two[:2+rnd.IntN(2)]...)
	case 8, 9:
		return killed(one(w.edges)...)
	case 10:
		return stopped(one(slices.Concat(w.hubs, w.hubs, w.engines))[0])
	case 11:
		return w.isolated(rnd, one(slices.Concat(w.hubs, w.engines, w.edges))[0])
	}
	return w.cut(rnd, "", []link{w.links[rnd.IntN(len(w.links))]})
}

// controllersDown stops domain controllers.
func (w *world) controllersDown(list ...int) fault {
	var names []string
	for _, i := range list {
		names = append(names, fmt.Sprintf("dc%d", i+1))
	}
	return fault{strings.Join(names, " and ") + " down", func() {
		for _, i := range list {
			w.servers[i].Down()
		}
	}, func() {
		for _, i := range list {
			w.must(w.servers[i].Up())
		}
	}}
}

// killed kills processes, and starts them again.
func killed(list ...*host) fault {
	var names []string
	for _, h := range list {
		names = append(names, h.name)
	}
	slices.Sort(names)
	return fault{strings.Join(names, " and ") + " killed", func() {
		for _, h := range list {
			h.kill()
		}
	}, func() {
		for _, h := range list {
			h.start()
		}
	}}
}

// stopped stops a process for a while, as a hypervisor does.
func stopped(h *host) fault {
	return fault{h.name + " stopped", func() { h.signal(syscall.SIGSTOP) }, func() { h.signal(syscall.SIGCONT) }}
}

// isolated cuts a host off from all others.
func (w *world) isolated(rnd *rand.Rand, h *host) fault {
	var links []link
	for _, l := range w.links {
		if slices.Contains(l.between[:], h.name) {
			links = append(links, l)
		}
	}
	return w.cut(rnd, h.name+" isolated", links)
}

// cut cuts networks. Some cuts reset connections, others lose all bytes, as a firewall does.
func (w *world) cut(rnd *rand.Rand, name string, links []link) fault {
	if name == "" {
		name = fmt.Sprint(links[0], " cut")
	}
	stall := rnd.IntN(2) == 0
	if stall {
		name += " silently"
	}
	return fault{name, func() {
		for _, l := range links {
			for _, p := range l.proxies {
				if stall {
					p.Stall()
				} else {
					p.Refuse()
					p.Cut()
				}
			}
		}
	}, func() {
		for _, l := range links {
			for _, p := range l.proxies {
				p.Resume()
				if stall && rnd.IntN(2) == 0 { // some firewalls forget the connections meanwhile
					p.Cut()
				}
			}
		}
	}}
}
