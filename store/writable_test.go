package store

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// failingDisk is a file system that an error makes read-only for a time. The daemon's tests have a
// real one, which only comes back with another process.
type failingDisk struct {
	failure error
	failed  atomic.Bool
}

func (d *failingDisk) config(dir string) Config {
	c := serving(dir)
	c.touch = func(string) error { return d.err() }
	c.commit = func(txn *badger.Txn, ts uint64) error {
		if err := d.err(); err != nil {
			return err
		}
		return txn.CommitAt(ts, nil)
	}
	return c
}

func (d *failingDisk) err() error {
	if d.failed.Load() {
		return d.failure
	}
	return nil
}

// wantNotUpdated checks that a store answers, and that nothing can be written.
func wantNotUpdated(t *testing.T, s *Store, known map[string]bool) {
	t.Helper()
	if _, err := s.Begin("corp", Full, Origin{Started: start}); !errors.Is(err, ErrNotWritable) {
		t.Fatalf("a pass: %v", err)
	}
	if err := s.PutRefusals(NewRefusals(start)); !errors.Is(err, ErrNotWritable) {
		t.Fatalf("writing: %v", err)
	}
	if h := s.Health(); h.State != NotUpdated || !errors.Is(h.Err, ErrNotWritable) {
		t.Fatalf("health: %+v", h)
	}
	for a := range known {
		if got, err := s.Lookup(mustParse(t, a)); err != nil || !got.Known {
			t.Fatalf("%s: %+v, %v", a, got, err)
		}
	}
	if got, err := s.Lookup(mustParse(t, "none@corp.example")); err != nil || got.Known {
		t.Fatalf("an unknown address: %+v, %v", got, err)
	}
}

// TestFileSystemFails: while the file system of a running store takes no writes, the store answers,
// says so, and does not open Badger again, which would not end. Afterwards it is updated again.
func TestFileSystemFails(t *testing.T) {
	const n = 20
	for _, failure := range []error{syscall.EROFS, syscall.EIO} {
		t.Run(failure.Error(), func(t *testing.T) {
			d := &failingDisk{failure: failure}
			s := open(t, d.config(t.TempDir()))
			rebuild(t, s, n)
			for range 2 {
				db := s.db
				d.failed.Store(true)
				if err := s.PutRefusals(NewRefusals(start)); !errors.Is(err, failure) {
					t.Fatalf("the first write: %v", err)
				}
				if h := s.Health(); h.State != NotUpdated {
					t.Errorf("health after the first write: %+v", h)
				}
				for range 2 {
					wantNotUpdated(t, s, allOf(t, n))
				}
				if s.db != db {
					t.Error("Badger was opened again")
				}
				d.failed.Store(false)
				rebuild(t, s, n)
				if h := s.Health(); h.State != Healthy {
					t.Errorf("health afterwards: %+v", h)
				}
				checkSound(t, s)
			}
		})
	}
}

// TestCloseOnFailedFileSystem: Badger would try forever to write what it has in memory. The next
// process has it from the logs.
func TestCloseOnFailedFileSystem(t *testing.T) {
	d := &failingDisk{failure: syscall.EROFS}
	s := open(t, d.config(t.TempDir()))
	rebuild(t, s, 20)
	pass(t, s, "corp", Incremental, start.Add(2*time.Hour), "", object(t, 77, "late@corp.example"))
	d.failed.Store(true)
	if err := s.Close(); !errors.Is(err, ErrNotWritable) {
		t.Errorf("Close: %v", err)
	}
	t.Cleanup(func() { s.db.Close() })
	next := open(t, serving(copyOf(t, s.config.Dir)))
	if got, err := next.Lookup(mustParse(t, "late@corp.example")); err != nil || !got.Known {
		t.Errorf("what was not in a table: %+v, %v", got, err)
	}
	checkSound(t, next)
}

// TestStartOnFailedFileSystem: a store that was closed answers. One that was not closed cannot be
// read before it is recovered; an empty directory has no answers either. All continue when the file
// system can be written.
func TestStartOnFailedFileSystem(t *testing.T) {
	const n = 20
	closed := filledDir(t, nil, n)
	running := open(t, Config{Dir: copyOf(t, closed)})
	pass(t, running, "corp", Incremental, start.Add(time.Minute), "", object(t, 77, "late@corp.example"))
	for _, test := range []struct {
		name, dir string
		answers   bool
	}{
		{"closed", copyOf(t, closed), true},
		{"killed", copyOf(t, running.config.Dir), false},
		{"empty", t.TempDir(), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := &failingDisk{failure: syscall.EROFS}
			d.failed.Store(true)
			before := filesOf(t, test.dir)
			strict := d.config(test.dir)
			strict.KeepAnswering = false
			if _, err := Open(t.Context(), strict); !errors.Is(err, ErrNotWritable) {
				t.Errorf("a command: %v", err)
			}
			s := open(t, d.config(test.dir))
			if test.answers {
				wantNotUpdated(t, s, allOf(t, n))
			} else if _, err := s.Lookup(mustParse(t, "u0@corp.example")); !errors.Is(err, ErrNotWritable) ||
				s.Health().State != Unreadable {
				t.Errorf("a lookup: %v, health %+v", err, s.Health())
			}
			if after := filesOf(t, test.dir); len(before) != len(after) {
				t.Errorf("the files were %q, are %q", before, after)
			}
			d.failed.Store(false)
			rebuild(t, s, n)
			if h := s.Health(); h.State != Healthy || h.SetAside != "" {
				t.Errorf("health afterwards: %+v", h)
			}
			checkSound(t, s)
		})
	}
}
