package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/control/metrics"
	"rcpt-milter/control/web"
	"rcpt-milter/internal/logging"
	"rcpt-milter/internal/socket"
	"rcpt-milter/milter"
	"rcpt-milter/mirror"
	"rcpt-milter/policy"
	"rcpt-milter/policy/harvest"
	tables "rcpt-milter/postfix/table"
	"rcpt-milter/store"
)

// drainFor is how long open sessions may go on once we are told to stop. Meanwhile new
// ones wait in the queue of the socket, for the next daemon: with the time that it takes
// to start, this has to stay below the command_timeout of Postfix, for which we recommend
// 10 s. A recipient is answered in well under a second.
const drainFor = 5 * time.Second

// daemon is what serve runs: parts that live as long as the process, made in this order
// and stopped in the reverse one. What is made anew for every configuration is in setup,
// and has no field here.
type daemon struct {
	config  atomic.Pointer[config.Config] // in force
	reloads reloads

	logs     *logging.Log
	log      *slog.Logger
	metrics  *metrics.Metrics
	store    *store.Store
	upkeep   *upkeep
	refusals *refusals
	history  *web.History
	follower *follower
	canaries *canaries
	emptied  *emptyLog
	states   *stateLog
	files    *tables.Files // accept_files
	server   *milter.Server
	watchdog *watchdog

	confirming atomic.Pointer[confirming]
	confirmed  *mirror.ConfirmCounters // by all of them
	askers     mirror.Group            // the one in force
	harvest    atomic.Pointer[harvest.Limit]
	harvested  *harvest.Memory // of all of them

	intake    []*socket.Listener // for Postfix
	control   net.Listener
	telemetry net.Listener // nil: off
}

// openDaemon makes a daemon. The sockets for Postfix come first: whoever connects waits in
// their queues until he is answered, at the end. The store is next, because its lock shows
// that no other daemon is at work: the one before this may have to finish.
func openDaemon(ctx context.Context, path string, c *config.Config, lockWait time.Duration, logs *logging.Log) (_ *daemon, err error) {
	d := newDaemon(path, c, logs)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.intake, err = openIntake(c, d.log); err != nil {
		return nil, err
	}
	at, err := storeConfig(c)
	if err != nil {
		return nil, err
	}
	at.LockWait = lockWait
	if err = d.assemble(ctx, c, at); err != nil {
		return nil, err
	}
	return d, d.listen()
}

func newDaemon(path string, c *config.Config, logs *logging.Log) *daemon {
	d := &daemon{logs: logs, log: logs.Logger(), metrics: metrics.New(programVersion()), history: &web.History{}}
	d.reloads.path = path
	d.config.Store(c)
	d.confirming.Store(&confirming{})
	d.confirmed, d.harvested = new(mirror.ConfirmCounters), harvest.NewMemory()
	return d
}

// assemble makes what stands between the sockets, and starts nothing.
func (d *daemon) assemble(ctx context.Context, c *config.Config, at store.Config) (err error) {
	log := d.log
	at.Log = log
	if d.store, err = store.Open(ctx, at); err != nil {
		return err
	}
	d.upkeep = newUpkeep(d.store, c, log)
	d.refusals = newRefusals(d.store, log, time.Now)
	d.follower = newFollower(d.store, d.metrics, log)
	d.canaries = newCanaries(d.index, log)
	d.emptied = &emptyLog{log: log, empty: func() []string { return emptyDomains(d.config.Load(), d.index(), d.files) }}
	d.states = newStateLog(d.follower.states, log, time.Now)
	d.follower.passed = func() {
		d.canaries.Check()
		d.emptied.Check()
		d.states.Check()
	}
	d.files = tables.NewFiles(tables.Config{
		Log: log, Judged: func(domain string) bool { return d.config.Load().HasEntry(domain) },
	})
	first, err := d.setUp(c)
	if err != nil {
		return err
	}
	d.server, err = milter.NewServer(milter.ServerConfig{
		Policy: first.policy, Observer: observer{d.metrics, d.refusals, d.wake}, Logger: log, Drain: drainFor,
	})
	if err != nil {
		return err
	}
	if d.watchdog, err = newWatchdog(d.alive); err != nil {
		return err
	}
	d.enact(first)
	return nil
}

// setup is one configuration, and what is made of it. The policy asks the directories
// that it was made with, so that the two change at one moment: a recipient is judged by
// the old policy and the old directories, or by the new ones.
type setup struct {
	config      *config.Config
	directories following
	files       tables.Prepared
	confirming  confirming
	harvest     *harvest.Limit // nil: switched off
	policy      *policy.Policy
	conceal     func(address string) string // in the log; nil: addresses stand as they are
}

// setUp makes all that can fail of a configuration. Nothing changes.
func (d *daemon) setUp(c *config.Config) (s setup, err error) {
	s.config = c
	if s.directories, err = d.follower.plan(c); err != nil {
		return s, err
	}
	if s.files, err = d.files.Prepare(c.AcceptFiles); err != nil {
		return s, &exit{exitConfig, fmt.Errorf("accept_files: %w", err)}
	}
	if s.confirming, err = d.planConfirm(c.Confirm, s.directories); err != nil {
		return s, err
	}
	if s.harvest, err = newHarvest(c.Harvest, d.harvested, d.log); err != nil {
		return s, err
	}
	if s.policy, err = newPolicy(c, index{d.store, s.directories}, d.files, live{s.confirming, s.harvest}, time.Now); err != nil {
		return s, err
	}
	if c.Log.HashAddresses {
		key, err := d.store.Secret()
		if err != nil {
			return s, fmt.Errorf("log.addresses: %w", err)
		}
		if key != nil {
			s.conceal = milter.HashAddress(key)
		}
	}
	return s, nil
}

// enact puts a configuration into force, the first one as well as those of a reload. It
// cannot fail.
func (d *daemon) enact(s setup) {
	c := s.config
	d.logs.Set(logOptions(c))
	d.server.SetRedaction(s.conceal)
	d.server.SetLimits(c.Limits.Connections, c.Limits.Idle)
	d.upkeep.Set(c)
	d.refusals.Set(c, s.conceal)
	d.canaries.Set(c.Canaries)
	d.follower.change(c, s.directories, func() {
		d.files.Change(s.files, func() { d.server.SetPolicy(s.policy) })
	})
	d.changeConfirm(s.confirming)
	d.harvest.Store(s.harvest)
	d.config.Store(c)
	d.files.ReportUnjudged()
}

// index is that of this moment.
func (d *daemon) index() index { return index{d.store, d.follower.now()} }

// wake has a domain's directories read soon.
func (d *daemon) wake(domain string) { d.follower.now().wake(domain) }

// live is what has a meaning only at this moment. The zero value has none.
type live struct {
	confirming confirming
	harvest    *harvest.Limit
}

// limit is it for a policy, which wants nil where there is none.
func (l live) limit() policy.HarvestLimit {
	if l.harvest == nil {
		return nil
	}
	return l.harvest
}

// newPolicy makes the policy of a configuration: the one function that does, for the
// daemon and for lookup, now and in the past. What outlives the configuration comes in
// from outside.
func newPolicy(c *config.Config, i policy.Index, files policy.Table, l live, now func() time.Time) (*policy.Policy, error) {
	refuse := make([]string, 0, len(c.Refuse))
	for _, a := range c.Refuse {
		refuse = append(refuse, a.String())
	}
	return policy.New(policy.Config{
		Index: i, HasAddresses: populated(c, i, files), Domains: c.Domains,
		AlwaysAccept: append([]string{}, c.AlwaysAccept...), RemovalGrace: c.RemovalGrace,
		Accept: c.Accept, Refuse: refuse, AcceptFiles: files, AcceptPatterns: c.AcceptPatterns, RecipientDelimiter: c.RecipientDelimiter,
		DomainAliases: c.DomainAliases, InsideNetworks: c.Inside.Networks,
		ExemptNetworks: c.Exempt.Networks, ExemptAuthenticated: c.Exempt.Authenticated,
		Confirm: l.confirming.policy(), Harvest: l.limit(), HarvestScopeAll: c.Harvest.All, HarvestReply: harvestReply(c.Harvest),
		WhenStale: c.WhenStale, WhenNotReady: c.WhenNotReady, Now: now,
	})
}

// observer counts decisions, notes those that are refusals, and has the directories read
// when they knew more than the index.
type observer struct {
	metrics  *metrics.Metrics
	refusals *refusals
	wake     func(domain string)
}

func (o observer) Observe(q policy.Query, d policy.Decision, took time.Duration) {
	o.metrics.ObserveDecision(took)
	o.refusals.Observe(q, d)
	if d.Verdict == policy.VerdictConfirmed {
		o.wake(d.Match.Domain()) // of an alias, the target is what the directories have
	}
}

// listen opens the sockets that are for people and tools, and takes over those for Postfix.
func (d *daemon) listen() (err error) {
	c := d.config.Load()
	makeSocketDir(c.Control)
	// A nil *Listener must not become a net.Listener that is not nil.
	control, err := socket.Listen(c.Control.String(), socket.Options{Mode: 0o660})
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	d.control = control
	if m := c.Metrics; !m.IsZero() {
		if d.telemetry, err = net.Listen(m.Network, m.Address); err != nil {
			return fmt.Errorf("metrics: %w; choose another port, or \"\" to do without", err)
		}
	}
	for _, l := range d.intake {
		if err := l.Take(); err != nil {
			return err
		}
	}
	return nil
}

// run answers until ctx ends or a part fails, and then stops in order: no more intake,
// sessions drained, the directories no longer followed, and the control socket last.
func (d *daemon) run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var parts sync.WaitGroup
	start := func(name string, part func(context.Context) error) {
		parts.Go(func() {
			if err := mirror.KeepRunning(behind, d.log, name, part); err != nil {
				fail(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	b := backend{d, time.Now(), time.Now}
	start("control", func(ctx context.Context) error {
		return control.NewServer(b, programVersion(), d.log).Serve(ctx, d.control)
	})
	if d.telemetry != nil {
		start("metrics", func(ctx context.Context) error {
			return control.Serve(ctx, d.telemetry, d.metrics.Handler(b, d.statusPage(b), d.log), d.log)
		})
		start("history", d.remember)
	}
	start("mirror", d.follower.Run)
	start("states", d.states.Run)
	start("confirm", d.askers.Run)
	start("accept files", d.files.Run)
	start("store", d.upkeep.Run)
	start("refusals", d.refusals.Run)
	start("watchdog", d.watchdog.Run)
	d.canaries.Check()
	d.emptied.Check()
	notify(systemd.SdNotifyReady)
	d.log.Info("ready", "version", programVersion(), "addresses", d.store.Totals().Addresses)
	intake := make([]net.Listener, len(d.intake))
	for i, l := range d.intake {
		intake[i] = l
	}
	drained := d.server.Run(ctx, intake...)
	if ctx.Err() == nil {
		fail(drained)
	} else if drained != nil {
		d.log.Warn("sessions cut off at the end", "error", drained)
	}
	stop()
	parts.Wait()
	d.reloads.end()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// notify tells systemd, if it started us.
func notify(state string) { systemd.SdNotify(false, state) }

// close lets go of everything, the store last. It may be called however far opening
// came.
func (d *daemon) close() error {
	for _, l := range d.intake {
		l.Close()
	}
	for _, l := range []net.Listener{d.control, d.telemetry} {
		if l != nil {
			l.Close()
		}
	}
	if d.store == nil {
		return nil
	}
	return d.store.Close()
}
