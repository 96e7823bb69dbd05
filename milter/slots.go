package milter

import "sync"

// slots are places for connections. Make them with newSlots; all methods may be called
// concurrently. The limit may change, also to less than are taken: then none is given
// until enough have been returned.
type slots struct {
	mu    sync.Mutex
	limit int
	taken int
	moved chan struct{} // closed when there may be room; nil: nobody waits
}

func newSlots(limit int) *slots { return &slots{limit: limit} }

// take waits for a place until stop is closed; false: there was none. It calls full once
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

// try takes a place. Where there is none it gives what to wait for.
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

// release returns a place.
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

// wake has all who wait look again: there is one for each listener, at most.
func (s *slots) wake() {
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}

// inUse is how many are taken.
func (s *slots) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}
