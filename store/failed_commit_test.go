package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

var errDisk = errors.New("input/output error")

// TestCommitFailsAtEveryCommit: the n-th commit fails, before or after it is in effect. Badger
// may report that it cannot write out a log and answer from that log already.
func TestCommitFailsAtEveryCommit(t *testing.T) {
	for i, mode := range []string{"before it is in effect", "after it is in effect"} {
		for name, c := range scripts {
			t.Run(mode+", "+name, func(t *testing.T) {
				c.atEveryCommit(t, 3+i, func(t *testing.T, n int) bool { return c.failOnce(t, n, i == 1) })
			})
		}
	}
}

// failOnce reports whether the script ended before the n-th commit.
func (c crashTest) failOnce(t *testing.T, n int, arrives bool) bool {
	left := n
	s := open(t, Config{Dir: t.TempDir(), memTable: c.memTable, commit: func(txn *badger.Txn, ts uint64) error {
		if left--; left != 0 {
			return txn.CommitAt(ts, nil)
		}
		if !arrives {
			return errDisk
		}
		return errors.Join(txn.CommitAt(ts, nil), errDisk)
	}})
	err := c.play(s)
	if err != nil && !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	left = 0 // all further commits work
	checkSound(t, s)
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	if n%3 > 0 {
		s = reopen(t, s)
		c.checkBetween(t, s)
	} else if err != nil {
		before := memoryOf(t, s)
		if err := s.reopen(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if after := memoryOf(t, s); before != after {
			t.Errorf("what the store had in memory is not what is on disk:\n%s\n%s", before, after)
		}
	}
	c.playOn(t, s)
	return err == nil
}

// memoryOf describes what a store keeps in memory when it is written next.
func memoryOf(t *testing.T, s *Store) string {
	t.Helper()
	if _, err := s.LostSince(start, start.Add(time.Hour), []string{"x"}); err != nil {
		t.Fatal(err)
	}
	if err := s.prepareWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LostSince(start, start.Add(time.Hour), []string{"x"}); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	totals := *s.totals.Load()
	fmt.Fprintln(&b, totals.public(), totals.nextDir, s.census.sum, s.losses.passes)
	for name, d := range s.state.dirs {
		fmt.Fprintf(&b, "%s: %+v %+v %+v %+v %+v\n", name, d.record, d.cursor, d.removals, d.feed,
			totals.dirs[d.record.id].dirCounts)
	}
	return b.String()
}

// loseMemoryTable has Badger fail to create its next log, and returns the directory in its way and
// the number of employees in the passes until then.
func loseMemoryTable(t *testing.T, s *Store) (obstacle string, written int) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(s.config.Dir, "*.mem"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	number := 0
	if _, err := fmt.Sscanf(filepath.Base(logs[0]), "%d.mem", &number); err != nil {
		t.Fatal(err)
	}
	obstacle = filepath.Join(s.config.Dir, fmt.Sprintf("%05d.mem", number+1))
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	for ; err == nil && written < 10_000; written += 500 {
		var p *Pass
		if p, err = s.Begin("corp", Incremental, Origin{Started: start}); err != nil {
			t.Fatal(err)
		}
		_, err = p.Apply(employees(t, written, written+500))
		p.Abort()
	}
	if err == nil {
		t.Fatal("no commit failed: this shows nothing")
	}
	return obstacle, written
}

// TestBadgerLosesItsMemoryTable: Badger cannot create its next log, for lack of file descriptors
// for example. It then has no memory table, and its next commit would end the process. Reopening
// makes a new one.
func TestBadgerLosesItsMemoryTable(t *testing.T) {
	c := Config{Dir: t.TempDir(), memTable: 1 << 20}
	s := open(t, c)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	obstacle, written := loseMemoryTable(t, s)
	if _, err := s.Begin("corp", Incremental, Origin{Started: start}); err == nil {
		t.Error("a pass began although the store cannot be opened")
	}
	if got, err := s.Lookup(mustParse(t, "none@x.test")); err == nil {
		t.Errorf("a miss meanwhile: %+v", got)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	pass(t, s, "corp", Full, start.Add(time.Minute), "", append(employees(t, 0, written), object(t, 1, "a@x.test"))...)
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
	checkSound(t, s)
	wantKnownAll(t, s, written)
}

func wantKnownAll(t *testing.T, s *Store, n int) {
	t.Helper()
	for a := range allOf(t, n) {
		if got, err := s.Lookup(mustParse(t, a)); err != nil || !got.Known {
			t.Fatalf("%s: %+v, %v", a, got, err)
		}
	}
}

// TestFailedDeletionIsStillThere: the deletion of a key failed and a damaged file hides the key
// later. It does not count as absent.
func TestFailedDeletionIsStillThere(t *testing.T) {
	fails := false
	s := open(t, Config{Dir: t.TempDir(), commit: func(txn *badger.Txn, ts uint64) error {
		if fails {
			return errDisk
		}
		return txn.CommitAt(ts, nil)
	}})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	key := addressKey("a@x.test")
	wrote := s.census.lastCommit(key)
	fails = true
	if err := s.write(func(tx *tx) error { return tx.delete(key) }); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	if got := s.census.lastCommit(key); wrote == 0 || got != wrote {
		t.Errorf("the census has commit %d of a key whose deletion failed, want %d", got, wrote)
	}
}

// TestTableRemovedMeanwhile: Badger truncates a table after a compaction before it removes the
// file. That is no damage; a truncated table in use is.
func TestTableRemovedMeanwhile(t *testing.T) {
	for _, size := range []int{0, 5000} {
		s := open(t, Config{Dir: filledDir(t, nil, 300)})
		stale := append(s.db.Tables(), badger.TableInfo{ID: 9999})
		if err := os.WriteFile(table.NewFilename(9999, s.config.Dir), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.verifyListed(stale); err != nil {
			t.Errorf("a table of %d bytes that is not in use any more: %v", size, err)
		}
		if err := s.Verify(); err != nil {
			t.Errorf("after that: %v", err)
		}
		if _, err := s.Lookup(mustParse(t, "never@x.test")); err != nil {
			t.Errorf("lookup after that: %v", err)
		}
		used := table.NewFilename(s.db.Tables()[0].ID, s.config.Dir)
		data, err := os.ReadFile(used)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(used, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(); !errors.Is(err, ErrDamaged) {
			t.Errorf("a damaged table in use: %v", err)
		}
	}
}
