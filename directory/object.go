package directory

import (
	"fmt"
	"time"
)

// GUID is an objectGUID: the identity of an object for its whole life, through
// renames, moves and deletion (MS-ADTS 3.1.1.1.4). Bytes are in wire order.
type GUID [16]byte

// String prints the GUID the way Windows tools do: the first three groups are
// little-endian on the wire (MS-DTYP 2.3.4).
func (g GUID) String() string {
	return fmt.Sprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%x-%x",
		g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8:10], g[10:16])
}

// IsZero reports whether the GUID was never set; no object has such a GUID.
func (g GUID) IsZero() bool { return g == GUID{} }

// A Value is one value of an address attribute, as the directory holds it.
type Value struct {
	Attribute string // lower case, for example "proxyaddresses" or "mail"
	Raw       string // for example "SMTP:John.Doe@corp.example"

	InternalOnly bool // it accepts inside senders only; set by a stream, not by a controller
}

// Object is one directory entry as read, before the mirror classifies it. Nothing here says
// whether it is a recipient.
type Object struct {
	GUID    GUID
	DN      string    // distinguished name as the server printed it; may change, never identity
	Classes []string  // objectClass values, lower case, in the server's order
	USN     uint64    // uSNChanged on this domain controller; 0: hidden from this account
	Created uint64    // uSNCreated on the same controller; 0: not readable
	Changed time.Time // whenChanged on this controller; zero: not readable

	Deleted  bool    // isDeleted or isRecycled is TRUE: it owns no address, even if it has values
	Deletion Origin  // time and place of the deletion; zero: not deleted, or not readable
	Values   []Value // values of the address attributes, in the server's order, ranges completed

	Disabled       bool  // userAccountControl has ADS_UF_ACCOUNTDISABLE (0x2)
	InternalOnly   bool  // msExchRequireAuthToSendTo is TRUE: inside senders only
	RecipientType  int64 // msExchRecipientTypeDetails; 0: absent, which is normal
	ManagedService bool  // a computer or a (group) managed service account

	Unreadable string // why nothing but GUID and USN is known, from a stream; empty: it was read
}

// Origin is the time and place of a change, before it was replicated to the controller that was
// read.
type Origin struct {
	Time     time.Time // by the clock of the originating controller, in whole seconds
	Database GUID      // invocationId of that controller
	USN      uint64    // of the change, on that controller
}

// HasClass reports whether the object has the class, which must be lower case.
func (o *Object) HasClass(class string) bool {
	for _, c := range o.Classes {
		if c == class {
			return true
		}
	}
	return false
}

// Root describes one domain controller at the start of a pass. It is read on the same connection
// as the searches that follow.
type Root struct {
	HighestCommittedUSN  uint64
	InvocationID         GUID   // of the database on this controller; a supported restore changes it
	DNSHostName          string // lower case
	DefaultNamingContext string
	ConfigNamingContext  string
	GlobalCatalog        bool      // the port answers as a Global Catalog, whose objects may lack address attributes
	Now                  time.Time // currentTime by the controller's clock; zero: not readable
	SupportedControls    []string
	Account              string // the name that the connection is bound with
	DeletedVisible       bool   // the account may list CN=Deleted Objects; false: no tombstone arrives

	// Unsynchronized means that the controller has not replicated from its partners since it was
	// started, promoted or restored, so it may lack objects.
	Unsynchronized bool

	// Age is how old what the source shows is. A controller shows the present. A stream shows what
	// its hub knew at its last good pass.
	Age time.Duration

	// Term changes when the hub of a stream begins to publish. A controller has none.
	Term string

	// LastUSN is the sequence of the last message of a stream, which may follow the newest state of the hub
	// (HighestCommittedUSN). Zero for a controller.
	LastUSN uint64
}
