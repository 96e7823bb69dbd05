package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/dgraph-io/badger/v4"

	"rcpt-milter/address"
)

// journalRecord is the value of a j/ key: an object gained or lost an address.
type journalRecord struct {
	time    time.Time
	added   bool
	dir     dirID
	guid    GUID
	dn      string
	address string
	origin  originID // the database that said so
	usn     uint64   // of the object there; zero: a full pass did not see the object
	// Of a loss, what the object's record does not tell any more:
	learned    time.Time // when the address was learned
	restricted bool
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
	e.bool(r.restricted)
	return e
}

func decodeJournal(value []byte) (journalRecord, error) {
	d := newDecoder(value)
	r := journalRecord{time: d.time(), added: d.bool(), dir: dirID(d.uint())}
	copy(r.guid[:], d.raw(uint64(len(r.guid))))
	r.dn, r.address = d.string(), d.string()
	if d.err == nil && len(d.rest) > 0 { // rows of the first days end here
		r.origin, r.usn, r.learned, r.restricted = originID(d.uint()), d.uint(), d.time(), d.bool()
	}
	return r, d.done()
}

// journal writes one row, and the way to it from its address. The first full pass of a
// directory writes none: it would say of every address that it was not there before.
func (p *Pass) journal(t *tx, r journalRecord) error {
	if p.first {
		return nil
	}
	seq := p.seq
	p.seq++
	if err := t.set(journalKey(p.info.Number, seq), r.encode()); err != nil {
		return err
	}
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
	return t.set(key, rows)
}

// nextRow is the journal row after the last one of a pass.
func (s *Store) nextRow(pass uint64) (row uint32, err error) {
	defer s.recovered(&err)
	prefix := journalKey(pass, 0)[:len(prefixJournal)+8]
	txn := s.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, Reverse: true})
	defer it.Close()
	it.Seek(journalKey(pass, math.MaxUint32))
	if !it.ValidForPrefix(prefix) {
		return 0, nil
	}
	key := it.Item().Key()
	return binary.BigEndian.Uint32(key[len(prefix):]) + 1, nil
}

// Event is one row of the journal: an object gained an address or lost it.
type Event struct {
	Time       time.Time // of a gain when its pass began, of a loss when it took effect
	Pass       uint64
	Added      bool // false: removed
	Address    address.Address
	Directory  string
	GUID       GUID
	DN         string
	Controller string    // the domain controller that said so; empty: not known any more
	USN        uint64    // uSNChanged of the object there; zero: a full pass did not see the object
	Learned    time.Time // of a loss: when the address was learned; zero: long ago
	Restricted bool      // of a loss: the object took mail from inside senders only
}

// History gives the journal of one address, oldest first, as far back as it is kept.
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

// JournalQuery chooses rows of the journal. The zero value: all.
type JournalQuery struct {
	Since time.Time // not older
	Pass  uint64    // of this pass only; zero: of all
}

// Journal visits rows in the order of passes and, within a pass, as they were written.
// All are of one commit. An error of visit ends it and is returned. Close waits for it.
// The first full pass of a directory wrote no rows.
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

// passNames makes events of rows. Of a directory that is not known any more it looks
// the name up in the row of the pass, and remembers the last one.
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
		USN: r.usn, Learned: r.learned, Restricted: r.restricted}
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

// JournalFrom is the time from which on the journal is whole; zero: nothing was ever
// dropped.
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
	return at, nil
}

// Prune drops journal rows older than a time, and with them the tombstones of the
// addresses they removed; keep the time before any removal grace. It reports how many
// rows went.
func (s *Store) Prune(before time.Time) (int, error) {
	pruned := 0
	var old []pair
	collect := func(kv pair) error {
		d := newDecoder(kv.value)
		if at := d.time(); d.err == nil && !at.Before(before) {
			return errStop
		}
		old = append(old, kv)
		return nil
	}
	if err := s.scan([]byte(prefixJournal), false, collect); err != nil && err != errStop {
		return 0, err
	}
	if len(old) > 0 {
		err := s.write(func(t *tx) error {
			e := newEncoder()
			e.time(before)
			return t.set([]byte(keyPruned), e)
		})
		if err != nil {
			return 0, err
		}
	}
	for len(old) > 0 {
		chunk := old[:min(len(old), sweepChunk)]
		old = old[len(chunk):]
		err := s.write(func(t *tx) error {
			for _, kv := range chunk {
				if err := t.prune(kv); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return pruned, err
		}
		pruned += len(chunk)
	}
	return pruned, s.prunePasses(before)
}

// errStop ends a scan early.
var errStop = fmt.Errorf("store: stop")

func passOf(journal []byte) uint64 { return binary.BigEndian.Uint64(journal[len(prefixJournal):]) }

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

// prunePasses drops the rows of passes that ended before a time.
func (s *Store) prunePasses(before time.Time) error {
	var old [][]byte
	err := s.scan([]byte(prefixPass), false, func(kv pair) error {
		d := newDecoder(kv.value)
		if p := d.pass(); d.err == nil && !p.Ended.Before(before) {
			return errStop
		}
		old = append(old, kv.key)
		return nil
	})
	if err != nil && err != errStop || len(old) == 0 {
		return ignoreStop(err)
	}
	return s.write(func(t *tx) error {
		for _, key := range old {
			if err := t.delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

func ignoreStop(err error) error {
	if err == errStop {
		return nil
	}
	return err
}
