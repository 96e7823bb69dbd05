package mirror

import (
	"cmp"
	"fmt"

	"rcpt-milter/store"
)

// commit commits a pass that has read everything, and records what it shows.
func (r *passRun) commit(next cursor) error {
	if r.readUpTo > next.USN {
		next.Highest = r.readUpTo
	}
	next.Differs = r.mayDiffer()
	if since := r.noAddressesSince(); !since.IsZero() {
		next.NoAddressesSince = since
		next.Age += max(r.started.Sub(since), 0)
	}
	next.Hosts = r.before.readFrom(r.m.followedName(), next)
	next.Clock = r.before.Clock.next(r.clock)
	encoded, err := next.encode()
	if err != nil {
		return storeError{fmt.Errorf("cursor: %w", err)}
	}
	if err := r.m.config.Store.Decide(func() error { return r.applyGuard(next, encoded) }); err != nil {
		return storeError{err}
	}
	stored := r.m.config.Store.Directory(r.m.config.Name)
	r.m.setStored(stored)
	r.m.otherScope.Store(r.domainOnly)
	r.compareDigests(stored)
	r.m.fullDue = dueFull(r.m.situation(stored, r.root))
	switch {
	case r.kind == store.Full:
		r.m.addressesHidden, r.m.discarded = false, false
	case r.addressesHidden:
		r.m.addressesHidden = true
	}
	if r.m.addressesHidden {
		r.m.fullDue = cmp.Or(r.m.fullDue, reasonAddressesHidden)
	}
	r.m.controllers.lastServed = r.m.current().Name
	r.m.updateStatus(func(s *Status) {
		s.Controller, s.InvocationID, s.USN = next.Host, next.InvocationID, next.USN
	})
	r.m.setFollowed(r.m.current())
	r.observeLag()
	return nil
}

// observeLag reports how long changes took to arrive here, by the clock of the controller
// that recorded them.
func (r *passRun) observeLag() {
	observe := r.m.config.Observe.Lag
	if r.kind == store.Full || observe == nil || r.root.Now.IsZero() {
		return
	}
	ahead := r.root.Now.Sub(r.started) // difference between its clock and ours
	for _, changed := range r.changeTimes {
		observe(max(r.info.Ended.Add(ahead).Sub(changed), 0))
	}
}

// applyGuard asks the guard and commits the pass.
func (r *passRun) applyGuard(next cursor, encoded []byte) error {
	held, err := r.hold()
	if err != nil {
		return err
	}
	if r.m.afterGuard != nil {
		r.m.afterGuard()
	}
	r.info, err = r.pass.Commit(store.Outcome{Cursor: encoded, USN: next.USN,
		Hold: held.reason, HoldDomains: held.domains, HoldEmpty: held.empty, Fingerprint: r.m.fingerprint,
		Ended: r.m.config.Now()})
	return err
}

// hold asks the guard about a pass that has read everything.
func (r *passRun) hold() (heldRemovals, error) {
	m := r.m
	before := m.config.Store.Directory(m.config.Name)
	if before.Marked == 0 {
		return heldRemovals{}, nil
	}
	empty := r.owners == 0
	if r.kind == store.Incremental { // it has seen nothing that proves otherwise
		empty = before.HoldEmpty || r.addressesHidden
	}
	if why, err := r.holdHidden(); err != nil || why != "" {
		return heldRemovals{reason: why, empty: empty}, err
	}
	pending, err := r.pass.Pending()
	if err != nil {
		return heldRemovals{}, err
	}
	limits, guard, s := m.limits.Load(), m.config.Guard, m.config.Store
	since := r.started.Add(-guard.Window - r.before.Clock.jump(r.started, guard.Window))
	l, err := guard.losses(s, before, pending, limits.Guarded, since, m.config.Now())
	if err != nil {
		return heldRemovals{}, err
	}
	if l.canary, err = firstLostCanary(r.pass, limits.Canaries); err != nil {
		return heldRemovals{}, err
	}
	// An object that loses an address is a removal, even if the address has another owner or
	// has come back.
	if l.recent, err = s.RemovedBetween(m.config.Name, since, r.started); err != nil {
		return heldRemovals{}, err
	}
	l.empty = empty
	h := guard.judge(l)
	// All removals are still pending, and are held at once. A full pass that saw nothing removes nothing even if the
	// guard is disabled (errEmpty), so disabling it does not release what it held because of such a pass.
	if h.reason == "" && empty {
		h.reason = reasonEmpty
	}
	if h.reason == reasonEmpty && r.kind == store.Incremental && (m.addressesHidden || r.addressesHidden) {
		h.reason = holdAddressesHidden
	}
	h.empty = empty
	h.log(m.config.Log, before, pending)
	return h, nil
}
