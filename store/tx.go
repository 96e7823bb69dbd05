package store

import (
	"errors"
	"fmt"
	"math"

	"github.com/dgraph-io/badger/v4"
)

// tx writes batches: it fills a Badger transaction, and commits it and begins another
// when three quarters of what one holds are used. It sees its own writes. The totals
// go into every transaction that changed them. Only one tx exists at a time.
type tx struct {
	s       *Store
	txn     *badger.Txn
	totals  totals
	counted bool // totals differ from what is stored
	entries int64
	bytes   int64
	marked  map[*directory]int // change of the number of marked objects
	records map[*directory]*directoryRecord
	ledger  ledger
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
		return fmt.Errorf("store %s: %w", s.config.Dir, ErrReading)
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
	t.txn = t.s.db.NewTransactionAt(math.MaxUint64, true)
	t.totals, t.counted = t.s.totals.Load().clone(), false
	t.entries, t.bytes = 0, 0
	t.marked, t.records = map[*directory]int{}, map[*directory]*directoryRecord{}
	t.ledger = ledger{}
}

// flush commits what was written so far, if anything, and begins the next batch.
func (t *tx) flush() error {
	if t.counted {
		if err := t.put([]byte(keyTotals), t.totals.encode()); err != nil {
			return err
		}
	}
	if t.entries == 0 {
		return nil
	}
	if err := t.s.checkSpace(); err != nil {
		return err
	}
	t.s.census.release(t.ledger)
	if err := t.txn.CommitAt(t.s.writer.ts+1, nil); err != nil {
		return fmt.Errorf("store %s: commit: %w", t.s.config.Dir, err)
	}
	t.s.writer.ts++
	t.s.census.enter(t.ledger, t.s.writer.ts)
	t.publish()
	t.s.show(t.s.writer.ts)
	t.s.writer.commits++
	if t.s.config.afterCommit != nil {
		t.s.config.afterCommit(t.s.writer.commits)
	}
	t.begin()
	return nil
}

// publish makes what is kept in memory agree with what was committed.
func (t *tx) publish() {
	committed := t.totals
	t.s.totals.Store(&committed)
	t.s.state.Lock()
	defer t.s.state.Unlock()
	for d, n := range t.marked {
		d.marked += n
	}
	for d, record := range t.records {
		d.record = *record
	}
}

// reserve commits unless so many entries and octets still fit, so that what belongs
// together gets into one batch.
func (t *tx) reserve(entries, bytes int64) error {
	if t.entries == 0 || t.fits(entries, bytes) {
		return nil
	}
	return t.flush()
}

func (t *tx) fits(entries, bytes int64) bool {
	return 4*(t.entries+entries) < 3*t.s.db.MaxBatchCount() && 4*(t.bytes+bytes) < 3*t.s.db.MaxBatchSize()
}

func (t *tx) get(key []byte) ([]byte, error) { return t.s.getIn(t.txn, key, t.ledger) }

func (t *tx) set(key, value []byte) error {
	if err := t.reserve(1, int64(len(key)+len(value))); err != nil {
		return err
	}
	return t.put(key, value)
}

func (t *tx) put(key, value []byte) error {
	t.spend(key, value)
	t.s.census.note(t.ledger, key, true)
	return t.failed(t.txn.Set(key, value))
}

func (t *tx) delete(key []byte) error {
	if err := t.reserve(1, int64(len(key))); err != nil {
		return err
	}
	t.spend(key, nil)
	t.s.census.note(t.ledger, key, false)
	return t.failed(t.txn.Delete(key))
}

// spend counts an entry with Badger's own overhead for it.
func (t *tx) spend(key, value []byte) {
	t.entries++
	t.bytes += int64(len(key)+len(value)) + 32
}

func (t *tx) failed(err error) error {
	if errors.Is(err, badger.ErrTxnTooBig) {
		return fmt.Errorf("store %s: one object has more addresses than fit a transaction: %w", t.s.config.Dir, err)
	}
	return err
}

// object, address and their setters read and write records, and keep the totals.

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

func (t *tx) setObject(dir dirID, guid GUID, before, after *objectRecord) error {
	t.totals.replaceObject(dir, before, after)
	t.counted = true
	if after.empty() {
		return t.delete(objectKey(dir, guid))
	}
	return t.set(objectKey(dir, guid), after.encode())
}

// changeAddress reads an address record, lets change edit it, and writes it back.
func (t *tx) changeAddress(a string, change func(*addressRecord)) error {
	value, err := t.get(addressKey(a))
	if err != nil {
		return err
	}
	before, err := decodeAddress(value)
	if err != nil {
		return t.s.unreadable(string(addressKey(a)), err)
	}
	after := before
	after.owners = append([]owner(nil), before.owners...)
	change(&after)
	t.totals.replace(a, &before, &after)
	t.counted = true
	return t.set(addressKey(a), after.encode())
}
