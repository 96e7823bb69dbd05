package store

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// ErrBusy says that a pass of this directory is open already.
var ErrBusy = errors.New("a pass of this directory is under way")

// Origin says where and why a pass reads.
type Origin struct {
	Controller string    // DNS name of the domain controller; empty: none is read
	Database   string    // identity of its copy of the directory (invocationId)
	Why        string    // reason for a full pass; empty for an incremental one
	Started    time.Time // when reading began
	// Lag is how long a change may need from one domain controller to another: what was
	// learned from another database that recently is not given up because it is absent.
	Lag time.Duration
	// Before is when another database than this one was last read to its end; zero: it was
	// this one. What is stored was there then. It is for a store of an earlier version, which
	// does not remember when it read which one.
	PreviousRead time.Time
	// Rules are the fingerprint of the rules under which the pass reads.
	Rules string
	// Shared is how long another directory may need to hear of an address of a mail domain
	// that this one gave away; zero: no other one may have it. For the empty domain it is
	// the longest of all. Nil means zero.
	HandOverWait func(domain string) time.Duration
	// Owed: this full pass is owed from now on, because a later one could not tell why it
	// has to be full.
	RequireFullPass bool
	// Continues: an incremental pass could be run in place of this full one, because it
	// reads the database of the cursor under the same rules. Broken off, it owes nothing.
	IncrementalPossible bool
	// Sees reports whether an object of this name can be seen where the pass reads; Sweep
	// leaves the others alone. Nil: all can.
	Visible func(dn string) bool
}

// Pass is one run over a directory: Apply what was read, Sweep after a full read, then
// Commit, or Abort. It belongs to one goroutine.
type Pass struct {
	s               *Store
	dir             *directory
	info            PassInfo
	origin          originID
	lag             time.Duration // the longest that a mark of it may wait
	judge           judge         // of the marks; now and shared belong to one object
	from            Origin
	reached         time.Time // when the last object was read; zero: none was
	usn             uint64    // the highest uSNChanged of what was read
	first           bool      // first full pass: no journal
	fullPassOnAbort bool      // broken off after it wrote something, it is owed
	visible         func(string) bool
	seen            map[GUID]bool // full pass: what to spare from the sweep
	upTo            uint64        // approval: marks of later passes stay
	laterHold       string        // approval: why those are held; empty: there are none
	held            heldDomains   // Commit: their removals are held, the others go
	seq             uint32        // next journal row
	closed          bool

	unsettled map[GUID]bool // full pass: objects that changed after it began to read
}

// Changes counts what one Apply did.
type Changes struct {
	Added   int // addresses that an object gained, in effect now
	Changed int // objects written
	Gone    int // addresses newly marked, not in effect before Commit
	// Touched are the places, in what was applied, of objects whose addresses changed.
	Touched []int
	Unread  []Unread // values that are to be corrected and were not stored before
}

// Begin opens a pass. A directory that the store never heard of gets its id now. A pass
// that was decided and could not be completed is, now, and marks that an earlier pass
// left without a decision are cleared.
func (s *Store) Begin(name string, kind Kind, origin Origin) (*Pass, error) {
	d, number, err := s.claimDirectory(name)
	if err != nil {
		return nil, err
	}
	p := &Pass{s: s, dir: d, lag: max(origin.Lag, origin.handOverWait("")), from: origin,
		fullPassOnAbort: kind == Full && !origin.IncrementalPossible, visible: origin.Visible,
		upTo: math.MaxUint64,
		info: PassInfo{Number: number, Directory: name, Kind: kind, Why: origin.Why,
			Controller: origin.Controller, Started: origin.Started.UTC().Truncate(time.Microsecond)}}
	if kind == Full {
		p.seen = map[GUID]bool{}
	}
	err = s.finishDecidedPass(d)
	p.first = kind == Full && d.record.full.Number == 0
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

// setOrigin numbers the database that is read. A new one is stored before anything
// refers to it.
func (p *Pass) setOrigin(o Origin) error {
	record := p.dir.record
	id, added := record.origin(o.Controller, o.Database)
	p.origin = id
	if !added {
		return nil
	}
	return p.s.write(func(t *tx) error {
		u := &unit{}
		u.set(originKey(record.id, id), record.origins[id-1].encode())
		u.afterCommit(func() { p.dir.record.origins = record.origins })
		return t.add(u)
	})
}

// claim finds or makes the directory and takes the next pass number.
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
	defer s.state.Unlock()
	if d.busy {
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
		u.afterCommit(func() { s.state.dirs[name] = d })
		return t.add(u)
	})
	return d, err
}

// Number is the number of the pass, as journal and status show it.
func (p *Pass) Number() uint64 { return p.info.Number }

// Abort ends a pass without committing it. What it added stays, because it is true;
// what it marked has no effect. After Commit it does nothing.
func (p *Pass) Abort() {
	if p.closed {
		return
	}
	p.closed = true
	p.s.state.Lock()
	p.noteUnfinished()
	p.dir.busy = false
	p.s.state.Unlock()
}

// Apply writes what was read of some objects. Reading an object twice in a pass is
// harmless; the last reading counts.
func (p *Pass) Apply(objects []Object) (Changes, error) {
	var c Changes
	err := p.s.write(func(t *tx) error {
		for i, o := range objects {
			if p.seen != nil {
				p.seen[o.GUID] = true
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

// note remembers whether an object changed while a full pass read. The last reading counts.
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

// apply brings the record of one object, and the addresses it names, to what was read.
func (p *Pass) apply(t *tx, o Object, c *Changes) error {
	stored, err := t.object(p.dir.record.id, o.GUID)
	if err != nil {
		return err
	}
	p.noteRead(o)
	j := p.objectJudge(t, o)
	next, d := diff(stored, o, j.judge)
	if j.err != nil {
		return j.err
	}
	unread, rewrite, err := p.unreadChange(t, &stored, o)
	if err != nil {
		return err
	}
	if next.empty() && stored.empty() { // most objects own nothing and never did
		return nil
	}
	next = makeDue(next, p.now())
	changes, err := p.ownerChanges(t, o.GUID, &stored, &next, p.seen == nil || !p.dir.ownersMatch)
	if err != nil {
		return err
	}
	if len(changes) == 0 && !rewrite && next.equal(&stored) {
		return nil
	}
	news := &unit{}
	if rewrite {
		news.setUnread(p.dir.record.id, o)
	}
	if err := p.rewriteChanges(t, o.GUID, &stored, &next, changes, news); err != nil {
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

// A Move is an OU or container that has another name than before.
type Move struct {
	From string // empty: it was not known
	To   string
}

// MovedContainers lists the OUs and containers, among what was read, that are stored
// under another name or not at all. It is asked before they are applied: moving one
// moves all below it, and the directory does not say so of each.
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

// claimNumber makes sure, with the first thing a pass writes, that no later pass gets
// its number: journal rows carry it.
func (p *Pass) claimNumber(t *tx, u *unit) {
	if t.s.totals.Load().nextPass <= p.info.Number && t.delta.nextPass <= p.info.Number {
		u.delta.nextPass = p.info.Number + 1
	}
	if t.fullPassOf != p {
		p.requireFullPass(u)
		u.fullPassOf = p
	}
}

// owe makes a full pass that changes something owed until it is completed. It is in the
// same transaction as the first change, so that a crash cannot part them.
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

// now is the time of everything that a pass does: when it began to read.
func (p *Pass) now() time.Time { return p.info.Started }

// sweepChunk is how many objects are swept under one hold of the writer lock.
const writeChunk = 500

// Sweep marks what a full pass did not see. Before it, the caller reads once more,
// incrementally, from where the pass began: an address may have moved during the read
// from an object read late to one read early.
func (p *Pass) Sweep() error {
	if p.seen == nil {
		return errors.New("store: sweep of an incremental pass")
	}
	var missing []GUID
	err := p.s.scan(dirKey(prefixObject, p.dir.record.id), true, func(kv pair) error {
		if guid := guidOf(kv.key); !p.seen[guid] {
			missing = append(missing, guid)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(missing, writeChunk) {
		if err := p.s.write(func(t *tx) error { return p.markMissing(t, chunk) }); err != nil {
			return err
		}
	}
	return p.repairOwners()
}

func (p *Pass) markMissing(t *tx, guids []GUID) error {
	var c Changes
	defer func() { p.info.Changed += c.Changed }()
	for _, guid := range guids {
		stored, err := t.object(p.dir.record.id, guid)
		if err != nil {
			return err
		}
		if p.visible != nil && !p.visible(stored.dn) {
			continue
		}
		missing := missingObject(guid, stored)
		missing.Read = p.reached
		if err := p.apply(t, missing, &c); err != nil {
			return err
		}
	}
	return nil
}
