package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// PassResult is the result of one pass.
type PassResult struct {
	Info store.PassInfo // of a failed pass only kind, controller and start
	Err  error
}

// errContainerMoved ends a pass that has to be repeated as a full one.
var errContainerMoved = errors.New("an organizational unit or container moved")

// errStillMoving ends a full pass during which containers never stopped moving.
var errStillMoving = fmt.Errorf("%w repeatedly while everything was read; trying again", errContainerMoved)

// errEmpty rejects a full pass that found no address.
var errEmpty = errors.New("the directory shows no object with an address; " +
	"check the rights of the bind account, bases and address_attributes")

// errBaseMissing keeps a misspelt, renamed or deleted base from counting as an empty one.
var errBaseMissing = errors.New("does not exist in the directory")

// storeError is a local error, for which no other domain controller would help.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// passRun is a running pass.
type passRun struct {
	m             *Mirror
	started       time.Time
	root          directory.Root
	kind          store.Kind
	continues     bool // an incremental pass is possible: same database, view and rules as the cursor
	domainOnly    bool // see Mirror.isDomainOnly
	pass          *store.Pass
	info          store.PassInfo
	owners        int         // number of objects with an address
	goneAddresses int         // number of addresses that objects lost
	changeTimes   []time.Time // whenChanged of objects whose addresses changed

	hidden       map[store.GUID]bool // objects that hide uSNChanged
	firstHidden  string              // name of the first of them
	unreadValues int                 // number of new values that need correction
	unreadable   bool                // an object of a stream could not be read
	touched      bool                // addresses of an object changed
	outOfScope   []directory.GUID    // objects that lost addresses, see noteOutOfScope

	changeTracker        // for a full pass
	second        Source // for changes between pages, see changesMode; nil: not open
}

// run decides the kind of the pass and runs it. If a container moved, an incremental pass
// is repeated as a full one, and a full pass that continued from the cursor is repeated
// without the cursor. A pass that the controller could not serve together with the changes is
// repeated without them.
func (r *passRun) run(ctx context.Context, full string) error {
	m := r.m
	stored := m.config.Store.Directory(m.config.Name)
	r.root = m.withAccount(r.root)
	m.recordRootDSE(ctx, m.source, r.root)
	at := decodeCursor(stored.Cursor)
	r.domainOnly = m.isDomainOnly(r.root)
	m.lastDomainOnly = r.domainOnly
	m.otherScope.Store(r.domainOnly || !at.covers(at.next(r.root, store.Full)))
	if err := r.checkNewer(at, stored, full == reasonRequested); err != nil {
		return err
	}
	why := mustFull(m.situation(stored, r.root))
	if m.config.Rules.Published && isSetBack(at, r.root) {
		return r.setBack(stored)
	}
	if why == "" && at.Term != r.root.Term && stored.Marked > 0 {
		why = reasonNewTerm
	}
	r.continues = why == ""
	defer r.closeSecond()
	for why = cmp.Or(why, full); ; {
		err := r.read(ctx, stored, why)
		switch {
		case r.lostByChanges(err):
		case errors.Is(err, errContainerMoved) && !errors.Is(err, errStillMoving) && r.continues:
			// An incremental pass would not see the container again, because it is stored already.
			r.continues, why = false, errContainerMoved.Error()
		default:
			return err
		}
		if r.root, err = m.source.Root(ctx); err != nil {
			return err
		}
		r.root = m.withAccount(r.root)
	}
}

func (m *Mirror) situation(stored store.Directory, root directory.Root) situation {
	return situation{stored: stored, root: root, fingerprint: m.fingerprint,
		fullInterval: m.config.Full, now: m.config.Now(), differs: m.differs.Load()}
}

// read runs one pass from Begin to Commit.
func (r *passRun) read(ctx context.Context, stored store.Directory, why string) error {
	m := r.m
	r.kind, r.owners, r.goneAddresses, r.changeTimes, r.hidden = store.Incremental, 0, 0, nil, nil
	r.outOfScope, r.unreadable, r.touched = nil, false, false
	if why != "" {
		r.kind = store.Full
		m.config.Log.Info("full pass begins", "why", why, "controller", r.root.DNSHostName)
	}
	before := decodeCursor(stored.Cursor)
	next := before.next(r.root, r.kind)
	if m.config.Rules.Published {
		next = next.follows(before, r.started)
	}
	next.AgeUnknown = r.kind == store.Incremental && (before.AgeUnknown || r.ageUnknown(stored))
	r.changeTracker = r.startTracking(before)
	origin := store.Origin{Controller: r.root.DNSHostName,
		Database: next.database(), Why: why, Started: r.started, Lag: m.config.ReplicationLag,
		PreviousRead: r.otherDatabaseRead(stored), Rules: m.fingerprint, HandoverLag: m.handoverLag,
		RequireFullPass: why == reasonSetBack, IncrementalPossible: r.continues}
	if r.domainOnly {
		origin.Visible = func(dn string) bool { return inDomain(dn, r.root.DefaultNamingContext) }
	}
	pass, err := m.config.Store.Begin(m.config.Name, r.kind, origin)
	if err != nil {
		return storeError{err}
	}
	defer pass.Abort()
	r.pass = pass
	m.updateStatus(func(s *Status) {
		s.Running = &Progress{Kind: r.kind, Started: r.started}
		if why != "" {
			s.FullReason = why
		}
	})
	if r.kind == store.Full {
		err = r.readAll(ctx, stored)
	} else {
		err = r.readChanges(ctx, before.USN)
	}
	if err != nil {
		return err
	}
	return r.commit(next)
}

// ageUnknown reports whether the clock does not tell how old the last good pass is.
func (r *passRun) ageUnknown(stored store.Directory) bool {
	_, known := policy.Elapsed(stored.LastGood(), r.m.config.Now())
	return !known || stored.LastGoodDoubted
}

// otherDatabaseRead returns when another database than this one was last read completely;
// zero if never.
func (r *passRun) otherDatabaseRead(stored store.Directory) time.Time {
	at := decodeCursor(stored.Cursor)
	if stored.LastFull.Number == 0 || at.database() == at.next(r.root, store.Full).database() {
		return time.Time{}
	}
	return stored.Newest().Ended
}

// readChanges reads the changes since the cursor. If addresses are gone and the scope has
// borders, it also reads the changes since the rootDSE. Objects that were read while their
// container was outside the bases look gone. Once the container has returned, only its own
// change shows the mistake.
func (r *passRun) readChanges(ctx context.Context, since uint64) error {
	if err := r.m.source.Read(ctx, since, r.applyPage); err != nil {
		return err
	}
	if r.goneAddresses == 0 || len(r.m.config.Rules.scopeBorders()) == 0 {
		return nil
	}
	if err := r.m.source.Read(ctx, r.root.HighestCommittedUSN, r.applyPage); err != nil {
		return err
	}
	return r.rereadOutOfScope(ctx)
}

// readAll reads all live objects, from time to time the changes since, and the changes once
// more at the end: an address may have moved from an object that was read late to one that
// was read early.
func (r *passRun) readAll(ctx context.Context, stored store.Directory) error {
	source := r.m.source
	if r.m.config.Rules.Published {
		return r.readPublished(ctx, stored)
	}
	if err := checkBases(ctx, source, r.m.config.Rules.Bases); err != nil {
		return err
	}
	if err := r.m.checkExcluded(ctx, source); err != nil {
		return err
	}
	if err := source.Read(ctx, 0, r.pageHandler(ctx)); err != nil {
		return err
	}
	// Addresses that another database showed are not removed only because this one lacks
	// them. Its tombstones prove which ones are gone; without them that takes longer.
	if !r.otherDatabaseRead(stored).IsZero() {
		if err := source.ReadDeleted(ctx, r.pageHandler(ctx)); errors.Is(err, directory.ErrRefused) {
			r.m.config.Log.Warn("deleted objects cannot be read", "error", err)
		} else if err != nil {
			return err
		}
	}
	if err := r.readUntilComplete(ctx); err != nil {
		return err
	}
	return r.sweep(stored)
}

// sweep marks what a full pass did not see.
func (r *passRun) sweep(stored store.Directory) error {
	if r.owners == 0 && (stored.LastFull.Number == 0 || r.m.config.Guard.Max == 0) {
		return errEmpty
	}
	if err := r.pass.Sweep(); err != nil {
		return storeError{err}
	}
	return nil
}

// checkBases fails if one of the bases does not exist.
func checkBases(ctx context.Context, source Source, bases []string) error {
	for _, base := range bases {
		if there, err := source.Exists(ctx, base); err != nil {
			return err
		} else if !there {
			return fmt.Errorf("bases: %q %w; correct or remove it", base, errBaseMissing)
		}
	}
	return nil
}

// applyPage classifies and applies one page.
func (r *passRun) applyPage(read []directory.Object) error {
	m := r.m
	read = r.keepUnreadable(read)
	objects, now := make([]store.Object, len(read)), m.config.Now()
	for i, o := range read {
		objects[i] = classify(o, m.config.Rules)
		objects[i].Unsettled = o.USN > r.root.HighestCommittedUSN
		objects[i].Read, objects[i].Deletion = now, r.deletionTime(o)
		r.markHidden(&o, &objects[i])
		if len(objects[i].Addresses) > 0 {
			r.owners++
		}
	}
	if err := r.checkMoves(read, objects); err != nil {
		return err
	}
	changes, err := r.pass.Apply(objects)
	if err != nil {
		return storeError{err}
	}
	r.logUnread(changes.Unread)
	r.goneAddresses += changes.Gone
	r.touched = r.touched || len(changes.Touched) > 0
	for _, i := range changes.Touched {
		r.noteOutOfScope(&read[i])
		if !read[i].Changed.IsZero() {
			r.changeTimes = append(r.changeTimes, read[i].Changed)
		}
	}
	m.updateStatus(func(s *Status) {
		if s.Running != nil {
			s.Running.Seen += len(read)
		}
	})
	return nil
}

func (r *passRun) commit(next cursor) error {
	if r.readUpTo > next.USN {
		next.Highest = r.readUpTo
	}
	next.Differs = r.mayDiffer()
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

// granteeOf returns the account in the form that check --live uses, too. The directory is asked
// once.
func (m *Mirror) granteeOf(ctx context.Context, source Source) string {
	if m.grantee == "" {
		if named, ok := source.(interface{ Grantee(context.Context) string }); ok {
			m.grantee = named.Grantee(ctx)
		}
		m.grantee = cmp.Or(m.grantee, directory.Grantee(m.config.Account))
	}
	return m.grantee
}

// recordRootDSE records what the rootDSE shows, and warns if deleted objects are hidden.
func (m *Mirror) recordRootDSE(ctx context.Context, source Source, root directory.Root) {
	var grant []string
	if !root.DeletedVisible {
		grant = directory.GrantDeletedObjects(root.DefaultNamingContext, m.granteeOf(ctx, source))
	}
	m.updateStatus(func(s *Status) {
		s.HighestUSN, s.RootKnown = root.HighestCommittedUSN, true
		s.DeletedHidden, s.GrantCommands = !root.DeletedVisible, grant
	})
	now := m.config.Now()
	if !root.DeletedVisible && isOver(m.rightsWarnedAt, now, time.Hour) {
		m.rightsWarnedAt = now
		m.config.Log.Warn("bind account cannot see deleted objects, so deletions wait for a full pass; "+
			"grant it the right",
			"every", min(m.config.Full, deletedHiddenFullInterval), "commands", grant)
	}
}

// recordResult logs the result of a pass and passes it to the observer.
func (m *Mirror) recordResult(r PassResult) {
	now := m.config.Now()
	if r.Err == nil && r.Info.Kind == store.Full {
		m.recordFullDone()
	}
	m.updateStatus(func(s *Status) {
		s.LastError = r.Err
		if r.Err == nil {
			s.FailingSince = time.Time{}
		} else if s.FailingSince.IsZero() {
			s.FailingSince = now
		}
	})
	if m.config.Observe.Pass != nil {
		m.config.Observe.Pass(r)
	}
	i := r.Info
	switch {
	case r.Err != nil:
		m.config.Log.Error("pass failed", "kind", i.Kind, "controller", i.Controller, "error", r.Err)
	case i.Kind == store.Full || i.Added+i.Removed > 0:
		m.config.Log.Info("pass done", "pass", i.Number, "kind", i.Kind, "controller", i.Controller, "usn", i.USN,
			"seen", i.Seen, "added", i.Added, "changed", i.Changed, "removed", i.Removed,
			"took", i.Ended.Sub(i.Started))
	default:
		m.config.Log.Debug("pass done", "pass", i.Number, "kind", i.Kind, "usn", i.USN, "seen", i.Seen)
	}
}
