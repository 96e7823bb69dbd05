package real

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"rcpt-milter/testenv"
	"rcpt-milter/testenv/soak/model"
)

// controller is a domain controller and the path of the daemon to it.
type controller struct {
	service string
	proxy   *testenv.Proxy

	// Connections of the administrator; nil while the controller is away. The locks of both worlds
	// guard them.
	writer, reader *testenv.Domain
}

// world is a model and the controller at which it changes. Its lock also guards the connections of all
// controllers, see hold.
type world struct {
	home *controller

	mu      sync.Mutex // guards the fields below
	model   *model.Model
	touched map[string]time.Time // when the owners of an address, or whether it is valid, changed last
	counts  map[string]int       // operations by name

	// absent has when a snapshot first found that no controller shows an address as a recipient.
	absent map[string]time.Time
}

// live changes the model and the domain until the context ends, at a number of operations a second.
func (s *Soak) live(ctx context.Context, w *world) error {
	every := time.Duration(float64(time.Second) / s.options.Changes)
	for ctx.Err() == nil {
		if err := s.operate(ctx, w); err != nil && ctx.Err() == nil {
			return err
		}
		sleep(ctx, every)
	}
	return nil
}

// operate applies one operation, unless the controller is away. An error means that the model may be
// wrong.
func (s *Soak) operate(ctx context.Context, w *world) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.home.writer == nil {
		return nil
	}
	name, steps := w.model.Next()
	w.counts[name]++
	for _, step := range steps {
		c := step()
		before := w.look()
		c.Model()
		addresses := s.record(w, before, c.What)
		err := c.Domain(w.home.writer)
		if err != nil && ctx.Err() == nil {
			s.report.say("%s: %v; repeating it if the domain does not have it", c.What, err)
			err = s.repeat(ctx, w, c)
		}
		if err != nil {
			return fmt.Errorf("the model at %s is not certain any more: %s: %w", w.home.service, c.What, err)
		}
		w.touch(addresses)
	}
	return nil
}

// repeat repeats a change whose result is not known, as from a controller that is too slow to answer, until
// the domain equals the model.
func (s *Soak) repeat(ctx context.Context, w *world, c model.Change) error {
	ctx, cancel := context.WithTimeout(ctx, actionPatience)
	defer cancel()
	return testenv.AwaitNil(ctx, time.Second, func(ctx context.Context) error {
		domain, err := s.h.AdministratorOf(ctx, w.home.service)
		if err != nil {
			return err
		}
		w.home.writer.Close()
		w.home.writer = domain
		have, err := domain.Objects(w.model.Root)
		if err == nil && difference(describe(w.model.List()), describe(have)) != "" {
			err = errors.Join(c.Domain(domain), errRepeated) // the next comparison decides
		}
		return err
	})
}

// errRepeated means that a change was repeated.
var errRepeated = errors.New("repeated")

// look is a picture of a model.
type look struct {
	owners map[string]string
	valid  map[string]bool
}

func (w *world) look() look { return look{model.Owners(w.model.List()), w.model.Valid()} }

// record tells the oracles what a change of the model changed, before the domain has it. It returns the
// addresses.
func (s *Soak) record(w *world, before look, why string) []string {
	after, at := w.look(), time.Now()
	var changed []string
	addresses := maps.Clone(before.owners)
	maps.Copy(addresses, after.owners)
	for a := range addresses {
		if before.owners[a] == after.owners[a] && before.valid[a] == after.valid[a] {
			continue
		}
		changed = append(changed, a)
		for _, site := range s.sites {
			if before.valid[a] == after.valid[a] {
				site.oracle.Note(a, at, why)
			} else {
				site.oracle.Set(a, Changing, at, why)
			}
		}
	}
	w.touch(changed)
	return changed
}

func (w *world) touch(addresses []string) {
	at := time.Now()
	for _, a := range addresses {
		w.touched[a] = at
	}
}

// lock locks all worlds. No operation runs meanwhile.
func (s *Soak) lock() (unlock func()) {
	for _, w := range s.worlds {
		w.mu.Lock()
	}
	return func() {
		for _, w := range s.worlds {
			w.mu.Unlock()
		}
	}
}

// hold stops the changes at a controller before it goes away.
func (s *Soak) hold(c *controller) {
	defer s.lock()()
	for _, d := range []*testenv.Domain{c.writer, c.reader} {
		if d != nil {
			d.Close()
		}
	}
	c.writer, c.reader = nil, nil
}

// connect waits for a controller, restores the path to it and continues the changes there.
func (s *Soak) connect(ctx context.Context, c *controller) error {
	if err := s.h.AwaitHealthy(ctx, c.service); err != nil {
		return err
	}
	if err := s.aim(ctx, c); err != nil {
		return err
	}
	var made [2]*testenv.Domain
	for i := range made {
		err := testenv.AwaitNil(ctx, poll, func(ctx context.Context) (err error) {
			made[i], err = s.h.AdministratorOf(ctx, c.service)
			return err
		})
		if err != nil {
			return err
		}
	}
	defer s.lock()()
	c.writer, c.reader = made[0], made[1]
	return nil
}

// aim leads the path to the present address of a controller.
func (s *Soak) aim(ctx context.Context, c *controller) error {
	address, err := s.h.InternalAddress(ctx, c.service)
	if err == nil {
		c.proxy.SetTarget(address + ":636")
	}
	return err
}

// valid returns the addresses that the index must have, sorted. The worlds must be locked.
func (s *Soak) valid() []string {
	all := map[string]bool{}
	for _, w := range s.worlds {
		maps.Copy(all, w.model.Valid())
	}
	return slices.Sorted(maps.Keys(all))
}

// snapshot is what both controllers showed at a moment and agreed in with the model.
type snapshot struct {
	at          time.Time
	valid, gone []candidate
}

// candidate is an address that may become valid or gone.
type candidate struct {
	world   *world
	address string
}

// snapshot reads all controllers. Without one of them it returns nil.
func (s *Soak) snapshot() *snapshot {
	defer s.lock()()
	now := &snapshot{at: time.Now()}
	for _, w := range s.worlds {
		views := []map[string]string{model.Owners(w.model.List())}
		for _, c := range s.controllers {
			if c.reader == nil {
				return nil
			}
			list, err := c.reader.Objects(w.model.Root)
			if err != nil {
				return nil // it is slow or away; the next snapshot may succeed
			}
			views = append(views, model.Owners(list))
		}
		valid := w.model.Valid()
		for a := range w.touched {
			if slices.ContainsFunc(views, func(v map[string]string) bool { return v[a] != views[0][a] }) {
				delete(w.absent, a)
				continue
			}
			if valid[a] {
				delete(w.absent, a)
				now.valid = append(now.valid, candidate{w, a})
				continue
			}
			if w.absent[a].IsZero() || !w.absent[a].After(w.touched[a]) {
				w.absent[a] = now.at
			}
			now.gone = append(now.gone, candidate{w, a})
		}
	}
	return now
}

// settle promises the addresses of a snapshot that have not changed since, after a pass that began
// later. have is the index after that pass; nil if it could not be read.
func (s *Soak) settle(site *site, then *snapshot, have []string) {
	defer s.lock()()
	at := time.Now()
	for _, list := range []struct {
		candidates []candidate
		state      State
		why        string
	}{
		{then.valid, Valid, "all controllers show it, and a later pass has ended"},
		{then.gone, Gone, "no controller shows it as a recipient, and the index does not have it after a later pass"},
	} {
		for _, c := range list.candidates {
			if !c.world.touched[c.address].Before(then.at) || site.oracle.Now(c.address) != Changing {
				continue
			}
			if list.state == Gone &&
				(have == nil || slices.Contains(have, c.address) || !c.world.forgotten(c.address)) {
				continue
			}
			site.oracle.Set(c.address, list.state, at, list.why)
		}
	}
}

// confirmedFor is how long the daemon may accept an address after confirm found it at a controller, if it
// gets no answer to a later search (docs/configuration.md), and a second for the answer itself.
const confirmedFor = 31 * time.Second

// forgotten reports whether no controller has shown an address as a recipient for so long that confirm
// does not remember it.
func (w *world) forgotten(address string) bool {
	since := w.absent[address]
	return since.After(w.touched[address]) && time.Since(since) > confirmedFor
}

// promise settles what has changed, again and again, until the context ends.
func (s *Soak) promise(ctx context.Context, site *site) {
	for ctx.Err() == nil {
		then := s.snapshot()
		if then != nil && s.awaitPass(ctx, site, then.at, promisePatience) == nil {
			have, err := s.exported(ctx, site)
			if err != nil {
				have = nil
			}
			s.settle(site, then, have)
		}
		sleep(ctx, promiseEvery)
	}
}
