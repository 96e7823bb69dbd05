package store

import (
	"bytes"
	"cmp"
	"errors"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// A census records in memory which commit last wrote each key that answers and writers depend
// on. Badger treats what it cannot read of a damaged file as absent: a get finds nothing or an
// older version. A compaction omits what it could not read and writes the rest to a file with
// correct checksums. Neither returns an error. The census distinguishes such an answer from a
// true one. It takes 12 bytes for each key.
type census struct {
	seed   maphash.Seed
	shards []censusShard
}

// censusShards is the number of locks that share the keys. A lookup takes one of them for
// reading.
const censusShards = 1 << censusBits

const censusBits = 12

type censusShard struct {
	sync.RWMutex
	rows []censusRow // sorted by hash
}

// A censusRow is one key. Its hash has 64 bits, so two of millions of keys do not share one.
// Commits are counted modulo 2^32.
type censusRow struct{ high, low, commit uint32 }

func (r censusRow) hash() uint64 { return uint64(r.high)<<32 | uint64(r.low) }

func newCensus() *census {
	return &census{seed: maphash.MakeSeed(), shards: make([]censusShard, censusShards)}
}

// tracks reports whether the census holds a key. No other key can make a recipient disappear
// when a read finds nothing: it is read at opening, after the files were verified, or it only
// explains what happened.
func (c *census) tracks(key []byte) bool {
	hasPrefix := func(prefix []byte) bool { return bytes.HasPrefix(key, prefix) }
	return c != nil && slices.ContainsFunc(trackedPrefixes, hasPrefix)
}

var trackedPrefixes = [][]byte{[]byte(prefixAddress), []byte(prefixObject), []byte(prefixRedo)}

func (c *census) hash(key []byte) uint64 { return maphash.Bytes(c.seed, key) }

func (c *census) shard(hash uint64) *censusShard { return &c.shards[hash>>(64-censusBits)] }

func (s *censusShard) find(hash uint64) (int, bool) {
	return slices.BinarySearchFunc(s.rows, hash, func(r censusRow, hash uint64) int {
		return cmp.Compare(r.hash(), hash)
	})
}

// lastCommit returns the commit that last wrote a key. Zero means that there is none or that the
// census does not track the key.
func (c *census) lastCommit(key []byte) uint64 {
	if !c.tracks(key) {
		return 0
	}
	hash := c.hash(key)
	s := c.shard(hash)
	s.RLock()
	defer s.RUnlock()
	if i, ok := s.find(hash); ok {
		return uint64(s.rows[i].commit)
	}
	return 0
}

func (c *census) set(hash, commit uint64) {
	s := c.shard(hash)
	s.Lock()
	defer s.Unlock()
	i, ok := s.find(hash)
	if !ok {
		s.rows = slices.Insert(s.rows, i, censusRow{high: uint32(hash >> 32), low: uint32(hash)})
	}
	s.rows[i].commit = uint32(commit)
}

// remove removes a key and appends its row to removed.
func (c *census) remove(hash uint64, removed []censusRow) []censusRow {
	s := c.shard(hash)
	s.Lock()
	defer s.Unlock()
	if i, ok := s.find(hash); ok {
		removed = append(removed, s.rows[i])
		s.rows = slices.Delete(s.rows, i, i+1)
	}
	return removed
}

// A ledger maps the hash of each census key that a batch changes to true if the batch writes the
// key, or to false if it deletes the key.
type ledger map[uint64]bool

func (c *census) record(l ledger, key []byte, written bool) {
	if c.tracks(key) {
		l[c.hash(key)] = written
	}
}

// changedIn reports whether the batch itself wrote or deleted the key.
func (c *census) changedIn(l ledger, key []byte) bool {
	if len(l) == 0 || !c.tracks(key) {
		return false
	}
	_, ok := l[c.hash(key)]
	return ok
}

// removeDeleted removes the keys that a batch deletes and returns their rows. It runs before the
// commit and write runs after it, so the census never holds a key that a reader cannot find.
func (c *census) removeDeleted(l ledger) (released []censusRow) {
	for hash, written := range l {
		if !written {
			released = c.remove(hash, released)
		}
	}
	return released
}

// restore puts back what removeDeleted removed for a commit that failed.
func (c *census) restore(released []censusRow) {
	for _, r := range released {
		c.set(r.hash(), uint64(r.commit))
	}
}

// write records what a batch wrote, after its commit.
func (c *census) write(l ledger, commit uint64) {
	for hash, written := range l {
		if written {
			c.set(hash, commit)
		}
	}
}

// loadCensus reads the keys of a store that was just opened and verified.
func (s *Store) loadCensus() error {
	c := newCensus()
	errs := make([]error, len(trackedPrefixes))
	var readers sync.WaitGroup
	for i, prefix := range trackedPrefixes {
		readers.Go(func() { errs[i] = s.addKeys(c, prefix) })
	}
	readers.Wait()
	for i := range c.shards {
		slices.SortFunc(c.shards[i].rows, func(a, b censusRow) int { return cmp.Compare(a.hash(), b.hash()) })
	}
	s.census = c
	return errors.Join(errs...)
}

// addKeys adds the keys under a prefix, unsorted.
func (s *Store) addKeys(c *census, prefix []byte) (err error) {
	defer s.recoverPanic(&err)
	txn := s.db.NewTransactionAt(s.writer.ts, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Seek(prefix); it.ValidForPrefix(prefix); it.Next() {
		hash := c.hash(it.Item().Key())
		shard := c.shard(hash)
		shard.Lock()
		shard.rows = append(shard.rows, censusRow{uint32(hash >> 32), uint32(hash), uint32(it.Item().Version())})
		shard.Unlock()
	}
	return nil
}
