package store

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// tx writes batches of units. If the next unit does not fit, it commits and begins another
// Badger transaction, never in the middle of a unit: every state on disk is sound. It sees the
// units that it has written. Every transaction includes the changed counts. Only one tx exists
// at a time.
type tx struct {
	s          *Store
	txn        *badger.Txn
	delta      totalsDelta
	committed  []func()
	claimedBy  *Pass // the pass that has written what goes with its first change
	entries    int64 // entries in the transaction
	bytes      int64 // their size: see entrySize
	counts     int64 // entries of the changed counts
	countBytes int64
	ledger     ledger
}

// write runs f under the writer lock and commits what f wrote. If f or a commit fails, the
// batches that were committed before stay.
func (s *Store) write(f func(*tx) error) error {
	if err := s.prepareWrite(); err != nil {
		return err
	}
	s.writer.Lock()
	defer s.writer.Unlock()
	switch why := s.gate.Load(); {
	case s.closed.Load():
		return ErrClosed
	case why != nil:
		return *why
	case s.readOnly:
		return fmt.Errorf("store %s: %w", s.config.Dir, ErrReadOnly)
	case s.reopenDue.Load(): // a commit has failed since
		return fmt.Errorf("store %s: %w", s.config.Dir, errReopening)
	}
	if s.damaged.Load() {
		return fmt.Errorf("store %s: %w; %s", s.config.Dir, ErrDamaged, damageAdvice)
	}
	t := &tx{s: s}
	t.begin()
	defer func() { t.txn.Discard() }()
	if s.writer.newDoubt {
		if err := t.set([]byte(keyDoubt), s.doubtsValue()); err != nil {
			return err
		}
	}
	if err := f(t); err != nil {
		return err
	}
	return t.flush()
}

// writeChunk limits how many items are written under one hold of the writer lock.
const writeChunk = 500

// writeInChunks calls write for each item. It releases the writer lock between chunks, so writers
// of other directories have their turn. Chunks before an error stay written.
func writeInChunks[T any](s *Store, items []T, write func(*tx, T) error) error {
	for chunk := range slices.Chunk(items, writeChunk) {
		err := s.write(func(t *tx) error {
			for _, item := range chunk {
				if err := write(t, item); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) begin() {
	*t = tx{s: t.s, txn: t.s.db.NewTransactionAt(math.MaxUint64, true), ledger: ledger{}}
}

// flush commits what was written, if anything, and begins the next batch.
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
	sum := t.s.census.sumAfter(t.ledger, t.s.writer.ts+1)
	if err := t.put([]byte(keyCommit), commitValue(sum)); err != nil {
		return err
	}
	t.s.writer.ts++
	t.s.census.announce(t.ledger)
	released := t.s.census.removeDeleted(t.ledger)
	t.s.unsettled.Store(true)
	failed := t.commit()
	t.s.unsettled.Store(failed != nil && !errors.Is(failed, badger.ErrTxnTooBig))
	if failed != nil {
		failed = fmt.Errorf("store %s: commit: %w", t.s.config.Dir, failed)
		if !errors.Is(failed, badger.ErrTxnTooBig) { // Badger has rejected that one as a whole
			t.s.reopenDue.Store(true)
			_, _ = t.s.checkWritable(), t.s.checkCreate() // for Health
		}
		if !t.tookEffect() {
			t.s.census.restore(released)
			return failed
		}
	} else {
		t.s.commitFile.write(committed{t.s.writer.ts, t.s.lastReads()})
	}
	t.s.census.write(t.ledger, t.s.writer.ts)
	t.s.census.sum = sum
	t.s.writer.newDoubt = false
	t.publish(&after)
	t.s.publishCommit(t.s.writer.ts)
	t.s.writer.commits++
	if t.s.config.afterCommit != nil {
		t.s.config.afterCommit(t.s.writer.commits)
	}
	t.begin()
	return failed
}

// commit commits the transaction. A panic counts as an error, so the store is opened again.
func (t *tx) commit() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return t.s.config.commit(t.txn, t.s.writer.ts)
}

// tookEffect reports whether a failed commit is in effect nevertheless: Badger could not write
// its log to disk, but answers from it. The state in memory then has to follow until the store
// is reopened. The disk decides then.
func (t *tx) tookEffect() bool {
	var wrote uint64
	_ = func() (err error) {
		defer t.s.catchFaults(&err)()
		txn := t.s.db.NewTransactionAt(math.MaxUint64, false)
		defer txn.Discard()
		wrote, err = t.s.getItem(txn, []byte(keyCommit), func([]byte) error { return nil })
		return err
	}()
	return wrote == t.s.writer.ts
}

// publish updates the state in memory after a commit.
func (t *tx) publish(after *totals) {
	t.s.totals.Store(after)
	t.s.state.Lock()
	defer t.s.state.Unlock()
	for _, f := range t.committed {
		f()
	}
}

func (t *tx) get(key []byte) ([]byte, error) { return t.s.getInTxn(t.txn, key, t.ledger) }

// set writes a single entry.
func (t *tx) set(key, value []byte) error {
	var u unit
	u.set(key, value)
	return t.add(&u)
}

// delete deletes a single entry.
func (t *tx) delete(key []byte) error {
	var u unit
	u.delete(key)
	return t.add(&u)
}

// put adds an entry to the transaction. A nil value deletes the key.
func (t *tx) put(key, value []byte) error {
	t.entries++
	t.bytes += entrySize(key, value)
	t.s.census.record(t.ledger, key, value)
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

// object reads the record of an object. The zero record means that there is none.
func (t *tx) object(dir dirID, guid GUID) (objectRecord, error) {
	key := objectKey(dir, guid)
	value, err := t.get(key)
	if err != nil {
		return objectRecord{}, err
	}
	if isSplit(value) {
		return t.s.decodeParts(key, value, t.get)
	}
	return t.s.decodeObject(key, value)
}

// address reads the record of an address. The zero record means that there is none.
func (t *tx) address(a string) (addressRecord, error) {
	key := addressKey(a)
	value, err := t.get(key)
	if err != nil {
		return addressRecord{}, err
	}
	return t.s.decodeAddress(key, value)
}
