package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/internal/clock"
)

// journalRecord is the value of a j/ key: an object gained or lost an address, for all senders
// or for outside senders.
type journalRecord struct {
	time    time.Time
	added   bool
	dir     dirID
	guid    GUID
	dn      string
	address string
	origin  originID // the database that showed it
	usn     uint64   // of the object there; zero means that a full pass did not see the object
	// Of a loss, what the object's record no longer has:
	learned      time.Time // when the address was learned
	internalOnly bool
	outsideOnly  bool // only outside senders gained or lost the address
}

func (r *journalRecord) encode() []byte {
	e := newEncoder()
	e.time(r.time)
	e.bool(r.added)
	e.uint(uint64(r.dir))
	e.raw(r.guid[:])
	e.string(r.dn)
	e.string(r.address)
	e.uint(uint64(r.origin))
	e.uint(r.usn)
	e.time(r.learned)
	e.journalFlags(r)
	return e
}

func decodeJournal(value []byte) (journalRecord, error) {
	d := newDecoder(value)
	r := journalRecord{time: d.time(), added: d.bool(), dir: dirID(d.uint())}
	copy(r.guid[:], d.raw(uint64(len(r.guid))))
	r.dn, r.address = d.string(), d.string()
	if d.err == nil && len(d.rest) > 0 { // rows of the first versions end here
		r.origin, r.usn, r.learned = originID(d.uint()), d.uint(), d.time()
		r.internalOnly, r.outsideOnly = d.journalFlags()
	}
	return r, d.done()
}

func (e *encoder) journalFlags(r *journalRecord) {
	var b byte
	if r.internalOnly {
		b |= 1
	}
	if r.outsideOnly {
		b |= 2
	}
	*e = append(*e, b)
}

func (d *decoder) journalFlags() (internalOnly, outsideOnly bool) {
	b := d.raw(1)
	if len(b) != 1 || b[0] > 3 {
		d.fail()
		return false, false
	}
	return b[0]&1 != 0, b[0]&2 != 0
}

// journal writes one row and adds it to the rows of its address. The first full pass of a
// directory writes none, because every address would get one.
func (p *Pass) journal(t *tx, u *unit, r journalRecord) error {
	if p.first {
		return nil
	}
	seq := p.seq
	p.seq++
	u.set(journalKey(p.info.Number, seq), r.encode())
	key := byAddressKey(r.address, p.info.Number)
	e, err := t.get(key)
	if err != nil {
		return err
	}
	if e == nil {
		e = newEncoder()
	}
	rows := encoder(e)
	rows.uint(uint64(seq))
	u.set(key, rows)
	return nil
}

// nextRow returns the number after the last journal row of a pass.
func (s *Store) nextRow(pass uint64) (uint32, error) {
	key, _, err := s.seek(prefixJournal, journalKey(pass, math.MaxUint32), true)
	if err != nil || key == nil || passOf(key) != pass {
		return 0, err
	}
	return binary.BigEndian.Uint32(key[len(prefixJournal)+8:]) + 1, nil
}

// Event is one row of the journal: an object gained or lost an address, for all senders or for
// outside senders.
type Event struct {
	Time         time.Time // of a gain when the object was read, of a loss when it took effect
	Pass         uint64
	Added        bool // false means removed
	Address      address.Address
	Directory    string
	GUID         GUID
	DN           string
	Controller   string    // the domain controller that showed it; empty means no longer known
	USN          uint64    // uSNChanged of the object there; zero means that a full pass did not see the object
	Learned      time.Time // of a loss: when the address was learned; zero means long ago
	InternalOnly bool      // of a loss: the object accepted mail from internal senders only
	OutsideOnly  bool      // the object had the address before and after: only outside senders gained or lost it
}

// History returns the journal of one address, oldest first, as far back as the journal reaches.
func (s *Store) History(a address.Address) ([]Event, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	defer v.done()
	return v.history(a)
}

func (r reader) history(a address.Address) ([]Event, error) {
	prefix := append(append([]byte(prefixByAddress), a.String()...), 0)
	events, names := []Event(nil), passNames{r: r}
	err := r.scan(prefix, false, func(kv pair) error {
		if len(kv.key) != len(prefix)+8 {
			return nil
		}
		pass := binary.BigEndian.Uint64(kv.key[len(prefix):])
		d := newDecoder(kv.value)
		for d.err == nil && len(d.rest) > 0 {
			row := journalKey(pass, uint32(d.uint()))
			value, err := r.get(row)
			if err != nil || value == nil {
				return err
			}
			event, err := names.event(pair{row, value})
			if err != nil {
				return err
			}
			events = append(events, event)
		}
		return d.err
	})
	return events, err
}

// JournalQuery selects rows of the journal. The zero value selects all.
type JournalQuery struct {
	Since time.Time // not older than this
	Pass  uint64    // of this pass only; zero means all
}

// Journal visits rows in the order of passes and, within a pass, in the order they were written.
// All rows are of one commit. An error from visit stops it and is returned. Close waits for it.
// The first full pass of a directory has no rows.
func (s *Store) Journal(q JournalQuery, visit func(Event) error) error {
	v, err := s.view()
	if err != nil {
		return err
	}
	defer v.done()
	prefix := []byte(prefixJournal)
	if q.Pass != 0 {
		prefix = binary.BigEndian.AppendUint64(prefix, q.Pass)
	}
	names := passNames{r: v}
	return v.scan(prefix, false, func(kv pair) error {
		event, err := names.event(kv)
		if err != nil || event.Time.Before(q.Since) {
			return err
		}
		return visit(event)
	})
}

// passNames turns rows into events. For a directory that no longer exists it reads the name from
// the row of the pass, and caches the last one.
type passNames struct {
	r    reader
	pass PassInfo
}

func (n *passNames) event(row pair) (Event, error) {
	r, err := decodeJournal(row.value)
	if err != nil {
		return Event{}, n.r.s.unreadable(fmt.Sprintf("%x", row.key), err)
	}
	e := Event{Time: r.time, Pass: passOf(row.key), Added: r.added, Address: parse(r.address), GUID: r.guid, DN: r.dn,
		USN: r.usn, Learned: r.learned, InternalOnly: r.internalOnly, OutsideOnly: r.outsideOnly}
	if e.Directory, e.Controller = n.r.s.originOf(r.dir, r.origin); e.Directory != "" {
		return e, nil
	}
	if n.pass.Number != e.Pass {
		value, err := n.r.get(passKey(e.Pass))
		if err != nil {
			return e, err
		}
		n.pass = PassInfo{Number: e.Pass, Directory: fmt.Sprintf("directory %d", r.dir)}
		if d := newDecoder(value); value != nil {
			n.pass = d.pass()
		}
	}
	e.Directory, e.Controller = n.pass.Directory, n.pass.Controller
	return e, nil
}

// JournalFrom returns the time from which on the journal is complete. Zero means that nothing
// was ever pruned. If rows were pruned while the clock was ahead, the journal is complete from
// the first pass since with a possible time.
func (s *Store) JournalFrom() (time.Time, error) {
	v, err := s.view()
	if err != nil {
		return time.Time{}, err
	}
	defer v.done()
	return v.journalFrom()
}

func (r reader) journalFrom() (time.Time, error) {
	value, err := r.get([]byte(keyPruned))
	if err != nil || value == nil {
		return time.Time{}, err
	}
	d := newDecoder(value)
	at := d.time()
	if err := d.done(); err != nil {
		return at, r.s.unreadable(keyPruned, err)
	}
	now := r.s.config.Now()
	if clock.Believable(at, now) {
		return at, nil
	}
	first, err := r.firstBelievable(now) // the remaining rows begin before that
	if err == nil && first.IsZero() {
		first = now
	}
	return first, err
}

// Prune deletes the journal rows of all passes up to the last one that is older than a time, and
// with them the tombstones of the addresses they removed. The caller decides the retention. The time
// must be older than any removal grace. The order of passes decides, so rows that were written while the clock was
// wrong do not stop it. Prune returns the number of deleted rows.
func (s *Store) Prune(before time.Time) (int, error) {
	rows, err := s.lastOldJournalPass(before)
	if err != nil {
		return 0, err
	}
	if rows > 0 {
		if err := s.notePruned(before); err != nil {
			return 0, err
		}
	}
	pruned, err := s.deleteUpTo(prefixJournal, rows, (*tx).prune)
	if err != nil {
		return pruned, err
	}
	passes, err := s.lastOldPass(before)
	if err != nil {
		return pruned, err
	}
	_, err = s.deleteUpTo(prefixPass, passes, func(t *tx, kv pair) error { return t.delete(kv.key) })
	return pruned, err
}

// notePruned records from when on the journal is complete, never earlier than before.
func (s *Store) notePruned(before time.Time) error {
	from, err := s.newest().journalFrom()
	if err != nil {
		return err
	}
	if from.After(before) {
		before = from
	}
	return s.write(func(t *tx) error {
		e := newEncoder()
		e.time(before)
		return t.set([]byte(keyPruned), e)
	})
}

// deleteUpTo deletes the rows under a prefix up to those of a pass, in small batches, and counts
// them.
func (s *Store) deleteUpTo(prefix string, pass uint64, drop func(*tx, pair) error) (int, error) {
	var batch []pair
	dropped := 0
	flush := func() error {
		err := writeInChunks(s, batch, drop)
		if err == nil {
			dropped += len(batch)
		}
		batch = batch[:0]
		return err
	}
	err := s.scan([]byte(prefix), false, func(kv pair) error {
		if passOf(kv.key) > pass {
			return errStopScan
		}
		if batch = append(batch, kv); len(batch) < writeChunk {
			return nil
		}
		return flush()
	})
	if err = ignoreStop(err); err == nil && len(batch) > 0 {
		err = flush()
	}
	return dropped, err
}

// errStopScan ends a scan early.
var errStopScan = fmt.Errorf("store: stop")

// passOf returns the pass in the key of a pass or of a journal row.
func passOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(prefixJournal):]) }

func (t *tx) prune(kv pair) error {
	r, err := decodeJournal(kv.value)
	if err != nil {
		return t.s.unreadable(fmt.Sprintf("%x", kv.key), err)
	}
	pass := passOf(kv.key)
	if err := t.delete(kv.key); err != nil {
		return err
	}
	if err := t.delete(byAddressKey(r.address, pass)); err != nil {
		return err
	}
	if r.added {
		return nil
	}
	value, err := t.get(addressKey(r.address))
	if err != nil || value == nil {
		return err
	}
	a, err := decodeAddress(value)
	if err != nil || a.known() || a.pass != pass {
		return err
	}
	return t.delete(addressKey(r.address))
}

func ignoreStop(err error) error {
	if err == errStopScan {
		return nil
	}
	return err
}
