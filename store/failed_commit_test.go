package store

import (
	"errors"
	"os"
	"testing"

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
	checkSound(t, s)
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	if n%3 > 0 {
		s = reopen(t, s)
		c.checkBetween(t, s)
	}
	c.playOn(t, s)
	return err == nil
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
