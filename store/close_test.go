package store

import (
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"rcpt-milter/address"
)

// everyAction returns the methods of a store that may be called at any time. Each receives a
// growing number.
func everyAction(t *testing.T) map[string]func(s *Store, n int) error {
	a := mustParse(t, "first.last7@corp.example")
	visit := func(address.Address, bool) error { return nil }
	ignore := func(_ any, err error) error { return err }
	return map[string]func(*Store, int) error{
		"Lookup":    func(s *Store, _ int) error { return ignore(s.Lookup(a)) },
		"Describe":  func(s *Store, _ int) error { return ignore(s.Describe(a)) },
		"At":        func(s *Store, _ int) error { return ignore(s.At(a, start.Add(time.Hour))) },
		"HadDomain": func(s *Store, _ int) error { return ignore(s.HadDomain("corp.example", start)) },
		"History":   func(s *Store, _ int) error { return ignore(s.History(a)) },
		"Journal":   func(s *Store, _ int) error { return s.Journal(JournalQuery{}, func(Event) error { return nil }) },
		"JournalFrom": func(s *Store, _ int) error {
			return ignore(s.JournalFrom())
		},
		"Addresses": func(s *Store, _ int) error { return s.Addresses(visit) },
		"Owners": func(s *Store, _ int) error {
			return s.Owners("corp", func(address.Address, GUID, bool) error { return nil })
		},
		"Held": func(s *Store, _ int) error {
			return s.HeldRemovals("corp",
				func(HeldRemoval) error { return nil })
		},
		"Stored": func(s *Store, _ int) error { return ignore(s.Stored("corp", GUID{1, 0, 0, 7}, a)) },
		"Unread": func(s *Store, _ int) error { return ignore(s.Unread(10)) },
		"LostSince": func(s *Store, _ int) error {
			return ignore(s.LostSince(time.Time{}, start,
				[]string{"corp.example"}))
		},
		"LostBy":  func(s *Store, _ int) error { return ignore(s.LostBy("corp", time.Time{}, start)) },
		"Verify":  func(s *Store, _ int) error { return s.Verify() },
		"Recount": func(s *Store, _ int) error { return s.Recount() },
		"Secret":  func(s *Store, _ int) error { return ignore(s.Secret()) },
		"memory": func(s *Store, _ int) error {
			s.Totals()
			s.Directories()
			s.HasDomain("corp.example")
			s.HasDomainBelow(".example")
			s.Directory("corp")
			s.Deciders()
			return ignore(s.RemovedBetween("corp", start, s.config.Now()))
		},
		"Prune": func(s *Store, n int) error { return ignore(s.Prune(start.Add(time.Duration(n) * time.Second))) },
		"refusals": func(s *Store, n int) error {
			at := start.Add(time.Duration(n) * time.Hour)
			_, err := s.RefusalsSince(start)
			return errors.Join(err, s.PutRefusals(NewRefusals(at)), s.DropRefusals(at))
		},
		"Approve": func(s *Store, _ int) error { return ignore(approveHeld(s, "corp", math.MaxUint64, start)) },
		"Discard": func(s *Store, _ int) error { return ignore(s.Discard("corp", start)) },
		"Drop":    func(s *Store, _ int) error { return ignore(s.Drop("gone")) },
		"passes of a directory that comes and goes": func(s *Store, _ int) error {
			p, err := s.Begin("gone", Full, Origin{Started: start})
			if err != nil {
				return err
			}
			defer p.Abort()
			return ignore(p.Commit(Outcome{Cursor: []byte("x"), Ended: start}))
		},
	}
}

// smallPass changes some of 60 objects. Every third pass holds its removals.
func smallPass(t *testing.T, s *Store, dir string, n int) error {
	p, err := s.Begin(dir, Kind(1-n%2), Origin{Controller: "dc1", Started: start, Lag: time.Duration(n%4) * time.Hour})
	if err != nil {
		return err
	}
	defer p.Abort()
	objects := employees(t, 0, 60-n%7)
	for i := range objects {
		objects[i].Addresses = objects[i].Addresses[(i+n)%3:]
	}
	if _, err := p.Apply(objects); err != nil {
		return err
	}
	if n%2 == 0 {
		if err := p.Sweep(); err != nil {
			return err
		}
	}
	o := Outcome{Cursor: []byte("x"), Ended: start}
	if n%3 == 0 {
		o.Hold = "held"
	}
	_, err = p.Commit(o)
	return err
}

// TestEverythingBesideAWriter calls every method during passes of two directories, and then
// closes the store. The only errors may be that the store is closed and that a directory is
// busy.
func TestEverythingBesideAWriter(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	if err := smallPass(t, s, "corp", 0); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	until := func(name string, do func(s *Store, n int) error) {
		all.Go(func() {
			for n := 0; ; n++ {
				err := do(s, n)
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrNotKept) {
					t.Errorf("%s: %v", name, err)
					return
				}
				if name == "memory" && s.closed.Load() {
					return
				}
			}
		})
	}
	for name, do := range everyAction(t) {
		until(name, do)
	}
	passes := make(chan struct{}, 100)
	for _, dir := range []string{"corp", "lab"} {
		until("passes of "+dir, func(s *Store, n int) error {
			err := smallPass(t, s, dir, n)
			if err == nil {
				select {
				case passes <- struct{}{}:
				default:
				}
			}
			return err
		})
	}
	for range 2 {
		<-passes
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	s = reopen(t, s)
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
	checkSound(t, s)
}
