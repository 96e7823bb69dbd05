package store

import (
	"hash/fnv"
	"slices"
	"time"
)

// cause tells the rules apart under which an address was marked as gone. Zero means not
// known: a mark of a version that did not say.
type rulesID uint64

// causeOf is the cause of a fingerprint of rules.
func rulesIDOf(fingerprint string) rulesID {
	if fingerprint == "" {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(fingerprint)) // never fails
	return rulesID(h.Sum64())
}

// sighting says how far a database was read, and when: what was stored then was there,
// unless it was marked.
type sighting struct {
	origin   originID
	database string    // empty: not known
	read     time.Time // no later than that, by our clock
	usn      uint64    // no later change of that database was read
	pass     uint64    // the last one; zero: one that did not end
}

// judge is what a pass knows that decides how long an address stays that it missed.
//
// There are two reasons to wait. A controller may not have heard yet, within lag, of what
// another one showed us; and another directory may not have heard yet of an address that
// this one gave away.
type judge struct {
	current        stamp
	lag            time.Duration
	rules          rulesID    // the rules of the pass
	otherDatabases []sighting // of databases that are not that of now
	latest         time.Time  // when any database was last read
	// name is the database of an origin.
	databaseOf func(originID) string
	// shared is how long another directory may need to hear of an address that this one
	// gave away; zero: no other one may have it, or another object has it already. Nil
	// means zero.
	handOverWait func(a ownedRecord) time.Duration
}

// at is when an object was read.
func (j judge) readTime(read Object) time.Time {
	if read.Read.After(j.current.time) {
		return read.Read
	}
	return j.current.time
}

// learned is the stamp of what an object taught. Its time is that of the reading, which may
// be long after the pass began: a deletion in between is older than what was read.
func (j judge) stampOf(read Object) stamp {
	s := j.current
	s.time = j.readTime(read)
	return s
}

// mark marks an address as gone, for all or (closes) for outside senders only, or judges a
// mark that is there already. A mark of the other kind or of other rules says nothing about
// what the directory has: it is made as if new. One of another
// database keeps its pass and the time of the last sighting, which no pass can have been
// since, and waits as that database must; another directory has had since the mark was made
// to hear of the address. One of the same cause stays, unless a tombstone ends the wait.
func (j judge) mark(a ownedRecord, read Object, closes bool) ownedRecord {
	sameRules := !a.gone.isZero() && a.rules == j.rules && a.becomesInternalOnly == closes
	same := sameRules && j.sameDatabase(a.gone.origin)
	if same && !read.Deleted {
		return a
	}
	if !sameRules {
		a.gone, a.rules, a.seen, a.becomesInternalOnly = j.stampOf(read), j.rules, j.lastSeen(a), closes
	}
	a.gone.origin, a.gone.usn = j.current.origin, j.current.usn
	wait := j.waitUntil(a, read)
	if !same || wait.Before(a.notBefore) {
		a.notBefore = wait
	}
	return a
}

// wait is until when an address must stay that was missed; zero: it may go at once.
func (j judge) waitUntil(a ownedRecord, read Object) (until time.Time) {
	if seen := j.lastSeenElsewhere(a, read); !seen.IsZero() {
		until = earlier(seen, j.current.time).Add(j.lag)
	}
	if read.Deleted || j.handOverWait == nil {
		return j.onlyFuture(until)
	}
	if wait := j.handOverWait(a); wait > 0 {
		if handed := earlier(a.gone.time, j.readTime(read)).Add(wait); handed.After(until) {
			until = handed
		}
	}
	return j.onlyFuture(until)
}

// pending is a time that is still to come; zero otherwise.
func (j judge) onlyFuture(until time.Time) time.Time {
	if until.After(j.current.time) {
		return until
	}
	return time.Time{}
}

// elsewhere is when another database than that of now may last have shown an address that
// is missed; zero: none did, or the object was deleted later than that for certain.
func (j judge) lastSeenElsewhere(a ownedRecord, read Object) (latest time.Time) {
	consider := func(s sighting) {
		if !a.seen.IsZero() {
			s.read = earlier(s.read, a.seen)
		}
		if s.read.After(latest) && !read.deletedAfter(s) {
			latest = s.read
		}
	}
	for _, s := range j.otherDatabases {
		if s.pass == 0 || s.pass >= a.learned.pass { // otherwise it was learned since, here
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

// diedAfter reports whether an object was deleted after a sighting of it for certain:
// later by the clock, or by a change of the same database that was not yet read then.
func (o Object) deletedAfter(s sighting) bool {
	return o.Deleted && (o.Deletion.After.After(s.read) ||
		s.database != "" && o.Deletion.Database == s.database && o.Deletion.USN > s.usn)
}

// lastSeen is the latest time at which any database may have shown an address.
func (j judge) lastSeen(a ownedRecord) time.Time {
	latest := j.latest
	for _, s := range []stamp{a.learned, a.lastSource} {
		if s.time.After(latest) {
			latest = s.time
		}
	}
	return earlier(latest, j.current.time)
}

// here reports whether an origin is the database of now, perhaps under another name of its
// controller.
func (j judge) sameDatabase(origin originID) bool {
	return origin == j.current.origin || j.database(origin) != "" && j.database(origin) == j.database(j.current.origin)
}

// database is the name of the database of an origin; empty: not known.
func (j judge) database(origin originID) string {
	if j.databaseOf == nil {
		return ""
	}
	return j.databaseOf(origin)
}

// wait is Shared; zero where it is nil.
func (o Origin) handOverWait(domain string) time.Duration {
	if o.HandOverWait == nil {
		return 0
	}
	return o.HandOverWait(domain)
}

// newJudge returns what the pass knows about all objects alike.
func (p *Pass) newJudge() judge {
	record := p.dir.record
	j := judge{lag: p.from.Lag, rules: rulesIDOf(p.from.Rules), databaseOf: record.databaseOf, latest: p.from.PreviousRead}
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

// objectJudge is a judge of one object. It reads owners of addresses, and keeps the first
// error.
type objectJudge struct {
	judge
	err error
}

func (p *Pass) objectJudge(t *tx, o Object) *objectJudge {
	j := &objectJudge{judge: p.judge}
	j.current = p.stamp(o.USN)
	j.handOverWait = func(a ownedRecord) time.Duration {
		wait := p.from.handOverWait(domainOf(a.address))
		if wait == 0 || j.err != nil {
			return 0
		}
		stays := false
		if stays, j.err = t.ownedElsewhere(a, p.dir.record.id, o.GUID); stays {
			return 0
		}
		return wait
	}
	return j
}

// ownedBesides reports whether another object has an address, of this directory or another
// one, and is not about to lose it. Of two owners that lose an address at the same time the
// second one finds the mark of the first one. An open address must be open there, too.
func (t *tx) ownedElsewhere(lost ownedRecord, dir dirID, guid GUID) (bool, error) {
	record, err := t.address(lost.address)
	if err != nil {
		return false, err
	}
	for _, o := range record.owners {
		if o.dir == dir && o.guid == guid {
			continue
		}
		other, err := t.object(o.dir, o.guid)
		if err != nil {
			return false, err
		}
		for _, a := range other.addresses {
			if a.address == lost.address && a.stays(lost.internalOnly) {
				return true, nil
			}
		}
	}
	return false, nil
}

// noteRead takes note of how far the pass has read.
func (p *Pass) noteRead(o Object) {
	p.usn = max(p.usn, o.USN)
	if o.Read.After(p.reached) {
		p.reached = o.Read
	}
}

// readAt is when the pass last read something.
func (p *Pass) readAt() time.Time {
	if p.reached.After(p.now()) {
		return p.reached
	}
	return p.now()
}

// noteUnfinished keeps what a pass that did not end has seen: it may have shown an object
// alive, which the next database must not take for deleted before that. The caller has the
// lock.
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

// remember notes that a pass has read a database to its end.
func (r *directoryRecord) remember(id originID, read time.Time, usn, pass uint64) {
	if id == 0 || int(id) > len(r.origins) {
		return
	}
	r.origins = slices.Clone(r.origins)
	o := &r.origins[id-1]
	o.read, o.usn, o.pass = read, usn, pass
}
