package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/milter"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// progressEvery is how often a sync that waits is told how far a pass has come.
const progressEvery = 250 * time.Millisecond

// follower keeps the store equal to the directories: one mirror for each, in the
// order of the configuration.
type follower struct {
	mirrors mirror.Group
	config  []config.Directory
	retired []*mirror.Retired // in the store, and no longer in the configuration
	passed  func()            // told of every pass that ended; set before Run
}

// newFollower makes the mirrors. It starts nothing.
func newFollower(c *config.Config, s *store.Store, metrics *control.Metrics, log *slog.Logger) (*follower, error) {
	f := &follower{config: c.Directories, passed: func() {}}
	for _, d := range c.Directories {
		mc := mirrorConfig(c, d, s, metrics, log)
		count := mc.Observe.Pass
		mc.Observe.Pass = func(r mirror.PassResult) {
			count(r)
			f.passed()
		}
		m, err := mirror.New(mc)
		if err != nil {
			return nil, err
		}
		f.mirrors = append(f.mirrors, m)
	}
	f.retire(c, s, metrics, log)
	return f, nil
}

// retire lets go of the directories that the store knows and the configuration does not.
func (f *follower) retire(c *config.Config, s *store.Store, metrics *control.Metrics, log *slog.Logger) {
	for _, name := range slices.Sorted(slices.Values(s.Directories())) {
		if slices.ContainsFunc(c.Directories, func(d config.Directory) bool { return d.Name == name }) {
			continue
		}
		log.Warn("directory is in the store and no longer in the configuration, its addresses leave through the removal guard", "directory", name)
		f.retired = append(f.retired, mirror.NewRetired(mirror.RetiredConfig{
			Name: name, Store: s, Guard: mirror.Guard(config.DefaultGuard()), Canaries: c.Canaries.Accept, Log: log,
			Observe: func(r mirror.PassResult) {
				metrics.PassDone(name, store.Full.String(), resultOf(r))
				f.passed()
			},
		}))
	}
}

func mirrorConfig(c *config.Config, d config.Directory, s *store.Store, metrics *control.Metrics, log *slog.Logger) mirror.Config {
	m := mirror.Config{
		Name: d.Name, Store: s, Log: log,
		Rules: mirror.Rules{
			Attributes: d.AddressAttributes, Bases: d.Bases, RefuseOutside: d.RefuseInternalOnly,
			OmitSystem: d.OmitSystemMailboxes, OmitDisabled: d.OmitDisabledAccounts,
		},
		Poll: d.Poll, Full: d.Full, LateAfter: c.LateAfter, StaleAfter: c.StaleAfter, ReplicationLag: d.ReplicationLag,
		Guard: mirror.Guard(d.RemovalGuard), Canaries: c.Canaries.Accept,
		Secret: secretOf(d.Bind),
		Observe: mirror.Observer{
			Pass: func(r mirror.PassResult) { metrics.PassDone(d.Name, r.Info.Kind.String(), resultOf(r)) },
			Lag:  func(behind time.Duration) { metrics.ObserveLag(d.Name, behind) },
		},
	}
	m.Candidates, m.Discover = controllers(d)
	m.Notify = d.Notify
	return m
}

func resultOf(r mirror.PassResult) string {
	switch {
	case r.Err != nil:
		return control.ResultFailed
	case r.Info.Hold != "":
		return control.ResultHeld
	default:
		return control.ResultOK
	}
}

// Run makes passes until ctx ends, and returns nil then.
func (f *follower) Run(ctx context.Context) error {
	var leaving sync.WaitGroup
	for _, r := range f.retired {
		leaving.Go(func() { r.Run(ctx) })
	}
	err := f.mirrors.Run(ctx)
	leaving.Wait()
	return err
}

// Freshness is the worst state among the directories that may own the domain.
func (f *follower) Freshness(domain string) milter.Freshness {
	worst := milter.Freshness{State: milter.FreshnessFresh}
	for i, m := range f.mirrors {
		if !f.config[i].MayOwn(domain) {
			continue
		}
		state, since := m.State()
		if s := freshnessOf(state); worst.Directory == "" || weight(s) > weight(worst.State) {
			worst = milter.Freshness{State: s, Directory: m.Name(), Since: since}
		}
	}
	return worst
}

// freshnessOf is the state of a mirror in the words of the policy; one it does not
// know is not trusted.
func freshnessOf(s mirror.State) milter.FreshnessState {
	switch s {
	case mirror.Fresh:
		return milter.FreshnessFresh
	case mirror.Late:
		return milter.FreshnessLate
	case mirror.Stale:
		return milter.FreshnessStale
	case mirror.Widening:
		return milter.FreshnessWidening
	default:
		return milter.FreshnessNotReady
	}
}

// weight orders states by how much they keep from being refused.
func weight(s milter.FreshnessState) int {
	return slices.Index([]milter.FreshnessState{milter.FreshnessFresh, milter.FreshnessLate, milter.FreshnessStale,
		milter.FreshnessWidening, milter.FreshnessNotReady}, s)
}

// Directories are the states of all, in the order of the configuration; those that are
// not in it any more come last.
func (f *follower) Directories() []control.DirectoryStatus {
	var all []control.DirectoryStatus
	for _, k := range f.all() {
		all = append(all, statusOf(k.Name(), k.Status()))
	}
	return all
}

// statusOf puts the state of a mirror into plain words.
func statusOf(name string, s mirror.Status) control.DirectoryStatus {
	d := control.DirectoryStatus{
		Name: name, State: stateOf(s.State), DomainController: s.Controller,
		USN: s.USN, HighestCommittedUSN: s.HighestUSN, LastSuccess: control.Time{Time: s.LastGood},
		LastIncremental: passOf(s.Incremental), LastFull: passOf(s.Full), FullPassReason: s.WhyFull,
		NextPass: control.Time{Time: s.NextPass}, FailingSince: control.Time{Time: s.FailingSince},
	}
	if !s.InvocationID.IsZero() {
		d.InvocationID = s.InvocationID.String()
	}
	if s.LastError != nil {
		d.LastError = s.LastError.Error()
	}
	if s.RootKnown {
		visible := !s.Blind
		d.DeletedObjectsVisible = &visible
	}
	if s.Running != nil {
		d.NextPass = control.Time{} // it is this one
		d.Running = &control.SyncEvent{Directory: name, Kind: s.Running.Kind.String(),
			Started: control.Time{Time: s.Running.Started}, Seen: int64(s.Running.Seen), Expected: expected(s)}
	}
	d.Notify, d.Warnings = s.Notified, s.Warnings
	d.HeldRemovals, d.HoldReason = int64(s.Held), s.Hold
	return d
}

// expected is about how many objects the pass under way will read: as many as the last
// full one did, where it is full.
func expected(s mirror.Status) int64 {
	if s.Running.Kind != store.Full {
		return 0
	}
	return int64(s.Full.Seen)
}

// stateOf is the state of a mirror in the words of status: while the rules are being
// widened the index is as good as not read.
func stateOf(s mirror.State) control.State {
	if s == mirror.Widening {
		return control.NotReady
	}
	return control.State(s)
}

// passOf is nil for a pass that never was.
func passOf(i store.PassInfo) *control.PassStatus {
	if i.Number == 0 {
		return nil
	}
	return &control.PassStatus{
		Number: i.Number, Started: control.Time{Time: i.Started}, Seconds: i.Ended.Sub(i.Started).Seconds(),
		Seen: int64(i.Seen), Added: int64(i.Added), Changed: int64(i.Changed), Removed: int64(i.Removed),
		Result: resultOf(mirror.PassResult{Info: i}),
	}
}

// Sync asks every mirror for a pass, and waits for all of them if told to.
func (f *follower) Sync(ctx context.Context, q control.SyncQuery, progress func(control.SyncEvent)) error {
	var results []<-chan mirror.PassResult
	for _, m := range f.mirrors {
		results = append(results, m.Sync(q.Full))
	}
	if !q.Wait {
		return nil
	}
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	var failed []error
	for i, m := range f.mirrors {
		result, err := await(ctx, results[i], ticker.C, func() { f.tell(progress) })
		if err != nil {
			return err
		}
		event := control.SyncEvent{Directory: m.Name(), Kind: result.Info.Kind.String(), Seen: int64(result.Info.Seen)}
		if result.Err != nil {
			event.Error = result.Err.Error()
			failed = append(failed, fmt.Errorf("directory %s: %w", m.Name(), result.Err))
		} else {
			event.Pass = passOf(result.Info)
		}
		progress(event)
	}
	return errors.Join(failed...)
}

// tell reports the passes under way.
func (f *follower) tell(progress func(control.SyncEvent)) {
	for _, d := range f.Directories() {
		if d.Running != nil {
			progress(*d.Running)
		}
	}
}

// await gives what comes out of the channel, and does something at every tick before.
func await[T any](ctx context.Context, c <-chan T, ticks <-chan time.Time, meanwhile func()) (T, error) {
	for {
		select {
		case v := <-c:
			return v, nil
		case <-ticks:
			meanwhile()
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
	}
}
