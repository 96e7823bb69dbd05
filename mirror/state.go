package mirror

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/internal/clock"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// State describes how far the index can be trusted for a directory.
type State = policy.State

const (
	NotReady = policy.NotReady
	Widening = policy.Widening
	Fresh    = policy.Fresh
	Late     = policy.Late
	Stale    = policy.Stale
)

// Status is the current state of a mirror. Zero times mean never.
type Status struct {
	State            State
	Controller       string         // DNS name of the followed domain controller
	InvocationID     directory.GUID // invocation ID of its database
	USN              uint64         // USN up to which the database has been read
	HighestUSN       uint64         // highest USN of the controller at the last rootDSE
	FullReason       string         // reason of the last full pass or of the running one
	LastGood         time.Time      // start of the last good pass, or later, see lastGood; State depends on it
	Full             store.PassInfo // last good full pass
	Incremental      store.PassInfo // last good incremental pass
	HeldAddresses    int            // addresses whose removal is held
	HoldReason       string         // why removals are held; empty if none are
	NextPass         time.Time
	Running          *Progress // nil if no pass is running
	LastError        error     // error of the last pass; nil if it was good
	FailingSince     time.Time // first failure since the last good pass
	FullError        error     // error of the last due full pass; nil if it was good, or if none is due
	FullFailingSince time.Time // first failure of due full passes
	RootKnown        bool      // a controller has answered since the start, so DeletedHidden is known
	DeletedHidden    bool      // deleted objects cannot be seen
	GrantCommands    []string  // commands for the administrator, set if DeletedHidden
	Notified         bool      // change notifications are active
	Warnings         []string  // problems that need attention but stop nothing, one sentence each
}

// Progress describes a running pass.
type Progress struct {
	Kind    store.Kind
	Started time.Time
	Seen    int
}

// Status returns the current state.
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
		s.LastError = fmt.Errorf("a full pass is due and fails, but changes are still read: %w", s.FullError)
		s.FailingSince = s.FullFailingSince
	}
	if s.HoldReason = stored.Hold; s.HoldReason != "" {
		s.HeldAddresses = stored.Newest().Held
	}
	s.State = m.state(stored)
	s.Warnings = m.activeWarnings()
	return s
}

// State returns the state and the time of Status.LastGood. It is called for every unknown
// recipient and takes no lock. It also notes a clock that was set back, because passes may pause
// for longer than the clock needs to reach its old time.
func (m *Mirror) State() (State, time.Time) {
	stored := m.stored.Load()
	m.noteClock(stored)
	return m.state(*stored), m.lastGood(stored)
}

// lastGood returns the time up to which all additions are known. A full pass that continues from the cursor
// reads the changes as well, so the index does not age during a long pass.
func (m *Mirror) lastGood(stored *store.Directory) time.Time {
	good := m.lastRead(stored)
	return good.Add(-m.ageOf(stored, good))
}

// ageOf returns the age of the source's content at a time returned by lastRead.
func (m *Mirror) ageOf(stored *store.Directory, read time.Time) time.Duration {
	if read.IsZero() || !read.Equal(stored.LastGood()) {
		return 0
	}
	return time.Duration(m.sourceAge.Load())
}

// lastRead returns lastGood for a source that shows the present.
func (m *Mirror) lastRead(stored *store.Directory) time.Time {
	good := stored.LastGood()
	if covered := m.coveredUntil.Load(); covered != nil && covered.After(good) && !covered.After(m.config.Now()) {
		return *covered
	}
	return good
}

// age returns the age of the index, and whether the clock tells it. A time in the future was
// noted before the clock was set back. It still says nothing after the clock reaches it, so
// it counts as unknown until the next good pass: see noteClock.
func (m *Mirror) age(stored *store.Directory) (age time.Duration, known bool) {
	good := m.lastRead(stored)
	age, known = clock.Elapsed(good, m.config.Now())
	if doubtful := m.doubtful.Load(); doubtful != nil && doubtful.Equal(good) {
		known = false
	}
	return age + m.ageOf(stored, good), known && !(stored.LastGoodDoubted && good.Equal(stored.LastGood()))
}

// noteClock notes that the last good time is in the future, because nothing else shows it once the
// clock has reached that time.
func (m *Mirror) noteClock(stored *store.Directory) {
	now := m.config.Now()
	if covered := m.coveredUntil.Load(); covered != nil {
		if _, known := clock.Elapsed(*covered, now); !known {
			m.coveredUntil.CompareAndSwap(covered, nil)
		}
	}
	good := m.lastRead(stored)
	if _, known := clock.Elapsed(good, now); !known {
		m.doubtful.Store(&good)
	}
}

// saveDoubt stores that the clock does not tell the age of the last good pass, because the
// next process cannot know that after the clock has reached its time.
func (m *Mirror) saveDoubt() {
	stored := m.stored.Load()
	doubtful := m.doubtful.Load()
	if doubtful == nil || stored.LastGoodDoubted || !doubtful.Equal(stored.LastGood()) {
		return
	}
	if err := m.config.Store.DoubtLastGood(m.config.Name); err != nil {
		m.config.Log.Warn("cannot store that the clock was set back", "error", err)
		return
	}
	m.setStored(m.config.Store.Directory(m.config.Name))
}

func (m *Mirror) state(stored store.Directory) State {
	limits := m.limits.Load()
	age, known := m.age(&stored)
	olderThan := func(limit time.Duration) bool { return limit > 0 && (age > limit || !known) }
	switch {
	case stored.LastFull.Number == 0, stored.Epoch != m.config.Store.Epoch():
		return NotReady
	case stored.Doubt != "":
		return Widening
	case stored.Fingerprint != m.fingerprint, m.otherScope.Load(), m.differs.Load():
		return Widening
	case olderThan(limits.StaleAfter):
		return Stale
	case olderThan(limits.LateAfter):
		return Late
	}
	return Fresh
}

// Name returns the name of the directory.
func (m *Mirror) Name() string { return m.config.Name }

// updateStatus changes the status with the lock held.
func (m *Mirror) updateStatus(change func(*Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.status)
}

// warning is a problem that needs attention but stops nothing.
type warning struct {
	text  string
	until time.Time
}

// setWarning adds or replaces a warning that expires after some time. A nil error removes the warning. It
// reports whether there was no such warning before.
func (m *Mirror) setWarning(about string, err error, lasts time.Duration) (fresh bool) {
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

// activeWarnings returns the warnings that have not expired. The caller holds the lock.
func (m *Mirror) activeWarnings() []string {
	var all []string
	for _, about := range slices.Sorted(maps.Keys(m.warnings)) {
		if w := m.warnings[about]; m.config.Now().Before(w.until) {
			all = append(all, w.text)
		}
	}
	return all
}
