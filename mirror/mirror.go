package mirror

import (
	"cmp"
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

// Source is a connection to one domain controller.
type Source interface {
	// Root identifies the controller and returns its highest USN.
	Root(context.Context) (directory.Root, error)
	// Read passes the objects that changed after a USN to page, deleted ones too. With 0 it
	// passes all live objects.
	Read(ctx context.Context, since uint64, page func([]directory.Object) error) error
	// ReadBelow passes one object and all live objects below it, wherever it is now.
	ReadBelow(ctx context.Context, top directory.GUID, page func([]directory.Object) error) error
	// ReadObjects passes those of some objects that exist, wherever they are now.
	ReadObjects(ctx context.Context, guids []directory.GUID, page func([]directory.Object) error) error
	// List passes all live objects, with GUID, name and classes only.
	List(ctx context.Context, page func([]directory.Object) error) error
	// ReadDeleted passes the deleted objects that the controller still has.
	ReadDeleted(ctx context.Context, page func([]directory.Object) error) error
	// Find returns objects that may own an address.
	Find(context.Context, address.Address) ([]directory.Object, error)
	// Exists reports whether an object with this name exists.
	Exists(ctx context.Context, dn string) (bool, error)
	Close() error
}

var _ Source = (*directory.Conn)(nil)

// Config configures the mirror of one directory.
type Config struct {
	Name    string // of the directory, in the store, in logs and in status
	Account string // bind account, for advice; empty if unknown
	Rules   Rules
	Store   *store.Store

	// Candidates are the domain controllers, in order of preference. Either Candidates or
	// Discover is set. Discover is called at the first pass and after a candidate has
	// failed, at most once a minute. It may return both a list and an error if the list is
	// incomplete. Its last list stays in use until it returns another.
	Candidates []Candidate
	Discover   func(context.Context) ([]Candidate, error)

	Poll           time.Duration // from the end of a pass to the next; must be positive
	Full           time.Duration // from one full pass to the next; must be positive
	Guard          Guard         // holds removals that look like an accident
	ReplicationLag time.Duration // the longest time until one controller has the changes of another

	Limits // the initial ones; SetLimits changes them

	// Notify enables change notifications over a second connection, so a pass need not wait
	// for the next poll. Its Source has to be a Watcher.
	Notify bool
	// Debounce is the shortest time from the start of a pass to the next one after a
	// notification; 0 means one second.
	Debounce time.Duration

	// Secret changes with the password or keytab. After a rejected bind there is no further
	// one until it changes or RejectedBindWait is over. Nil means that it never changes.
	Secret           func() string
	RejectedBindWait time.Duration // 0 means 15 minutes, which avoids locking the account
	// Gate records rejected binds. A mirror that replaces another one with the same account
	// and controllers has to have its Gate. Nil means a new one.
	Gate *Gate

	Log     *slog.Logger     // required
	Now     func() time.Time // nil means time.Now
	Observe Observer         // zero value: no observer
}

// Limits are settings that may change while a mirror runs.
type Limits struct {
	LateAfter  time.Duration // age of the last good pass from which the index is late; 0 means never
	StaleAfter time.Duration // age from which it is stale; 0 means never

	// HandoverLag returns how long another directory may need to learn an address of a mail
	// domain that this one lost; 0 means that no other directory may own it. For the empty
	// domain it returns the longest of all. Nil means that every directory of the store may
	// own every address and needs ReplicationLag.
	HandoverLag func(domain string) time.Duration

	// Canaries must stay. Removals are held if a canary would be removed.
	Canaries []address.Address

	// Guarded reports whether recipients of a canonical domain are judged. Only such a
	// domain is guarded by itself. Nil means every domain.
	Guarded func(domain string) bool

	// RedactValues keeps values of address attributes out of the log.
	RedactValues bool
}

// Observer receives events. Nil fields are not called. Calls come from the goroutine of
// Run.
type Observer struct {
	Pass func(PassResult)           // after a pass
	Lag  func(behind time.Duration) // from a change in the directory to its effect here
}

// Mirror keeps the store equal to one directory.
type Mirror struct {
	config        Config
	fingerprint   string
	wake          chan struct{}                   // a pass was requested; has room for one
	changed       chan struct{}                   // the controller has notified of a change; has room for one
	watchAgain    chan struct{}                   // ends the pause of watch after a failure; has room for one
	debounce      time.Duration                   // Config.Debounce, unless a test changes it
	afterGuard    func()                          // for tests: called between guard and commit; may be nil
	stored        atomic.Pointer[store.Directory] // after the last pass
	limits        atomic.Pointer[Limits]
	coveredUntil  atomic.Pointer[time.Time] // when a full pass last read all changes, see lastGood; nil: never
	doubtful      atomic.Pointer[time.Time] // a LastGood that was in the future, see age; nil: none was
	sourceAge     atomic.Int64              // how old the last good pass was when it was read, see cursor.Age
	otherScope    atomic.Bool               // the source shows another domain or view than the stored one
	differs       atomic.Bool               // the index differs from what the hub publishes, see compareDigests
	gate          *Gate
	reached       chan struct{} // closed when a controller first answers
	signalReached func()        // closes reached

	// Used by the goroutine of the passes only.
	source         Source
	controllers    controllerList
	lastDomainOnly bool      // the last pass that connected was domain-only, see isDomainOnly
	catalogTriedAt time.Time // last attempt to replace a domain-only connection
	fullDue        string    // why a full pass should follow the completed incremental one
	retries        retries   // of due full passes
	changesMode    changesMode
	rightsWarnedAt time.Time // last warning about the missing right
	grantee        string    // the account for dsacls; empty until it is needed
	firstSeen      struct {  // the stream of the last rootDSE when it was first seen, see checkNewer
		id  directory.GUID
		usn uint64
	}

	comparing sync.Mutex // held by a running comparison

	mu              sync.Mutex // guards all below
	status          Status
	knownCandidates []Candidate
	followed        followedCandidate  // candidate of the last good pass
	pending         request            // for the next pass
	stopped         bool               // Run has ended, so requests fail
	warnings        map[string]warning // by subject
}

// rejectedBindWait is the default of Config.RejectedBindWait.
const rejectedBindWait = 15 * time.Minute

// New validates the configuration and returns a mirror. It starts nothing before Run or
// Pass.
func New(config Config) (*Mirror, error) {
	switch {
	case config.Name == "":
		return nil, errors.New("mirror: directory without a name")
	case len(config.Candidates) == 0 && config.Discover == nil:
		return nil, fmt.Errorf("mirror: directory %s has no domain controller", config.Name)
	case len(config.Candidates) > 0 && config.Discover != nil:
		return nil, fmt.Errorf("mirror: directory %s has both domain controllers and discovery", config.Name)
	case config.Poll <= 0 || config.Full <= 0:
		return nil, fmt.Errorf("mirror: directory %s: poll and full must be positive", config.Name)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Secret == nil {
		config.Secret = func() string { return "" }
	}
	if config.RejectedBindWait == 0 {
		config.RejectedBindWait = rejectedBindWait
	}
	config.Log = config.Log.With("directory", config.Name)
	m := &Mirror{config: config, fingerprint: config.Rules.fingerprint(), wake: make(chan struct{}, 1)}
	m.changed, m.followed = make(chan struct{}, 1), newFollowedCandidate(Candidate{})
	m.watchAgain = make(chan struct{}, 1)
	m.debounce = cmp.Or(config.Debounce, debounce)
	m.warnings = map[string]warning{}
	m.reached, m.knownCandidates = make(chan struct{}), config.Candidates
	if m.gate = config.Gate; m.gate == nil {
		m.gate = new(Gate)
	}
	m.signalReached = sync.OnceFunc(func() { close(m.reached) })
	m.controllers = controllerList{list: config.Candidates, hosts: map[string]*hostHistory{}}
	m.SetLimits(config.Limits)
	m.Refresh()
	return m, nil
}

// Refresh loads the state of the directory from the store again. It must be called before
// Run, if something else changed the directory in the store since New.
func (m *Mirror) Refresh() {
	stored := m.config.Store.Directory(m.config.Name)
	m.setStored(stored)
	at := decodeCursor(stored.Cursor)
	m.differs.Store(at.Differs)
	m.otherScope.Store(m.expectsOther(at))
	m.updateStatus(func(s *Status) {
		*s = Status{Controller: at.Host, InvocationID: at.InvocationID, USN: at.USN, HighestUSN: at.USN,
			FullReason: stored.LastFull.Why}
	})
}

// setStored keeps the state of the directory in the store.
func (m *Mirror) setStored(d store.Directory) {
	m.stored.Store(&d)
	m.sourceAge.Store(int64(decodeCursor(d.Cursor).Age))
}

// SetLimits replaces the limits. They apply from the next pass and the next call of State
// on.
func (m *Mirror) SetLimits(l Limits) { m.limits.Store(&l) }

// Close closes the connection. Run must have returned.
func (m *Mirror) Close() { m.hangUp() }

func (m *Mirror) hangUp() {
	if m.source != nil {
		_ = m.source.Close() // errors of an unused connection do not matter
		m.source = nil
	}
}
