package milter

import "testing"

// TestSlots changes the limit while callers wait.
func TestSlots(t *testing.T) {
	never := make(chan struct{})
	s := newSlots(1)
	s.take(never, nil)
	full, took := make(chan int, 3), make(chan bool, 3)
	for range 3 {
		go func() { took <- s.take(never, func(limit int) { full <- limit }) }()
	}
	for range 3 {
		if limit := <-full; limit != 1 {
			t.Errorf("full at %d, want 1", limit)
		}
	}
	s.setLimit(3)
	<-took
	<-took
	if n, _ := s.use(); n != 3 || len(took) > 0 {
		t.Errorf("%d taken, want 3", n)
	}
	s.setLimit(2) // one slot above the limit, so the first release frees none
	s.release()
	if n, _ := s.use(); n != 2 || len(took) > 0 {
		t.Errorf("%d taken, want 2", n)
	}
	s.release()
	if !<-took {
		t.Error("not taken")
	}
	stop := make(chan struct{})
	close(stop)
	if s.take(stop, func(int) {}) {
		t.Error("took more slots than the limit")
	}
}
