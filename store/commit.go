package store

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Outcome says how a completed pass ends.
type Outcome struct {
	Cursor      []byte    // where the next incremental pass begins; opaque here
	USN         uint64    // the same for people: what highestCommittedUSN was
	Fingerprint string    // of the rules that were applied
	Ended       time.Time // when the pass ended; removed addresses count their grace from here
	Hold        string    // why removals are held back; empty: release them
	// HoldDomains holds the removals of these domains only, at most MaxHeldDomains; the
	// others are released. Hold is then the reason in one line.
	HoldDomains []HeldDomain
}

// redoRecord is the value of an r/ key: a pass that is decided and will be finished,
// whatever happens to the process.
type redoRecord struct {
	info        PassInfo
	cursor      []byte
	fingerprint string
	upTo        uint64 // of an approval; 0: all
	laterHold   string // see Pass
	held        heldDomains
}

func (r *redoRecord) encode() []byte {
	e := newEncoder()
	e.pass(&r.info)
	e.string(string(r.cursor))
	e.string(r.fingerprint)
	e.uint(r.upTo)
	e.string(r.laterHold)
	e.heldDomains(r.held)
	return e
}

func decodeRedo(value []byte) (redoRecord, error) {
	d := newDecoder(value)
	r := redoRecord{info: d.pass(), cursor: []byte(d.string()), fingerprint: d.string()}
	if d.err == nil && len(d.rest) > 0 { // not in those of the first versions
		r.upTo, r.laterHold = d.uint(), d.string()
	}
	if d.err == nil && len(d.rest) > 0 {
		r.held = d.heldDomains()
	}
	return r, d.done()
}

// Commit ends a completed pass: it releases what is marked as gone, or holds it back,
// and moves the cursor. When it returns without an error all of it is on disk. After an
// error before the decision was written the pass is aborted; after it, the next pass, or
// opening the store, finishes it first.
func (p *Pass) Commit(o Outcome) (PassInfo, error) {
	if p.closed {
		return PassInfo{}, errors.New("store: commit of a pass that has ended")
	}
	defer p.Abort()
	held, err := newHeldDomains(o.HoldDomains)
	if err != nil {
		return PassInfo{}, err
	}
	p.held = held
	p.info.USN, p.info.Hold = o.USN, o.Hold
	p.info.Ended = o.Ended.UTC().Truncate(time.Microsecond)
	return p.decideAndFinish(redoRecord{cursor: o.Cursor, fingerprint: o.Fingerprint, held: held})
}

// conclude decides, releases and finishes.
func (p *Pass) decideAndFinish(redo redoRecord) (PassInfo, error) {
	decided, err := p.countRemovals()
	if err != nil {
		return PassInfo{}, err
	}
	redo.info = p.info
	if decided {
		err := p.s.write(func(t *tx) error {
			u := &unit{}
			p.claimNumber(t, u)
			u.set(dirKey(prefixRedo, p.dir.record.id), redo.encode())
			return t.add(u)
		})
		if err != nil {
			return PassInfo{}, err
		}
		if err := p.release(); err != nil {
			return PassInfo{}, err
		}
	}
	return p.info, p.finish(redo, decided)
}

// judge counts what is marked, as removed or as held, and reports whether there is
// anything to release.
func (p *Pass) countRemovals() (bool, error) {
	owned, err := p.owned(p.upTo)
	if err != nil {
		return false, err
	}
	switch {
	case len(p.held) > 0:
		pending, err := p.Pending()
		if err != nil {
			return false, err
		}
		p.info.Removed, p.info.Held = pending.split(p.held)
	case p.info.Hold != "":
		p.info.Held = owned
	default:
		p.info.Removed = owned
	}
	return p.info.Removed > 0, nil
}

// release takes the marked addresses from their object, in batches. It can be begun
// again at any point.
func (p *Pass) release() error {
	var marked []GUID
	err := p.s.newest().marked(p.dir.record.id, markDue, p.dir.firstDue, p.upTo, func(guid GUID) error {
		marked = append(marked, guid)
		return nil
	})
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(distinctGUIDs(marked), writeChunk) {
		err := p.s.write(func(t *tx) error {
			for _, guid := range chunk {
				if err := p.releaseObject(t, guid); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	p.noteNoneDue()
	return nil
}

func (p *Pass) releaseObject(t *tx, guid GUID) error {
	stored, err := t.object(p.dir.record.id, guid)
	if err != nil {
		return err
	}
	kept, gone := release(stored, p.now(), p.upTo, p.held) // what was judged, though more may be due by now
	if len(gone) == 0 {
		return nil
	}
	return p.rewrite(t, guid, &stored, &kept)
}

// finish moves the cursor: the last transaction of a pass, and the only one of a pass
// that found nothing new.
func (p *Pass) finish(redo redoRecord, decided bool) error {
	record := p.dir.record
	record.fingerprint = redo.fingerprint
	switch {
	case p.info.Approved: // nothing was read
		if record.hold = p.laterHold; p.laterHold == "" {
			record.held = nil
		}
	case p.info.Kind == Full:
		if record.full.Number == 0 {
			record.first = p.info.Ended
		}
		record.full, record.fullPassPending = p.info, ""
	default:
		record.incremental = p.info
	}
	if !p.info.Approved {
		record.hold, record.held = p.info.Hold, p.held
	}
	if !p.info.Approved && p.info.Controller != "" {
		record.remember(p.origin, p.readAt(), max(p.usn, p.info.USN), p.info.Number)
	}
	cursor := cursorRecord{cursor: redo.cursor, controller: p.info.Controller, time: p.info.Ended}
	err := p.s.write(func(t *tx) error {
		u := &unit{}
		u.setDirectory(p.info.Directory, p.dir, record)
		if p.origin != 0 {
			u.set(originKey(record.id, p.origin), record.origins[p.origin-1].encode())
		}
		u.set(dirKey(prefixCursor, record.id), cursor.encode())
		u.afterCommit(func() { p.dir.cursor = cursor })
		if p.needsRow() {
			e := newEncoder()
			e.pass(&p.info)
			u.set(passKey(p.info.Number), e)
			u.afterCommit(func() { p.dir.removals.add(p.info) })
		}
		if decided {
			u.delete(dirKey(prefixRedo, record.id))
		}
		return t.add(u)
	})
	if err == nil {
		p.s.losses.note(p.info)
	}
	return err
}

// notable reports whether the pass is worth a row of its own: a poll that found nothing,
// every few seconds, is not, nor is one that still holds what the one before held.
func (p *Pass) needsRow() bool {
	return p.info.Kind == Full || p.info.Added+p.info.Changed+p.info.Removed > 0 || p.info.Hold != p.dir.record.hold
}

// redo finishes the passes that were decided when the process ended.
func (s *Store) finishDecidedPasses() error {
	names := map[dirID]string{}
	for name, d := range s.state.dirs {
		names[d.record.id] = name
	}
	return s.scan([]byte(prefixRedo), false, func(kv pair) error {
		if s.config.ReadOnly {
			return fmt.Errorf("store %s: %w: a pass was decided and not completed; the next start of the daemon does it", s.config.Dir, ErrUnclean)
		}
		redo, err := decodeRedo(kv.value)
		if err != nil {
			return s.unreadable(fmt.Sprintf("%x", kv.key), err)
		}
		d := s.state.dirs[names[dirOf(kv.key)]]
		if d == nil {
			return s.unreadable(fmt.Sprintf("%x", kv.key), errors.New("it belongs to no directory"))
		}
		return s.finishPass(d, redo)
	})
}

// redoOf is redo for one directory: after an error in the middle of a release the
// process may live on.
func (s *Store) finishDecidedPass(d *directory) error {
	key := dirKey(prefixRedo, d.record.id)
	value, err := s.get(key)
	if err != nil || value == nil {
		return err
	}
	redo, err := decodeRedo(value)
	if err != nil {
		return s.unreadable(fmt.Sprintf("%x", key), err)
	}
	return s.finishPass(d, redo)
}

func (s *Store) finishPass(d *directory, redo redoRecord) (err error) {
	p := &Pass{s: s, dir: d, origin: d.record.lastOriginOf(redo.info.Controller), info: redo.info, held: redo.held,
		upTo: cmp.Or(redo.upTo, math.MaxUint64), laterHold: redo.laterHold}
	p.reached, p.usn = redo.info.Ended, math.MaxUint64 // how far it had read is not known any more
	if p.seq, err = s.nextRow(redo.info.Number); err != nil {
		return err
	}
	s.config.Log.Info("finishing a pass that was decided and not completed",
		"directory", redo.info.Directory, "pass", redo.info.Number)
	if err := p.makeDueAtStart(); err != nil {
		return err
	}
	if err := p.release(); err != nil {
		return err
	}
	return p.finish(redo, true)
}
