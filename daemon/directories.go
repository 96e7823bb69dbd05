package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control/metrics"
	"rcpt-milter/mirror"
	tables "rcpt-milter/postfix/table"
	"rcpt-milter/store"
)

// syncManager keeps the store equal to the configured directories. It lives as long as the daemon; apply
// replaces the directories.
type syncManager struct {
	store   *store.Store
	metrics *metrics.Metrics
	log     *slog.Logger
	onPass  func(directory string) // called after each pass; set before Run
	// observeLag is called when a change has taken effect; set before Run.
	observeLag func(directory string, behind time.Duration)
	files      *tables.Files // the accept files; set before prepare

	expiries *expiryWatch
	heap     *heapRelease

	group   mirror.Group
	current atomic.Pointer[directorySet]

	mu      sync.Mutex
	retired []*mirror.RetiredDirectory  // directories in the store that are not in the configuration
	gates   map[string]*mirror.Gate     // by account, see gateOf
	left    map[string]config.Directory // by name, see rememberLeft
}

// directorySet has the directories of one configuration. It is immutable.
type directorySet []syncedDirectory

// syncedDirectory is a directory with its mirror.
type syncedDirectory struct {
	*mirror.Mirror
	config config.Directory
}

// newSyncManager returns a manager without directories.
func newSyncManager(s *store.Store, metrics *metrics.Metrics, log *slog.Logger) *syncManager {
	f := &syncManager{store: s, metrics: metrics, log: log, expiries: newExpiryWatch(log), onPass: func(string) {},
		observeLag: func(string, time.Duration) {}, files: tables.NewFiles(tables.Config{}),
		gates: map[string]*mirror.Gate{}, left: map[string]config.Directory{}}
	f.current.Store(&directorySet{})
	f.heap = newHeapRelease(f.running)
	return f
}

// active returns the active directories.
func (sm *syncManager) active() directorySet { return *sm.current.Load() }

// prepare creates the mirrors for a configuration. all are its connections to engines. An unchanged directory
// keeps its mirror, and thereby its connection. At a reload, prepare fails if a changed directory has no usable
// password file, keytab or credentials file. Nothing changes before apply.
func (sm *syncManager) prepare(c *config.Config, all links) (directorySet, error) {
	now := sm.active()
	next := make(directorySet, 0, len(c.Directories))
	for _, d := range c.Directories {
		at := slices.IndexFunc(now, func(o syncedDirectory) bool { return sameMirror(o.config, d) })
		if at >= 0 {
			next = append(next, syncedDirectory{now[at].Mirror, d})
			continue
		}
		if len(now) > 0 { // at a reload, a new mirror replaces a working connection
			if err := checkSecret(d); err != nil {
				return nil, configError{err}
			}
		}
		config := sm.mirrorConfig(c, d, all)
		config.Gate = sm.gateOf(d)
		m, err := mirror.New(config)
		if err != nil {
			return nil, err
		}
		next = append(next, syncedDirectory{m, d})
	}
	return next, nil
}

// gateOf returns the gate of the account of a directory, which remembers a rejected bind. All directories with this
// account share it, and it outlives reloads. Otherwise each of them would try a rejected password, and so lock the
// account.
func (sm *syncManager) gateOf(d config.Directory) *mirror.Gate {
	account := fmt.Sprintf("%q", d.Bind)
	if d.Stream != nil {
		account = fmt.Sprintf("%q %q %+v", "stream", d.Name, *d.Stream)
	}
	sm.mu.Lock()
	defer sm.mu.Unlock()
	if sm.gates[account] == nil {
		sm.gates[account] = new(mirror.Gate)
	}
	return sm.gates[account]
}

// sameMirror reports whether one mirror can serve both directories. The mail domains of a directory do not
// affect its mirror.
func sameMirror(a, b config.Directory) bool {
	a.Domains, b.Domains = nil, nil
	return reflect.DeepEqual(a, b)
}

// apply activates prepared directories. It calls swap at a moment when no runner works on a directory whose
// mirror changes, and each new mirror has read the state that the previous one left. Unchanged mirrors continue
// to run.
func (sm *syncManager) apply(c *config.Config, next directorySet, swap func()) {
	before := sm.active()
	sm.rememberLeft(c)
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

// stoppedBy returns the runners that must stop before next starts: mirrors that next lacks, and retired
// directories that next configures again.
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

// retireRemoved retires the directories in the store that are no longer configured. It returns those that were
// not retired before.
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
		r.SetCanaries(sm.guardedCanaries(c))
		r.SetGuarded(c.Guards)
		r.SetHandoverLag(sm.handoverLag(c, r.Name(), 0))
	}
	return begin
}

// passEnded counts a pass and calls onPass.
func (sm *syncManager) passEnded(directory string, kind store.Kind, r mirror.PassResult) {
	sm.metrics.PassDone(directory, kind.String(), resultOf(r))
	sm.heap.passEnded(r)
	sm.onPass(directory)
}

// Run makes passes until ctx ends. It then returns nil.
func (sm *syncManager) Run(ctx context.Context) error { return sm.group.Run(ctx) }
