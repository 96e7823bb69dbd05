package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/internal/safely"
	"rcpt-milter/store"
)

// Retired is the state of a directory that is no longer configured. It does not affect decisions about
// recipients.
const Retired State = "retired"

// retiredRules is the fingerprint of the rules of a retired directory. No rules have this fingerprint, so a
// directory that is configured again is read in full before it is trusted.
const retiredRules = "retired"

// retiredInterval is the interval at which held removals are judged again, because another directory may have
// read the addresses meanwhile.
const retiredInterval = 10 * time.Minute

// RetiredConfig configures a RetiredDirectory.
type RetiredConfig struct {
	Name     string // name in the store
	Store    *store.Store
	Guard    Guard                    // applies to addresses that no other directory has
	Canaries func() []address.Address // initial value, as in Limits; SetCanaries changes it
	Guarded  func(domain string) bool // initial value, as in Limits; SetGuarded changes it
	// HandoverLag is as in Limits, except that nil means zero. SetHandoverLag changes it.
	HandoverLag func(domain string) time.Duration

	Log     *slog.Logger     // required
	Now     func() time.Time // nil means time.Now
	Observe func(PassResult) // called after each pass; nil means no observer
}

// RetiredDirectory removes the addresses of a directory that is no longer configured. It runs full passes that
// see no objects. Addresses that no other directory has are subject to the guard. When no address is left, it
// drops the directory from the store. All methods are safe for concurrent use.
type RetiredDirectory struct {
	config      RetiredConfig
	canaries    atomic.Pointer[func() []address.Address]
	guarded     atomic.Pointer[func(domain string) bool]
	handoverLag atomic.Pointer[func(domain string) time.Duration]

	mu         sync.Mutex // held while the store is being changed
	waitsSince time.Time  // start of the waits of withHandoverWaits; zero until the first pass

	status struct {
		sync.Mutex
		gone bool
		kept bool  // an operator discarded the removals, so the addresses stay until the next start
		err  error // error of the last pass
	}
}

// NewRetiredDirectory returns a RetiredDirectory. Run and Pass start it.
func NewRetiredDirectory(config RetiredConfig) *RetiredDirectory {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Observe == nil {
		config.Observe = func(PassResult) {}
	}
	config.Log = config.Log.With("directory", config.Name)
	r := &RetiredDirectory{config: config}
	r.SetCanaries(config.Canaries)
	r.SetGuarded(config.Guarded)
	r.SetHandoverLag(config.HandoverLag)
	return r
}

// SetHandoverLag replaces HandoverLag, with effect from the next pass.
func (r *RetiredDirectory) SetHandoverLag(lag func(domain string) time.Duration) {
	r.handoverLag.Store(&lag)
}

// SetCanaries replaces the canaries, with effect from the next pass. Nil means none.
func (r *RetiredDirectory) SetCanaries(canaries func() []address.Address) {
	r.canaries.Store(&canaries)
}

// SetGuarded replaces Guarded, with effect from the next pass. Nil means all domains.
func (r *RetiredDirectory) SetGuarded(guarded func(domain string) bool) { r.guarded.Store(&guarded) }

// Name returns the name of the directory.
func (r *RetiredDirectory) Name() string { return r.config.Name }

// Run runs passes until the directory is gone, an operator discards the removals, or ctx ends. It always
// returns nil.
func (r *RetiredDirectory) Run(ctx context.Context) error {
	ticker := time.NewTicker(retiredInterval)
	defer ticker.Stop()
	for {
		r.Pass()
		if r.done() {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Pass removes the addresses that the guard releases. It drops the directory from the store when no address is
// left.
func (r *RetiredDirectory) Pass() PassResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done() {
		return PassResult{}
	}
	var info store.PassInfo
	err := safely.Do(r.config.Log, "pass", func() (err error) {
		if info, err = r.pass(); err == nil {
			err = r.forget()
		}
		return err
	})
	r.updateStatus(func() { r.status.err = err })
	if err != nil {
		r.config.Log.Error("cannot remove the addresses of a directory that is no longer in the configuration",
			"error", err)
	}
	result := PassResult{Info: info, Err: err}
	if err != nil || info.Number != 0 {
		r.config.Observe(result)
	}
	return result
}

// pass runs one full pass that sees no objects. If the result would be the same hold as before, it commits
// nothing and returns the zero info.
func (r *RetiredDirectory) pass() (store.PassInfo, error) {
	s, name, now := r.config.Store, r.config.Name, r.config.Now()
	before := s.Directory(name)
	pass, err := s.Begin(name, store.Full, store.Origin{Database: retiredRules, Rules: retiredRules,
		Why: "the directory is no longer in the configuration", Started: now})
	if err != nil {
		return store.PassInfo{}, err
	}
	defer pass.Abort()
	if err := pass.Sweep(); err != nil {
		return store.PassInfo{}, err
	}
	var info store.PassInfo
	err = s.Decide(func() (err error) {
		info, err = r.decide(pass, before, now)
		return err
	})
	return info, err
}

// decide consults the guard and commits the pass.
func (r *RetiredDirectory) decide(pass *store.Pass, before store.Directory, now time.Time) (store.PassInfo, error) {
	hold, goes, err := r.hold(pass, before, now)
	if err != nil {
		return store.PassInfo{}, err
	}
	// The text is compared only to store a new one; a reworded reason costs one commit.
	if hold.reason != "" && hold.reason == before.Hold && !goes && before.Fingerprint == retiredRules {
		return store.PassInfo{}, nil
	}
	info, err := pass.Commit(store.Outcome{Cursor: before.Cursor, USN: decodeCursor(before.Cursor).USN,
		Fingerprint: retiredRules, Ended: r.config.Now(), Hold: hold.reason, HoldDomains: hold.domains})
	if err == nil && info.Removed > 0 {
		r.config.Log.Info("removed addresses of a directory that is no longer in the configuration",
			"pass", info.Number, "removed", info.Removed)
	}
	return info, err
}

// hold consults the guard. It reports whether some removals take effect although others are held. Addresses
// that another directory also has do not count as lost, so a directory that was only renamed in the
// configuration is dropped after the new name has been read.
func (r *RetiredDirectory) hold(
	pass *store.Pass, before store.Directory, now time.Time,
) (_ heldRemovals, goes bool, _ error) {
	r.noteStartOfWaits(now)
	pending, err := pass.Pending()
	if err != nil {
		return heldRemovals{}, false, err
	}
	pending.Owned = pending.Addresses()
	l, err := r.config.Guard.losses(r.config.Store, before, pending, *r.guarded.Load(),
		now.Add(-r.config.Guard.Window), r.config.Now())
	if err != nil {
		return heldRemovals{}, false, err
	}
	if l.canary, err = firstLostCanary(pass, *r.canaries.Load()); err != nil {
		return heldRemovals{}, false, err
	}
	h := r.config.Guard.judge(l)
	if h.reason == "" || len(h.domains) > 0 {
		h = holdDomains(r.withHandoverWaits(h.domains, pending, now))
	}
	if h.reason == "" {
		return heldRemovals{}, true, nil
	}
	h.reason = "the directory is no longer in the configuration, and " + h.reason
	h.log(r.config.Log, before, pending)
	return h, h.releases(pending), nil
}

// noteStartOfWaits records when the waits of withHandoverWaits began: at the first pass of this process. No
// controller shows whether the local clock was set since an earlier one. Within a process, the times have readings of
// the monotonic clock (package time), so a clock that is set changes no wait.
func (r *RetiredDirectory) noteStartOfWaits(now time.Time) {
	if r.waitsSince.IsZero() || r.waitsSince.After(now) {
		r.waitsSince = now
	}
}

// withHandoverWaits adds domains whose removals must wait although the guard releases them. An object may have
// moved to another directory shortly before this one was removed from the configuration, and the other
// directory may not have been read since.
func (r *RetiredDirectory) withHandoverWaits(
	held []store.HeldDomain, pending store.Pending, now time.Time,
) []store.HeldDomain {
	lag := *r.handoverLag.Load()
	if lag == nil {
		return held
	}
	isHeld := make(map[string]bool, len(held))
	for _, h := range held {
		isHeld[h.Domain] = true
	}
	for _, domain := range slices.Sorted(maps.Keys(pending.Last)) {
		until := r.waitsSince.Add(lag(domain))
		if !until.After(now) || isHeld[domain] {
			continue
		}
		held = append(held, store.HeldDomain{Domain: domain, Why: fmt.Sprintf(
			"addresses of the domain %s wait until %s for another directory that may own them (replication_lag)",
			domain, until.UTC().Format(time.RFC3339))})
	}
	return held
}

// forget drops the directory from the store, unless it still owns something.
func (r *RetiredDirectory) forget() error {
	dropped, err := r.config.Store.Drop(r.config.Name)
	if err != nil || !dropped {
		return err
	}
	r.updateStatus(func() { r.status.gone = true })
	r.config.Log.Info("dropped a directory that is no longer in the configuration")
	return nil
}

// Outdated returns why the held removals do not count; see Mirror.Outdated. Before the first pass, the held
// removals are still those of the mirror.
func (r *RetiredDirectory) Outdated() error {
	if d := r.config.Store.Directory(r.config.Name); d.Hold != "" && d.Fingerprint != retiredRules {
		return store.ErrOtherRules
	}
	return nil
}

// Approve releases the held removals; see Mirror.Approve.
func (r *RetiredDirectory) Approve(ctx context.Context, upTo uint64) (store.PassInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil { // it ended while a pass ran
		return store.PassInfo{}, err
	}
	if r.Gone() {
		return store.PassInfo{}, nil
	}
	upTo = approvableUpTo(r.config.Store.Directory(r.config.Name), upTo)
	info, err := r.config.Store.Approve(r.config.Name, upTo, retiredRules, r.config.Now())
	logApproval(r.config.Log, info, err)
	if err != nil {
		return info, err
	}
	return info, r.forget()
}

// Discard keeps the addresses until the next start, which judges them again.
func (r *RetiredDirectory) Discard(ctx context.Context) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil { // it ended while a pass ran
		return 0, err
	}
	if r.Gone() {
		return 0, nil
	}
	objects, err := r.config.Store.Discard(r.config.Name, r.config.Now())
	logDiscard(r.config.Log, "held removals discarded until the next start", objects, err)
	if err == nil {
		r.updateStatus(func() { r.status.kept = true })
	}
	return objects, err
}

// Gone reports whether the store has dropped the directory.
func (r *RetiredDirectory) Gone() bool {
	r.status.Lock()
	defer r.status.Unlock()
	return r.status.gone
}

// done reports whether nothing is left to do before the next start.
func (r *RetiredDirectory) done() bool {
	r.status.Lock()
	defer r.status.Unlock()
	return r.status.gone || r.status.kept
}

func (r *RetiredDirectory) updateStatus(change func()) {
	r.status.Lock()
	defer r.status.Unlock()
	change()
}

// Status returns the current state.
func (r *RetiredDirectory) Status() Status {
	stored := r.config.Store.Directory(r.config.Name)
	at := decodeCursor(stored.Cursor)
	s := Status{State: Retired, Controller: at.Host, InvocationID: at.InvocationID, USN: at.USN, HighestUSN: at.USN,
		FullReason: stored.LastFull.Why, LastGood: stored.LastGood(),
		Full: stored.LastFull, Incremental: stored.LastIncremental,
		Warnings: []string{fmt.Sprintf(
			"it is no longer in the configuration, and its objects still own %d addresses", stored.Owned)}}
	if s.HoldReason = stored.Hold; s.HoldReason != "" {
		s.HeldAddresses = stored.Newest().Held
	}
	r.updateStatus(func() {
		s.LastError = r.status.err
		if r.status.kept {
			s.Warnings[0] += ", which stay until the next start"
		}
	})
	return s
}
