package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"rcpt-milter/testenv/adsim"
)

// changePause is the mean pause between two changes.
const changePause = 200 * time.Millisecond

// directoryLife changes the directory, and replicates between its controllers.
type directoryLife struct {
	w    *world
	rnd  *rand.Rand
	made int       // names given
	next time.Time // of a replication
}

func newLife(w *world, rnd *rand.Rand) *directoryLife { return &directoryLife{w: w, rnd: rnd} }

// run changes until ctx ends.
func (l *directoryLife) run(ctx context.Context) {
	for {
		timer := time.NewTimer(time.Duration(float64(changePause) * (0.2 + 1.6*l.rnd.Float64())))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		l.changeOne()
		if now := time.Now(); now.After(l.next) {
			if l.w.truth.replicate(); l.rnd.IntN(6) == 0 { // the link between the controllers is slow for once
				l.next = now.Add(time.Duration(l.rnd.Int64N(int64(maxReplication * 3 / 4))))
			} else {
				l.next = now.Add(time.Duration(l.rnd.IntN(800)) * time.Millisecond)
			}
		}
	}
}

// fresh returns an address that never existed.
func (l *directoryLife) fresh() string {
	l.made++
	return fmt.Sprintf("new%d@corp.example", l.made)
}

// again returns an address that existed, if there is one.
func (l *directoryLife) again() string {
	l.w.truth.mu.Lock()
	defer l.w.truth.mu.Unlock()
	if gone := l.w.truth.gone; len(gone) > 0 {
		return gone[l.rnd.IntN(len(gone))]
	}
	return l.fresh()
}

// users returns the live objects of a controller, and the deleted ones.
func (l *directoryLife) users(controller int) (live, dead []adsim.Entry) {
	for e := range l.w.domains[controller].Entries() {
		switch {
		case e.Kind != adsim.User || strings.HasPrefix(e.DN, "CN=marker"):
		case e.Deleted:
			dead = append(dead, e)
		default:
			live = append(live, e)
		}
	}
	return live, dead
}

// changeOne makes one change, as administrators do.
func (l *directoryLife) changeOne() {
	at := 0
	if l.rnd.IntN(4) == 0 {
		at = 1
	}
	live, dead := l.users(at)
	if len(live) < people/2 {
		l.create(at, l.fresh())
		return
	}
	one, other := live[l.rnd.IntN(len(live))], live[l.rnd.IntN(len(live))]
	switch n := l.rnd.IntN(100); {
	case n < 20:
		l.create(at, l.fresh())
	case n < 30:
		l.create(at, l.again())
	case n < 45:
		l.modify(at, one, "alias", adsim.AddValues("proxyAddresses", "smtp:"+l.fresh()))
	case n < 53:
		l.modify(at, one, "old alias", adsim.AddValues("proxyAddresses", "smtp:"+l.again()))
	case n < 65:
		if values := one.Attrs["proxyaddresses"]; len(values) > 1 {
			l.modify(at, one, "alias removed", adsim.RemoveValues("proxyAddresses", values[l.rnd.IntN(len(values))]))
		}
	case n < 80:
		l.moveAlias(at, one, other)
	case n < 90:
		l.w.truth.change(at, "deleted", func(d *adsim.Directory) error { return d.Delete(one.GUID) })
	case n < 95 && len(dead) > 0:
		back := dead[l.rnd.IntN(len(dead))]
		l.w.truth.change(at, "undeleted", func(d *adsim.Directory) error { return d.Undelete(back.GUID, "") })
	default:
		l.made++
		name := fmt.Sprint("renamed", l.made)
		l.w.truth.change(at, "renamed", func(d *adsim.Directory) error { return d.Rename(one.GUID, name) })
	}
}

func (l *directoryLife) create(at int, address string) {
	l.made++
	l.w.truth.change(at, "created", func(d *adsim.Directory) error {
		_, err := d.Add(adsim.User, fmt.Sprintf("CN=o%d,CN=Users,%s", l.made, base), proxies(address))
		return err
	})
}

func (l *directoryLife) modify(at int, e adsim.Entry, what string, changes ...adsim.Change) {
	l.w.truth.change(at, what, func(d *adsim.Directory) error { return d.Modify(e.GUID, changes...) })
}

// moveAlias moves an address from one object to another without a moment in which it has no owner.
func (l *directoryLife) moveAlias(at int, from, to adsim.Entry) {
	values := from.Attrs["proxyaddresses"]
	if len(values) < 2 || from.GUID == to.GUID {
		return
	}
	v := values[l.rnd.IntN(len(values))]
	l.modify(at, to, "move, added", adsim.AddValues("proxyAddresses", v))
	l.modify(at, from, "move, removed", adsim.RemoveValues("proxyAddresses", v))
}
