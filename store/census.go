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
// true one. A row has 12 bytes; with the spare capacity of the slices, that is about 13 for each key.
type census struct {
	seed    maphash.Seed
	shards  []censusShard
	sum     uint64  // over all rows: see sumOf; only writers use it
	absence absence // whether it answers for addresses without a record
}

// censusShards is the number of locks that share the keys. A lookup takes one of them for
// reading.
const censusShards = 1 << censusBits

const censusBits = 12

type censusShard struct {
	sync.RWMutex
	rows []censusRow // sorted by hash
}

// A censusRow is one key. Its hash has 63 bits, so two of millions of keys do not share one.
// Commits are counted modulo 2^32. The lowest bit of low says whether the key is an open address: see
// absence.go.
type censusRow struct{ high, low, commit uint32 }

const openBit = 1

func newCensusRow(hash uint64, commit uint32, open bool) censusRow {
	r := censusRow{high: uint32(hash >> 32), low: uint32(hash), commit: commit}
	if open {
		r.low |= openBit
	}
	return r
}

func (r censusRow) hash() uint64 { return uint64(r.high)<<32 | uint64(r.low&^openBit) }

func (r censusRow) open() bool { return r.low&openBit != 0 }

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

var trackedPrefixes = [][]byte{[]byte(prefixAddress), []byte(prefixObject), []byte(prefixRedo),
	[]byte(prefixOutbox)}

func (c *census) hash(key []byte) uint64 { return maphash.Bytes(c.seed, key) &^ openBit }

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
	row, _ := c.row(key)
	return uint64(row.commit)
}

// row returns the row of a key that the census tracks.
func (c *census) row(key []byte) (censusRow, bool) { return c.rowOf(c.hash(key)) }

// commitOf returns the commit of a row by the hash of its key; zero means that there is none.
func (c *census) commitOf(hash uint64) uint32 {
	row, _ := c.rowOf(hash)
	return row.commit
}

func (c *census) rowOf(hash uint64) (censusRow, bool) {
	s := c.shard(hash)
	s.RLock()
	defer s.RUnlock()
	if i, ok := s.find(hash); ok {
		return s.rows[i], true
	}
	return censusRow{}, false
}

func (c *census) set(r censusRow) {
	s := c.shard(r.hash())
	s.Lock()
	defer s.Unlock()
	i, ok := s.find(r.hash())
	if !ok {
		s.insert(i, r)
	}
	s.rows[i] = r
}

// insert adds a row at an index.
func (s *censusShard) insert(i int, r censusRow) { s.rows = insertTight(s.rows, i, r) }

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

// A ledger maps the hash of each census key that a batch changes to what the batch does.
type ledger map[uint64]ledgerRow

type ledgerRow struct {
	written bool   // false means deleted
	open    bool   // an address that outside senders may write to
	stable  uint64 // see stableHash
}

// record records that a batch sets a key to a value. A nil value deletes it.
func (c *census) record(l ledger, key, value []byte) {
	if c.tracks(key) {
		l[c.hash(key)] = ledgerRow{value != nil, isOpenAddress(key, value), stableHash(key)}
	}
}

// sumAfter returns the sum after a batch with the number of a commit.
func (c *census) sumAfter(l ledger, commit uint64) uint64 {
	sum := c.sum
	for hash, row := range l {
		if before := c.commitOf(hash); before != 0 {
			sum -= sumOf(row.stable, before)
		}
		if row.written {
			sum += sumOf(row.stable, uint32(commit))
		}
	}
	return sum
}

// changedIn reports whether the batch itself wrote or deleted the key.
func (c *census) changedIn(l ledger, key []byte) bool {
	if len(l) == 0 || !c.tracks(key) {
		return false
	}
	_, ok := l[c.hash(key)]
	return ok
}

// announce adds a row for every key that a batch is going to write, before its commit. Until write
// records the commit, the row only says that the key may exist.
func (c *census) announce(l ledger) {
	for hash, row := range l {
		if row.written {
			c.add(hash)
		}
	}
}

// add adds a row without a commit unless there is one.
func (c *census) add(hash uint64) {
	s := c.shard(hash)
	s.Lock()
	defer s.Unlock()
	if i, ok := s.find(hash); !ok {
		s.insert(i, newCensusRow(hash, 0, false))
	}
}

// removeDeleted removes the keys that a batch deletes and returns their rows. It runs before the
// commit and write runs after it, so the census never requires a commit that a reader cannot find.
func (c *census) removeDeleted(l ledger) (released []censusRow) {
	for hash, row := range l {
		if !row.written {
			released = c.remove(hash, released)
		}
	}
	return released
}

// restore puts back what removeDeleted removed for a commit that failed.
func (c *census) restore(released []censusRow) {
	for _, r := range released {
		c.set(r)
	}
}

// write records what a batch wrote, after its commit.
func (c *census) write(l ledger, commit uint64) {
	for hash, row := range l {
		if row.written {
			c.set(newCensusRow(hash, uint32(commit), row.open))
		}
	}
}

// loadCensus reads the keys of a store that was just opened and verified.
func (s *Store) loadCensus() error {
	c := newCensus()
	errs, sums := make([]error, len(trackedPrefixes)), make([]uint64, len(trackedPrefixes))
	var readers sync.WaitGroup
	for i, prefix := range trackedPrefixes {
		readers.Go(func() { sums[i], errs[i] = s.addKeys(c, prefix) })
	}
	readers.Wait()
	for _, sum := range sums {
		c.sum += sum
	}
	for i := range c.shards {
		slices.SortFunc(c.shards[i].rows, func(a, b censusRow) int { return cmp.Compare(a.hash(), b.hash()) })
	}
	s.census = c
	return errors.Join(errs...)
}

// progressEvery is the number of keys after which opening reports progress.
const progressEvery = 10_000

// addKeys adds the keys under a prefix, unsorted, and returns their sum.
func (s *Store) addKeys(c *census, prefix []byte) (sum uint64, err error) {
	defer s.catchFaults(&err)()
	txn := s.db.NewTransactionAt(s.writer.ts, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	n := 0
	for it.Seek(prefix); it.ValidForPrefix(prefix); it.Next() {
		key, commit, open := it.Item().Key(), uint32(it.Item().Version()), false
		if string(prefix) == prefixAddress {
			err := it.Item().Value(func(value []byte) error {
				open = isOpenAddress(key, value)
				return c.absence.count(value)
			})
			if err != nil {
				return 0, err
			}
		}
		sum += sumOf(stableHash(key), commit)
		hash := c.hash(key)
		shard := c.shard(hash)
		shard.Lock()
		shard.insert(len(shard.rows), newCensusRow(hash, commit, open))
		shard.Unlock()
		if n++; n%progressEvery == 0 {
			s.config.Progress()
		}
	}
	return sum, nil
}
