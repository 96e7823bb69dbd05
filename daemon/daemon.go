// Package daemon implements "rcpt-milter serve". It creates the parts from a configuration, starts, reloads and
// stops them, and answers requests on the control socket. It also reads the store of a stopped daemon, and
// checks a configuration with everything that it names.
//
// Serve, OpenStopped, Check and CompareTable are its entry points. They print nothing and know
// no command line: they return values, and errors that may be an ErrConfig.
//
// # Reading order
//
//  1. serve.go, start.go, daemon.go: a daemon is made, runs and stops.
//  2. policy.go, index.go: the policy, and how it asks store and mirror.
//  3. mirrors.go, directories.go: the mirrors of the directories.
//  4. reload.go: a changed configuration.
//  5. backend.go, service.go: the answers on the control socket.
//  6. states.go, watchdog.go, maintenance.go: the background work.
//  7. export.go, fleet.go, link.go, publisher.go, follower.go: exported tables, fleets.
//  8. stopped.go, check.go: commands without a daemon.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/control/metrics"
	"rcpt-milter/control/web"
	"rcpt-milter/internal/logging"
	"rcpt-milter/milter"
	"rcpt-milter/mirror"
	"rcpt-milter/policy"
	"rcpt-milter/policy/harvest"
	tables "rcpt-milter/postfix/table"
	"rcpt-milter/socketmap"
	"rcpt-milter/store"
)

// drainTimeout is how long open sessions may continue after the daemon is asked to stop. New connections wait
// in the queue of the socket for the next daemon. The sum of drainTimeout and the start time of the next daemon
// must stay below Postfix's milter command timeout; the documentation recommends 10 s. A recipient is answered
// in well under a second.
const drainTimeout = 5 * time.Second

// daemon is what Serve runs. Its fields live as long as the process: assemble creates them, and close releases
// them. The parts that depend on the configuration are in prepared.
type daemon struct {
	version string
	config  atomic.Pointer[config.Config] // configuration in effect
	reloads reloads

	logs        *logging.Log
	log         *slog.Logger
	metrics     *metrics.Metrics
	store       *store.Store
	maintenance *maintenance
	refusals    *refusals
	domains     domainCounters
	exportFile  *exportFile
	history     *web.History
	syncs       *syncManager
	fleet       *fleet
	canaries    *canaries
	emptyLog    *emptyLog
	states      *stateLog
	files       *tables.Files // accept_files
	fileRest    time.Duration // Options.FileRest
	server      *milter.Server
	socketmap   *socketmap.Server
	watchdog    *watchdog
	prober      prober
	ending      *ending
	changeStore func(*store.Config) // set by tests

	confirmer       atomic.Pointer[directoryConfirmer]
	confirmCounters *mirror.ConfirmCounters // shared by all confirmers
	confirmWorkers  mirror.Group            // workers of the active confirmer
	harvest         atomic.Pointer[harvest.Limit]
	harvestMemory   *harvest.Memory // shared by all limits

	mtaListeners             []mtaListener // milter listeners for Postfix
	mapListeners             []mtaListener // socketmap listeners for Postfix
	control, page, telemetry *service      // nil until listen
}

// open opens everything that a daemon needs. It opens the sockets for Postfix first, so clients wait in their
// queues and are answered later. It opens the store next, and waits for the lock of the store until an earlier
// daemon has exited. After an error, everything is closed.
func (d *daemon) open(ctx context.Context, o Options) (err error) {
	c := o.Config
	defer d.ending.enter("opening the store")()
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.mtaListeners, d.mapListeners, err = openMTAListeners(c, d.log); err != nil {
		return err
	}
	at, err := daemonStoreConfig(c)
	if err != nil {
		return err
	}
	at.LockWait = o.LockWait
	start := beginStart(notify)
	at.Progress = start.progress
	if d.changeStore != nil {
		d.changeStore(&at)
	}
	err = d.assemble(ctx, c, at)
	start.end()
	if err != nil {
		return err
	}
	return d.listen()
}

func newDaemon(o Options) *daemon {
	d := &daemon{version: o.Version, logs: o.Log, log: o.Log.Logger(), metrics: metrics.New(o.Version),
		history: &web.History{}, ending: newEnding()}
	d.prober = prober{log: d.log, do: d.probeRCPT}
	d.reloads.path, d.fileRest = o.ConfigPath, o.FileRest
	d.config.Store(o.Config)
	d.confirmer.Store(&directoryConfirmer{})
	d.confirmCounters, d.harvestMemory = new(mirror.ConfirmCounters), harvest.NewMemory()
	return d
}

// assemble creates the parts between the sockets. It starts nothing.
func (d *daemon) assemble(ctx context.Context, c *config.Config, at store.Config) (err error) {
	log := d.log
	at.Log = log
	if d.store, err = store.Open(ctx, at); err != nil {
		return err
	}
	d.maintenance = newMaintenance(d.store, c, log)
	d.refusals = newRefusals(d.store, log, time.Now)
	d.files = d.newAcceptFiles(ctx, at)
	d.syncs = newSyncManager(d.store, d.metrics, log)
	d.syncs.files = d.files
	d.fleet = newFleet(d.store, d.syncs, c, d.version, log)
	d.fleet.find = d.findForEdge
	d.syncs.observeLag = d.fleet.observeLag
	d.exportFile = newExportFile(d)
	d.canaries = newCanaries(d.files, d.index, log)
	d.emptyLog = &emptyLog{log: log,
		empty:   func() []string { return emptyDomains(d.config.Load(), d.index(), d.files) },
		explain: func(domain string) string { return control.EmptyDomainText(domain, d.config.Load().WhenNotReady) }}
	d.states = newStateLog(d.observedStates, log, time.Now)
	d.syncs.onPass = func(directory string) {
		d.fleet.passEnded(directory)
		d.canaries.Check()
		d.emptyLog.Check()
		d.states.Check()
	}
	first, err := d.prepare(c)
	if err != nil {
		return err
	}
	d.server, err = milter.NewServer(milter.ServerConfig{
		Policy: first.policy, Observer: observer{d.metrics, d.refusals, &d.domains, d.wake}, Logger: log,
		Connections: c.Limits.Connections, Idle: c.Limits.Idle, Drain: drainTimeout,
	})
	if err != nil {
		return err
	}
	d.socketmap, err = socketmap.NewServer(socketmap.Config{
		Policy: first.policy, Confirmed: d.wake, Logger: log, Drain: drainTimeout,
		Connections: listenerBudget(socketmapConnections, countDescriptors().Limit),
	})
	if err != nil {
		return err
	}
	if d.watchdog, err = newWatchdog(d.alive); err != nil {
		return err
	}
	d.apply(first)
	return nil
}

// prepared is a configuration with everything that was made from it. A policy refers to the directories that it
// was made with, so both must be replaced together.
type prepared struct {
	config      *config.Config
	fleet       preparedFleet
	directories directorySet
	files       tables.Prepared
	confirmer   directoryConfirmer
	harvest     *harvest.Limit // nil if the limit is off
	policy      *policy.Policy
	redact      func(address string) string // form of addresses in the log; nil means unchanged
}

// prepare performs all steps of applying a configuration that can fail. It changes nothing.
func (d *daemon) prepare(c *config.Config) (s prepared, err error) {
	s.config = c
	s.fleet = d.fleet.prepare(c)
	if s.directories, err = d.syncs.prepare(c, s.fleet.links); err != nil {
		return s, err
	}
	if s.files, err = d.files.Prepare(c.AcceptFiles); err != nil {
		return s, configError{fmt.Errorf("accept_files: %w", err)}
	}
	if s.confirmer, err = d.prepareConfirmer(c.Confirm, s.directories); err != nil {
		return s, err
	}
	if s.harvest, err = newHarvest(c.Harvest, c.NAT64, d.harvestMemory, d.log); err != nil {
		return s, err
	}
	if s.policy, err = newPolicy(c, index{d.store, s.directories, d.agesOf(c)}, d.files,
		queryChecks{s.confirmer, s.harvest}, time.Now); err != nil {
		return s, err
	}
	if c.Log.HashAddresses {
		key, err := d.store.Secret()
		if err != nil {
			return s, fmt.Errorf("log.addresses: %w", err)
		}
		if key != nil {
			s.redact = milter.HashAddress(key)
		}
	}
	return s, nil
}

// apply activates a prepared configuration, at the start and at a reload. It cannot fail.
func (d *daemon) apply(s prepared) {
	c := s.config
	d.logs.Set(LogOptions(c))
	d.server.SetRedaction(s.redact)
	d.socketmap.SetRedaction(s.redact)
	d.server.SetLimits(d.sessionLimit(c.Limits.Connections), c.Limits.Idle)
	d.maintenance.Set(c)
	d.refusals.Set(c, s.redact)
	d.domains.Set(c.Domains)
	d.canaries.Set(c)
	d.syncs.apply(c, s.directories, func() {
		d.files.Change(s.files, func() {
			d.server.SetPolicy(s.policy)
			d.socketmap.SetPolicy(s.policy)
		})
	})
	d.fleet.apply(s.fleet, s.directories)
	d.applyConfirmer(s.confirmer)
	d.harvest.Store(s.harvest)
	d.config.Store(c)
	d.exportFile.Reconfigured()
	d.files.ReportUnjudged()
	d.files.Save() // last, because at a start it waits for the disk
}

// index returns the index with the directories that are active now.
func (d *daemon) index() index {
	return index{d.store, d.syncs.active(), d.agesOf(d.config.Load())}
}

// agesOf returns the ages of the accept files, judged by the limits in a configuration.
func (d *daemon) agesOf(c *config.Config) fileAges {
	return fileAges{d.files, c.AcceptFilesMaxAge, time.Now}
}

// wake starts a pass of each directory that may own a domain.
func (d *daemon) wake(domain string) { d.syncs.active().wake(domain) }

// listen opens the sockets for people and tools, and takes over those for Postfix. The daemon runs even if the
// status page or the metrics cannot listen.
func (d *daemon) listen() error {
	d.newServices(d.config.Load())
	if err := d.control.start(); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	_, _ = d.page.start(), d.telemetry.start() // errors are recorded in their states
	for _, l := range slices.Concat(d.mtaListeners, d.mapListeners) {
		if err := l.Take(); err != nil {
			return err
		}
	}
	return nil
}

// component is a part of the daemon that runs from start to end.
type component struct {
	name string // for the log
	run  func(context.Context) error
}

// components returns all parts except the server for Postfix.
func (d *daemon) components(b backend) []component {
	log := d.log
	return []component{
		{"control", func(ctx context.Context) error {
			return d.control.run(ctx, control.NewServer(b, d.version, log).Serve)
		}},
		{"fleet", d.fleet.run},
		{"mirror", d.syncs.Run},
		{"expiry", d.syncs.expiries.Run},
		{"memory", d.syncs.heap.Run},
		{"states", d.states.Run},
		{"confirm", d.confirmWorkers.Run},
		{"accept files", d.files.Run},
		{"copies of accept files", d.files.RunSaver},
		{"store", d.maintenance.Run},
		{"refusals", d.refusals.Run},
		{"export", d.exportFile.Run},
		{"watchdog", d.watchdog.Run},
		{"sockets", d.watchSockets},
		{"history", d.recordHistory},
		{"page", d.page.serving(d.statusPage(b), log)},
		{"metrics", d.telemetry.serving(d.metrics.Handler(b, d.pageHosts, log), log)},
	}
}

// run serves until ctx ends or a component fails. It stops the sockets for Postfix first, then the sessions and
// lookups after they have drained, and the components last, because sessions need them.
func (d *daemon) run(ctx context.Context) error {
	group, ending := errgroup.WithContext(ctx)
	defer context.AfterFunc(ending, d.ending.begin)()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for _, c := range d.components(backend{d, time.Now(), time.Now}) {
		ended := d.ending.enter(c.name)
		group.Go(func() error {
			defer ended()
			if err := mirror.KeepRunning(running, d.log, c.name, c.run); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			return nil
		})
	}
	d.canaries.Check()
	d.emptyLog.Check()
	notify(systemd.SdNotifyReady)
	d.log.Info("ready", "version", d.version, "addresses", d.store.Totals().Addresses)
	ended := d.ending.enter("sessions")
	group.Go(func() error {
		defer stop()
		defer ended()
		return d.answer(ending)
	})
	_ = group.Wait() // the first error caused the end
	d.reloads.close()
	if cause := context.Cause(ending); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// answer serves Postfix until ctx ends and the sessions and lookups have drained.
func (d *daemon) answer(ctx context.Context) error {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return d.socketmap.Run(ctx, listenersOf(d.mapListeners)...) })
	both.Go(func() error {
		err := d.server.Run(ctx, listenersOf(d.mtaListeners)...)
		if ctx.Err() != nil && err != nil {
			d.log.Warn("sessions cut off", "error", err)
			return nil
		}
		return err
	})
	return both.Wait()
}

func listenersOf(all []mtaListener) (listeners []net.Listener) {
	for _, l := range all {
		listeners = append(listeners, l.Listener)
	}
	return listeners
}

// notify sends a state to systemd. It does nothing if systemd did not start the process.
func notify(state string) { systemd.SdNotify(false, state) }

// close releases everything, the store last. It may be called at any stage of open.
func (d *daemon) close() error {
	d.ending.begin()
	for _, l := range slices.Concat(d.mtaListeners, d.mapListeners) {
		l.Close()
	}
	for _, s := range d.services() {
		s.close()
	}
	if d.store == nil {
		return nil
	}
	defer d.ending.enter("closing the store")()
	return d.store.Close()
}
