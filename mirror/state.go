package mirror

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// State says how far the index can be trusted about a directory.
type State = policy.State

const (
	NotReady = policy.NotReady
	Widening = policy.Widening
	Fresh    = policy.Fresh
	Late     = policy.Late
	Stale    = policy.Stale
)

// Status is what a mirror knows of itself. Zero times: never.
type Status struct {
	State            State
	Controller       string         // DNS name of the domain controller followed
	InvocationID     directory.GUID // of its database
	USN              uint64         // how far it has been read
	HighestUSN       uint64         // how far it was when it was last asked
	WhyFull          string         // reason for the last full pass, or the one under way
	LastGood         time.Time      // start of the last good pass, or later, see lastGood; State counts from it
	Full             store.PassInfo // last good full pass
	Incremental      store.PassInfo // last good incremental pass
	Held             int            // addresses whose removal the guard holds back
	Hold             string         // why; empty: it does not
	NextPass         time.Time
	Running          *Progress // the pass under way
	LastError        error     // of the last pass; nil: it was good
	FailingSince     time.Time // first failure since the last good pass
	FullError        error     // of the last full pass that was due; nil: it was good, or none was due
	FullFailingSince time.Time // its first failure
	RootKnown        bool      // a controller answered since the start: the next field says something
	Blind            bool      // deleted objects cannot be seen
	Grant            []string  // the commands of an administrator where it is Blind
	Notified         bool      // the controller tells when something changes
	Warnings         []string  // what works and should not be left as it is, a sentence each
}

// Progress is a pass under way.
type Progress struct {
	Kind    store.Kind
	Started time.Time
	Seen    int
}

// Status is the state at this moment.
func (m *Mirror) Status() Status {
	stored := m.config.Store.Directory(m.config.Name)
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	if s.Running != nil {
		running := *s.Running
		s.Running = &running
	}
	s.Full, s.Incremental, s.LastGood = stored.LastFull, stored.LastIncremental, m.lastGood(&stored)
	if s.LastError == nil && s.FullError != nil {
		s.LastError = fmt.Errorf("a full pass is due and fails, changes are read all the same: %w", s.FullError)
		s.FailingSince = s.FullFailingSince
	}
	if s.Hold = stored.Hold; s.Hold != "" {
		s.Held = stored.Newest().Held
	}
	s.State = m.state(stored)
	s.Warnings = m.inForce()
	return s
}

// State is the same without the rest, and the start of the last good pass. It is asked
// for every unknown recipient and takes no lock.
func (m *Mirror) State() (State, time.Time) {
	stored := m.stored.Load()
	return m.state(*stored), m.lastGood(stored)
}

// lastGood is the time up to which everything that was added is known. A full pass that
// goes on from the cursor reads the changes meanwhile, so the index does not get old while
// such a pass takes long.
func (m *Mirror) lastGood(stored *store.Directory) time.Time {
	good := stored.LastGood()
	if covered := m.covered.Load(); covered != nil && covered.After(good) && !covered.After(m.config.Now()) {
		return *covered
	}
	return good
}

// clockSlack is by how much a clock may be set back without effect on the state.
const clockSlack = time.Minute

// age returns the age of the index, and whether the clock tells it. A time in the future was
// noted before the clock was set back. It does not become true when that time comes, so it
// stays untrue until another pass is good.
func (m *Mirror) age(stored *store.Directory) (age time.Duration, told bool) {
	now := m.config.Now()
	if covered := m.covered.Load(); covered != nil && covered.After(now.Add(clockSlack)) {
		m.covered.CompareAndSwap(covered, nil)
	}
	good := m.lastGood(stored)
	if good.After(now.Add(clockSlack)) {
		at := good
		m.ahead.Store(&at)
	}
	ahead := m.ahead.Load()
	return now.Sub(good), ahead == nil || !ahead.Equal(good)
}

func (m *Mirror) state(stored store.Directory) State {
	limits := m.limits.Load()
	age, told := m.age(&stored)
	olderThan := func(limit time.Duration) bool { return limit > 0 && (age > limit || !told) }
	switch {
	case stored.LastFull.Number == 0:
		return NotReady
	case stored.Fingerprint != m.fingerprint, m.foreign.Load():
		return Widening
	case olderThan(limits.StaleAfter):
		return Stale
	case olderThan(limits.LateAfter):
		return Late
	}
	return Fresh
}

// Name is the name of the directory.
func (m *Mirror) Name() string { return m.config.Name }

// update changes the status under its lock.
func (m *Mirror) update(change func(*Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.status)
}

// warning is something that works and should not be left as it is.
type warning struct {
	text  string
	until time.Time
}

// warn adds or replaces a warning, which goes by itself after a time; a nil error takes
// it back. It reports whether there was none of this kind.
func (m *Mirror) warn(about string, err error, lasts time.Duration) (fresh bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fresh = !m.config.Now().Before(m.warnings[about].until)
	if err == nil {
		delete(m.warnings, about)
		return fresh
	}
	m.warnings[about] = warning{text: err.Error(), until: m.config.Now().Add(lasts)}
	return fresh
}

// inForce lists the warnings that still hold; the caller has the lock.
func (m *Mirror) inForce() []string {
	var all []string
	for _, about := range slices.Sorted(maps.Keys(m.warnings)) {
		if w := m.warnings[about]; m.config.Now().Before(w.until) {
			all = append(all, w.text)
		}
	}
	return all
}
