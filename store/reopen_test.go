package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// TestRedonePassEndsNoDoubt: a full pass that was decided before the newest files were lost is
// completed at the start. It has read nothing since, so the doubt stays.
func TestRedonePassEndsNoDoubt(t *testing.T) {
	c := serving(t.TempDir())
	s := open(t, c)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
	older := ""
	s.config.afterCommit = func(int) {
		if value, err := s.get(dirKey(prefixRedo, 1)); err == nil && value != nil && older == "" {
			older = copyOf(t, c.Dir)
		}
	}
	pass(t, s, "corp", Full, start.Add(time.Minute), "", object(t, 1, "a@x.test"))
	s.config.afterCommit = nil
	if older == "" {
		t.Fatal("no decided pass")
	}
	pass(t, s, "corp", Incremental, start.Add(2*time.Minute), "", object(t, 3, "new@x.test"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	restoreMark(t, c.Dir, older)
	c.Dir = older
	s = open(t, c)
	if d := s.Directory("corp"); d.Doubt == "" {
		t.Errorf("no doubt although the last commits are lost: %+v", d)
	}
}

// restoreMark copies the mark of a store beside an older state of it.
func restoreMark(t *testing.T, from, to string) {
	t.Helper()
	mark, err := os.ReadFile(filepath.Join(from, commitFileName))
	if err == nil {
		err = os.WriteFile(filepath.Join(to, commitFileName), mark, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// replaceFiles has a running store find other files when it opens them again.
func replaceFiles(t *testing.T, s *Store, older string) {
	t.Helper()
	err := s.reopen(func() error {
		for _, name := range storeFiles(t, s.config.Dir) {
			if err := os.Remove(filepath.Join(s.config.Dir, name)); err != nil {
				return err
			}
		}
		return os.CopyFS(s.config.Dir, os.DirFS(older))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReopenedAtOlderState: a mirror notices by the epoch that what it remembers of its directory
// no longer holds.
func TestReopenedAtOlderState(t *testing.T) {
	t.Run("lost files", func(t *testing.T) {
		c := serving(t.TempDir())
		s := open(t, c)
		pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
		older := copyOf(t, c.Dir)
		pass(t, s, "corp", Incremental, start.Add(time.Minute), "", object(t, 2, "b@x.test"))
		remembered := s.Directory("corp")
		restoreMark(t, c.Dir, older)
		replaceFiles(t, s, older)
		if s.Epoch() == remembered.Epoch || s.Directory("corp").Doubt == "" {
			t.Errorf("epoch %d, was %d; %+v", s.Epoch(), remembered.Epoch, s.Directory("corp"))
		}
	})
	t.Run("a failed commit was in effect in memory", func(t *testing.T) {
		c, older := serving(t.TempDir()), ""
		fails := false
		c.commit = func(txn *badger.Txn, ts uint64) error {
			if !fails {
				return txn.CommitAt(ts, nil)
			}
			fails = false
			older = copyOf(t, c.Dir)
			return errors.Join(txn.CommitAt(ts, nil), errDisk)
		}
		s := open(t, c)
		pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
		remembered := s.Directory("corp")
		p, err := s.Begin("corp", Incremental, Origin{Started: start.Add(time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		fails = true
		if _, err := p.Apply([]Object{object(t, 2, "b@x.test")}); err == nil {
			t.Fatal("no error")
		}
		p.Abort()
		replaceFiles(t, s, older)
		if s.Epoch() == remembered.Epoch {
			t.Error("a mirror takes its directory for fresh")
		}
	})
}

// TestLostMemoryTableIsNoDamage: Badger could not create a file and cannot read since. The store
// on the disk is sound, so it is opened again and not set aside.
func TestLostMemoryTableIsNoDamage(t *testing.T) {
	c := serving(t.TempDir())
	c.memTable = 1 << 20
	s := open(t, c)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	obstacle, _ := loseMemoryTable(t, s)
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	p, err := s.Begin("corp", Incremental, Origin{Started: start.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	p.Abort()
	if h := s.Health(); h.SetAside != "" || h.State != Healthy {
		t.Errorf("health %+v", h)
	}
	if got := presence(t, s, "a@x.test"); !got.Known {
		t.Errorf("%+v", got)
	}
}

// TestReopeningWaitsForNoReader: an export that nobody reads on does not keep recipients from
// their answers.
func TestReopeningWaitsForNoReader(t *testing.T) {
	c := serving(t.TempDir())
	c.readersTimeout = time.Millisecond
	fails := false
	c.commit = func(txn *badger.Txn, ts uint64) error {
		if fails {
			fails = false
			return errDisk
		}
		return txn.CommitAt(ts, nil)
	}
	s := open(t, c)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	v, err := s.view()
	if err != nil {
		t.Fatal(err)
	}
	fails = true
	if err := s.write(func(tx *tx) error { return tx.set([]byte("x/1"), newEncoder()) }); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	if _, err := s.Begin("corp", Incremental, Origin{Started: start.Add(time.Minute)}); !errors.Is(err, errReopening) {
		t.Errorf("beside a reader: %v", err)
	}
	if got := presence(t, s, "a@x.test"); !got.Known {
		t.Errorf("%+v", got)
	}
	v.done()
	p, err := s.Begin("corp", Incremental, Origin{Started: start.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	p.Abort()
}

// TestOlderFormatNeedsSpace: a store that has to be converted is not opened without space for it.
func TestOlderFormatNeedsSpace(t *testing.T) {
	c := serving(formatOne(t))
	free := uint64(0)
	c.FreeSpace = func(string) (uint64, error) { return free, nil }
	if s, err := Open(t.Context(), c); !errors.Is(err, ErrNoSpace) {
		t.Errorf("opened: %v, %v", s, err)
	}
	free = 1 << 30
	wantConverted(t, open(t, c))
}

// TestLookupWhileReopened: a lookup that memory has answered does not look at what reopening replaces.
// The race detector finds it if it does.
func TestLookupWhileReopened(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	for range 10 {
		s.reopenDue.Store(true)
		done := make(chan error)
		go func() { done <- s.prepareWrite() }()
		if got, err := s.Lookup(mustParse(t, "a@x.test")); err == nil && !got.Known {
			t.Errorf("lookup: %+v", got)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
