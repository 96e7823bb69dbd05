package mirror

import (
	"fmt"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/internal/clock"
	"rcpt-milter/store"
)

// maxIncrementalAge is the longest time after a good pass in which an incremental pass may follow. It is far
// below any tombstone lifetime (60 or 180 days, MS-ADTS 6.1.1.2.4.1.1), because a deletion without a tombstone
// is never seen.
const maxIncrementalAge = 7 * 24 * time.Hour

// deletedHiddenFullInterval is the interval of full passes while deleted objects are hidden.
const deletedHiddenFullInterval = 10 * time.Minute

// noAddressesFullInterval is the interval of full passes while they see no address. Objects that were created or
// changed meanwhile show their addresses only to another full pass.
const noAddressesFullInterval = 10 * time.Minute

// differsFullInterval is the interval of full passes while the index differs from what the hub publishes.
const differsFullInterval = 2 * time.Minute

// situation is the input of the choice between a full and an incremental pass.
type situation struct {
	stored       store.Directory
	root         directory.Root
	fingerprint  string
	fullInterval time.Duration
	now          time.Time
	differs      bool // the index differs from what the hub publishes
}

// reasonSetBack must be recorded. The next pass may not detect the set-back, because the controller may have
// written as many changes again by then.
const reasonSetBack = "the domain controller was set back: its highestCommittedUSN went down"

// mustFull returns the reason that rules out an incremental pass, or an empty string. It is a pure function.
func mustFull(s situation) string {
	at := decodeCursor(s.stored.Cursor)
	next := at.next(s.root, store.Full)
	switch {
	case s.stored.LastFull.Number == 0:
		return "nothing has been read yet"
	case s.stored.Cursor == nil || at.InvocationID.IsZero():
		return "there is no cursor"
	case s.stored.Fingerprint != s.fingerprint:
		return "the recipient rules have changed"
	case s.stored.Doubt != "" && !s.stored.DoubtRead:
		return s.stored.Doubt
	case s.stored.FullPassPending != "":
		return fmt.Sprintf("a full pass was interrupted (%s)", s.stored.FullPassPending)
	case at.viewMismatch(next) != "":
		return at.viewMismatch(next)
	case at.InvocationID != s.root.InvocationID && at.Host == s.root.DNSHostName:
		return "the domain controller has a new invocationId: it was restored or rebuilt"
	case at.InvocationID != s.root.InvocationID:
		return fmt.Sprintf("another domain controller than before (%s)", at.Host)
	case s.root.HighestCommittedUSN < max(at.USN, at.Highest):
		return reasonSetBack
	case s.tooOld():
		return "the last good pass is too long ago to see all deletions"
	}
	return ""
}

// dueFull returns the reason for a full pass after an incremental one, or an empty string. It is a pure
// function.
func dueFull(s situation) string {
	switch at := decodeCursor(s.stored.Cursor); {
	case at.DeletedHidden && s.root.DeletedVisible:
		return "deleted objects could not be seen for a while"
	case at.AgeUnknown:
		return "the clock was set back, so deletions may be too old to be seen"
	case s.differs && s.intervalPassed(min(s.fullInterval, differsFullInterval)):
		return "the index differs from what the hub publishes"
	case !s.root.DeletedVisible && s.intervalPassed(min(s.fullInterval, deletedHiddenFullInterval)):
		return "deleted objects cannot be seen"
	case !at.NoAddressesSince.IsZero() && s.intervalPassed(min(s.fullInterval, noAddressesFullInterval)):
		return "the last full pass saw no address"
	case s.intervalPassed(s.fullInterval):
		return "the periodic full pass is due"
	}
	return ""
}

// maxFullPause is the longest pause after a full pass of long duration.
const maxFullPause = 24 * time.Hour

// intervalPassed reports whether an interval of full passes has elapsed. After a pass that takes longer than
// half the interval, the interval is twice its duration, measured from its start, so full passes do not follow
// each other without pause. A duration that reveals a change of the clock counts as zero. If the start of the
// last full pass is unknown because of the clock, the interval has elapsed.
func (s situation) intervalPassed(every time.Duration) bool {
	full := s.stored.LastFull
	took := full.Ended.Sub(full.Started)
	if took < 0 || took > maxFullPause {
		took = 0
	}
	return isOver(full.Started, s.now, max(every, 2*took))
}

// tooOld reports whether the last good pass is too old for an incremental pass. If its age is unknown, an
// incremental pass follows for the additions, and then a full pass.
func (s situation) tooOld() bool {
	age, known := clock.Elapsed(s.stored.LastGood(), s.now)
	return known && !s.stored.LastGoodDoubted && age > maxIncrementalAge
}
