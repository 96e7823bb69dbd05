package store

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"
)

// Outcome is how a completed pass ends.
type Outcome struct {
	Cursor      []byte    // start of the next incremental pass; opaque to the store
	USN         uint64    // the same position for people: highestCommittedUSN at the time
	Fingerprint string    // of the rules that were applied
	Ended       time.Time // when the pass ended; the removal grace of its removed addresses begins then
	Hold        string    // why removals are held back; empty releases them
	// HoldDomains limits the hold to the removals of these domains, at most MaxHeldDomains; all
	// others are released. Hold is then the reason in one line.
	HoldDomains []HeldDomain
	// HoldEmpty means that the removals held are those of a full pass that saw no object with an
	// address. It is stored beside Hold, whose text is for people and may change.
	HoldEmpty bool
}

// redoRecord is the value of an r/ key: a pass that is decided and will be completed, even if
// the process ends before that.
type redoRecord struct {
	info        PassInfo
	cursor      []byte
	fingerprint string
	upTo        uint64 // of an approval; 0 means all
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
	if d.err == nil && len(d.rest) > 0 { // redo records of the first versions end here
		r.upTo, r.laterHold = d.uint(), d.string()
	}
	if d.err == nil && len(d.rest) > 0 {
		r.held = d.heldDomains()
	}
	return r, d.done()
}

// Commit ends a completed pass: it releases the removals that are due, or holds them back, and
// moves the cursor. When it returns without an error, everything is on disk. An error before the
// decision was written aborts the pass. After an error behind that point, the next pass or the
// next opening of the store completes this one.
func (p *Pass) Commit(o Outcome) (PassInfo, error) {
	if p.closed {
		return PassInfo{}, errors.New("store: commit of a closed pass")
	}
	defer p.Abort()
	held, err := newHeldDomains(o.HoldDomains)
	if err != nil {
		return PassInfo{}, err
	}
	p.held, p.holdEmpty = held, o.HoldEmpty && o.Hold != "" && !held.any()
	p.logKeptOpen()
	p.info.USN, p.info.Hold = o.USN, o.Hold
	p.info.Ended = o.Ended.UTC().Truncate(time.Microsecond)
	return p.decideAndFinish(redoRecord{cursor: o.Cursor, fingerprint: o.Fingerprint, held: held})
}

// decideAndFinish writes the decision, releases what it covers and finishes the pass.
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

// countRemovals counts the due marks as removed or as held, and reports whether there is
// anything to release.
func (p *Pass) countRemovals() (bool, error) {
	owned, err := p.owned()
	if err != nil {
		return false, err
	}
	switch {
	case p.held.any():
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

// release takes the marked addresses from their objects, in batches. It can be repeated from any
// point.
func (p *Pass) release() error {
	var marked []GUID
	err := p.s.newest().marked(p.dir.record.id, markDue, p.dir.firstDue, p.upTo, func(guid GUID) error {
		marked = append(marked, guid)
		return nil
	})
	if err != nil {
		return err
	}
	if err := writeInChunks(p.s, distinctGUIDs(marked), p.releaseObject); err != nil {
		return err
	}
	p.noteNoneDue()
	return nil
}

// goes reports whether the pass releases an address: its mark was due at the time of the decision (further
// marks may have become due since), and its domain is not held. An approval releases only what is held.
func (p *Pass) goes(a ownedRecord) bool {
	if p.info.Approved {
		return a.mark.pass <= p.upTo && p.dir.record.holds(a)
	}
	return !a.mark.isZero() && !a.notBefore.After(p.now()) && !p.held.holds(a.address)
}

func (p *Pass) releaseObject(t *tx, guid GUID) error {
	stored, err := t.object(p.dir.record.id, guid)
	if err != nil {
		return err
	}
	kept, gone := release(stored, p.goes)
	if len(gone) == 0 {
		return nil
	}
	return p.rewrite(t, guid, &stored, &kept)
}

// finish moves the cursor in the last transaction of a pass. A pass that found no changes has no
// other transaction.
func (p *Pass) finish(redo redoRecord, decided bool) error {
	record := p.finalRecord(redo.fingerprint)
	cursor := cursorRecord{cursor: redo.cursor, controller: p.info.Controller, time: p.info.Ended}
	err := p.s.write(func(t *tx) error {
		u := &unit{}
		u.setHeldDomains(record.id, p.dir.record.held, record.held)
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
		p.settleDoubt(u)
		return t.add(u)
	})
	if err == nil {
		p.s.losses.note(p.info)
	}
	return err
}

// finalRecord returns the record of the directory after the pass.
func (p *Pass) finalRecord(fingerprint string) directoryRecord {
	record := p.dir.record
	record.fingerprint = fingerprint
	if p.info.Approved { // an approval reads nothing
		if record.hold = p.laterHold; p.laterHold == "" {
			record.held, record.holdEmpty = heldDomains{}, false
		}
		return record
	}
	if p.info.Kind == Full {
		if record.full.Number == 0 {
			record.first = p.info.Ended
		}
		record.full, record.fullPassPending = p.info, ""
	} else {
		record.incremental = p.info
	}
	record.hold, record.held, record.holdEmpty = p.info.Hold, p.held, p.holdEmpty
	if p.info.Controller != "" {
		record.remember(p.origin, p.readAt(), max(p.usn, p.info.USN), p.info.Number)
	}
	return record
}

// needsRow reports whether the pass gets a row of its own. A poll without changes, every few
// seconds, does not, nor does a pass that still holds what the pass before it held.
func (p *Pass) needsRow() bool {
	return p.info.Kind == Full || p.info.Added+p.info.Changed+p.info.Removed > 0 || p.info.Hold != p.dir.record.hold
}

// finishDecidedPasses completes the passes that were decided when the previous process ended.
func (s *Store) finishDecidedPasses() error {
	names := map[dirID]string{}
	for name, d := range s.state.dirs {
		names[d.record.id] = name
	}
	return s.scan([]byte(prefixRedo), false, func(kv pair) error {
		if s.config.ReadOnly {
			return fmt.Errorf("store %s: %w: a decided pass is not complete; start the daemon to complete it",
				s.config.Dir, ErrUnclean)
		}
		redo, err := decodeRedo(kv.value)
		if err != nil {
			return s.unreadable(fmt.Sprintf("%x", kv.key), err)
		}
		d := s.state.dirs[names[dirOf(kv.key)]]
		if d == nil {
			return s.unreadable(fmt.Sprintf("%x", kv.key), errors.New("its directory does not exist"))
		}
		return s.finishPass(d, redo, s.config.Now())
	})
}

// finishDecidedPass does the same for one directory, because the process may continue after an
// error in the middle of a release.
func (s *Store) finishDecidedPass(d *directory, at time.Time) error {
	key := dirKey(prefixRedo, d.record.id)
	value, err := s.get(key)
	if err != nil || value == nil {
		return err
	}
	redo, err := decodeRedo(value)
	if err != nil {
		return s.unreadable(fmt.Sprintf("%x", key), err)
	}
	return s.finishPass(d, redo, at)
}

// finishPass completes a decided pass at a time. What it releases was known until now, so the
// removal grace begins now.
func (s *Store) finishPass(d *directory, redo redoRecord, at time.Time) (err error) {
	p := &Pass{s: s, dir: d, origin: d.record.lastOriginOf(redo.info.Controller), info: redo.info, held: redo.held,
		upTo: cmp.Or(redo.upTo, math.MaxUint64), laterHold: redo.laterHold}
	p.redone = true
	p.reached, p.usn = redo.info.Ended, math.MaxUint64 // it is no longer known how far the pass had read
	if at = at.UTC().Truncate(time.Microsecond); at.After(p.info.Ended) {
		p.info.Ended = at
	}
	if p.seq, err = s.nextRow(redo.info.Number); err != nil {
		return err
	}
	s.config.Log.Info("completing a decided pass",
		"directory", redo.info.Directory, "pass", redo.info.Number)
	if err := p.makeDueAtStart(); err != nil {
		return err
	}
	if err := p.release(); err != nil {
		return err
	}
	return p.finish(redo, true)
}
