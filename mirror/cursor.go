package mirror

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// cursor records how far a directory has been read, and in which database. Update sequence numbers are
// meaningless in any other database (MS-ADTS 3.1.1.1.9).
type cursor struct {
	InvocationID directory.GUID `json:"invocation_id"`
	USN          uint64         `json:"usn"`
	Host         string         `json:"host"`
	// Epoch counts how often the database was set back without a new invocationId, for example by a restored disk
	// image, or was read in another view.
	Epoch int `json:"epoch,omitempty"`
	// Highest is the highest known USN of the controller, if it exceeds USN: a full pass has read the changes up
	// to it. Zero means USN.
	Highest uint64 `json:"highest,omitempty"`
	// DeletedHidden means that passes since the last full one could not see deleted objects, so there may be
	// unread tombstones below USN.
	DeletedHidden bool `json:"blind,omitempty"`
	// AgeUnknown means that an incremental pass since the last full one followed a pass of unknown age, so
	// deletions may be too old to be visible.
	AgeUnknown bool `json:"age_unknown,omitempty"`
	// Context is the naming context that was read. It is empty in cursors of early versions.
	Context string `json:"context,omitempty"`
	// Hosts are the configured names by which Context was read, the last one first. It is empty in cursors of early
	// versions.
	Hosts []string `json:"hosts,omitempty"`
	// View and Account determine what the connection could see. They are empty if unknown, and in cursors of
	// early versions.
	View    string `json:"view,omitempty"`
	Account string `json:"account,omitempty"`
	// Clock is the local clock to which the times in the store belong.
	Clock localClock `json:"clock,omitzero"`
	// Age is the Age of the rootDSE.
	Age time.Duration `json:"age,omitempty"`
	// Term is the Term of the rootDSE; see directory.Root.
	Term string `json:"term,omitempty"`
	// Differs means that the index was found to differ from what a hub publishes.
	Differs bool `json:"differs,omitempty"`
	// NoAddressesSince is when a full pass began to see no address at all, while the index has some. Zero means
	// that the last full pass saw one.
	NoAddressesSince time.Time `json:"no_addresses_since,omitzero"`
	// AsOf is the local time for which the index shows the directory. Former are the streams that were followed
	// before, most recent first. Both are zero for a controller.
	AsOf   time.Time        `json:"as_of,omitzero"`
	Former []directory.GUID `json:"former,omitempty"`
	// Begun is what the passes since have read a part of; zero means nothing.
	Begun beginning `json:"begun,omitzero"`
}

// beginning is the part of a stream that a pass without an end has read. Its additions are in the index.
type beginning struct {
	InvocationID directory.GUID `json:"invocation_id"`
	USN          uint64         `json:"usn"` // up to which it may have read
	AsOf         time.Time      `json:"as_of,omitzero"`
}

func (c cursor) encode() ([]byte, error) { return json.Marshal(c) }

// decodeCursor decodes the output of encode. For a missing or unreadable cursor, it returns the zero value,
// which leads to a full pass.
func decodeCursor(b []byte) cursor {
	var c cursor
	if json.Unmarshal(b, &c) != nil {
		return cursor{}
	}
	return c
}

// database identifies the copy of the directory that the cursor belongs to, including the view.
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

// next returns the cursor after a pass that started with this rootDSE. A full pass needs no tombstones, because
// it removes what it does not see.
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
