package store

import (
	"maps"
	"slices"
	"time"
)

// A store that lost commits lacks addresses that a domain controller showed. Another controller may
// not have received them yet, so a full pass does not prove that they do not exist. The doubt about
// a directory ends with a pass that proves it: it read the same databases at least as far, or all
// changes have had the time to reach the controller that it read.

// A lastRead is how far a database was read, by passes that ended and by others.
type lastRead struct {
	database string    // empty means unknown
	at       time.Time // not later than this, by the local clock
	usn      uint64    // no later change was read
}

// doubt is why the index may lack addresses of a directory that it once had.
type doubt struct {
	why   string
	since time.Time  // when it was noticed
	full  bool       // a full pass has ended since; what it did not see may still have to replicate
	reads []lastRead // what the lost commits had read
}

// provenBy reports whether a pass shows everything that the lost commits had read.
func (d *doubt) provenBy(database string, started time.Time, usn uint64, lag time.Duration) bool {
	return !slices.ContainsFunc(d.reads, func(r lastRead) bool {
		same := r.database != "" && r.database == database && usn >= r.usn
		return !same && started.Before(earlier(r.at, d.since).Add(lag))
	})
}

// lostReads are the databases that lost commits had read, by directory. Nil means unknown.
type lostReads map[string][]lastRead

// lastReads returns what every commit so far has read. The caller holds the writer lock, and not
// that of the state.
func (s *Store) lastReads() lostReads {
	s.state.Lock()
	defer s.state.Unlock()
	all := lostReads{}
	for name, d := range s.state.doubts {
		all[name] = slices.Clone(d.reads)
	}
	for name, d := range s.state.dirs {
		for i, o := range d.record.origins {
			all.add(name, lastRead{o.database, o.read, o.usn})
			if seen, ok := d.unfinished[originID(i+1)]; ok {
				all.add(name, lastRead{o.database, seen.read, seen.usn})
			}
		}
		if p := d.open; p != nil && p.usn > 0 {
			all.add(name, lastRead{d.record.databaseOf(p.origin), p.readAt(), p.usn})
		}
	}
	return all
}

// add adds a reading of a database to the earlier ones.
func (l lostReads) add(name string, read lastRead) {
	if read.at.IsZero() {
		return
	}
	for i, before := range l[name] {
		if before.database != read.database {
			continue
		}
		if read.at.After(before.at) {
			l[name][i].at = read.at
		}
		l[name][i].usn = max(before.usn, read.usn)
		return
	}
	l[name] = append(l[name], read)
}

func (e *encoder) lostReads(l lostReads) {
	e.uint(uint64(len(l)))
	for _, name := range slices.Sorted(maps.Keys(l)) {
		e.string(name)
		e.lastReads(l[name])
	}
}

func (d *decoder) lostReads() lostReads {
	l := lostReads{}
	for range d.count() {
		name := d.string()
		l[name] = d.lastReads()
	}
	return l
}

func (e *encoder) lastReads(list []lastRead) {
	e.uint(uint64(len(list)))
	for _, r := range list {
		e.string(r.database)
		e.time(r.at)
		e.uint(r.usn)
	}
}

func (d *decoder) lastReads() []lastRead {
	list := make([]lastRead, d.count())
	for i := range list {
		list[i] = lastRead{d.string(), d.time(), d.uint()}
	}
	return list
}

// doubt records that the index may lack what it once had. It is stored with the next commit, which
// is the first that moves the file COMMITTED. lost is what the lost commits had read; nil means unknown.
func (s *Store) doubt(why string, lost lostReads) {
	s.config.Log.Error("the index may be incomplete; an address that it does not have is deferred until each "+
		"directory has been read in full and what was lost has had the time to replicate",
		"store", s.config.Dir, "error", why)
	since := s.config.Now().UTC().Truncate(time.Microsecond)
	if s.state.doubts == nil {
		s.state.doubts = map[string]doubt{}
	}
	for name := range s.state.dirs {
		reads := slices.Clone(lost[name])
		if lost == nil {
			reads = []lastRead{{at: since}}
		}
		s.state.doubts[name] = doubt{why: why, since: since, reads: reads}
	}
	for name, reads := range lost { // a directory that the store lost as a whole is created again
		s.state.doubts[name] = doubt{why: why, since: since, reads: slices.Clone(reads)}
	}
	s.noteDoubts()
	s.writer.newDoubt = len(s.state.doubts) > 0
}

// loadDoubt reads the doubts that an earlier process stored.
func (s *Store) loadDoubt() error {
	value, err := s.get([]byte(keyDoubt))
	if err != nil || value == nil {
		return err
	}
	doubts, err := decodeDoubts(value, s.state.dirs)
	if err != nil {
		return s.unreadable(keyDoubt, err)
	}
	s.state.doubts = doubts
	s.noteDoubts()
	return nil
}

// doubtsValue returns the value of m/doubt.
func (s *Store) doubtsValue() []byte {
	s.state.Lock()
	defer s.state.Unlock()
	return encodeDoubts(s.state.doubts)
}

// encodeDoubts returns the value of m/doubt. Nil means that nothing is in doubt.
func encodeDoubts(doubts map[string]doubt) []byte {
	if len(doubts) == 0 {
		return nil
	}
	e := encoder{doubtVersion}
	e.uint(uint64(len(doubts)))
	for _, name := range slices.Sorted(maps.Keys(doubts)) {
		d := doubts[name]
		e.string(name)
		e.string(d.why)
		e.time(d.since)
		e.bool(d.full)
		e.lastReads(d.reads)
	}
	return e
}

// doubtVersion begins m/doubt. Version 1 had one reason and a list of directory ids.
const doubtVersion = recordVersion + 1

func decodeDoubts(value []byte, dirs map[string]*directory) (map[string]doubt, error) {
	doubts := map[string]doubt{}
	if len(value) > 0 && value[0] == doubtVersion {
		d := &decoder{rest: value[1:]}
		for range d.count() {
			name := d.string()
			doubts[name] = doubt{why: d.string(), since: d.time(), full: d.bool(), reads: d.lastReads()}
		}
		return doubts, d.done()
	}
	d := newDecoder(value)
	why, ids := d.string(), map[dirID]bool{}
	for range d.count() {
		ids[dirID(d.uint())] = true
	}
	for name, dir := range dirs {
		if ids[dir.record.id] {
			doubts[name] = doubt{why: why}
		}
	}
	return doubts, d.done()
}

// noteDoubts tells lookups whether a directory is in doubt. One that is not in the configuration does not count: no
// pass ends its doubt, and no reply depends on it. The caller has exclusive access to the directories.
func (s *Store) noteDoubts() {
	var found *string
	for name, d := range s.state.doubts {
		if dir := s.state.dirs[name]; dir != nil && !dir.unread {
			found = &d.why
		}
	}
	s.inDoubt.Store(found)
}

// setDoubt records in the unit that the doubt about a directory changes or, with nil, ends.
func (s *Store) setDoubt(u *unit, name string, next *doubt) {
	s.state.Lock()
	defer s.state.Unlock()
	if _, doubted := s.state.doubts[name]; !doubted {
		return
	}
	doubts := maps.Clone(s.state.doubts)
	if delete(doubts, name); next != nil {
		doubts[name] = *next
	}
	u.set([]byte(keyDoubt), encodeDoubts(doubts))
	d := s.state.dirs[name]
	if next == nil && d != nil && d.feed.on { // entries of its outbox may be lost
		u.setFeed(d, feedRecord{on: true})
	}
	u.afterCommit(func() {
		s.state.doubts = doubts
		if next == nil && d != nil {
			d.certainFrom = s.writer.ts
		}
		s.noteDoubts()
	})
}

// settleDoubt records in the unit that the doubt about the directory ends, if the pass proves that. A pass that
// reads no controller, like those of a directory that is no longer configured, proves nothing: the directory may be
// configured again.
func (p *Pass) settleDoubt(u *unit) {
	name := p.info.Directory
	p.s.state.Lock()
	before, doubted := p.s.state.doubts[name]
	p.s.state.Unlock()
	if !doubted || p.info.Approved || p.redone || p.info.Controller == "" {
		return
	}
	next := before
	next.full = before.full || p.info.Kind == Full
	if next.since = earlier(before.since, p.now()); !before.full { // a time in the future would last too long
		next.since = p.now() // the clock may have been behind when the loss was noticed
	}
	database := p.dir.record.databaseOf(p.origin)
	if next.full && next.provenBy(database, p.now(), p.info.USN, p.from.Lag) {
		p.s.setDoubt(u, name, nil)
		return
	}
	if next.full != before.full || !next.since.Equal(before.since) {
		p.s.setDoubt(u, name, &next)
	}
	if next.full != before.full {
		p.s.config.Log.Warn("the domain controller may lag behind what was lost; an address that the index does not "+
			"have is deferred until that has replicated", "directory", name, "controller", p.info.Controller,
			"until", next.until(p.from.Lag))
	}
}

// until returns when a pass of any database may end the doubt.
func (d *doubt) until(lag time.Duration) (latest time.Time) {
	for _, r := range d.reads {
		if at := earlier(r.at, d.since).Add(lag); at.After(latest) {
			latest = at
		}
	}
	return latest
}
