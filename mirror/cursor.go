package mirror

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// cursor is how far a directory has been read, and in which database. Update sequence
// numbers have no meaning in another database (MS-ADTS 3.1.1.1.9).
type cursor struct {
	InvocationID directory.GUID `json:"invocation_id"`
	USN          uint64         `json:"usn"`
	Host         string         `json:"host"`
	// Epoch counts how often a database was set back without a new invocationId, as by a
	// restored disk image, or was read in another view.
	Epoch int `json:"epoch,omitempty"`
	// Highest is the last known highest USN of the controller if it is above USN: a full
	// pass has read the changes up to it. Zero means USN.
	Highest uint64 `json:"highest,omitempty"`
	// DeletedHidden means that passes since the last full one could not see deleted
	// objects, so there may be tombstones below USN.
	DeletedHidden bool `json:"blind,omitempty"`
	// Context is the naming context that was read; empty in cursors of an early version.
	Context string `json:"context,omitempty"`
	// View and Account determine what the connection could see; empty if unknown, and in
	// cursors of an early version.
	View    string `json:"view,omitempty"`
	Account string `json:"account,omitempty"`
}

func (c cursor) encode() ([]byte, error) { return json.Marshal(c) }

// decodeCursor reads the output of encode. A missing or unreadable cursor gives the zero
// value, which leads to a full pass.
func decodeCursor(b []byte) cursor {
	var c cursor
	if json.Unmarshal(b, &c) != nil {
		return cursor{}
	}
	return c
}

// database identifies the copy of the directory that the cursor belongs to, in its view.
func (c cursor) database() string {
	name := c.InvocationID.String()
	if c.Epoch > 0 {
		name = fmt.Sprintf("%s/%d", name, c.Epoch)
	}
	if c.View == viewCatalog {
		name += "/" + viewCatalog
	}
	return name
}

// next returns the cursor after a pass that began with this rootDSE. A full pass needs no
// tombstones, because it removes what it does not see.
func (c cursor) next(root directory.Root, kind store.Kind) cursor {
	n := cursor{InvocationID: root.InvocationID, USN: root.HighestCommittedUSN, Host: root.DNSHostName,
		Context: root.DefaultNamingContext,
		View:    viewOf(root), Account: strings.ToLower(root.Account),
		DeletedHidden: kind == store.Incremental && (c.DeletedHidden || !root.DeletedVisible)}
	if c.InvocationID == n.InvocationID {
		n.Epoch = c.Epoch
		if n.USN < max(c.USN, c.Highest) || c.viewMismatch(n) != "" {
			n.Epoch++
		}
	}
	return n
}

// maxIncrementalAge is the longest time after a good pass in which an incremental one may
// follow. It is far below any tombstone lifetime (60 or 180 days, MS-ADTS 6.1.1.2.4.1.1): a
// deletion without a tombstone is never seen.
const maxIncrementalAge = 7 * 24 * time.Hour

// deletedHiddenFullInterval is the interval of full passes while deleted objects cannot be
// seen.
const deletedHiddenFullInterval = 10 * time.Minute

// situation is the input of the choice between a full and an incremental pass.
type situation struct {
	stored       store.Directory
	root         directory.Root
	fingerprint  string
	fullInterval time.Duration
	now          time.Time
}

// reasonSetBack has to be recorded. The next pass may not detect it, because the controller
// may have written as many changes again by then.
const reasonSetBack = "the domain controller was set back: its highestCommittedUSN went down"

// whyFull returns the reason for a full pass; empty if an incremental one is enough. It is
// a pure function.
func whyFull(s situation) string {
	if why := mustFull(s); why != "" {
		return why
	}
	return dueFull(s)
}

// mustFull returns the reason that rules out an incremental pass; empty if there is none.
// It is a pure function.
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
	case s.age(s.stored.LastGood()) > maxIncrementalAge:
		return "the last good pass is too long ago to see all deletions"
	}
	return ""
}

// dueFull returns the reason for which a full pass should follow an incremental one; empty
// if none is due. It is a pure function.
func dueFull(s situation) string {
	switch at := decodeCursor(s.stored.Cursor); {
	case at.DeletedHidden && s.root.DeletedVisible:
		return "deleted objects could not be seen for a while"
	case !s.root.DeletedVisible && s.intervalPassed(min(s.fullInterval, deletedHiddenFullInterval)):
		return "deleted objects cannot be seen"
	case s.intervalPassed(s.fullInterval):
		return "the periodic full pass is due"
	}
	return ""
}

// maxFullPause is the longest pause after a full pass that takes long.
const maxFullPause = 24 * time.Hour

// intervalPassed reports whether an interval of full passes is over. A pass that takes
// longer than half the interval is followed by a pause of twice its duration, measured from
// its start, so full passes do not follow each other without end. A duration that shows
// that the clock was set counts as zero.
func (s situation) intervalPassed(every time.Duration) bool {
	full := s.stored.LastFull
	took := full.Ended.Sub(full.Started)
	if took < 0 || took > maxFullPause {
		took = 0
	}
	return s.age(full.Started) >= max(every, 2*took)
}

// age returns the time since t by the local clock. A time in the future was recorded before
// the clock was set back. It says as little about the present as one in the past, so it
// counts as equally old.
func (s situation) age(t time.Time) time.Duration { return s.now.Sub(t).Abs() }
