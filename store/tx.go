package store

import (
	"errors"
	"fmt"
	"math"

	"github.com/dgraph-io/badger/v4"
)

// tx writes batches of units. It commits and begins another Badger transaction between
// two units when the next one does not fit, never in the middle of one: every state on
// disk is sound. It sees the units that it was given. The counts that changed go into
// every transaction. Only one tx exists at a time.
type tx struct {
	s          *Store
	txn        *badger.Txn
	delta      totalsDelta
	committed  []func()
	fullPassOf *Pass // the full pass that it makes owed
	entries    int64 // put into the transaction
	bytes      int64 // that these take: see entrySize
	counts     int64 // entries that the changed counts take
	countBytes int64
	ledger     ledger
	last       []byte // key that was put last
}

// write runs f under the writer lock and commits what it wrote. When f or a commit
// fails, the batches committed before stay.
func (s *Store) write(f func(*tx) error) error {
	s.writer.Lock()
	defer s.writer.Unlock()
	if s.closed.Load() {
		return ErrClosed
	}
	if s.config.ReadOnly {
		return fmt.Errorf("store %s: %w", s.config.Dir, ErrReadOnly)
	}
	if s.damaged.Load() {
		return fmt.Errorf("store %s: %w; %s", s.config.Dir, ErrDamaged, rebuildAdvice)
	}
	t := &tx{s: s}
	t.begin()
	defer func() { t.txn.Discard() }()
	if err := f(t); err != nil {
		return err
	}
	return t.flush()
}

func (t *tx) begin() {
	*t = tx{s: t.s, txn: t.s.db.NewTransactionAt(math.MaxUint64, true), ledger: ledger{}}
}

// flush commits what was written so far, if anything, and begins the next batch.
func (t *tx) flush() error {
	before := t.s.totals.Load()
	after := before.after(&t.delta)
	if err := t.delta.entries(before, &after, t.put); err != nil {
		return err
	}
	if t.entries == 0 {
		return nil
	}
	if err := t.s.checkSpace(); err != nil {
		return err
	}
	t.s.writer.ts++
	released := t.s.census.removeDeleted(t.ledger)
	failed := t.s.config.commit(t.txn, t.s.writer.ts)
	if failed != nil {
		failed = fmt.Errorf("store %s: commit: %w", t.s.config.Dir, failed)
		if !t.tookEffect() {
			t.s.census.restore(released)
			return failed
		}
	}
	t.s.census.write(t.ledger, t.s.writer.ts)
	t.publish(&after)
	t.s.publishCommit(t.s.writer.ts)
	t.s.writer.commits++
	if t.s.config.afterCommit != nil {
		t.s.config.afterCommit(t.s.writer.commits)
	}
	t.begin()
	return failed
}

// arrived reports whether a commit that failed is in effect all the same: its log could
// not be written out to the disk, and Badger answers from it. Then the store in memory has
// to follow. Whether it is there after a restart, the disk decides.
func (t *tx) tookEffect() bool {
	txn := t.s.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	it := txn.NewKeyIterator(t.last, badger.IteratorOptions{AllVersions: true})
	defer it.Close()
	it.Rewind()
	return it.Valid() && it.Item().Version() == t.s.writer.ts
}

// publish makes what is kept in memory agree with what was committed.
func (t *tx) publish(after *totals) {
	t.s.totals.Store(after)
	t.s.state.Lock()
	defer t.s.state.Unlock()
	for _, f := range t.committed {
		f()
	}
}

func (t *tx) get(key []byte) ([]byte, error) { return t.s.getInTxn(t.txn, key, t.ledger) }

// set writes one entry that nothing else belongs to.
func (t *tx) set(key, value []byte) error {
	var u unit
	u.set(key, value)
	return t.add(&u)
}

// delete deletes one entry that nothing else belongs to.
func (t *tx) delete(key []byte) error {
	var u unit
	u.delete(key)
	return t.add(&u)
}

// put writes into the transaction; a nil value deletes the key.
func (t *tx) put(key, value []byte) error {
	t.entries++
	t.last = key
	t.bytes += entrySize(key, value)
	t.s.census.record(t.ledger, key, value != nil)
	var err error
	if value == nil {
		err = t.txn.Delete(key)
	} else {
		err = t.txn.Set(key, value)
	}
	if errors.Is(err, badger.ErrTxnTooBig) {
		return fmt.Errorf("store %s: a record is larger than a transaction: %w", t.s.config.Dir, err)
	}
	return err
}

// object reads the record of an object; the zero record: there is none.
func (t *tx) object(dir dirID, guid GUID) (objectRecord, error) {
	key := objectKey(dir, guid)
	value, err := t.get(key)
	if err != nil {
		return objectRecord{}, err
	}
	r, err := decodeObject(value)
	if err != nil {
		return r, t.s.unreadable(fmt.Sprintf("%x", key), err)
	}
	return r, nil
}

// address reads the record of an address; the zero record: there is none.
func (t *tx) address(a string) (addressRecord, error) {
	key := addressKey(a)
	value, err := t.get(key)
	if err != nil {
		return addressRecord{}, err
	}
	r, err := decodeAddress(value)
	if err != nil {
		return r, t.s.unreadable(string(key), err)
	}
	return r, nil
}
