package store

import (
	"hash/fnv"
	"slices"
	"time"
)

// rulesID identifies the rules under which an address was marked. Zero means unknown: earlier
// versions did not store it.
type rulesID uint64

// rulesIDOf returns the id of a fingerprint of rules.
func rulesIDOf(fingerprint string) rulesID {
	if fingerprint == "" {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(fingerprint)) // never fails
	return rulesID(h.Sum64())
}

// A sighting is when and how far a database was read. What was stored at that time existed
// there, unless it was marked.
type sighting struct {
	origin   originID
	database string    // empty means unknown
	read     time.Time // not later than this, by the local clock
	usn      uint64    // no later change of that database was read
	pass     uint64    // the last pass that read it; zero means a pass that did not end
}

// A judge is what a pass knows to decide how long a missed address stays.
//
// There are two reasons to wait. Within the replication lag, a controller may not have received
// yet what another one showed us. And another directory may not have received yet an address
// that this one gave away.
type judge struct {
	current        stamp
	lag            time.Duration
	rules          rulesID    // of the pass
	otherDatabases []sighting // of all databases but the current one
	latest         time.Time  // when any database was last read
	// databaseOf returns the database of an origin. Nil means that none is known.
	databaseOf func(originID) string
	// handoverLag returns how long another directory may need to receive an address of a mail
	// domain that this one gave away. Zero means that no other one may have it. A nil function
	// means zero. Other owners do not shorten it: they may be deleted, which waits for nothing,
	// while the new owner is not read yet.
	handoverLag func(domain string) time.Duration
	inline      int // see objectRecord.arranged
}

// readTime returns when an object was read.
func (j judge) readTime(read Object) time.Time {
	if read.Read.After(j.current.time) {
		return read.Read
	}
	return j.current.time
}

// stampOf returns the stamp of what is learned from an object. Its time is that of the reading,
// which may be long after the pass began: a deletion in between is older than what was read.
func (j judge) stampOf(read Object) stamp {
	s := j.current
	s.time = j.readTime(read)
	return s
}

// mark marks an address as gone, for all senders or, with outsideOnly, for outside senders. If
// the address already has a mark, mark judges it again:
//
//   - A mark of the other kind or of other rules does not show what the directory has. It is
//     made anew.
//   - A mark of another database keeps its pass and the time of the last sighting, because no
//     pass can have seen the address since. It waits as the current database requires. Another
//     directory has had the time since the mark was made to receive the address.
//   - A mark of this database and the same rules stays as it is, unless a tombstone ends its
//     wait.
//   - A mark of a deletion does not hold for an object that is read again without the address. It
//     was undeleted, perhaps into another directory, so the mark is made anew.
func (j judge) mark(a ownedRecord, read Object, outsideOnly bool) ownedRecord {
	alive := !read.Deleted && read.USN != 0
	sameRules := !a.mark.isZero() && a.rules == j.rules && a.becomesInternalOnly == outsideOnly &&
		(a.undeleted || !alive)
	same := sameRules && j.sameDatabase(a.mark.origin)
	if same && !read.Deleted {
		return a
	}
	if !sameRules {
		a.mark, a.rules, a.seen = j.stampOf(read), j.rules, j.lastSeen(a)
		a.becomesInternalOnly, a.undeleted = outsideOnly, !read.Deleted
	}
	a.mark.origin, a.mark.usn = j.current.origin, j.current.usn
	wait := j.waitUntil(a, read)
	if !same || wait.Before(a.notBefore) {
		a.notBefore = wait
	}
	return a
}

// waitUntil returns until when a missed address must stay. Zero means that it may go at once.
func (j judge) waitUntil(a ownedRecord, read Object) (until time.Time) {
	seen := j.lastSeenElsewhere(a, read)
	if !seen.IsZero() {
		until = earlier(seen, j.current.time).Add(j.lag)
	}
	certainlyDeleted := read.Deleted && seen.IsZero()
	if certainlyDeleted || j.handoverLag == nil {
		return j.onlyFuture(until)
	}
	if wait := j.handoverLag(domainOf(a.address)); wait > 0 {
		if handed := earlier(a.mark.time, j.readTime(read)).Add(wait); handed.After(until) {
			until = handed
		}
	}
	return j.onlyFuture(until)
}

// onlyFuture returns a time that is in the future, otherwise zero.
func (j judge) onlyFuture(until time.Time) time.Time {
	if until.After(j.current.time) {
		return until
	}
	return time.Time{}
}

// lastSeenElsewhere returns when a database other than the current one may last have shown a
// missed address. Zero means that none did, or that the object was certainly deleted later than
// that. If the object may have lived when the mark was made, a tombstone must be later than
// everything that was read since: the object may have been deleted, undeleted and given away.
func (j judge) lastSeenElsewhere(a ownedRecord, read Object) (latest time.Time) {
	consider := func(s sighting) {
		shown := s.read
		if !a.seen.IsZero() {
			shown = earlier(shown, a.seen)
		}
		if !a.undeleted {
			s.read = shown
		}
		if shown.After(latest) && !read.deletedAfter(s) {
			latest = shown
		}
	}
	for _, s := range j.otherDatabases {
		if s.pass == 0 || s.pass >= a.learned.pass { // otherwise it was learned here since then
			consider(s)
		}
	}
	for _, s := range []stamp{a.learned, a.lastSource} {
		if !s.isZero() && !j.sameDatabase(s.origin) {
			consider(sighting{database: j.database(s.origin), read: s.time, usn: s.usn})
		}
	}
	return latest
}

// deletedAfter reports whether an object was certainly deleted after a sighting: later by the
// clock, or by a change of the same database that had not been read by then.
func (o Object) deletedAfter(s sighting) bool {
	return o.Deleted && (o.Deletion.After.After(s.read) ||
		s.database != "" && o.Deletion.Database == s.database && o.Deletion.USN > s.usn)
}

// lastSeen returns the latest time at which any database may have shown an address.
func (j judge) lastSeen(a ownedRecord) time.Time {
	latest := j.latest
	for _, s := range []stamp{a.learned, a.lastSource} {
		if s.time.After(latest) {
			latest = s.time
		}
	}
	return earlier(latest, j.current.time)
}

// sameDatabase reports whether an origin is the current database, perhaps under another name of
// its controller.
func (j judge) sameDatabase(origin originID) bool {
	return origin == j.current.origin || j.database(origin) != "" && j.database(origin) == j.database(j.current.origin)
}

// database returns the database of an origin; empty means unknown.
func (j judge) database(origin originID) string {
	if j.databaseOf == nil {
		return ""
	}
	return j.databaseOf(origin)
}

// handoverLag calls HandoverLag; zero if that is nil.
func (o Origin) handoverLag(domain string) time.Duration {
	if o.HandoverLag == nil {
		return 0
	}
	return o.HandoverLag(domain)
}

// newJudge returns a judge with what is the same for all objects of the pass.
func (p *Pass) newJudge() judge {
	record := p.dir.record
	j := judge{lag: p.from.Lag, handoverLag: p.from.HandoverLag, rules: rulesIDOf(p.from.Rules),
		databaseOf: record.databaseOf, latest: p.from.PreviousRead, inline: p.s.config.inline}
	j.current.origin = p.origin
	add := func(s sighting) {
		if s.read.After(j.latest) {
			j.latest = s.read
		}
		if !s.read.IsZero() && !j.sameDatabase(s.origin) {
			j.otherDatabases = append(j.otherDatabases, s)
		}
	}
	known := false
	for i, o := range record.origins {
		known = known || o.pass != 0
		add(sighting{originID(i + 1), o.database, o.read, o.usn, o.pass})
	}
	p.s.state.Lock()
	defer p.s.state.Unlock()
	for _, s := range p.dir.unfinished {
		add(s)
	}
	if !known {
		add(sighting{read: p.from.PreviousRead, pass: record.lastPass()})
	}
	return j
}

// judgeOf returns the judge of one object.
func (p *Pass) judgeOf(o Object) judge {
	j := p.judge
	j.current = p.stamp(o.USN)
	return j
}

// noteRead records how far the pass has read.
func (p *Pass) noteRead(o Object) {
	p.usn = max(p.usn, o.USN)
	if o.Read.After(p.reached) {
		p.reached = o.Read
	}
}

// readAt returns when the pass last read an object.
func (p *Pass) readAt() time.Time {
	if p.reached.After(p.now()) {
		return p.reached
	}
	return p.now()
}

// noteUnfinished stores what a pass that did not end has seen. It may have shown an object
// alive, and the next database must not conclude that the object was deleted before that. The
// caller holds the lock.
func (p *Pass) noteUnfinished() {
	if p.usn == 0 || p.origin == 0 {
		return
	}
	d := p.dir
	if d.record.lastPass() == p.info.Number {
		delete(d.unfinished, p.origin)
		return
	}
	if d.unfinished == nil {
		d.unfinished = map[originID]sighting{}
	}
	usn := max(p.usn, d.unfinished[p.origin].usn)
	d.unfinished[p.origin] = sighting{p.origin, d.record.databaseOf(p.origin), p.readAt(), usn, 0}
}

// remember records that a pass has read a database to its end.
func (r *directoryRecord) remember(id originID, read time.Time, usn, pass uint64) {
	if id == 0 || int(id) > len(r.origins) {
		return
	}
	r.origins = slices.Clone(r.origins)
	o := &r.origins[id-1]
	o.read, o.usn, o.pass = read, usn, pass
}
