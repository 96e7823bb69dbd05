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
var errMoved = errors.New("an organizational unit or container moved")

// errRestless ends a full pass that never got to an end.
var errRestless = fmt.Errorf("%w again and again while everything was read; it is tried again", errMoved)

// errEmpty refuses a full pass that found nobody.
var errEmpty = errors.New("the directory shows no object with an address; check the rights of the bind account, bases and address_attributes")

// errNoBase refuses to take a base that is misspelt, renamed or deleted for one in which
// nobody is left.
var errNoBase = errors.New("does not exist in the directory")

// storeError is an error of our side: no other domain controller would help.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// reading is one pass under way.
type reading struct {
	m         *Mirror
	started   time.Time
	root      directory.Root
	kind      store.Kind
	continues bool // an incremental pass would do: the same database, view and rules as the cursor
	narrow    bool // see Mirror.narrow
	pass      *store.Pass
	info      store.PassInfo
	owners    int         // objects seen that own an address
	gone      int         // addresses that objects do not have any more
	changes   []time.Time // whenChanged of objects whose addresses changed

	hidden      map[store.GUID]bool // objects met that hide uSNChanged
	firstHidden string              // name of the first of them
	unread      int                 // values met that need correction and were not stored before

	meanwhile // of a full pass
}

// run decides what kind of pass it is, and runs it. An incremental pass that turns out
// not to be enough becomes a full one, and so does a full one that a cursor could have
// led on from.
func (r *reading) run(ctx context.Context, full string) error {
	m := r.m
	stored := m.config.Store.Directory(m.config.Name)
	r.root = m.identify(r.root)
	m.sawRoot(r.root)
	at := decodeCursor(stored.Cursor)
	r.narrow = m.narrow(r.root)
	m.narrowed = r.narrow
	m.foreign.Store(r.narrow || !at.sees(at.next(r.root, store.Full)))
	why := mustFull(m.situation(stored, r.root))
	r.continues = why == ""
	for why = cmp.Or(why, full); ; why = errMoved.Error() {
		err := r.read(ctx, stored, why)
		if !errors.Is(err, errMoved) || errors.Is(err, errRestless) || !r.continues {
			return err
		}
		r.continues = false // what it wrote of the container, no incremental pass would notice again
		if r.root, err = m.source.Root(ctx); err != nil {
			return err
		}
		r.root = m.identify(r.root)
	}
}

func (m *Mirror) situation(stored store.Directory, root directory.Root) situation {
	return situation{stored: stored, root: root, fingerprint: m.fingerprint, full: m.config.Full, now: m.config.Now()}
}

// read does one pass from Begin to Commit.
func (r *reading) read(ctx context.Context, stored store.Directory, why string) error {
	m := r.m
	r.kind, r.owners, r.gone, r.changes, r.hidden = store.Incremental, 0, 0, nil, nil
	if why != "" {
		r.kind = store.Full
		m.config.Log.Info("full pass begins", "why", why, "controller", r.root.DNSHostName)
	}
	before := decodeCursor(stored.Cursor)
	next := before.next(r.root, r.kind)
	r.meanwhile = r.begin(before)
	origin := store.Origin{Controller: r.root.DNSHostName,
		Database: next.database(), Why: why, Started: r.started, Lag: m.config.ReplicationLag,
		PreviousRead: r.before(stored), Rules: m.fingerprint, HandOverWait: m.shared, RequireFullPass: why == setBack, IncrementalPossible: r.continues}
	if r.narrow {
		origin.Visible = func(dn string) bool { return inDomain(dn, r.root.DefaultNamingContext) }
	}
	pass, err := m.config.Store.Begin(m.config.Name, r.kind, origin)
	if err != nil {
		return storeError{err}
	}
	defer pass.Abort()
	r.pass = pass
	m.update(func(s *Status) {
		s.Running = &Progress{Kind: r.kind, Started: r.started}
		if why != "" {
			s.WhyFull = why
		}
	})
	if r.kind == store.Full {
		err = r.everything(ctx, stored)
	} else {
		err = r.news(ctx, before.USN)
	}
	if err != nil {
		return err
	}
	return r.commit(next)
}

// before is when another database than this one was last read to its end; zero: none was.
func (r *reading) before(stored store.Directory) time.Time {
	at := decodeCursor(stored.Cursor)
	if stored.LastFull.Number == 0 || at.database() == at.next(r.root, store.Full).database() {
		return time.Time{}
	}
	return stored.Newest().Ended
}

// news reads what has changed. Where somebody left the bases it looks once more at what
// changed meanwhile: a container that went out and came back takes along what was read
// in between, and shows that something happened to it.
func (r *reading) news(ctx context.Context, since uint64) error {
	if err := r.m.source.Read(ctx, since, r.page); err != nil {
		return err
	}
	if r.gone == 0 || len(r.m.config.Rules.borders()) == 0 {
		return nil
	}
	return r.m.source.Read(ctx, r.root.HighestCommittedUSN, r.page)
}

// everything reads all that lives, now and then what changed meanwhile, and that once more
// in the end: an address may have moved from an object that was read late to one that was
// read early.
func (r *reading) everything(ctx context.Context, stored store.Directory) error {
	source := r.m.source
	if err := haveBases(ctx, source, r.m.config.Rules.Bases); err != nil {
		return err
	}
	if err := r.m.checkExcluded(ctx, source); err != nil {
		return err
	}
	if err := source.Read(ctx, 0, r.pages(ctx)); err != nil {
		return err
	}
	// What another database taught us is not given up because this one lacks it. Its
	// tombstones say what is gone all the same; without them that takes longer.
	if !r.before(stored).IsZero() {
		if err := source.ReadDeleted(ctx, r.pages(ctx)); errors.Is(err, directory.ErrRefused) {
			r.m.config.Log.Warn("deleted objects cannot be read", "error", err)
		} else if err != nil {
			return err
		}
	}
	if err := r.settle(ctx); err != nil {
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
func haveBases(ctx context.Context, source Source, bases []string) error {
	for _, base := range bases {
		if there, err := source.Exists(ctx, base); err != nil {
			return err
		} else if !there {
			return fmt.Errorf("bases: %q %w; correct it, or take it out", base, errNoBase)
		}
	}
	return nil
}

// page judges and applies one page.
func (r *reading) page(read []directory.Object) error {
	m := r.m
	objects, now := make([]store.Object, len(read)), m.config.Now()
	for i, o := range read {
		objects[i] = classify(o, m.config.Rules)
		objects[i].Unsettled = o.USN > r.root.HighestCommittedUSN
		objects[i].Read, objects[i].Deletion = now, r.death(o)
		r.meetHidden(&o, &objects[i])
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
	r.gone += changes.Gone
	for _, i := range changes.Touched {
		if !read[i].Changed.IsZero() {
			r.changes = append(r.changes, read[i].Changed)
		}
	}
	m.update(func(s *Status) {
		if s.Running != nil {
			s.Running.Seen += len(read)
		}
	})
	return nil
}

func (r *reading) commit(next cursor) error {
	if r.reached > next.USN {
		next.Highest = r.reached
	}
	encoded, err := next.encode()
	if err != nil {
		return storeError{fmt.Errorf("cursor: %w", err)}
	}
	if err := r.m.config.Store.Decide(func() error { return r.decide(next, encoded) }); err != nil {
		return storeError{err}
	}
	stored := r.m.config.Store.Directory(r.m.config.Name)
	r.m.stored.Store(&stored)
	r.m.foreign.Store(r.narrow)
	r.m.due = dueFull(r.m.situation(stored, r.root))
	r.m.roster.served = r.m.current().Name
	r.m.update(func(s *Status) {
		s.Controller, s.InvocationID, s.USN = next.Host, next.InvocationID, next.USN
	})
	r.m.follow(r.m.current())
	r.observeLag()
	return nil
}

// observeLag tells how long changes took to get here, by the clock of the controller
// that wrote them down.
func (r *reading) observeLag() {
	observe := r.m.config.Observe.Lag
	if r.kind == store.Full || observe == nil || r.root.Now.IsZero() {
		return
	}
	ahead := r.root.Now.Sub(r.started) // its clock against ours
	for _, changed := range r.changes {
		observe(max(r.info.Ended.Add(ahead).Sub(changed), 0))
	}
}

// sawRoot notes what the domain controller says of itself.
func (m *Mirror) sawRoot(root directory.Root) {
	var grant []string
	if !root.DeletedVisible {
		grant = directory.GrantDeletedObjects(root.DefaultNamingContext, directory.Grantee(m.config.Account))
	}
	m.update(func(s *Status) {
		s.HighestUSN, s.RootKnown, s.Blind, s.Grant = root.HighestCommittedUSN, true, !root.DeletedVisible, grant
	})
	now := m.config.Now()
	if !root.DeletedVisible && now.Sub(m.warned) > time.Hour {
		m.warned = now
		m.config.Log.Warn("this account cannot see deleted objects, so deletions wait for a full pass; grant it the right",
			"every", min(m.config.Full, blindFull), "commands", grant)
	}
}

// finished logs how a pass ended, and tells whoever listens.
func (m *Mirror) finished(r PassResult) {
	now := m.config.Now()
	if r.Err == nil && r.Info.Kind == store.Full {
		m.fullDone()
	}
	m.update(func(s *Status) {
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
