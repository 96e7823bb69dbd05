package control

// CompareQuery asks to compare the index with the directories.
type CompareQuery struct {
	Directory string `json:"directory"` // empty: all
}

// CompareEvent is one step of a comparison: exactly one field is set.
type CompareEvent struct {
	Progress   *CompareProgress   `json:"progress,omitempty"`
	Difference *Difference        `json:"difference,omitempty"`
	Directory  *ComparedDirectory `json:"directory,omitempty"` // after all its differences
}

// CompareProgress is how far a directory has been read.
type CompareProgress struct {
	Directory string `json:"directory"`
	Objects   int64  `json:"objects"`
}

// Difference is one address of one directory object about which the index and the
// directory do not agree. Where both have it they differ in whether the object takes
// mail from inside senders only.
type Difference struct {
	Directory   string `json:"directory"`
	Address     string `json:"address"`
	GUID        string `json:"guid"`
	DN          string `json:"dn"`
	Class       string `json:"class"`
	InIndex     bool   `json:"in_index"`
	InDirectory bool   `json:"in_directory"`
	Cause       string `json:"cause"`      // one of the Cause constants; empty: none that would excuse it
	NotBefore   Time   `json:"not_before"` // of CauseReplication: when the removal may take effect
}

// Causes of a difference that is no mistake.
const (
	CauseHeld        = "held"        // the removal guard holds the removal back
	CauseReplication = "replication" // the domain controller may not have heard of the address yet
	CausePending     = "pending"     // the removal takes effect with the next pass
	CauseChanging    = "changing"    // it changed each time that it was looked at
	CauseRetired     = "retired"     // the directory is no longer in the configuration
)

// ComparedDirectory is what came out for one directory.
type ComparedDirectory struct {
	Name             string `json:"name"`
	DomainController string `json:"domain_controller"` // that was read
	Followed         bool   `json:"followed"`          // it is the one that passes read
	USN              uint64 `json:"usn"`               // how far it was
	Objects          int64  `json:"objects"`           // that own an address there
	Addresses        int64  `json:"addresses"`         // of these objects
	Differences      int64  `json:"differences"`       // that were reported
	Unlisted         int64  `json:"unlisted"`          // objects that differ too, and are too many to be listed
	// why differences may only be changes during the comparison; empty: they are not
	Unsettled string  `json:"unsettled"`
	Seconds   float64 `json:"seconds"`
	Error     string  `json:"error"` // why it could not be compared; empty: it was
}

// Equal reports whether nothing differs.
func (d ComparedDirectory) Equal() bool {
	return d.Error == "" && d.Differences == 0 && d.Unlisted == 0
}
