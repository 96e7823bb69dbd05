package store

// A unit is what must be committed together: entries, their change of the totals, and what
// changes in memory after the commit.
type unit struct {
	entries   []pair // a nil value deletes the key
	bytes     int64
	delta     totalsDelta
	committed []func() // called with the state locked
	claimedBy *Pass    // the pass of which it has what goes with the first change
}

func (u *unit) set(key, value []byte) {
	u.entries = append(u.entries, pair{key, value})
	u.bytes += entrySize(key, value)
}

func (u *unit) delete(key []byte) { u.set(key, nil) }

// setDirectory replaces the record of a directory, on disk and in memory.
func (u *unit) setDirectory(name string, d *directory, record directoryRecord) {
	u.set([]byte(prefixDirectory+name), record.encode())
	u.afterCommit(func() { d.record = record })
}

// afterCommit registers a function to call after the commit, with the state locked.
func (u *unit) afterCommit(f func()) { u.committed = append(u.committed, f) }

// entrySize returns the size of an entry in a transaction, rounded up.
func entrySize(key, value []byte) int64 {
	n := entryOverhead + int64(len(key))
	if len(value) < valueThreshold {
		return n + int64(len(value))
	}
	return n + valuePointerSize
}

// valuePointerSize is the size of a pointer to a value in the value log.
const valuePointerSize = 12

// entryOverhead is the size of an entry without its key and value. Badger counts 12 bytes; its
// log adds up to 26.
const entryOverhead = 32

// totalsSize limits the size of the entries m/totals and m/commit, which are part of each batch.
const (
	totalsSize    = 192
	totalsEntries = 2
)

// fits reports whether a unit and its counts fit the rest of the transaction.
func (t *tx) fits(u *unit) bool {
	entries, bytes := t.delta.newKeys(&u.delta)
	return t.within(t.entries+t.counts+entries+int64(len(u.entries)), t.bytes+t.countBytes+bytes+u.bytes)
}

// fitsAlone reports whether a unit fits a transaction of its own.
func (t *tx) fitsAlone(u *unit) bool {
	entries, bytes := new(totalsDelta).newKeys(&u.delta)
	return t.within(entries+int64(len(u.entries)), bytes+u.bytes)
}

// within limits a transaction to three quarters of its capacity, including m/totals and m/commit.
func (t *tx) within(entries, bytes int64) bool {
	return 4*(entries+totalsEntries) < 3*t.s.db.MaxBatchCount() && 4*(bytes+totalsSize) < 3*t.s.db.MaxBatchSize()
}

// add puts a unit into the transaction. If the unit does not fit, add commits the transaction
// first and begins the next one with the unit.
func (t *tx) add(u *unit) error {
	if t.entries > 0 && !t.fits(u) {
		if err := t.flush(); err != nil {
			return err
		}
	}
	entries, bytes := t.delta.newKeys(&u.delta)
	t.counts += entries
	t.countBytes += bytes
	t.delta.add(&u.delta)
	t.committed = append(t.committed, u.committed...)
	if u.claimedBy != nil {
		t.claimedBy = u.claimedBy
	}
	for _, e := range u.entries {
		if err := t.put(e.key, e.value); err != nil {
			return err
		}
	}
	return nil
}
