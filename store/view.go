package store

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// A reader reads the store as of a commit.
type reader struct {
	s  *Store
	at uint64
}

// newest returns a reader of the newest version of each key. A single key is always consistent;
// several keys that are read one after another may differ by a commit in between.
func (s *Store) newest() reader { return reader{s, math.MaxUint64} }

// views are the commits that readers use. Badger keeps the versions that they need.
type views struct {
	sync.Mutex
	last uint64         // newest commit that has returned
	open map[uint64]int // number of readers by commit
}

// view returns a reader of the store as of the newest commit, even during writes: all keys and
// the totals belong to that commit. The caller must call done. Close waits for that.
func (s *Store) view() (reader, error) {
	if err := s.beginRead(); err != nil {
		return reader{}, err
	}
	s.views.Lock()
	defer s.views.Unlock()
	if s.views.open == nil {
		s.views.open = map[uint64]int{}
	}
	s.views.open[s.views.last]++
	return reader{s, s.views.last}, nil
}

// done ends a view.
func (r reader) done() {
	r.s.views.Lock()
	if r.s.views.open[r.at]--; r.s.views.open[r.at] == 0 {
		delete(r.s.views.open, r.at)
	}
	r.s.views.Unlock()
	r.s.endRead()
}

// publishCommit makes new views begin with a commit that has returned. It lets Badger drop the
// versions that no view needs.
func (s *Store) publishCommit(commit uint64) {
	s.views.Lock()
	defer s.views.Unlock()
	s.views.last = commit
	for at := range s.views.open {
		commit = min(commit, at)
	}
	s.db.SetDiscardTs(commit)
}

// getItem reads one key and returns the commit that wrote the version it found; zero means that
// it found nothing. The value is valid only within use.
func (s *Store) getItem(txn *badger.Txn, key []byte, use func(value []byte) error) (found uint64, err error) {
	defer s.catchFaults(&err)()
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, nil
	}
	if err == nil {
		err = item.Value(use)
		found = item.Version()
	}
	return found, err
}

// read passes the value of one key to use. It does not call use if the key does not exist. Both
// answers are certain; otherwise read returns an error.
func (r reader) read(key []byte, use func(value []byte) error) error {
	if err := r.s.beginRead(); err != nil {
		return err
	}
	defer r.s.endRead()
	for {
		wrote := r.s.census.lastCommit(key)
		txn := r.s.db.NewTransactionAt(r.at, false)
		found, err := r.s.getItem(txn, key, use)
		txn.Discard()
		if err != nil {
			return err
		}
		if found >= wrote || wrote > r.at {
			return nil
		}
		if r.s.census.lastCommit(key) == wrote { // no commit in between
			return r.s.hiddenError(key)
		}
	}
}

// hiddenError is the error for a key that the store has and Badger does not find.
func (s *Store) hiddenError(key []byte) error {
	if bytes.HasPrefix(key, []byte(prefixAddress)) {
		return s.markDamaged(fmt.Errorf("record %q was written and cannot be read", key))
	}
	return s.markDamaged(fmt.Errorf("record %x was written and cannot be read", key))
}

// get reads one key. It returns nil if the key does not exist.
func (r reader) get(key []byte) (value []byte, err error) {
	err = r.read(key, func(v []byte) error {
		value = append([]byte{}, v...)
		return nil
	})
	if err != nil && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("store %s: read: %w", r.s.config.Dir, err)
	}
	return value, err
}

// get reads one key at the newest version. It returns nil if the key does not exist.
func (s *Store) get(key []byte) ([]byte, error) { return s.newest().get(key) }

// A pair is one key with its value.
type pair struct{ key, value []byte }

// scanChunk limits how many pairs are read in one transaction, because an open transaction keeps
// Badger from removing old files.
const scanChunk = 2000

// scan visits all pairs under a prefix in key order. At the newest version it misses keys that
// are written behind its position.
func (r reader) scan(prefix []byte, keysOnly bool, visit func(pair) error) error {
	return r.scanFrom(prefix, prefix, keysOnly, visit)
}

// scanFrom does the same, beginning with a key.
func (r reader) scanFrom(prefix, from []byte, keysOnly bool, visit func(pair) error) error {
	for {
		chunk, err := r.readChunk(prefix, from, keysOnly)
		if err != nil {
			return err
		}
		r.s.config.Progress()
		for _, p := range chunk {
			if err := visit(p); err != nil {
				return err
			}
		}
		if len(chunk) < scanChunk {
			return nil
		}
		from = append(chunk[len(chunk)-1].key, 0)
	}
}

func (s *Store) scan(prefix []byte, keysOnly bool, visit func(pair) error) error {
	return s.newest().scan(prefix, keysOnly, visit)
}

// readChunk reads the next pairs under a prefix.
func (r reader) readChunk(prefix, from []byte, keysOnly bool) (pairs []pair, err error) {
	if err := r.s.beginRead(); err != nil {
		return nil, err
	}
	defer r.s.endRead()
	defer r.s.catchFaults(&err)()
	txn := r.s.db.NewTransactionAt(r.at, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Seek(from); it.ValidForPrefix(prefix) && len(pairs) < scanChunk; it.Next() {
		item := it.Item()
		if r.at != math.MaxUint64 {
			if wrote := r.s.census.lastCommit(item.Key()); item.Version() < wrote && wrote <= r.at {
				return nil, r.s.hiddenError(item.KeyCopy(nil))
			}
		}
		p := pair{key: item.KeyCopy(nil)}
		if !keysOnly {
			if p.value, err = item.ValueCopy(nil); err != nil {
				return nil, err
			}
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

func (s *Store) readChunk(prefix, from []byte, keysOnly bool) ([]pair, error) {
	return s.newest().readChunk(prefix, from, keysOnly)
}

// getInTxn reads one key in the transaction of a writer, which sees what the batch has written.
// Writers read in no other way: what they do not find does not exist.
func (s *Store) getInTxn(txn *badger.Txn, key []byte, l ledger) (value []byte, err error) {
	found, err := s.getItem(txn, key, func(v []byte) error {
		value = append([]byte{}, v...)
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, ErrDamaged):
		return nil, fmt.Errorf("store %s: read: %w", s.config.Dir, err)
	case err != nil:
		return nil, err
	case found < s.census.lastCommit(key) && !s.census.changedIn(l, key):
		return nil, s.hiddenError(key)
	}
	return value, nil
}

// seek returns the first pair under a prefix from a key on or, with back, the last one up to it.
// It returns nil if there is none.
func (s *Store) seek(prefix string, key []byte, back bool) (found, value []byte, err error) {
	if err := s.beginRead(); err != nil {
		return nil, nil, err
	}
	defer s.endRead()
	defer s.catchFaults(&err)()
	txn := s.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte(prefix), Reverse: back})
	defer it.Close()
	if it.Seek(key); !it.ValidForPrefix([]byte(prefix)) {
		return nil, nil, nil
	}
	value, err = it.Item().ValueCopy(nil)
	return it.Item().KeyCopy(nil), value, err
}

// object reads the record of an object. The zero record means that there is none.
func (s *Store) object(dir dirID, guid GUID) (objectRecord, error) {
	return s.newest().object(dir, guid)
}

func (r reader) object(dir dirID, guid GUID) (objectRecord, error) {
	key := objectKey(dir, guid)
	value, err := r.get(key)
	if err != nil {
		return objectRecord{}, err
	}
	return r.record(key, value)
}

// directory reads the record of a directory. The zero record means that there is none.
func (r reader) directory(name string) (directoryRecord, error) {
	key := []byte(prefixDirectory + name)
	value, err := r.get(key)
	if err != nil || value == nil {
		return directoryRecord{}, err
	}
	record, err := decodeDirectory(value)
	if err != nil {
		return record, r.s.unreadable(string(key), err)
	}
	return record, nil
}

// decodeObject decodes the record of an object. Its error names the key.
func (s *Store) decodeObject(key, value []byte) (objectRecord, error) {
	record, err := decodeObject(value)
	return s.decodedObject(key, record, err)
}

func (s *Store) decodedObject(key []byte, record objectRecord, err error) (objectRecord, error) {
	if err != nil {
		return record, s.unreadable(fmt.Sprintf("%x", key), err)
	}
	return record, nil
}

// decodeAddress decodes the record of an address. Its error names the key.
func (s *Store) decodeAddress(key, value []byte) (addressRecord, error) {
	record, err := decodeAddress(value)
	if err != nil {
		return record, s.unreadable(string(key), err)
	}
	return record, nil
}
