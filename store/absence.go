package store

import (
	"bytes"
	"sync/atomic"
)

// Most lookups are answered from memory. Unknown recipients are the most frequent lookups during a spam
// run. Badger searches all its levels for them; for a known recipient it decompresses a block. The census
// has a row for every record of an address. So an address without a row has no record, and a bit of
// the row says that outside senders may write to the address: it is open. For any other row Badger
// answers; if it finds no record, or an older one, the store is damaged.
//
// A row that is missing by mistake would reject a valid recipient. Therefore:
//
//   - Before a commit, the census gets a row for every key that the commit writes. The row stays
//     whatever becomes of the commit: one that fails may be in effect, or in part.
//   - A row is removed only with the tombstone of an address, which means unknown anyway.
//   - The census answers only if it was read from as many known addresses as the totals say.
//     Verify compares again and ends that trust at the first row that is missing or differs.
//
// A bit that is set by mistake accepts an unknown recipient, and one that is missing costs time. It
// follows each commit that is in effect; a commit that may be in effect in part ends with reading
// the census again.

// absence tells whether a census may answer for Badger. The zero value says no.
type absence struct {
	known atomic.Int64 // known addresses among the records that the census was read from
	sound atomic.Bool
}

// count counts the record of an address.
func (a *absence) count(value []byte) error {
	if newDecoder(value).count() > 0 {
		a.known.Add(1)
	}
	return nil
}

// checkAbsence lets the census answer if it was read from all known addresses.
func (s *Store) checkAbsence(t *totals) {
	if s.census == nil {
		return
	}
	known := s.census.absence.known.Load()
	s.census.absence.sound.Store(known == t.addresses)
	if known != t.addresses {
		s.config.Log.Warn("lookups do not use the index of addresses in memory: it differs from the totals",
			"read", known, "addresses", t.addresses)
	}
}

// checkSeen ends the trust in the census if its row of a record is missing, or only one of the two is
// open. The record is that of a reader at a commit; a row that was written later proves nothing.
func (s *Store) checkSeen(key []byte, record *addressRecord, at uint64) {
	c := s.census
	if c == nil || !c.absence.sound.Load() {
		return
	}
	row, ok := c.row(key)
	if !ok && !record.known() || ok && (uint64(row.commit) > at || row.open() == record.open()) {
		return
	}
	if c.absence.sound.Swap(false) {
		s.config.Log.Error("lookups no longer use the index of addresses in memory: it differs from the records",
			"address", string(key[len(prefixAddress):]), "missing", !ok)
	}
}

// isOpenAddress reports whether an entry is the record of an address that outside senders may write
// to. It is not for a record that cannot be read: Badger then answers, with an error.
func isOpenAddress(key, value []byte) bool {
	if value == nil || !bytes.HasPrefix(key, []byte(prefixAddress)) {
		return false
	}
	record, err := decodeAddress(value)
	return err == nil && record.open()
}

// A memoryAnswer is what the census says of an address.
type memoryAnswer int

const (
	askBadger memoryAnswer = iota
	neverSeen              // it certainly has no record
	openToAll              // it is known, and outside senders may write to it
)

// fromMemory answers for an address from memory. It returns an error if the store is closed.
func (s *Store) fromMemory(a string) (memoryAnswer, error) {
	if err := s.beginRead(); err != nil {
		return askBadger, err
	}
	defer s.endRead()
	if s.census == nil || !s.census.absence.sound.Load() {
		return askBadger, nil
	}
	var buffer [maxAddressKey]byte
	row, ok := s.census.row(append(append(buffer[:0], prefixAddress...), a...))
	switch {
	case !ok:
		return neverSeen, nil
	case row.open():
		return openToAll, nil
	}
	return askBadger, nil
}

// spotCheckEvery is how many answers from memory there are for each that Badger confirms.
const spotCheckEvery = 256

// spotCheck reads the record of an open address now and then, because a file that is damaged while
// nothing reads it stays unnoticed until the next verification. It does not change the answer.
func (s *Store) spotCheck(a string) {
	if s.openAnswers.Add(1)%spotCheckEvery == 0 {
		_, _ = s.addressRecord(a) // a hidden or unreadable record marks the store as damaged
	}
}

// maxAddressKey is enough for the key of any address; a longer one is allocated.
const maxAddressKey = 640
