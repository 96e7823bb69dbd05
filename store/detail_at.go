package store

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/internal/clock"
)

// ErrNotKept means that what the index held at a time is no longer known.
var ErrNotKept = errors.New("no record of that time")

// Past is what the index held of an address at a time in the past.
type Past struct {
	Presence
	// Owners are the owners at that time. For an owner that has lost the address since, class,
	// attribute, pass, domain controller and USN are not known.
	Owners []Owner
}

// At returns what the index held of an address at a time in the past, worked out from the
// present owners and the journal. It returns ErrNotKept if they do not reach back that far.
func (s *Store) At(a address.Address, at time.Time) (Past, error) {
	first, read := s.firstFullRead(at) // before the view: what is read meanwhile does not count
	v, err := s.view()
	if err != nil {
		return Past{}, err
	}
	defer v.done()
	from, err := v.journalFrom()
	if err != nil {
		return Past{}, err
	}
	if at.Before(from) {
		return Past{}, fmt.Errorf("%w: the journal begins at %s", ErrNotKept, from.Local().Format(time.RFC3339))
	}
	detail, err := v.describe(a)
	if err != nil {
		return Past{}, err
	}
	then := detailAt(withoutFutureTimes(detail, s.config.Now()), at)
	if !then.Known && !read {
		if first.IsZero() {
			return Past{}, fmt.Errorf("%w: no directory has been read in full yet", ErrNotKept)
		}
		return Past{}, fmt.Errorf("%w: the first directory was read in full at %s",
			ErrNotKept, first.Local().Format(time.RFC3339))
	}
	return then, nil
}

// detailAt works out which objects owned an address at a time, and which of them were open to
// outside senders. It is a pure function. Every loss in the journal has the time since when the
// object had the address, so gains are not needed: the first full pass of a directory journals
// none.
func detailAt(d Detail, at time.Time) Past {
	var then Past
	for _, o := range d.Owners {
		if !o.Learned.After(at) {
			then.Owners = append(then.Owners, o)
		}
	}
	removed, closed := d.Removed, time.Time{}
	if removed.After(at) {
		removed = time.Time{}
	}
	for _, e := range d.History {
		switch {
		case e.Added:
		case !e.Time.After(at):
			if e.Time.After(removed) && !e.OutsideOnly {
				removed = e.Time
			}
			if e.Time.After(closed) && !e.InternalOnly {
				closed = e.Time
			}
		case !e.Learned.After(at) && !e.OutsideOnly:
			then.Owners = append(then.Owners, Owner{Directory: e.Directory, GUID: e.GUID, DN: e.DN,
				InternalOnly: e.InternalOnly, Learned: e.Learned})
		}
	}
	then.Known = len(then.Owners) > 0
	if !then.Known {
		then.Removed = removed
		return then
	}
	then.InternalOnly = true
	for i, o := range then.Owners {
		then.Owners[i].InternalOnly = internalOnlyAt(o, d.History, at)
		then.InternalOnly = then.InternalOnly && then.Owners[i].InternalOnly
	}
	if then.InternalOnly {
		then.Removed = closed
	}
	return then
}

// internalOnlyAt reports whether an owner accepted only internal senders at a time. The first
// change after that time shows the state before it. An owner without a change is as it is now,
// or as it was when it lost the address.
func internalOnlyAt(o Owner, history []Event, at time.Time) bool {
	for _, e := range history {
		if e.Directory != o.Directory || e.GUID != o.GUID || !e.Time.After(at) {
			continue
		}
		if e.OutsideOnly {
			return e.Added
		}
		break
	}
	return o.InternalOnly
}

// withoutFutureTimes replaces times that were recorded while the clock was ahead. A change gets
// the time of the change after it; the time when an address was learned becomes unknown.
func withoutFutureTimes(d Detail, now time.Time) Detail {
	learned := func(at time.Time) time.Time {
		if !clock.Believable(at, now) {
			return time.Time{}
		}
		return at
	}
	d.Owners, d.History = slices.Clone(d.Owners), slices.Clone(d.History)
	for i, o := range d.Owners {
		d.Owners[i].Learned = learned(o.Learned)
	}
	latest := now
	for i, e := range slices.Backward(d.History) {
		if !clock.Believable(e.Time, now) {
			d.History[i].Time = latest
		}
		latest = d.History[i].Time
		d.History[i].Learned = learned(e.Learned)
	}
	return d
}

// firstFullRead returns when the first of the directories was read in full, and whether one had
// been by a time. Zero means that none was or that it was too long ago to be recorded.
func (s *Store) firstFullRead(at time.Time) (first time.Time, read bool) {
	for _, name := range s.Directories() {
		d := s.Directory(name)
		if d.LastFull.Number == 0 {
			continue
		}
		if read = read || d.ReadBy(at); first.IsZero() || d.FirstFull.Before(first) {
			first = d.FirstFull
		}
	}
	return first, read
}

// HadDomain reports whether the index had an address of a canonical domain at a time in the
// past. It corrects the present count by the journal since then.
func (s *Store) HadDomain(domain string, at time.Time) (bool, error) {
	n := s.DomainAddresses(domain)
	changed := map[address.Address]bool{}
	err := s.Journal(JournalQuery{Since: at}, func(e Event) error {
		if e.Address.Domain() == domain && !e.Time.Equal(at) {
			changed[e.Address] = true
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	for a := range changed {
		detail, err := s.Describe(a)
		if err != nil {
			return false, err
		}
		if len(detail.Owners) > 0 {
			n--
		}
		if detailAt(detail, at).Known {
			n++
		}
	}
	return n > 0, nil
}
