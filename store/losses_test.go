package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/internal/clock"
)

// TestLostSince: only what is lost now counts, and no approvals.
func TestLostSince(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	hour := func(n int) time.Time { return start.Add(time.Duration(n) * time.Hour) }
	lost := func(after, now int, want int) {
		t.Helper()
		for range 2 { // the second time from memory
			got, err := s.LostSince(hour(after), hour(now).Add(-2*clock.StoredSlack), []string{"x.test"})
			if err != nil || got["x.test"].Addresses != want || len(got) > 1 {
				t.Errorf("lost from hour %d to %d: %v, %v, want %d", after, now, got, err, want)
			}
		}
	}
	pass(t, s, "corp", Full, hour(0), "", object(t, 1, "a@x.test", "b@x.test", "z@y.test"),
		object(t, 2, "c@x.test", "d@x.test"), object(t, 3, "e@x.test"))
	pass(t, s, "other", Full, hour(0), "", object(t, 1, "d@x.test"), object(t, 2, "f@x.test"))
	lost(-1, 9, 0)
	pass(t, s, "corp", Incremental, hour(1), "", object(t, 1, "a@x.test"))
	lost(0, 9, 1)
	pass(t, s, "corp", Incremental, hour(2), "", object(t, 2))
	lost(0, 9, 2) // the other directory has d@x.test
	pass(t, s, "other", Incremental, hour(3), "", object(t, 1), object(t, 2))
	lost(0, 9, 4)
	lost(2, 9, 3)
	lost(0, 2, 1) // a time in the future does not count
	pass(t, s, "corp", Incremental, hour(4), "", object(t, 2, "b@x.test", "c@x.test"))
	lost(0, 9, 2) // two came back
	pass(t, s, "corp", Incremental, hour(5), "held", object(t, 3))
	lost(0, 9, 2)
	if _, err := approveHeld(s, "corp", s.Directory("corp").Newest().Number, hour(6)); err != nil {
		t.Fatal(err)
	}
	lost(0, 9, 2)
	for name, want := range map[string]int{"corp": 2, "other": 2, "never": 0} {
		if got, err := s.LostBy(name, hour(0), hour(9)); got.Addresses != want || err != nil {
			t.Errorf("lost by %s: %+v, %v, want %d", name, got, err, want)
		}
	}
	s = reopen(t, s)
	lost(0, 9, 2)
}

// TestLostByCountsItsOwnAddresses: of two lost addresses that are known to internal senders, the
// directory that lost them still has one. The other one belongs to another directory.
func TestLostByCountsItsOwnAddresses(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "other", Full, start, "", object(t, 9, "!b@x.test"))
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"), object(t, 3, "c@x.test"))
	pass(t, s, "corp", Incremental, start.Add(time.Minute), "", object(t, 1, "!a@x.test"), object(t, 2), object(t, 3))
	wantKnown(t, s, "!a@x.test", "!b@x.test")
	now := start.Add(time.Hour)
	if got, err := s.LostBy("corp", start, now); err != nil || got != (Lost{Addresses: 3, Known: 1}) {
		t.Errorf("lost by corp: %+v, %v, want 3, of which it has 1", got, err)
	}
	if got, err := s.LostSince(start, now, []string{"x.test"}); err != nil || got["x.test"] != (Lost{3, 2}) {
		t.Errorf("lost in the domain: %+v, %v, want 3, of which 2 are known", got, err)
	}
}

// TestLossesBesideWriters: counts during passes that remove addresses are never too high, never
// fall, and are complete at the end.
func TestLossesBesideWriters(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	const n = 60
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("a%d@x.test", i)
	}
	pass(t, s, "corp", Full, start, "", object(t, 1, append([]string{"stays@x.test"}, all...)...))
	var gone atomic.Int64 // removals that may have been committed
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			last := 0
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := s.LostSince(start.Add(-time.Hour), start.Add(time.Hour), []string{"x.test"})
				if most := int(gone.Load()); err != nil || got["x.test"].Addresses < last ||
					got["x.test"].Addresses > most || !s.HasDomain("x.test") {
					t.Errorf("lost %+v after %d, at most %d: %v", got["x.test"], last, most, err)
					return
				}
				last = got["x.test"].Addresses
			}
		})
	}
	for i := range n {
		gone.Store(int64(i + 1))
		pass(t, s, "corp", Incremental, start, "", object(t, 1, append([]string{"stays@x.test"}, all[i+1:]...)...))
	}
	close(stop)
	readers.Wait()
	if got, err := s.LostSince(start.Add(-time.Hour), start.Add(time.Hour), []string{"x.test"}); err != nil ||
		got["x.test"].Addresses != n {
		t.Errorf("at the end: %v, %v, want %d", got, err, n)
	}
}
