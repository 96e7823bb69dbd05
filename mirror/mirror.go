// Package mirror keeps a store equal to a directory.
//
// # A pass
//
// One pass asks the domain controller who it is, reads what changed since the cursor,
// or everything, and commits: additions are in effect page by page, removals and the
// new cursor only when the whole was read. Any error ends the pass; the cursor and
// what was known stay, and the next pass does it again. Whether a pass is full or
// incremental says one pure function (whyFull); what an object owns, another
// (classify).
//
// # Which domain controller
//
// The first of the candidates that answers is kept as long as it does, over a restart
// too. The cursor belongs to its database, so that going to another one, or back, is a
// full pass, in which what the former taught us lately is spared for the replication
// lag. Candidates are a fixed list or discovered; which controller was reached, its
// rootDSE tells, so that a name which leads to several is noticed.
//
// # What may run concurrently
//
// Run, and Pass, belong to one goroutine. Everything else may be called from any. Run
// has a second one, which is notified of changes and does no more than wake the first.
// A Group runs several mirrors, and lets some come and others go meanwhile.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// Source is one connection to one domain controller.
type Source interface {
	// Root says which controller it is, and how far it is.
	Root(context.Context) (directory.Root, error)
	// Read reports what changed after a USN, deletions too; 0: all that lives.
	Read(ctx context.Context, since uint64, page func([]directory.Object) error) error
	// ReadBelow reports one object and all that live below it, wherever it is by now.
	ReadBelow(ctx context.Context, top directory.GUID, page func([]directory.Object) error) error
	// ReadDeleted reports what was deleted, as far as the controller still knows.
	ReadDeleted(ctx context.Context, page func([]directory.Object) error) error
	// Find reports objects that may own an address.
	Find(context.Context, address.Address) ([]directory.Object, error)
	// Exists reports whether there is an object of this name.
	Exists(ctx context.Context, dn string) (bool, error)
	Close() error
}

var _ Source = (*directory.Conn)(nil)

// Config says how one directory is mirrored.
type Config struct {
	Name    string // of the directory, in the store, in logs and in status
	Account string // under which it is read, for advice; empty: not known
	Rules   Rules
	Store   *store.Store

	// Candidates are the domain controllers, in order of preference. Either they are
	// given or Discover, which is asked for them at the first pass and, once a minute at
	// most, when one has failed. It may give a list and an error: one that lacks
	// something. What it gave last counts until it gives another.
	Candidates []Candidate
	Discover   func(context.Context) ([]Candidate, error)

	Poll           time.Duration // from the end of a pass to the next; must be positive
	Full           time.Duration // from one full pass to the next; must be positive
	Guard          Guard         // holds back removals that look like an accident
	ReplicationLag time.Duration // how long one controller may not know what another told

	Limits // the first ones; SetLimits changes them

	// Notify lets the controller say when something changes, over a second connection,
	// so that a pass need not wait for the next poll. Its Source has to be a Watcher.
	Notify bool

	// Secret changes when the password or keytab does: after a refused bind it is not
	// tried again before that, or RefusedWait. Nil: it never changes.
	Secret      func() string
	RefusedWait time.Duration // zero: 15 minutes, so that nobody's account gets locked
	// Gate remembers that a bind was refused. A mirror that takes over from another one with
	// the same account and controllers has to have its Gate. Nil: one of its own.
	Gate *Gate

	Log     *slog.Logger     // required
	Now     func() time.Time // nil: time.Now
	Observe Observer         // zero: nobody listens
}

// Limits are what may change while a mirror runs.
type Limits struct {
	LateAfter  time.Duration // age of the last good pass from which the index is late; zero: never
	StaleAfter time.Duration // and stale; zero: never

	// Shared is how long another directory may need to hear of an address of a mail domain
	// that this one gave away; zero: no other one may have it. For the empty domain it is the
	// longest of all. Nil: every directory that the store knows may have every address, and
	// needs ReplicationLag.
	Shared func(domain string) time.Duration

	// Canaries must not go: removals are held back when one of them would.
	Canaries []address.Address

	// Judged reports whether recipients of a canonical domain are judged: only such a
	// domain is guarded by itself. Nil: every domain is.
	Judged func(domain string) bool

	// ConcealValues keeps values of address attributes out of the log.
	ConcealValues bool
}

// Observer is told what happens; nil fields are not called. Calls come from the
// goroutine of Run.
type Observer struct {
	Pass func(PassResult)           // a pass ended
	Lag  func(behind time.Duration) // from a change in the directory to its effect here
}

// Mirror keeps one directory.
type Mirror struct {
	config      Config
	fingerprint string
	wake        chan struct{}                   // a pass is asked for; holds one
	changed     chan struct{}                   // the controller says that something changed; holds one
	debounce    time.Duration                   // as the constant, but in tests
	judged      func()                          // called between judging and committing, in tests; nil: nothing
	stored      atomic.Pointer[store.Directory] // as of the last pass
	limits      atomic.Pointer[Limits]
	covered     atomic.Pointer[time.Time] // when a full pass last read all changes, see lastGood; nil: never
	ahead       atomic.Pointer[time.Time] // start of a good pass that was in the future, see age; nil: none was
	foreign     atomic.Bool               // another domain is read than the one that is stored, or in another view
	gate        *Gate
	admitted    chan struct{} // closed when a controller first answers
	admit       func()        // closes it

	// Of the goroutine that runs passes.
	source   Source
	roster   roster
	narrowed bool      // the last pass that connected was narrow
	sought   time.Time // when a Global Catalog was last sought in place of a narrow connection
	due      string    // why a full pass should follow the incremental one that has ended
	retries  retries   // of full passes that are due
	warned   time.Time // when the missing right was last complained of

	comparing sync.Mutex // held by the one comparison there may be

	mu       sync.Mutex // guards all below
	status   Status
	listed   []Candidate        // those known
	followed followed           // by the last good pass
	asked    request            // for the next pass
	ended    bool               // Run has: nobody would see to what is asked
	warnings map[string]warning // by what they are about
}

// refusedWait is how long to wait after the directory refused our credentials.
const refusedWait = 15 * time.Minute

// New checks the configuration and makes a mirror. It does nothing before Run or Pass.
func New(config Config) (*Mirror, error) {
	switch {
	case config.Name == "":
		return nil, errors.New("mirror: a directory without a name")
	case len(config.Candidates) == 0 && config.Discover == nil:
		return nil, fmt.Errorf("mirror: directory %s has no domain controller", config.Name)
	case len(config.Candidates) > 0 && config.Discover != nil:
		return nil, fmt.Errorf("mirror: directory %s has domain controllers and would discover them too", config.Name)
	case config.Poll <= 0 || config.Full <= 0:
		return nil, fmt.Errorf("mirror: directory %s: poll and full must be longer than nothing", config.Name)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Secret == nil {
		config.Secret = func() string { return "" }
	}
	if config.RefusedWait == 0 {
		config.RefusedWait = refusedWait
	}
	config.Log = config.Log.With("directory", config.Name)
	m := &Mirror{config: config, fingerprint: config.Rules.fingerprint(), wake: make(chan struct{}, 1)}
	m.changed, m.debounce, m.followed = make(chan struct{}, 1), debounce, newFollowed(Candidate{})
	m.warnings = map[string]warning{}
	m.admitted, m.listed = make(chan struct{}), config.Candidates
	if m.gate = config.Gate; m.gate == nil {
		m.gate = new(Gate)
	}
	m.admit = sync.OnceFunc(func() { close(m.admitted) })
	m.roster = roster{list: config.Candidates, reached: map[string]*crossing{}}
	m.SetLimits(config.Limits)
	m.Reread()
	return m, nil
}

// Reread takes notice of what the store has of the directory now. It is for a mirror
// whose Run has not begun, where something else worked on the directory since New.
func (m *Mirror) Reread() {
	stored := m.config.Store.Directory(m.config.Name)
	m.stored.Store(&stored)
	at := decodeCursor(stored.Cursor)
	m.foreign.Store(m.expectsOther(at))
	m.update(func(s *Status) {
		*s = Status{Controller: at.Host, InvocationID: at.InvocationID, USN: at.USN, HighestUSN: at.USN,
			WhyFull: stored.LastFull.Why}
	})
}

// SetLimits changes them, from the next pass and the next question for the state on.
func (m *Mirror) SetLimits(l Limits) { m.limits.Store(&l) }

// Close drops the connection. Run must have returned.
func (m *Mirror) Close() { m.hangUp() }

func (m *Mirror) hangUp() {
	if m.source != nil {
		_ = m.source.Close() // what it may still say has no meaning any more
		m.source = nil
	}
}
