package store

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestDrop(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	wantDrop := func(name string, want bool) {
		t.Helper()
		if got, err := s.Drop(name); got != want || err != nil {
			t.Errorf("drop of %s: %t, %v, want %t", name, got, err, want)
		}
	}
	wantDrop("never", true)
	ou := Object{GUID: GUID{1}, DN: "OU=x", Class: "organizationalunit", Container: true}
	pass(t, s, "corp", Full, start, "", ou, object(t, 1, "a@x.test"))
	pass(t, s, "lab", Full, start, "", object(t, 1, "a@x.test", "b@x.test"))
	wantDrop("corp", false)
	pass(t, s, "corp", Full, start.Add(time.Hour), "too many")
	wantDrop("corp", false)
	p, err := s.Begin("corp", Incremental, Origin{Started: start})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Drop("corp"); !errors.Is(err, ErrBusy) {
		t.Errorf("drop beside a pass: %v, want ErrBusy", err)
	}
	p.Abort()
	pass(t, s, "corp", Full, start.Add(2*time.Hour), "")
	last := pass(t, s, "corp", Full, start.Add(3*time.Hour), "") // its number is in its own record only
	wantDrop("corp", true)
	wantDrop("corp", true)
	wantKnown(t, s, "a@x.test", "b@x.test")
	for range 2 {
		if names := s.Directories(); !slices.Equal(names, []string{"lab"}) {
			t.Errorf("directories are %q", names)
		}
		if d := s.Directory("corp"); d.LastFull.Number != 0 || d.Cursor != nil {
			t.Errorf("what is known of it: %+v", d)
		}
		if err := s.Recount(); err != nil {
			t.Error(err)
		}
		s = reopen(t, s)
	}
	if again := pass(t, s, "corp", Full, start.Add(4*time.Hour), "",
		object(t, 1, "a@x.test")); again.Number <= last.Number {
		t.Errorf("the next pass has number %d, after %d", again.Number, last.Number)
	}
	s.Close()
	if _, err := s.Drop("corp"); !errors.Is(err, ErrClosed) {
		t.Errorf("drop in a closed store: %v", err)
	}
}

// TestRemovalsOfADroppedDirectory checks that what a dropped directory lost does not count for a later one of the same
// name, also after a restart.
func TestRemovalsOfADroppedDirectory(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
	pass(t, s, "corp", Full, start.Add(time.Hour), "")
	if dropped, err := s.Drop("corp"); !dropped || err != nil {
		t.Fatalf("drop: %t, %v", dropped, err)
	}
	want := func(s *Store, want int) {
		t.Helper()
		if got, err := s.RemovedBetween("corp", start, s.config.Now()); got != want || err != nil {
			t.Errorf("%d removals, %v, want %d", got, err, want)
		}
	}
	p, err := s.Begin("corp", Full, Origin{Controller: "dc1", Started: start.Add(2 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	p.Abort()
	want(s, 0)
	s = reopen(t, s)
	want(s, 0)
	pass(t, s, "corp", Full, start.Add(2*time.Hour), "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
	want(s, 0)
	s = reopen(t, s)
	want(s, 0)
	pass(t, s, "corp", Full, start.Add(3*time.Hour), "", object(t, 1, "a@x.test"))
	want(s, 1)
	want(reopen(t, s), 1)
}
