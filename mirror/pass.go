package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// PassResult is how one pass ended.
type PassResult struct {
	Info store.PassInfo // what it did; of a failed pass only kind, controller and start
	Err  error
}

// errMoved ends a pass that has to be run again, as a full one that is owed.
var errContainerMoved = errors.New("an organizational unit or container moved")

// errRestless ends a full pass that never got to an end.
var errStillMoving = fmt.Errorf("%w again and again while everything was read; it is tried again", errContainerMoved)

// errEmpty refuses a full pass that found nobody.
var errEmpty = errors.New("the directory shows no object with an address; check the rights of the bind account, bases and address_attributes")

// errNoBase refuses to take a base that is misspelt, renamed or deleted for one in which
// nobody is left.
var errBaseMissing = errors.New("does not exist in the directory")

// storeError is an error of our side: no other domain controller would help.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// reading is one pass under way.
type passRun struct {
	m             *Mirror
	started       time.Time
	root          directory.Root
	kind          store.Kind
	continues     bool // an incremental pass would do: the same database, view and rules as the cursor
	domainOnly    bool // see Mirror.narrow
	pass          *store.Pass
	info          store.PassInfo
	owners        int         // objects seen that own an address
	goneAddresses int         // addresses that objects do not have any more
	changeTimes   []time.Time // whenChanged of objects whose addresses changed

	hidden       map[store.GUID]bool // objects met that hide uSNChanged
	firstHidden  string              // name of the first of them
	unreadValues int                 // values met that need correction and were not stored before

	changeTracker // of a full pass
}

// run decides what kind of pass it is, and runs it. An incremental pass that turns out
// not to be enough becomes a full one, and so does a full one that a cursor could have
// led on from.
func (r *passRun) run(ctx context.Context, full string) error {
	m := r.m
	stored := m.config.Store.Directory(m.config.Name)
	r.root = m.withAccount(r.root)
	m.recordRootDSE(r.root)
	at := decodeCursor(stored.Cursor)
	r.domainOnly = m.isDomainOnly(r.root)
	m.lastDomainOnly = r.domainOnly
	m.otherScope.Store(r.domainOnly || !at.covers(at.next(r.root, store.Full)))
	why := mustFull(m.situation(stored, r.root))
	r.continues = why == ""
	for why = cmp.Or(why, full); ; why = errContainerMoved.Error() {
		err := r.read(ctx, stored, why)
		if !errors.Is(err, errContainerMoved) || errors.Is(err, errStillMoving) || !r.continues {
			return err
		}
		r.continues = false // what it wrote of the container, no incremental pass would notice again
		if r.root, err = m.source.Root(ctx); err != nil {
			return err
		}
		r.root = m.withAccount(r.root)
	}
}

func (m *Mirror) situation(stored store.Directory, root directory.Root) situation {
	return situation{stored: stored, root: root, fingerprint: m.fingerprint, fullInterval: m.config.Full, now: m.config.Now()}
}

// read does one pass from Begin to Commit.
func (r *passRun) read(ctx context.Context, stored store.Directory, why string) error {
	m := r.m
	r.kind, r.owners, r.goneAddresses, r.changeTimes, r.hidden = store.Incremental, 0, 0, nil, nil
	if why != "" {
		r.kind = store.Full
		m.config.Log.Info("full pass begins", "why", why, "controller", r.root.DNSHostName)
	}
	before := decodeCursor(stored.Cursor)
	next := before.next(r.root, r.kind)
	r.changeTracker = r.startTracking(before)
	origin := store.Origin{Controller: r.root.DNSHostName,
		Database: next.database(), Why: why, Started: r.started, Lag: m.config.ReplicationLag,
		Before: r.otherDatabaseRead(stored), Rules: m.fingerprint, Shared: m.handoverLag, Owed: why == reasonSetBack, Continues: r.continues}
	if r.domainOnly {
		origin.Sees = func(dn string) bool { return inDomain(dn, r.root.DefaultNamingContext) }
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

// before is when another database than this one was last read to its end; zero: none was.
func (r *passRun) otherDatabaseRead(stored store.Directory) time.Time {
	at := decodeCursor(stored.Cursor)
	if stored.LastFull.Number == 0 || at.database() == at.next(r.root, store.Full).database() {
		return time.Time{}
	}
	return stored.Newest().Ended
}

// news reads what has changed. Where somebody left the bases it looks once more at what
// changed meanwhile: a container that went out and came back takes along what was read
// in between, and shows that something happened to it.
func (r *passRun) readChanges(ctx context.Context, since uint64) error {
	if err := r.m.source.Read(ctx, since, r.applyPage); err != nil {
		return err
	}
	if r.goneAddresses == 0 || len(r.m.config.Rules.scopeBorders()) == 0 {
		return nil
	}
	return r.m.source.Read(ctx, r.root.HighestCommittedUSN, r.applyPage)
}

// everything reads all that lives, now and then what changed meanwhile, and that once more
// in the end: an address may have moved from an object that was read late to one that was
// read early.
func (r *passRun) readAll(ctx context.Context, stored store.Directory) error {
	source := r.m.source
	if err := checkBases(ctx, source, r.m.config.Rules.Bases); err != nil {
		return err
	}
	if err := r.m.checkExcluded(ctx, source); err != nil {
		return err
	}
	if err := source.Read(ctx, 0, r.pageHandler(ctx)); err != nil {
		return err
	}
	// What another database taught us is not given up because this one lacks it. Its
	// tombstones say what is gone all the same; without them that takes longer.
	if !r.otherDatabaseRead(stored).IsZero() {
		if err := source.ReadDeleted(ctx, r.pageHandler(ctx)); errors.Is(err, directory.ErrRefused) {
			r.m.config.Log.Warn("deleted objects cannot be read", "error", err)
		} else if err != nil {
			return err
		}
	}
	if err := r.readUntilStable(ctx); err != nil {
		return err
	}
	if r.owners == 0 && (stored.LastFull.Number == 0 || r.m.config.Guard.Max == 0) {
		return errEmpty
	}
	if err := r.pass.Sweep(); err != nil {
		return storeError{err}
	}
	return nil
}

// haveBases fails where one of the bases does not exist.
func checkBases(ctx context.Context, source Source, bases []string) error {
	for _, base := range bases {
		if there, err := source.Exists(ctx, base); err != nil {
			return err
		} else if !there {
			return fmt.Errorf("bases: %q %w; correct it, or take it out", base, errBaseMissing)
		}
	}
	return nil
}

// page judges and applies one page.
func (r *passRun) applyPage(read []directory.Object) error {
	m := r.m
	objects, now := make([]store.Object, len(read)), m.config.Now()
	for i, o := range read {
		objects[i] = classify(o, m.config.Rules)
		objects[i].Unsettled = o.USN > r.root.HighestCommittedUSN
		objects[i].Read, objects[i].Death = now, r.deletionTime(o)
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
	for _, i := range changes.Touched {
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
	encoded, err := next.encode()
	if err != nil {
		return storeError{fmt.Errorf("cursor: %w", err)}
	}
	if err := r.m.config.Store.Decide(func() error { return r.applyGuard(next, encoded) }); err != nil {
		return storeError{err}
	}
	stored := r.m.config.Store.Directory(r.m.config.Name)
	r.m.stored.Store(&stored)
	r.m.otherScope.Store(r.domainOnly)
	r.m.fullDue = dueFull(r.m.situation(stored, r.root))
	r.m.controllers.lastServed = r.m.current().Name
	r.m.updateStatus(func(s *Status) {
		s.Controller, s.InvocationID, s.USN = next.Host, next.InvocationID, next.USN
	})
	r.m.setFollowed(r.m.current())
	r.observeLag()
	return nil
}

// observeLag tells how long changes took to get here, by the clock of the controller
// that wrote them down.
func (r *passRun) observeLag() {
	observe := r.m.config.Observe.Lag
	if r.kind == store.Full || observe == nil || r.root.Now.IsZero() {
		return
	}
	ahead := r.root.Now.Sub(r.started) // its clock against ours
	for _, changed := range r.changeTimes {
		observe(max(r.info.Ended.Add(ahead).Sub(changed), 0))
	}
}

// sawRoot notes what the domain controller says of itself.
func (m *Mirror) recordRootDSE(root directory.Root) {
	var grant []string
	if !root.DeletedVisible {
		grant = directory.GrantDeletedObjects(root.DefaultNamingContext, directory.Grantee(m.config.Account))
	}
	m.updateStatus(func(s *Status) {
		s.HighestUSN, s.RootKnown, s.DeletedHidden, s.GrantCommands = root.HighestCommittedUSN, true, !root.DeletedVisible, grant
	})
	now := m.config.Now()
	if !root.DeletedVisible && now.Sub(m.rightsWarnedAt) > time.Hour {
		m.rightsWarnedAt = now
		m.config.Log.Warn("this account cannot see deleted objects, so deletions wait for a full pass; grant it the right",
			"every", min(m.config.Full, deletedHiddenFullInterval), "commands", grant)
	}
}

// finished logs how a pass ended, and tells whoever listens.
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
			"seen", i.Seen, "added", i.Added, "changed", i.Changed, "removed", i.Removed, "took", i.Ended.Sub(i.Started))
	default:
		m.config.Log.Debug("pass done", "pass", i.Number, "kind", i.Kind, "usn", i.USN, "seen", i.Seen)
	}
}
