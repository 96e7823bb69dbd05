package mirror

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// cursor says how far a directory has been read, and on which database: update
// sequence numbers mean nothing on another one (MS-ADTS 3.1.1.1.9).
type cursor struct {
	InvocationID directory.GUID `json:"invocation_id"`
	USN          uint64         `json:"usn"`
	Host         string         `json:"host"`
	// Epoch counts how often a database was set back without taking a new
	// invocationId, as a restored disk image is, or was read in another view.
	Epoch int `json:"epoch,omitempty"`
	// Highest is how far the controller was when it was last asked, if that was later: a full
	// pass has read changes up to there. Zero: as USN.
	Highest uint64 `json:"highest,omitempty"`
	// Blind: since the last full pass it was moved on by passes that could not see deleted
	// objects, so that there may be tombstones below it.
	Blind bool `json:"blind,omitempty"`
	// Context is the naming context that was read; empty: written by an early version.
	Context string `json:"context,omitempty"`
	// View and Account say what the connection could see; empty: written by an early version,
	// or not known.
	View    string `json:"view,omitempty"`
	Account string `json:"account,omitempty"`
}

func (c cursor) encode() ([]byte, error) { return json.Marshal(c) }

// decodeCursor reads what encode wrote. No cursor, or one that cannot be read, is the
// zero one, which leads to a full pass.
func decodeCursor(b []byte) cursor {
	var c cursor
	if json.Unmarshal(b, &c) != nil {
		return cursor{}
	}
	return c
}

// database names the copy of the directory that the cursor belongs to, as it was seen.
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

// next is the cursor after a pass of a kind that began with what the controller said of
// itself. A full pass needs no tombstones: what it does not see is gone.
func (c cursor) next(root directory.Root, kind store.Kind) cursor {
	n := cursor{InvocationID: root.InvocationID, USN: root.HighestCommittedUSN, Host: root.DNSHostName, Context: root.DefaultNamingContext,
		View: viewOf(root), Account: strings.ToLower(root.Account),
		Blind: kind == store.Incremental && (c.Blind || !root.DeletedVisible)}
	if c.InvocationID == n.InvocationID {
		n.Epoch = c.Epoch
		if n.USN < max(c.USN, c.Highest) || c.otherView(n) != "" {
			n.Epoch++
		}
	}
	return n
}

// maxAge is how old a good pass may be and the next one still be incremental. It is
// far below any tombstone lifetime (60 or 180 days, MS-ADTS 6.1.1.2.4.1.1): a deletion
// whose tombstone is gone is never heard of.
const maxAge = 7 * 24 * time.Hour

// blindFull is how often everything is read where deletions cannot be seen.
const blindFull = 10 * time.Minute

// situation is what decides between a full and an incremental pass.
type situation struct {
	stored      store.Directory
	root        directory.Root
	fingerprint string
	full        time.Duration // interval of full passes
	now         time.Time
}

// setBack is a reason that the next pass may not see any more: by then the controller may
// have written as many changes again.
const setBack = "the domain controller was set back: its highestCommittedUSN went down"

// whyFull is the reason for a full pass, empty where an incremental one will do. It is
// a pure function.
func whyFull(s situation) string {
	if why := mustFull(s); why != "" {
		return why
	}
	return dueFull(s)
}

// mustFull is the reason for which no incremental pass can be run, empty if one can. It is
// a pure function.
func mustFull(s situation) string {
	at := decodeCursor(s.stored.Cursor)
	next := at.next(s.root, store.Full)
	switch {
	case s.stored.LastFull.Number == 0:
		return "nothing was read yet"
	case s.stored.Cursor == nil || at.InvocationID.IsZero():
		return "there is no cursor"
	case s.stored.Fingerprint != s.fingerprint:
		return "the rules of what a recipient is have changed"
	case s.stored.FullPassPending != "":
		return fmt.Sprintf("a full pass was broken off (%s)", s.stored.FullPassPending)
	case at.otherView(next) != "":
		return at.otherView(next)
	case at.InvocationID != s.root.InvocationID && at.Host == s.root.DNSHostName:
		return "the domain controller has a new invocationId: it was restored or rebuilt"
	case at.InvocationID != s.root.InvocationID:
		return fmt.Sprintf("another domain controller than before (%s)", at.Host)
	case s.root.HighestCommittedUSN < max(at.USN, at.Highest):
		return setBack
	case s.ago(s.stored.LastGood()) > maxAge:
		return "the last good pass is too long ago to hear of all deletions"
	}
	return ""
}

// dueFull is the reason for which a full pass should follow an incremental one, empty if
// none is due. It is a pure function.
func dueFull(s situation) string {
	switch at := decodeCursor(s.stored.Cursor); {
	case at.Blind && s.root.DeletedVisible:
		return "deleted objects could not be seen for a while"
	case !s.root.DeletedVisible && s.passed(min(s.full, blindFull)):
		return "deleted objects cannot be seen"
	case s.passed(s.full):
		return "the periodic full pass is due"
	}
	return ""
}

// maxPause is the longest pause that a full pass gets because it takes long.
const maxPause = 24 * time.Hour

// passed reports whether it is time for the next one of full passes that run every so often.
// One that takes longer than that is followed by as long a pause, so that full passes do not
// follow each other for ever. A duration that shows that the clock was set counts as none.
func (s situation) passed(every time.Duration) bool {
	full := s.stored.LastFull
	took := full.Ended.Sub(full.Started)
	if took < 0 || took > maxPause {
		took = 0
	}
	return s.ago(full.Started) >= max(every, 2*took)
}

// ago is how long ago something was by our clock. What lies in the future was written
// down before the clock was set back, and says as little about now as if it were past.
func (s situation) ago(t time.Time) time.Duration { return s.now.Sub(t).Abs() }
