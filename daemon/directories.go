package daemon

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control/metrics"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// syncManager keeps the store equal to the directories of the configuration in effect. It lives
// as long as the daemon. apply replaces its directories.
type syncManager struct {
	store   *store.Store
	metrics *metrics.Metrics
	log     *slog.Logger
	onPass  func(directory string) // called after each pass; set before Run
	// observeLag is called when a change has taken effect; set before Run.
	observeLag func(directory string, behind time.Duration)

	expiries *expiryWatch

	group   mirror.Group
	current atomic.Pointer[directorySet]

	mu      sync.Mutex
	retired []*mirror.RetiredDirectory // in the store, but not in the configuration
}

// directorySet are the directories of one configuration. It is immutable.
type directorySet []syncedDirectory

// syncedDirectory is a directory and its mirror.
type syncedDirectory struct {
	*mirror.Mirror
	config config.Directory
}

// newSyncManager returns a manager without directories.
func newSyncManager(s *store.Store, metrics *metrics.Metrics, log *slog.Logger) *syncManager {
	f := &syncManager{store: s, metrics: metrics, log: log, expiries: newExpiryWatch(log), onPass: func(string) {},
		observeLag: func(string, time.Duration) {}}
	f.current.Store(&directorySet{})
	return f
}

// active returns the directories in effect.
func (sm *syncManager) active() directorySet { return *sm.current.Load() }

// prepare creates the mirrors for a configuration, with its connections to engines. A directory
// that has not changed keeps its mirror, and so its connection. At a reload, a directory that has
// changed needs a usable password file, keytab or credentials file. Nothing changes before apply.
func (sm *syncManager) prepare(c *config.Config, all links) (directorySet, error) {
	now := sm.active()
	next := make(directorySet, 0, len(c.Directories))
	for _, d := range c.Directories {
		at := slices.IndexFunc(now, func(o syncedDirectory) bool { return sameMirror(o.config, d) })
		if at >= 0 {
			next = append(next, syncedDirectory{now[at].Mirror, d})
			continue
		}
		if len(now) > 0 { // at a reload, a new mirror gives up a connection that works
			if err := checkSecret(d); err != nil {
				return nil, configError{err}
			}
		}
		config := sm.mirrorConfig(c, d, all)
		config.Gate = now.gateOf(d)
		m, err := mirror.New(config)
		if err != nil {
			return nil, err
		}
		next = append(next, syncedDirectory{m, d})
	}
	return next, nil
}

// gateOf returns the gate of the mirror that the mirror of d replaces, if both use the same
// account at the same controllers. The gate remembers that a bind was rejected. gateOf returns
// nil if there is none.
func (set directorySet) gateOf(d config.Directory) *mirror.Gate {
	at := slices.IndexFunc(set, func(o syncedDirectory) bool {
		return o.config.Name == d.Name && o.config.Bind == d.Bind && o.config.Discover == d.Discover &&
			slices.Equal(o.config.URLs, d.URLs) && reflect.DeepEqual(o.config.Stream, d.Stream)
	})
	if at < 0 {
		return nil
	}
	return set[at].Gate()
}

// sameMirror reports whether one mirror can serve both directories. Their mail domains do not
// matter to a mirror.
func sameMirror(a, b config.Directory) bool {
	a.Domains, b.Domains = nil, nil
	return reflect.DeepEqual(a, b)
}

// apply replaces the active directories by prepared ones. It calls swap while no runner works
// on a directory that changes hands, and after each new mirror has read the state that its
// predecessor left. Mirrors that stay are not disturbed.
func (sm *syncManager) apply(c *config.Config, next directorySet, swap func()) {
	before := sm.active()
	sm.group.Remove(sm.stoppedBy(next)...)
	var coming []mirror.Runner
	for _, d := range next {
		if !before.contains(d.Mirror) {
			d.Refresh()
			coming = append(coming, d.Mirror)
		}
		d.SetLimits(sm.limitsOf(c, d.config))
	}
	swap()
	sm.current.Store(&next)
	sm.group.Add(append(coming, sm.retireRemoved(c)...)...)
}

// stoppedBy returns the runners to stop before next starts: mirrors that next does not have,
// and retired directories that come back.
func (sm *syncManager) stoppedBy(next directorySet) []mirror.Runner {
	var leaving []mirror.Runner
	for _, d := range sm.active() {
		if !next.contains(d.Mirror) {
			leaving = append(leaving, d.Mirror)
		}
	}
	sm.mu.Lock()
	defer sm.mu.Unlock()
	sm.retired = slices.DeleteFunc(slices.Clone(sm.retired), func(r *mirror.RetiredDirectory) bool {
		back := slices.ContainsFunc(next, func(d syncedDirectory) bool { return d.Name() == r.Name() })
		if back {
			leaving = append(leaving, r)
		}
		return back || r.Gone()
	})
	return leaving
}

func (set directorySet) contains(m *mirror.Mirror) bool {
	return slices.ContainsFunc(set, func(d syncedDirectory) bool { return d.Mirror == m })
}

// retireRemoved retires the directories of the store that are not in the configuration. It
// returns the newly retired ones.
func (sm *syncManager) retireRemoved(c *config.Config) []mirror.Runner {
	sm.mu.Lock()
	defer sm.mu.Unlock()
	var begin []mirror.Runner
	for _, name := range slices.Sorted(slices.Values(sm.store.Directories())) {
		if inConfig(c, name) ||
			slices.ContainsFunc(sm.retired, func(r *mirror.RetiredDirectory) bool { return r.Name() == name }) {
			continue
		}
		sm.log.Warn("directory no longer in the configuration; removing its addresses through the removal guard",
			"directory", name)
		r := mirror.NewRetiredDirectory(mirror.RetiredConfig{
			Name: name, Store: sm.store, Guard: mirror.Guard(config.DefaultGuard()), Log: sm.log,
			Observe: func(r mirror.PassResult) { sm.passEnded(name, store.Full, r) },
		})
		sm.retired, begin = append(sm.retired, r), append(begin, r)
	}
	for _, r := range sm.retired {
		r.SetCanaries(c.Canaries.Accept)
		r.SetGuarded(c.Guards)
		r.SetHandoverLag(sm.handoverLag(c, r.Name(), 0))
	}
	return begin
}

// passEnded counts a pass and calls onPass.
func (sm *syncManager) passEnded(directory string, kind store.Kind, r mirror.PassResult) {
	sm.metrics.PassDone(directory, kind.String(), resultOf(r))
	sm.onPass(directory)
}

// Run makes passes until ctx ends. It then returns nil.
func (sm *syncManager) Run(ctx context.Context) error { return sm.group.Run(ctx) }
