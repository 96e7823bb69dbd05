package main

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"rcpt-milter/config"
	"rcpt-milter/control/metrics"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// follower keeps the store equal to the directories of the configuration in force. It
// lives as long as the daemon; what it follows is exchanged by change.
type follower struct {
	store   *store.Store
	metrics *metrics.Metrics
	log     *slog.Logger
	passed  func() // told of every pass that ended; set before Run

	group   mirror.Group
	current atomic.Pointer[following]

	mu      sync.Mutex
	retired []*mirror.RetiredDirectory // in the store, and not in the configuration
}

// following is what looks after the directories of one configuration. It never changes.
type following []followed

// followed is one directory, in the order of the configuration.
type followed struct {
	*mirror.Mirror
	config config.Directory
}

// newFollower makes a follower of nothing, until change tells it what to follow.
func newFollower(s *store.Store, metrics *metrics.Metrics, log *slog.Logger) *follower {
	f := &follower{store: s, metrics: metrics, log: log, passed: func() {}}
	f.current.Store(&following{})
	return f
}

// now is what is followed at this moment.
func (f *follower) now() following { return *f.current.Load() }

// plan makes what a configuration follows. A directory that has not changed keeps its
// mirror, and with it its connection. At a reload, one that changed needs a usable password
// file or keytab. Nothing is in effect before change.
func (f *follower) plan(c *config.Config) (following, error) {
	now := f.now()
	next := make(following, 0, len(c.Directories))
	for _, d := range c.Directories {
		at := slices.IndexFunc(now, func(o followed) bool { return sameMirror(o.config, d) })
		if at >= 0 {
			next = append(next, followed{now[at].Mirror, d})
			continue
		}
		if len(now) > 0 { // a reload: the connection that exists would be given up for none
			if err := checkSecret(d); err != nil {
				return nil, &exit{exitConfig, err}
			}
		}
		config := f.mirrorConfig(c, d)
		config.Gate = now.gate(d)
		m, err := mirror.New(config)
		if err != nil {
			return nil, err
		}
		next = append(next, followed{m, d})
	}
	return next, nil
}

// gate is what remembers that a bind was refused, of the mirror that one for a directory
// takes over from: the same account at the same controllers. Nil: there is none.
func (n following) gate(d config.Directory) *mirror.Gate {
	at := slices.IndexFunc(n, func(o followed) bool {
		return o.config.Name == d.Name && o.config.Bind == d.Bind && o.config.Discover == d.Discover &&
			slices.Equal(o.config.URLs, d.URLs)
	})
	if at < 0 {
		return nil
	}
	return n[at].Gate()
}

// sameMirror reports whether two directories are mirrored in the same way. Which mail
// domains one may own does not matter to its mirror.
func sameMirror(a, b config.Directory) bool {
	a.Domains, b.Domains = nil, nil
	return reflect.DeepEqual(a, b)
}

// change goes over to what plan made. At the moment of swap nobody works on a directory
// that is about to be looked after in another way, and the mirrors know what the last
// one left; those that stay are not disturbed.
func (f *follower) change(c *config.Config, next following, swap func()) {
	before := f.now()
	f.group.Remove(f.leaving(next)...)
	var coming []mirror.Runner
	for _, d := range next {
		if !before.has(d.Mirror) {
			d.Refresh()
			coming = append(coming, d.Mirror)
		}
		d.SetLimits(f.limitsOf(c, d.config))
	}
	swap()
	f.current.Store(&next)
	f.group.Add(append(coming, f.retire(c)...)...)
}

// leaving is what has to stop before next can begin: mirrors that it does not keep, and
// whatever takes away the addresses of a directory that comes back.
func (f *follower) leaving(next following) []mirror.Runner {
	var leaving []mirror.Runner
	for _, d := range f.now() {
		if !next.has(d.Mirror) {
			leaving = append(leaving, d.Mirror)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retired = slices.DeleteFunc(slices.Clone(f.retired), func(r *mirror.RetiredDirectory) bool {
		back := slices.ContainsFunc(next, func(d followed) bool { return d.Name() == r.Name() })
		if back {
			leaving = append(leaving, r)
		}
		return back || r.Gone()
	})
	return leaving
}

func (n following) has(m *mirror.Mirror) bool {
	return slices.ContainsFunc(n, func(d followed) bool { return d.Mirror == m })
}

// retire lets go of the directories that the store knows and the configuration does
// not. It gives what was not under way yet.
func (f *follower) retire(c *config.Config) []mirror.Runner {
	f.mu.Lock()
	defer f.mu.Unlock()
	var begin []mirror.Runner
	for _, name := range slices.Sorted(slices.Values(f.store.Directories())) {
		if inConfig(c, name) ||
			slices.ContainsFunc(f.retired, func(r *mirror.RetiredDirectory) bool { return r.Name() == name }) {
			continue
		}
		f.log.Warn("directory is in the store and no longer in the configuration, its addresses leave through the removal guard", "directory", name)
		r := mirror.NewRetiredDirectory(mirror.RetiredConfig{
			Name: name, Store: f.store, Guard: mirror.Guard(config.DefaultGuard()), Log: f.log,
			Observe: func(r mirror.PassResult) { f.passDone(name, store.Full, r) },
		})
		f.retired, begin = append(f.retired, r), append(begin, r)
	}
	for _, r := range f.retired {
		r.SetCanaries(c.Canaries.Accept)
		r.SetGuarded(c.Judges)
		r.SetHandoverLag(f.shared(c, r.Name(), 0))
	}
	return begin
}

// passDone counts a pass, and tells whoever waits for one.
func (f *follower) passDone(directory string, kind store.Kind, r mirror.PassResult) {
	f.metrics.PassDone(directory, kind.String(), resultOf(r))
	f.passed()
}

// Run makes passes until ctx ends, and returns nil then.
func (f *follower) Run(ctx context.Context) error { return f.group.Run(ctx) }
