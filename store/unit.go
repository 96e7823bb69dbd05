package store

// A unit is what must be committed together or not at all: entries, what they change in
// the totals, and what they change in memory once they are committed.
type unit struct {
	entries    []pair // a nil value deletes the key
	bytes      int64
	delta      totalsDelta
	committed  []func() // called with the state locked
	fullPassOf *Pass    // a full pass that it makes owed
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

// then has a function called after the commit, with the state locked.
func (u *unit) afterCommit(f func()) { u.committed = append(u.committed, f) }

// entrySize is what an entry takes of a transaction, rather too much than too little.
func entrySize(key, value []byte) int64 {
	n := entryOverhead + int64(len(key))
	if len(value) < valueThreshold {
		return n + int64(len(value))
	}
	return n + valuePointerSize
}

// valuePointerSize is the size of what stands for a value in the value log.
const valuePointerSize = 12

// entryOverhead is what an entry takes besides its key and value. Badger counts 12 bytes;
// in its log an entry has up to 26 more than those.
const entryOverhead = 32

// totalsSize bounds the entry of m/totals.
const totalsSize = 128

// fits reports whether a unit fits what is left of the transaction, counts included.
func (t *tx) fits(u *unit) bool {
	entries, bytes := t.delta.newKeys(&u.delta)
	return t.within(t.entries+t.counts+entries+int64(len(u.entries)), t.bytes+t.countBytes+bytes+u.bytes)
}

// fitsAlone reports whether a unit fits a transaction of its own.
func (t *tx) fitsAlone(u *unit) bool {
	entries, bytes := new(totalsDelta).newKeys(&u.delta)
	return t.within(entries+int64(len(u.entries)), bytes+u.bytes)
}

// within keeps to three quarters of what a transaction holds, m/totals included.
func (t *tx) within(entries, bytes int64) bool {
	return 4*(entries+1) < 3*t.s.db.MaxBatchCount() && 4*(bytes+totalsSize) < 3*t.s.db.MaxBatchSize()
}

// add puts a unit into the transaction. If it does not fit what is left, the transaction
// is committed first, and the unit begins the next one.
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
	if u.fullPassOf != nil {
		t.fullPassOf = u.fullPassOf
	}
	for _, e := range u.entries {
		if err := t.put(e.key, e.value); err != nil {
			return err
		}
	}
	return nil
}
