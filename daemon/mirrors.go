package daemon

import (
	"context"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/mirror"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// mirrorConfig returns the configuration of the mirror of a directory.
func (sm *syncManager) mirrorConfig(c *config.Config, d config.Directory, all links) mirror.Config {
	m := mirror.Config{
		Name: d.Name, Store: sm.store, Log: sm.log,
		Rules: rulesOf(d),
		Poll:  d.Poll, Full: d.Full, ReplicationLag: d.ReplicationLag,
		Guard: mirror.Guard(d.RemovalGuard), Limits: sm.limitsOf(c, d), Notify: d.Notify,
		Account: d.Bind.Name(), Secret: secretDigest(d.Bind),
		Observe: mirror.Observer{
			Pass: func(r mirror.PassResult) {
				sm.passEnded(d.Name, r.Info.Kind, r)
				if r.Err == nil {
					sm.expiries.passed(d.Name)
				}
			},
			Lag: func(behind time.Duration) {
				sm.metrics.ObserveLag(d.Name, behind)
				sm.observeLag(d.Name, behind)
			},
		},
	}
	if d.Stream != nil {
		m.Candidates = streamCandidates(d, all.of(*d.Stream), sm.log)
		m.Secret = streamSecret(*d.Stream)
		m.Notify = true // the stream announces each pass of the hub
		m.Debounce = followDebounce
		return m
	}
	m.Domain = d.Discover
	listed, discover := controllers(d)
	m.Candidates = sm.expiries.watch(d, listed)
	if discover != nil {
		m.Discover = func(ctx context.Context) ([]mirror.Candidate, error) {
			found, err := discover(ctx)
			return sm.expiries.watch(d, found), err
		}
	}
	return m
}

// rulesOf returns the rules that determine which objects of a directory are recipients.
func rulesOf(d config.Directory) mirror.Rules {
	if d.Stream != nil {
		return mirror.Rules{Published: true}
	}
	return mirror.Rules{Attributes: d.AddressAttributes, Bases: d.Bases, Exclude: d.Exclude,
		InternalOnly: d.RefuseInternalOnly,
		OmitSystem:   d.OmitSystemMailboxes, OmitDisabled: d.OmitDisabledAccounts}
}

// limitsOf returns the limits that depend on keys outside of the directory's entry.
func (sm *syncManager) limitsOf(c *config.Config, d config.Directory) mirror.Limits {
	return mirror.Limits{LateAfter: c.LateAfter, StaleAfter: c.StaleAfter, Canaries: sm.guardedCanaries(c),
		Guarded: c.Guards, RedactValues: c.Log.HashAddresses,
		HandoverLag: sm.handoverLag(c, d.Name, d.ReplicationLag)}
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

// Directories returns the status of all directories.
func (sm *syncManager) Directories() []control.DirectoryStatus {
	var all []control.DirectoryStatus
	for _, k := range sm.syncers() {
		all = append(all, statusOf(k.Name(), k.Status()))
	}
	return all
}

// statusOf converts the status of a mirror.
func statusOf(name string, s mirror.Status) control.DirectoryStatus {
	d := control.DirectoryStatus{
		Name: name, State: stateOf(s.State), DomainController: s.Controller,
		USN: s.USN, HighestCommittedUSN: s.HighestUSN, LastSuccess: control.Time{Time: s.LastGood},
		LastIncremental: passOf(s.Incremental), LastFull: passOf(s.Full), FullPassReason: s.FullReason,
		NextPass: control.Time{Time: s.NextPass}, FailingSince: control.Time{Time: s.FailingSince},
		FullFailingSince: control.Time{Time: s.FullFailingSince},
	}
	if !s.InvocationID.IsZero() {
		d.InvocationID = s.InvocationID.String()
	}
	if s.LastError != nil {
		d.LastError = s.LastError.Error()
	}
	if s.RootKnown {
		visible := !s.DeletedHidden
		d.DeletedObjectsVisible, d.DeletedObjectsGrant = &visible, s.GrantCommands
	}
	if s.Running != nil {
		d.NextPass = control.Time{} // omit it while a pass is running
		d.Running = &control.SyncEvent{Directory: name, Kind: s.Running.Kind.String(),
			Started: control.Time{Time: s.Running.Started}, Seen: int64(s.Running.Seen), Expected: expected(s)}
	}
	d.Notify, d.Warnings = s.Notified, s.Warnings
	d.HeldRemovals, d.HoldReason = int64(s.HeldAddresses), s.HoldReason
	return d
}

// expected estimates the number of objects that the running pass reads. For a full pass, that is the number of
// the last full pass. Zero means unknown.
func expected(s mirror.Status) int64 {
	if s.Running.Kind != store.Full {
		return 0
	}
	return int64(s.Full.Seen)
}

// stateOf returns the state of a mirror as shown in status: a widening index is shown as not ready.
func stateOf(s policy.State) policy.State {
	if s == policy.Widening {
		return policy.NotReady
	}
	return s
}

// passOf converts a pass. It returns nil if there was none.
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
