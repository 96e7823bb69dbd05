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
	// AgeUnknown means that since the last full pass an incremental one followed a pass of
	// unknown age, so deletions may be too old to be seen.
	AgeUnknown bool `json:"age_unknown,omitempty"`
	// Context is the naming context that was read; empty in cursors of an early version.
	Context string `json:"context,omitempty"`
	// View and Account determine what the connection could see; empty if unknown, and in
	// cursors of an early version.
	View    string `json:"view,omitempty"`
	Account string `json:"account,omitempty"`
	// Age is the Age of the rootDSE.
	Age time.Duration `json:"age,omitempty"`
	// Term is that of the rootDSE, see directory.Root.
	Term string `json:"term,omitempty"`
	// Differs means that the index was found to differ from what a hub publishes.
	Differs bool `json:"differs,omitempty"`
	// AsOf is when the directory was as the index shows it, by the local clock, and Former are the streams
	// that were followed before, the last one first. Both are zero for a controller.
	AsOf   time.Time        `json:"as_of,omitzero"`
	Former []directory.GUID `json:"former,omitempty"`
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
		Context: root.DefaultNamingContext, Age: root.Age, Term: root.Term,
		View: viewOf(root), Account: strings.ToLower(root.Account),
		DeletedHidden: kind == store.Incremental && (c.DeletedHidden || !root.DeletedVisible)}
	if c.InvocationID == n.InvocationID {
		n.Epoch = c.Epoch
		if n.USN < max(c.USN, c.Highest) || c.viewMismatch(n) != "" {
			n.Epoch++
		}
	}
	return n
}
