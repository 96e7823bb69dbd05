package daemon

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// fleet has the parts that make this daemon a hub, an edge or an engine. It lives as long as the daemon; apply
// replaces the parts.
type fleet struct {
	store   *store.Store
	syncs   *syncManager
	version string
	log     *slog.Logger
	engine  *engineHost // nil if this daemon has no engine
	find    findFunc    // answers queries of edges

	group mirror.Group // runs publishers and followers

	mu         sync.Mutex
	started    bool
	links      links
	publishers publishers
	followers  []*follower
}

// findFunc searches a directory for an address now.
type findFunc func(ctx context.Context, directory string, a address.Address) (found, internalOnly bool, err error)

// preparedFleet has the parts for one configuration.
type preparedFleet struct {
	links      links
	publishers publishers
}

func newFleet(s *store.Store, syncs *syncManager, c *config.Config, version string, log *slog.Logger) *fleet {
	f := &fleet{store: s, syncs: syncs, version: version, log: log}
	if c.NATS != nil {
		f.engine = newEngineHost(c.NATS, log)
	}
	return f
}

// inside returns a connector to the engine of this daemon. It returns nil if this daemon has no engine.
func (f *fleet) inside() inProcess {
	if f.engine == nil {
		return nil
	}
	return f.engine
}

// prepare creates the connections and publishers for a configuration. It starts nothing.
func (f *fleet) prepare(c *config.Config) preparedFleet {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := linksOf(c, f.links, f.inside(), f.connected, f.log)
	return preparedFleet{links: all, publishers: f.preparePublishers(c, all)}
}

// apply activates prepared parts. The mirrors of the same configuration must be active already.
func (f *fleet) apply(next preparedFleet, directories directorySet) {
	f.mu.Lock()
	links, publishers, followers, started := f.links, f.publishers, f.followers, f.started
	f.mu.Unlock()
	following := f.followersOf(directories, next.links, followers)
	replaced := slices.DeleteFunc(slices.Clone(links), func(l *link) bool { return slices.Contains(next.links, l) })
	replaced.leave()
	f.group.Remove(without(runners(publishers), runners(next.publishers))...)
	f.group.Remove(without(runners(followers), runners(following))...)
	if started {
		stopFeeds(f.store, next.publishers, f.log)
	}
	f.mu.Lock()
	f.links, f.publishers, f.followers = next.links, next.publishers, following
	f.mu.Unlock()
	for _, l := range replaced {
		l.close()
	}
	f.group.Add(without(runners(next.publishers), runners(publishers))...)
	f.group.Add(without(runners(following), runners(followers))...)
}

// runners converts a list for a mirror.Group.
func runners[R mirror.Runner](all []R) []mirror.Runner {
	out := make([]mirror.Runner, 0, len(all))
	for _, r := range all {
		out = append(out, r)
	}
	return out
}

// followersOf returns the followers of directories that come from a stream. It reuses unchanged followers.
func (f *fleet) followersOf(directories directorySet, all links, before []*follower) []*follower {
	var next []*follower
	for _, d := range directories {
		if d.config.Stream == nil {
			continue
		}
		at := slices.IndexFunc(before, func(o *follower) bool { return o.mirror == d.Mirror })
		if at >= 0 {
			next = append(next, before[at])
			continue
		}
		next = append(next, &follower{directory: d.Name(), link: all.of(*d.config.Stream), mirror: d.Mirror,
			store: f.store, version: f.version, log: f.log.With("directory", d.Name()), passed: make(chan struct{}, 1)})
	}
	return next
}

// run runs the engine, the publishers and the followers until ctx ends. The engine stops last, because the
// others use it until they end.
func (f *fleet) run(ctx context.Context) error {
	f.mu.Lock()
	f.started = true
	published := f.publishers
	f.mu.Unlock()
	stopFeeds(f.store, published, f.log)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var engine errgroup.Group
	if f.engine != nil {
		engine.Go(func() error {
			return mirror.KeepRunning(serving, f.log, "engine", f.engine.run)
		})
	}
	defer context.AfterFunc(ctx, func() { f.connections().leave() })()
	err := f.group.Run(ctx)
	f.close()
	stop()
	if ended := engine.Wait(); err == nil {
		err = ended
	}
	return err
}

// connections returns the current connections.
func (f *fleet) connections() links {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.links
}

// close closes all connections.
func (f *fleet) close() {
	for _, l := range f.connections() {
		l.close()
	}
}

// connected starts passes of all directories on a connection that is back. Without this, their mirrors would
// wait, because they wait longer after each failure.
func (f *fleet) connected(l *link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.followers {
		if r.link == l {
			r.mirror.Retry()
			r.wake()
		}
	}
}

// passEnded wakes the publisher and the follower of a directory after a pass.
func (f *fleet) passEnded(directory string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.publishers {
		if p.directory.Name == directory {
			p.wake()
		}
	}
	for _, r := range f.followers {
		if r.directory == directory {
			r.wake()
		}
	}
}

// observeLag records how long a change took until it was effective at this edge.
func (f *fleet) observeLag(directory string, behind time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.followers {
		if r.directory == directory {
			r.lag.Store(int64(behind))
		}
	}
}

// nameHubs adds the hub, and the controller that it follows, to owners from a stream.
func (f *fleet) nameHubs(owners []control.Owner) {
	f.mu.Lock()
	followers := slices.Clone(f.followers)
	f.mu.Unlock()
	for i, o := range owners {
		at := slices.IndexFunc(followers, func(r *follower) bool { return r.directory == o.Directory })
		if at < 0 {
			continue
		}
		if hub, ok := followers[at].hub(); ok {
			owners[i].Hub, owners[i].HubController = hub.Name, hub.Controller
		}
	}
}

// controllerName returns the source of a directory for display. For a stream, that is the hub instead of name,
// which is the name of the stream and means nothing to an operator.
func (f *fleet) controllerName(directory, name string) (shown string, stream bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.IndexFunc(f.followers, func(r *follower) bool { return r.directory == directory })
	if at < 0 || name == "" {
		return name, false
	}
	if hub, ok := f.followers[at].hub(); ok {
		return "hub " + hub.Name, true
	}
	return "the hub", true
}

// nameConfirmers adds the names of the hubs that confirm recipients. Hubs search controllers of their own, so
// none of them is the followed controller.
func (f *fleet) nameConfirmers(s *control.ConfirmStatus) {
	if s == nil {
		return
	}
	for i := range s.Directories {
		d := &s.Directories[i]
		if name, stream := f.controllerName(d.Name, d.DomainController); stream {
			d.DomainController, d.Followed = name, false
		}
	}
}

// addTo adds the fleet to a status.
func (f *fleet) addTo(s *control.Status, now time.Time) {
	f.mu.Lock()
	publishers, followers := slices.Clone(f.publishers), slices.Clone(f.followers)
	f.mu.Unlock()
	for _, p := range publishers {
		s.Publish = append(s.Publish, p.status(now))
	}
	for _, r := range followers {
		at := slices.IndexFunc(s.Directories, func(d control.DirectoryStatus) bool { return d.Name == r.directory })
		if at >= 0 {
			d := &s.Directories[at]
			d.Stream = r.status(now)
			d.DomainController, _ = f.controllerName(d.Name, d.DomainController)
		}
	}
	s.Engine = f.engine.status()
	s.Alarms = append(s.Alarms, fleetAlarms(*s, now)...)
}
