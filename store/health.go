package store

import "cmp"

// valueOf returns the error that a pointer refers to, if any.
func valueOf(err *error) error {
	if err == nil {
		return nil
	}
	return *err
}

// A HealthState says how far the store works.
type HealthState string

const (
	Healthy    HealthState = "ok"
	NotUpdated HealthState = "read_only" // it cannot be written: it answers and is not updated
	Damaged    HealthState = "damaged"   // it answers what it can, and is not updated
	Unreadable HealthState = "failed"    // it answers nothing
)

// Health is the state of the store.
type Health struct {
	State    HealthState
	Err      error  // why it is not healthy
	SetAside string // the newest damaged store that was set aside and is still there; empty means none
}

// Health returns the state of the store.
func (s *Store) Health() Health {
	h := Health{State: Healthy, SetAside: s.newestAside()}
	switch why := s.gate.Load(); {
	case why != nil:
		h.State, h.Err = Unreadable, *why
	case s.damaged.Load():
		h.State, h.Err = Damaged, cmp.Or(valueOf(s.rebuildEnded.Load()), valueOf(s.damage.Load()))
	default:
		if h.Err = cmp.Or(s.checkSpace(), valueOf(s.notWritable.Load()), valueOf(s.noFile.Load())); h.Err != nil {
			h.State = NotUpdated
		}
	}
	return h
}
