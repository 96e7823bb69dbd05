package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/internal/clock"
	"rcpt-milter/internal/safely"
	"rcpt-milter/store"
)

// errContainerMoved ends a pass that has to be repeated as a full one.
var errContainerMoved = errors.New("an organizational unit or container moved")

// errStillMoving ends a full pass during which containers kept moving.
var errStillMoving = fmt.Errorf("%w repeatedly while everything was read; trying again", errContainerMoved)

// errEmpty ends a full pass that found no address.
var errEmpty = errors.New("the directory shows no object with an address; " +
	"check the rights of the bind account, bases and address_attributes")

// errBaseMissing prevents a misspelt, renamed or deleted base from being treated as an empty one.
var errBaseMissing = errors.New("does not exist in the directory")

// errUnsynchronized ends a pass that would take what a controller has for everything, although it may lack a part. A
// database that was read before has at least what it showed then, so any pass may read it again.
var errUnsynchronized = fmt.Errorf("%w: the controller has not replicated from its partners since it was started, "+
	"promoted or restored (isSynchronized is FALSE), so it may lack recipients; "+
	"a full pass waits for that, or for another controller; `rcpt-milter sync --full` reads it as it is",
	directory.ErrProtocol)

// storeError marks a local error, for which another domain controller would not help.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// reasonRequested is the reason of a full pass that an operator requested.
const reasonRequested = "it was requested"

// Pass runs one pass, over the kept connection or a new one. It uses the same domain
// controller as long as that one answers, and the next candidate otherwise. If a full pass
// is due after an incremental one, it follows. Pass then returns the result of the last
// good pass.
func (m *Mirror) Pass(ctx context.Context, full bool) PassResult {
	m.noteClock(m.stored.Load())
	m.saveDoubt()
	if err := m.checkGate(); err != nil {
		m.recordNotRun(err)
		return PassResult{Info: store.PassInfo{Started: m.config.Now()}, Err: err}
	}
	why := ""
	if full {
		why = reasonRequested
	}
	m.fullDue = ""
	result := m.recoverPass(func() PassResult { return m.passWithFailover(ctx, why) })
	if ctx.Err() != nil { // a stop is no failure
		return result
	}
	m.recordResult(result)
	switch {
	case result.Err != nil:
		return result
	case m.fullDue == "":
		m.recordFullDone()
		return result
	}
	return m.runDueFull(ctx, result)
}

// recoverPass turns a panic of a pass into a failed pass.
func (m *Mirror) recoverPass(pass func() PassResult) (result PassResult) {
	started := m.config.Now()
	err := safely.Do(m.config.Log, "pass", func() error {
		result = pass()
		return nil
	})
	if err != nil {
		m.hangUp()
		return PassResult{Info: store.PassInfo{Started: started}, Err: err}
	}
	return result
}

// passRun is a running pass.
type passRun struct {
	m             *Mirror
	started       time.Time
	root          directory.Root
	kind          store.Kind
	continues     bool // an incremental pass is possible: the cursor has the same database, view and rules
	domainOnly    bool // see Mirror.isDomainOnly
	pass          *store.Pass
	info          store.PassInfo
	owners        int         // number of objects that own addresses
	goneAddresses int         // number of addresses that objects lost
	seen          int         // number of objects read
	changeTimes   []time.Time // incremental pass: whenChanged of objects whose addresses changed

	hidden          map[store.GUID]bool // objects whose uSNChanged is hidden
	firstHidden     string              // DN of the first of them
	unreadValues    int                 // number of new values that need correction
	unreadable      bool                // an object of a stream could not be read
	addressesHidden bool                // unchanged objects may lack addresses, see checkAddressesShown
	touched         bool                // addresses of some object changed
	outOfScope      []directory.GUID    // objects that lost addresses, see noteOutOfScope

	clock    localClock // of the rootDSE
	before   cursor     // of the stored state
	next     cursor     // at the end
	begunUSN uint64     // of a stream: up to which the pass may have read, see noteBegun

	changeTracker        // for a full pass
	second        Source // for changes between pages, see changesMode; nil: not open
}

// run decides the kind of the pass and runs it. If a container moved, it repeats an incremental pass as a full
// one, and repeats a full pass that continued from the cursor without the cursor. If the controller lost its
// position because of the changes, it repeats the pass without reading them in between.
func (r *passRun) run(ctx context.Context, full string) error {
	m := r.m
	stored := m.config.Store.Directory(m.config.Name)
	r.root = m.withAccount(r.root)
	r.compareClocks()
	m.recordRootDSE(ctx, m.source, r.root)
	at := decodeCursor(stored.Cursor)
	r.domainOnly = m.isDomainOnly(r.root)
	m.lastDomainOnly = r.domainOnly
	m.otherScope.Store(r.domainOnly || !at.covers(at.next(r.root, store.Full)))
	if err := r.checkNewer(at, stored, full == reasonRequested); err != nil {
		return err
	}
	why := mustFull(m.situation(stored, r.root))
	if m.config.Rules.Published && isSetBack(at, r.root) && full != reasonRequested {
		return r.setBack(stored)
	}
	if why == "" && at.Term != r.root.Term && stored.Marked > 0 {
		why = reasonNewTerm
	}
	if r.root.Unsynchronized && full != reasonRequested && (stored.LastFull.Number == 0 ||
		at.InvocationID != r.root.InvocationID || why == reasonSetBack || stored.FullPassPending == reasonSetBack) {
		r.kind = store.Full
		if why == reasonSetBack {
			return cmp.Or(r.recordSetBack(stored), errUnsynchronized)
		}
		return errUnsynchronized
	}
	if full == "" && m.changesHidden {
		full = reasonChangesHidden
	}
	r.continues = why == ""
	defer r.closeSecond()
	for why = cmp.Or(why, full); ; {
		err := r.read(ctx, stored, why)
		switch {
		case r.lostByChanges(err):
		case errors.Is(err, errContainerMoved) && !errors.Is(err, errStillMoving) && r.continues:
			// The container is already stored, so an incremental pass would not see it move again.
			r.continues, why = false, errContainerMoved.Error()
		case errors.Is(err, errUSNHidden):
			m.changesHidden = true // until a full pass succeeds, which may not be this one
			why = errUSNHidden.Error()
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
	r.outOfScope, r.unreadable, r.touched, r.addressesHidden, r.seen = nil, false, false, false, 0
	if why != "" {
		r.kind = store.Full
		m.config.Log.Info("full pass begins", "why", why, "controller", r.root.DNSHostName)
	}
	before := decodeCursor(stored.Cursor)
	next := before.next(r.root, r.kind)
	if m.config.Rules.Published {
		next = next.follows(before, r.started)
	}
	r.next, r.begunUSN = next, 0
	next.AgeUnknown = r.kind == store.Incremental && (before.AgeUnknown || r.ageUnknown(stored))
	r.changeTracker = r.startTracking(before)
	origin := store.Origin{Controller: r.root.DNSHostName,
		Database: next.database(), Why: why, Started: r.started, Lag: m.config.ReplicationLag,
		PreviousRead: r.otherDatabaseRead(stored), Rules: m.fingerprint, HandoverLag: r.handoverLag,
		RequireFullPass: why == reasonSetBack, IncrementalPossible: r.continues, ClockSet: r.clockSet(stored)}
	if r.domainOnly {
		origin.Visible = func(dn string) bool { return inDomain(dn, r.root.DefaultNamingContext) }
	}
	pass, err := m.config.Store.Begin(m.config.Name, r.kind, origin)
	if err != nil {
		return storeError{err}
	}
	defer pass.Abort()
	r.pass = pass
	// Begin may have finished an earlier pass, which moved the cursor.
	r.before = decodeCursor(m.config.Store.Directory(m.config.Name).Cursor)
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

// ageUnknown reports whether the age of the last good pass is unknown because of the clock.
func (r *passRun) ageUnknown(stored store.Directory) bool {
	_, known := clock.Elapsed(stored.LastGood(), r.m.config.Now())
	return !known || stored.LastGoodDoubted
}

// otherDatabaseRead returns when a database other than this one was last read completely. Zero means never.
func (r *passRun) otherDatabaseRead(stored store.Directory) time.Time {
	at := decodeCursor(stored.Cursor)
	if stored.LastFull.Number == 0 || at.database() == at.next(r.root, store.Full).database() {
		return time.Time{}
	}
	return stored.Newest().Ended
}

// readChanges reads the changes since the cursor. If addresses are gone and the scope has borders, it also
// reads the changes since the rootDSE: objects that were read while their container was outside of the bases
// look gone, and after the container has returned, only the change of the container itself reveals the mistake.
func (r *passRun) readChanges(ctx context.Context, since uint64) error {
	if err := r.m.source.Read(ctx, since, r.applyPage); err != nil {
		return err
	}
	if err := r.checkUSNShown(ctx, since); err != nil {
		return err
	}
	if err := r.checkAddressesShown(ctx, since); err != nil {
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

// readAll reads all live objects. It reads the changes since at intervals and at the end, because an address
// may have moved from an object that was read late to one that was read early.
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
	// Addresses from another database are not removed just because this one lacks them. Its tombstones prove
	// which of them are gone; without tombstones, that takes longer.
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

// sweep marks everything that a full pass did not see. A pass without any address does not make a directory ready that
// is new or returns to the configuration; the last full pass of the latter has read nothing.
func (r *passRun) sweep(stored store.Directory) error {
	isNew := stored.LastFull.Number == 0 || stored.Fingerprint == retiredRules
	if r.owners == 0 && (isNew || r.m.config.Guard.Max == 0) {
		return errEmpty
	}
	if err := r.pass.Sweep(); err != nil {
		return storeError{err}
	}
	return nil
}

// checkBases returns an error if one of the bases does not exist.
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
	r.seen += len(read)
	read = r.readableOf(read)
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
	if err := r.noteBegun(read); err != nil {
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
		if r.kind == store.Incremental && !read[i].Changed.IsZero() {
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

// recordRootDSE records the properties in the rootDSE. It warns if deleted objects are hidden.
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
