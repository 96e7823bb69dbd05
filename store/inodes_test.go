package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	dirfiles "rcpt-milter/internal/files"
)

// smallDisk mounts a file system that has few inodes.
func smallDisk(t *testing.T, inodes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=600m,nr_inodes=%d", inodes)); err != nil {
		t.Skipf("NOT TESTED: a disk without inodes; mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// takeInodes creates files until only some inodes are left, and returns a function that removes the files.
func takeInodes(t *testing.T, dir string, left uint64) (remove func()) {
	t.Helper()
	fillers := filepath.Join(dir, "fillers")
	if err := os.Mkdir(fillers, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if free, _, err := dirfiles.FreeFiles(dir); err != nil || free == left {
			break
		}
		if err := os.WriteFile(filepath.Join(fillers, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.RemoveAll(fillers); err != nil {
			t.Fatal(err)
		}
	}
}

// fillUntilError runs passes, each with more employees, until one fails.
func fillUntilError(t *testing.T, s *Store) (err error) {
	t.Helper()
	for from := 100; err == nil && from < 20_000; from += 500 {
		var p *Pass
		if p, err = s.Begin("corp", Incremental, Origin{Started: start.Add(time.Minute)}); err != nil {
			break
		}
		_, err = p.Apply(employees(t, from, from+500))
		p.Abort()
	}
	if err == nil {
		t.Fatal("no pass failed: this shows nothing")
	}
	return err
}

// TestNoInodes: without inodes the store answers and is not written. Badger never learns of it.
func TestNoInodes(t *testing.T) {
	c := serving(smallDisk(t, 400))
	c.memTable = 1 << 20
	s := open(t, c)
	pass(t, s, "corp", Full, start, "", employees(t, 0, 100)...)
	remove := takeInodes(t, c.Dir, minFreeFiles-1)
	if err := fillUntilError(t, s); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a pass: %v", err)
	}
	if h := s.Health(); h.State != NotUpdated || !errors.Is(h.Err, ErrNoSpace) {
		t.Errorf("health %+v", h)
	}
	if got := presence(t, s, "never@x.test"); got.Known {
		t.Errorf("an unknown address: %+v", got)
	}
	wantKnownAll(t, s, 100)
	remove()
	pass(t, s, "corp", Incremental, start.Add(time.Hour), "", employees(t, 0, 200)...)
	if h := s.Health(); h.State != Healthy {
		t.Errorf("health with inodes: %+v", h)
	}
}

// TestLastInodeTaken: another program takes the last inodes, or a quota ends, and Badger cannot create its next
// log. The store answers from memory until files can be created, and is then opened again. It loses nothing.
func TestLastInodeTaken(t *testing.T) {
	c := serving(smallDisk(t, 400))
	c.memTable, c.MinFree = 1<<20, 0 // does not look before
	s := open(t, c)
	pass(t, s, "corp", Full, start, "", employees(t, 0, 100)...)
	removed := pass(t, s, "corp", Full, start, "", employees(t, 0, 99)...)
	remove := takeInodes(t, c.Dir, 0)
	if err := fillUntilError(t, s); errors.Is(err, ErrDamaged) {
		t.Errorf("a pass: %v", err)
	}
	gone := employees(t, 99, 100)[0].Addresses[0].Address
	for n := range 3 {
		if got, err := s.Lookup(gone); err == nil || errors.Is(err, ErrDamaged) {
			t.Errorf("an address whose record only Badger has: %+v, %v", got, err)
		}
		began := time.Now()
		if _, err := s.Begin("corp", Incremental, Origin{Started: start.Add(time.Hour)}); !errors.Is(err, ErrNoSpace) {
			t.Errorf("pass %d: %v", n, err)
		}
		if took := time.Since(began); took > closeTimeout/2 {
			t.Errorf("pass %d took %v", n, took)
		}
		if h := s.Health(); h.State != NotUpdated || !errors.Is(h.Err, ErrNoSpace) {
			t.Errorf("health %+v", h)
		}
		wantKnownAll(t, s, 99)
	}
	remove()
	pass(t, s, "corp", Incremental, start.Add(time.Hour), "", employees(t, 0, 99)...)
	if h := s.Health(); h.State != Healthy || h.SetAside != "" {
		t.Errorf("health with inodes: %+v", h)
	}
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
	events := 0
	err := s.Journal(JournalQuery{Pass: removed.Number}, func(Event) error { events++; return nil })
	if err != nil || events == 0 {
		t.Errorf("the journal of an earlier pass has %d rows, %v", events, err)
	}
}

// TestNoFileCanBeCreated: the store stays open and answers while no file can be created after a failed commit.
func TestNoFileCanBeCreated(t *testing.T) {
	for _, cause := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOSPC, syscall.EDQUOT} {
		t.Run(cause.Error(), func(t *testing.T) {
			failing := false
			c := serving(t.TempDir())
			c.memTable = 1 << 20
			c.createFile = func(string) error {
				if failing {
					return cause
				}
				return nil
			}
			s := open(t, c)
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "gone@x.test"))
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
			obstacle, _ := loseMemoryTable(t, s)
			failing = true
			if _, err := s.Lookup(mustParse(t, "gone@x.test")); err == nil || errors.Is(err, ErrDamaged) {
				t.Errorf("an address whose record only Badger has: %v", err)
			}
			if _, err := s.Begin("corp", Incremental, Origin{Started: start}); !errors.Is(err, cause) {
				t.Errorf("a pass: %v", err)
			}
			if h := s.Health(); h.State != NotUpdated || !errors.Is(h.Err, cause) {
				t.Errorf("health %+v", h)
			}
			if got := presence(t, s, "a@x.test"); !got.Known {
				t.Errorf("a known address: %+v", got)
			}
			if err := os.Remove(obstacle); err != nil {
				t.Fatal(err)
			}
			failing = false
			pass(t, s, "corp", Incremental, start.Add(time.Minute), "", object(t, 2, "b@x.test"))
			if h := s.Health(); h.State != Healthy || h.SetAside != "" {
				t.Errorf("health when files can be created: %+v", h)
			}
		})
	}
}

// TestDamageAfterFailedReopening: Badger did not close after a failed commit, so nothing can be read. What looked
// like damage meanwhile is no reason to set the store aside before its files have been read.
func TestDamageAfterFailedReopening(t *testing.T) {
	c := serving(t.TempDir())
	c.memTable = 1 << 20
	s := open(t, c)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	obstacle, _ := loseMemoryTable(t, s)
	s.markDamaged(errors.New("a test"))
	s.shut(errors.New("Badger does not close"))
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	pass(t, s, "corp", Incremental, start.Add(time.Minute), "", object(t, 2, "b@x.test"))
	if h := s.Health(); h.State != Healthy || h.SetAside != "" {
		t.Errorf("health %+v", h)
	}
	if got := presence(t, s, "a@x.test"); !got.Known {
		t.Errorf("a known address: %+v", got)
	}
}

// TestCloseWithoutInodes: a store that Badger cannot write out is left to the next start, which recovers it.
func TestCloseWithoutInodes(t *testing.T) {
	dir := smallDisk(t, 400)
	s := open(t, Config{Dir: dir, memTable: 1 << 20})
	pass(t, s, "corp", Full, start, "", employees(t, 0, 100)...)
	remove := takeInodes(t, dir, 0)
	if err := s.Close(); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Close: %v", err)
	}
	remove()
	wantKnownAll(t, open(t, serving(copyOf(t, dir))), 100)
}
