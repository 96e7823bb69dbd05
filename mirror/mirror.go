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
	// Root returns the identity of the controller and its highest USN.
	Root(context.Context) (directory.Root, error)
	// Read passes the objects that changed after a USN to page, including deleted ones. If since is 0, it passes
	// all live objects.
	Read(ctx context.Context, since uint64, page func([]directory.Object) error) error
	// ReadBelow passes an object and all live objects below it, at their current location.
	ReadBelow(ctx context.Context, top directory.GUID, page func([]directory.Object) error) error
	// ReadObjects passes the objects with these GUIDs that exist, at their current location.
	ReadObjects(ctx context.Context, guids []directory.GUID, page func([]directory.Object) error) error
	// List passes all live objects, with only GUID, name and classes.
	List(ctx context.Context, page func([]directory.Object) error) error
	// ReadDeleted passes the deleted objects that the controller still has.
	ReadDeleted(ctx context.Context, page func([]directory.Object) error) error
	// Find returns objects that may own an address.
	Find(context.Context, address.Address) ([]directory.Object, error)
	// Exists reports whether an object with this DN exists.
	Exists(ctx context.Context, dn string) (bool, error)
	Close() error
}

var _ Source = (*directory.Conn)(nil)

// Config configures the mirror of one directory.
type Config struct {
	Name    string // of the directory in the store, in logs and in status
	Account string // bind account, for advice; empty if unknown
	Rules   Rules
	Store   *store.Store

	// Candidates are the domain controllers, in order of preference. Exactly one of Candidates and Discover must
	// be set. Discover is called at the first pass and after a candidate has failed, at most once a minute. If
	// its list is incomplete, it may return an error together with the list. The last list stays in use until
	// Discover returns another one.
	Candidates []Candidate
	Discover   func(context.Context) ([]Candidate, error)
	// Domain is the DNS name of the domain that Discover finds the controllers of; empty means none.
	Domain string

	Poll           time.Duration // pause between the end of a pass and the next pass; must be positive
	Full           time.Duration // interval of full passes; must be positive
	Guard          Guard         // holds removals that look like an accident
	ReplicationLag time.Duration // longest time in which the changes of one controller reach another

	Limits // initial limits; SetLimits changes them

	// Notify enables change notifications over a second connection, so passes need not wait for the next poll.
	// The Source must be a Watcher.
	Notify bool
	// Debounce is the shortest time between the start of a pass and the start of the next one after a
	// notification. 0 means one second.
	Debounce time.Duration

	// Secret changes with the password or keytab. After a rejected bind, there is no further bind until Secret
	// changes or RejectedBindWait has elapsed. Nil means that the secret never changes.
	Secret           func() string
	RejectedBindWait time.Duration // 0 means 15 minutes, which avoids an account lockout
	// Gate remembers rejected binds. All mirrors with the same account must use the same Gate. Nil means a new gate.
	Gate *Gate

	Log     *slog.Logger     // required
	Now     func() time.Time // nil means time.Now
	Observe Observer         // the zero value observes nothing
}

// Limits are settings that may change while a mirror runs.
type Limits struct {
	LateAfter  time.Duration // age of the last good pass at which the index is late; 0 means never
	StaleAfter time.Duration // age at which the index is stale; 0 means never

	// HandoverLag returns how long another directory may take to receive an address in a mail domain that this
	// directory lost. 0 means that no other directory may own the domain. For the empty domain, it returns the
	// longest of these times. Nil means that every directory in the store may own every address, with a lag of
	// ReplicationLag.
	HandoverLag func(domain string) time.Duration

	// Canaries returns the addresses that must not be removed. If a pass would remove one, its removals are held.
	// Nil means none.
	Canaries func() []address.Address

	// Guarded reports whether recipients in a canonical domain are judged. The guard considers only such domains
	// individually. Nil means all domains.
	Guarded func(domain string) bool

	// RedactValues keeps values of address attributes out of the log.
	RedactValues bool
}

// Observer receives events, in the goroutine of Run. Nil fields are not called.
type Observer struct {
	Pass func(PassResult)           // called after a pass
	Lag  func(behind time.Duration) // time from a change in the directory to its effect here
}

// Mirror keeps the store equal to one directory.
type Mirror struct {
	config        Config
	fingerprint   string
	wake          chan struct{}                   // signals that a pass was requested; capacity 1
	changed       chan struct{}                   // signals a notification of the controller; capacity 1
	watchAgain    chan struct{}                   // ends the pause of watch after a failure; capacity 1
	debounce      time.Duration                   // Config.Debounce, unless a test changes it
	afterGuard    func()                          // called between guard and commit by tests; may be nil
	stored        atomic.Pointer[store.Directory] // state in the store after the last pass
	limits        atomic.Pointer[Limits]
	coveredUntil  atomic.Pointer[time.Time] // when a full pass last read all changes, see lastGood; nil means never
	doubtful      atomic.Pointer[time.Time] // a LastGood that was in the future, see noteClock; nil means none
	sourceAge     atomic.Int64              // age of the last good pass when it was read, see cursor.Age
	otherScope    atomic.Bool               // the source shows another domain or view than the index has
	differs       atomic.Bool               // the index differs from what the hub published, see compareDigests
	gate          *Gate
	binder        binder
	secondary     sync.Mutex    // held while connecting outside of passes, so these connections bind one at a time
	reached       chan struct{} // closed when a controller answers for the first time
	signalReached func()        // closes reached

	// The following fields are used only by the goroutine of the passes.
	source         Source
	controllers    controllerList
	lastDomainOnly bool      // the last pass that connected was domain-only, see isDomainOnly
	catalogTriedAt time.Time // last attempt to replace a domain-only connection
	fullDue        string    // why a full pass should follow the completed incremental one
	changesHidden  bool      // no object shows uSNChanged, see noteChangesHidden
	usnChecked     usnCheck  // last check of uSNChanged

	// addressesHidden means that removals wait for a full pass, see checkAddressesShown. discarded means that an
	// operator has discarded removals since the last full pass.
	addressesHidden, discarded bool

	retries        retries // attempts at due full passes
	changesMode    changesMode
	rightsWarnedAt time.Time // last warning about the missing permission
	grantee        string    // the account for dsacls; empty until needed
	firstSeen      struct {  // when the stream of the last rootDSE was first seen, see checkNewer
		id  directory.GUID
		usn uint64
	}

	comparing sync.Mutex // held while a comparison runs

	mu              sync.Mutex // guards the fields below
	status          Status
	knownCandidates []Candidate
	followed        followedCandidate  // the candidate of the last good pass
	pending         request            // request for the next pass
	stopped         bool               // Run has ended, so requests fail
	warnings        map[string]warning // by subject
}

// rejectedBindWait is the default of Config.RejectedBindWait.
const rejectedBindWait = 15 * time.Minute

// New validates a configuration and returns a mirror for it. Run and Pass start it.
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

// Refresh reloads the state of the directory from the store. If something else has changed the directory in the
// store since New, call it before Run.
func (m *Mirror) Refresh() {
	stored := m.config.Store.Directory(m.config.Name)
	m.setStored(stored)
	at := decodeCursor(stored.Cursor)
	m.addressesHidden = awaitsFullPass(stored)
	m.differs.Store(at.Differs)
	m.otherScope.Store(m.expectsOther(at))
	m.updateStatus(func(s *Status) {
		*s = Status{Controller: at.Host, InvocationID: at.InvocationID, USN: at.USN, HighestUSN: at.USN,
			FullReason: stored.LastFull.Why}
	})
}

// setStored keeps a copy of the directory's state in the store.
func (m *Mirror) setStored(d store.Directory) {
	m.stored.Store(&d)
	m.sourceAge.Store(int64(decodeCursor(d.Cursor).Age))
}

// SetLimits replaces the limits, with effect from the next pass and the next call of State.
func (m *Mirror) SetLimits(l Limits) { m.limits.Store(&l) }

// Close closes the connection. Run must have returned.
func (m *Mirror) Close() { m.hangUp() }

func (m *Mirror) hangUp() {
	if m.source != nil {
		_ = m.source.Close() // errors of an unused connection do not matter
		m.source = nil
	}
}
