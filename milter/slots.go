package milter

import "sync"

// slots limits the number of connections. Create it with newSlots. Its methods are safe for concurrent use. The
// limit may drop below the number of taken slots. In that case, take waits until enough slots are released.
type slots struct {
	mu    sync.Mutex
	limit int
	taken int
	moved chan struct{} // closed when a slot may be free; nil if no caller waits
}

func newSlots(limit int) *slots { return &slots{limit: limit} }

// take takes a slot, and waits for one until stop is closed. It reports whether it got one. It calls full once
// before it waits.
func (s *slots) take(stop <-chan struct{}, full func(limit int)) bool {
	for waited := false; ; waited = true {
		moved, limit := s.try()
		if moved == nil {
			return true
		}
		if !waited {
			full(limit)
		}
		select {
		case <-moved:
		case <-stop:
			return false
		}
	}
}

// try takes a slot. If none is free, it returns a channel that is closed when one may be free.
func (s *slots) try() (moved <-chan struct{}, limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken < s.limit {
		s.taken++
		return nil, s.limit
	}
	if s.moved == nil {
		s.moved = make(chan struct{})
	}
	return s.moved, s.limit
}

// release returns a slot.
func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	s.wake()
}

func (s *slots) setLimit(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
	s.wake()
}

// wake wakes all waiting callers. There is at most one per listener.
func (s *slots) wake() {
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}

// use returns the number of taken slots and the limit.
func (s *slots) use() (taken, limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken, s.limit
}
