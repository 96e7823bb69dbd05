package store

import (
	"math"
	"time"
)

// A stored time after now was written down while the clock was ahead, and says nothing
// about when something happened. What is older than a time is told by the order of passes
// instead; their numbers only grow.

// clockSlack is by how much a stored time may be ahead and still be believed: clocks are
// set back by a little now and then.
const clockSlack = 5 * time.Minute

// believable reports whether something may have happened at a time.
func believable(at, now time.Time) bool { return !at.After(now.Add(clockSlack)) }

// inWindow reports whether something happened in a window that ends now.
func inWindow(at, after, now time.Time) bool { return at.After(after) && believable(at, now) }

// RemovedBetween counts the addresses that passes took from objects of a directory in a
// window that ends now, without approved removals.
func (s *Store) RemovedBetween(name string, after, now time.Time) (int, error) {
	if err := s.beginRead(); err != nil {
		return 0, err
	}
	defer s.endRead()
	s.state.Lock()
	defer s.state.Unlock()
	if d := s.state.dirs[name]; d != nil {
		return d.removals.between(after, now), nil
	}
	return 0, nil
}

// A cut finds the last pass that is older than a time. It is given passes in their order,
// with their times.
type cutoff struct {
	before, now time.Time
	latest      time.Time // of what was believed so far
	pass        uint64    // all up to this one are older; zero: none is
}

// add takes the next pass, and reports whether a later one may be older too. A pass with
// a time in the future, or before that of an earlier pass, is as old as the next one
// whose time can be right.
func (c *cutoff) add(pass uint64, at time.Time) bool {
	if !believable(at, c.now) || !believable(c.latest, at) {
		return true
	}
	if at.After(c.latest) {
		c.latest = at
	}
	if !c.latest.Before(c.before) {
		return false
	}
	c.pass = pass
	return true
}

// oldRows returns the last pass of which all journal rows are older than a time.
func (s *Store) lastOldJournalPass(before time.Time) (uint64, error) {
	c := cutoff{before: before, now: s.config.Now()}
	var err error
	if c.latest, err = s.newest().journalFrom(); err != nil { // all rows before that are gone
		return 0, err
	}
	if first, _ := s.firstFullRead(c.now); first.After(c.latest) { // a first full pass has no rows
		c.latest = first
	}
	for from := uint64(0); ; {
		pass, at, err := s.nextJournalPass(from)
		if err != nil || pass == 0 || !c.add(pass, at) || pass == math.MaxUint64 {
			return c.pass, err
		}
		from = pass + 1
	}
}

// rowsFrom returns the first pass from a number on that has rows in the journal, and the
// time of its last one; zero if there is none.
func (s *Store) nextJournalPass(number uint64) (pass uint64, at time.Time, err error) {
	key, _, err := s.seek(prefixJournal, journalKey(number, 0), false)
	if err != nil || key == nil {
		return 0, time.Time{}, err
	}
	pass = passOf(key)
	key, value, err := s.seek(prefixJournal, journalKey(pass, math.MaxUint32), true)
	if err != nil || key == nil {
		return 0, time.Time{}, err
	}
	d := newDecoder(value)
	return pass, d.time(), nil
}

// oldPasses returns the last pass whose own row is older than a time.
func (s *Store) lastOldPass(before time.Time) (uint64, error) {
	c := cutoff{before: before, now: s.config.Now()}
	err := s.scan([]byte(prefixPass), false, func(kv pair) error {
		d := newDecoder(kv.value)
		if p := d.pass(); d.err == nil && !c.add(passOf(kv.key), p.Ended) {
			return errStopScan
		}
		return nil
	})
	return c.pass, ignoreStop(err)
}

// firstBelieved returns the time of the first pass that has a row and is believed.
func (r reader) firstBelievable(now time.Time) (first time.Time, err error) {
	err = r.scan([]byte(prefixPass), false, func(kv pair) error {
		d := newDecoder(kv.value)
		if p := d.pass(); d.err == nil && believable(p.Ended, now) {
			first = p.Ended
			return errStopScan
		}
		return nil
	})
	return first, ignoreStop(err)
}
