package store

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrBusy means that a pass of this directory is already open.
var ErrBusy = errors.New("a pass of this directory is running")

// Origin is where and why a pass reads.
type Origin struct {
	Controller string    // DNS name of the domain controller; empty means that none is read
	Database   string    // identity of its copy of the directory (invocationId)
	Why        string    // reason for a full pass; empty for an incremental pass
	Started    time.Time // when reading began
	// Lag is how long a change may need from one domain controller to another. Within it, an
	// address that was learned from another database stays, although it is missing here.
	Lag time.Duration
	// PreviousRead is when another database was last read to its end, at which time everything
	// stored existed there. Zero means that this database was. It is for a store of an earlier
	// version, which does not record when it read which database.
	PreviousRead time.Time
	// Rules is the fingerprint of the rules under which the pass reads.
	Rules string
	// HandoverLag returns how long another directory may need to receive an address of a mail
	// domain that this one gave away. Zero means that no other directory may have it. For the
	// empty domain it returns the longest of all. A nil function means zero.
	HandoverLag func(domain string) time.Duration
	// RequireFullPass makes a full pass required from now on, because a later pass could not
	// detect the reason.
	RequireFullPass bool
	// IncrementalPossible means that an incremental pass could replace this full one, because it
	// reads the database of the cursor under the same rules. Aborting it does not require
	// another full pass.
	IncrementalPossible bool
	// ClockSet tells whether the local clock, or that of the controller, was set since a cursor was stored. It returns
	// the cursor to store in its place, or nil if neither was set. A nil function means that nothing is known of it.
	ClockSet func(cursor []byte) []byte
	// Visible reports whether the pass can see an object with this name. Sweep ignores the
	// others. Nil means that it can see all.
	Visible func(dn string) bool
	// settlesHeld means that the pass only approves or discards what is held. It judges nothing, so
	// it ends no wait.
	settlesHeld bool
}

// Pass is one run over a directory: Apply what was read, Sweep after a full read, then Commit,
// or Abort. It is used by one goroutine.
type Pass struct {
	s               *Store
	dir             *directory
	info            PassInfo
	origin          originID
	lag             time.Duration // the longest wait of its marks
	judge           judge         // without current, which depends on the object
	from            Origin
	reached         time.Time // when the last object was read; zero means that none was
	usn             uint64    // the highest uSNChanged that was read
	first           bool      // first full pass: it has no journal
	fullPassOnAbort bool      // if it is aborted after a write, a full pass is required
	visible         func(string) bool
	seen            *guidSet    // full pass: objects that the sweep leaves; nil in an incremental pass
	upTo            uint64      // approval: marks of later passes stay; see goes
	laterHold       string      // approval: why marks of later passes are held; empty means that there are none
	held            heldDomains // Commit: their removals are held, all others released
	holdEmpty       bool        // Commit: see Outcome; false if removals are released, so a redo record lacks it
	seq             uint32      // next journal row
	closed          bool
	redone          bool   // completed after an interruption: it reads nothing now
	begun           []byte // see Begun; nil means that there is nothing to write

	unsettled map[GUID]bool // full pass: objects that changed after it began to read
	unseen    *[]GUID       // full pass: stored objects that Apply had not got at the first call of Unseen
	invisible []GUID        // the stored objects that the pass could not see, found at that call
	kept      int           // addresses that lookups have open and object records do not: see keepOpen
}

// Changes counts what one Apply did.
type Changes struct {
	Added   int // addresses that objects gained, in effect now
	Changed int // objects written
	Gone    int // addresses newly marked, not in effect before Commit
	// Touched has the indexes of the applied objects whose addresses changed.
	Touched []int
	Unread  []Unread // values that need correction and were not stored before
}

// Begin opens a pass. It gives a new directory its id, completes a pass that was decided and
// could not be completed, restarts all waits if the clock was set, and clears the marks that an
// aborted pass left.
func (s *Store) Begin(name string, kind Kind, origin Origin) (*Pass, error) {
	if err := s.rebuildFor(origin); err != nil {
		return nil, err
	}
	if err := s.prepareWrite(); err != nil {
		return nil, err
	}
	d, number, err := s.claimDirectory(name)
	if err != nil {
		return nil, err
	}
	p := &Pass{s: s, dir: d, lag: max(origin.Lag, origin.handoverLag("")), from: origin,
		fullPassOnAbort: kind == Full && !origin.IncrementalPossible, visible: origin.Visible,
		upTo: math.MaxUint64,
		info: PassInfo{Number: number, Directory: name, Kind: kind, Why: origin.Why,
			Controller: origin.Controller, Started: origin.Started.UTC().Truncate(time.Microsecond)}}
	if kind == Full {
		p.seen = newGUIDSet()
	}
	s.state.Lock()
	d.open = p
	if unread := origin.Controller == ""; unread != d.unread && !origin.settlesHeld {
		d.unread = unread
		s.noteDoubts()
	}
	s.state.Unlock()
	err = s.finishDecidedPass(d, p.now())
	p.first = kind == Full && d.record.full.Number == 0
	if err == nil {
		err = p.checkClock()
	}
	if err == nil {
		err = p.setOrigin(origin)
	}
	if err == nil {
		p.judge = p.newJudge()
		err = p.prepareMarks()
	}
	if err == nil && origin.RequireFullPass {
		err = p.s.write(func(t *tx) error {
			u := &unit{}
			p.requireFullPass(u)
			return t.add(u)
		})
	}
	if err != nil {
		p.Abort()
		return nil, err
	}
	return p, nil
}

// setOrigin numbers the database that is read. It stores a new one before anything refers to it.
func (p *Pass) setOrigin(o Origin) error {
	record := p.dir.record
	id, added := record.origin(o.Controller, o.Database)
	p.origin = id
	return p.markReading(record, id, added)
}

// claimDirectory finds or creates the directory and takes the next pass number.
func (s *Store) claimDirectory(name string) (*directory, uint64, error) {
	if s.closed.Load() {
		return nil, 0, ErrClosed
	}
	s.state.Lock()
	d := s.state.dirs[name]
	s.state.Unlock()
	if d == nil {
		var err error
		if d, err = s.createDirectory(name); err != nil {
			return nil, 0, err
		}
	}
	s.state.Lock()
	if !s.state.rebuilding && s.state.dirs[name] != d { // meanwhile it was dropped, or the store was set aside
		s.state.Unlock()
		return s.claimDirectory(name)
	}
	defer s.state.Unlock()
	switch {
	case s.state.rebuilding:
		return nil, 0, fmt.Errorf("store %s: %w", s.config.Dir, errReopening)
	case d.busy:
		return nil, 0, fmt.Errorf("directory %s: %w", name, ErrBusy)
	}
	d.busy = true
	number := s.state.nextPass
	s.state.nextPass++
	return d, number, nil
}

func (s *Store) createDirectory(name string) (*directory, error) {
	var d *directory
	err := s.write(func(t *tx) error {
		s.state.Lock()
		d = s.state.dirs[name]
		s.state.Unlock()
		if d != nil { // another caller was faster
			return nil
		}
		id := s.totals.Load().nextDir
		d = &directory{record: directoryRecord{id: id}}
		u := &unit{}
		u.delta.nextDir = id + 1
		u.setDirectory(name, d, d.record)
		u.afterCommit(func() { s.state.dirs[name] = d; s.noteDoubts() })
		return t.add(u)
	})
	return d, err
}

// Number returns the number of the pass, as journal and status show it.
func (p *Pass) Number() uint64 { return p.info.Number }

// Abort ends a pass without committing it. What it added stays, because it is true; what it
// marked has no effect. After Commit, Abort does nothing.
func (p *Pass) Abort() {
	if p.closed {
		return
	}
	p.closed = true
	p.s.state.Lock()
	p.noteUnfinished()
	p.dir.busy, p.dir.open = false, nil
	p.s.state.Unlock()
}

// Apply writes what was read of some objects. Reading an object twice in a pass is harmless; the
// last reading counts.
func (p *Pass) Apply(objects []Object) (Changes, error) {
	var c Changes
	err := p.s.write(func(t *tx) error {
		for i, o := range objects {
			if p.seen != nil {
				p.seen.add(o.GUID)
				p.noteUnsettled(o)
			}
			before := c.Added + c.Gone
			if err := p.apply(t, o, &c); err != nil {
				return err
			}
			if c.Added+c.Gone > before {
				c.Touched = append(c.Touched, i)
			}
		}
		return nil
	})
	p.info.Seen += len(objects)
	p.info.Added += c.Added
	p.info.Changed += c.Changed
	return c, err
}

// Keep keeps what is stored of an object, which exists and cannot be read: a full pass counts it as
// seen.
func (p *Pass) Keep(guid GUID) {
	if p.seen != nil {
		p.seen.add(guid)
	}
}

// noteUnsettled records whether an object changed while a full pass read. The last reading
// counts.
func (p *Pass) noteUnsettled(o Object) {
	if !o.Unsettled {
		delete(p.unsettled, o.GUID)
		return
	}
	if p.unsettled == nil {
		p.unsettled = map[GUID]bool{}
	}
	p.unsettled[o.GUID] = true
}

// apply changes the record of one object, and the records of its addresses, to what was read.
func (p *Pass) apply(t *tx, o Object, c *Changes) error {
	stored, err := t.object(p.dir.record.id, o.GUID)
	if err != nil {
		return err
	}
	p.noteRead(o)
	next, d := diff(stored, o, p.judgeOf(o))
	unread, rewrite, err := p.unreadChange(t, &stored, o)
	if err != nil {
		return err
	}
	if next.empty() && stored.empty() { // most objects own nothing and never did
		return nil
	}
	compare := p.seen == nil || !p.dir.ownersMatch
	if compare {
		marked, err := p.keepOpen(t, o.GUID, &next, p.closingMark(o))
		if err != nil {
			return err
		}
		d.marked += marked
	}
	next = makeDue(next, p.now())
	changes, err := p.ownerChanges(t, o.GUID, &stored, &next, compare)
	if err != nil {
		return err
	}
	if len(changes) == 0 && !rewrite && next.equal(&stored) {
		return nil
	}
	extra := &unit{}
	if rewrite {
		extra.setUnread(p.dir.record.id, o)
	}
	if err := p.rewriteChanges(t, o.GUID, &stored, &next, changes, extra); err != nil {
		return err
	}
	for _, v := range unread {
		c.Unread = append(c.Unread, Unread{p.info.Directory, o.GUID, o.DN, v})
	}
	c.Added += len(d.added)
	c.Gone += d.marked
	c.Changed++
	return nil
}

// A Move is an OU or container whose name has changed.
type Move struct {
	From string // empty means that it was not stored
	To   string
}

// MovedContainers lists the OUs and containers, among what was read, that are stored under
// another name or not at all. Call it before Apply. Moving a container moves everything below
// it, and the directory does not report that for each object.
func (p *Pass) MovedContainers(objects []Object) ([]Move, error) {
	var moved []Move
	for _, o := range objects {
		if !o.Container {
			continue
		}
		stored, err := p.s.object(p.dir.record.id, o.GUID)
		if err != nil {
			return nil, err
		}
		if !stored.container {
			moved = append(moved, Move{To: o.DN})
		} else if stored.dn != o.DN {
			moved = append(moved, Move{From: stored.dn, To: o.DN})
		}
	}
	return moved, nil
}

// StoredName returns the name under which an object is stored, by this pass or before it.
// Empty means that it is not stored.
func (p *Pass) StoredName(guid GUID) (string, error) {
	stored, err := p.s.object(p.dir.record.id, guid)
	return stored.dn, err
}

// claimNumber reserves the number of the pass with the first thing it writes, so no later pass
// gets the number. Journal rows refer to it.
func (p *Pass) claimNumber(t *tx, u *unit) {
	if t.s.totals.Load().nextPass <= p.info.Number && t.delta.nextPass <= p.info.Number {
		u.delta.nextPass = p.info.Number + 1
	}
	if t.claimedBy != p {
		p.requireFullPass(u)
		p.writeBegun(u)
		u.claimedBy = p
	}
}

// Begun replaces the cursor with the next change that the pass writes by Apply. Both are in one
// transaction, so a pass that does not end cannot leave changes without the new cursor, which says where
// they came from. It must continue where the old one did.
func (p *Pass) Begun(cursor []byte) { p.begun = cursor }

// writeBegun adds to a unit the cursor of Begun, if it was not written yet.
func (p *Pass) writeBegun(u *unit) {
	if p.begun == nil {
		return
	}
	cursor := p.dir.cursor
	cursor.cursor = p.begun
	u.set(dirKey(prefixCursor, p.dir.record.id), cursor.encode())
	u.afterCommit(func() { p.dir.cursor, p.begun = cursor, nil })
}

// requireFullPass makes a full pass required until one completes, if this one is aborted. It is
// in the same transaction as the first change, so a crash cannot separate them.
func (p *Pass) requireFullPass(u *unit) {
	if !p.fullPassOnAbort || p.first || p.dir.record.fullPassPending != "" {
		return
	}
	record := p.dir.record
	record.fullPassPending = cmp.Or(p.info.Why, "no reason was given")
	u.setDirectory(p.info.Directory, p.dir, record)
}

func (p *Pass) stamp(usn uint64) stamp {
	return stamp{time: p.now(), pass: p.info.Number, origin: p.origin, usn: usn}
}

// now returns the time of everything that a pass does: when it began to read.
func (p *Pass) now() time.Time { return p.info.Started }
