package store

import (
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
}

func (r *journalRecord) encode() []byte {
	e := newEncoder()
	e.time(r.time)
	e.bool(r.added)
	e.uint(uint64(r.dir))
	e.raw(r.guid[:])
	e.string(r.dn)
	e.string(r.address)
	return e
}

func decodeJournal(value []byte) (journalRecord, error) {
	d := newDecoder(value)
	r := journalRecord{time: d.time(), added: d.bool(), dir: dirID(d.uint())}
	copy(r.guid[:], d.raw(uint64(len(r.guid))))
	r.dn, r.address = d.string(), d.string()
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
func (s *Store) nextRow(pass uint64) (uint32, error) {
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
	return uint32(key[len(key)-4])<<24 | uint32(key[len(key)-3])<<16 | uint32(key[len(key)-2])<<8 | uint32(key[len(key)-1]) + 1, nil
}

// Event is one line of an address's history: an object gained it or lost it.
type Event struct {
	Time      time.Time
	Pass      uint64
	Added     bool // false: removed
	Directory string
	GUID      GUID
	DN        string
}

// History gives the journal of one address, oldest first, as far back as it is kept.
func (s *Store) History(a address.Address) ([]Event, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	prefix := append(append([]byte(prefixByAddress), a.String()...), 0)
	var events []Event
	err := s.scan(prefix, false, func(kv pair) error {
		if len(kv.key) != len(prefix)+8 {
			return nil
		}
		d := newDecoder(kv.value)
		for d.err == nil && len(d.rest) > 0 {
			row := append([]byte(prefixJournal), kv.key[len(prefix):]...)
			seq := uint32(d.uint())
			row = append(row, byte(seq>>24), byte(seq>>16), byte(seq>>8), byte(seq))
			value, err := s.get(row)
			if err != nil || value == nil {
				return err
			}
			r, err := decodeJournal(value)
			if err != nil {
				return s.unreadable(fmt.Sprintf("%x", row), err)
			}
			events = append(events, s.event(passOf(row), r))
		}
		return d.err
	})
	return events, err
}

func (s *Store) event(pass uint64, r journalRecord) Event {
	return Event{Time: r.time, Pass: pass, Added: r.added, Directory: s.nameOf(r.dir), GUID: r.guid, DN: r.dn}
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

func passOf(journal []byte) uint64 {
	var n uint64
	for _, b := range journal[len(prefixJournal) : len(prefixJournal)+8] {
		n = n<<8 | uint64(b)
	}
	return n
}

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
