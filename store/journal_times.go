package store

import (
	"math"
	"time"

	"rcpt-milter/internal/clock"
)

// A stored time in the future was recorded while the clock was ahead and does not say when
// something happened. The order of passes decides what is older than a time instead, because
// pass numbers only grow.

// A cutoff finds the last pass that is older than a time. It receives passes in their order,
// with their times.
type cutoff struct {
	before, now time.Time
	latest      time.Time // of the times accepted so far
	pass        uint64    // this pass and all before it are older; zero means none
}

// add takes the next pass and reports whether a later one may be older too. A pass whose time is
// in the future, or before the time of an earlier pass, is as old as the next pass with a
// possible time.
func (c *cutoff) add(pass uint64, at time.Time) bool {
	if !clock.Believable(at, c.now) || !clock.Believable(c.latest, at) {
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

// lastOldJournalPass returns the last pass whose journal rows are all older than a time.
func (s *Store) lastOldJournalPass(before time.Time) (uint64, error) {
	c := cutoff{before: before, now: s.config.Now()}
	var err error
	if c.latest, err = s.newest().journalFrom(); err != nil { // all rows before that time are gone
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

// nextJournalPass returns the first pass from a number on that has rows in the journal, and the
// time of its last row. Zero means that there is none.
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

// lastOldPass returns the last pass whose own row is older than a time.
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

// firstBelievable returns the time of the first pass that has a row with a possible time.
func (r reader) firstBelievable(now time.Time) (first time.Time, err error) {
	err = r.scan([]byte(prefixPass), false, func(kv pair) error {
		d := newDecoder(kv.value)
		if p := d.pass(); d.err == nil && clock.Believable(p.Ended, now) {
			first = p.Ended
			return errStopScan
		}
		return nil
	})
	return first, ignoreStop(err)
}
