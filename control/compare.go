package control

// CompareQuery asks to compare the index with the directories.
type CompareQuery struct {
	Directory string `json:"directory"` // empty means all
}

// CompareEvent is one step of a comparison: exactly one field is set.
type CompareEvent struct {
	Progress   *CompareProgress   `json:"progress,omitempty"`
	Difference *Difference        `json:"difference,omitempty"`
	Directory  *ComparedDirectory `json:"directory,omitempty"` // after its differences
}

// CompareProgress is the progress of reading a directory.
type CompareProgress struct {
	Directory string `json:"directory"`
	Objects   int64  `json:"objects"`
}

// Difference is one address of one object that differs between the index and the directory.
// If both have it, they differ in whether the object is internal-only.
type Difference struct {
	Directory   string `json:"directory"`
	Address     string `json:"address"`
	GUID        string `json:"guid"`
	DN          string `json:"dn"`
	Class       string `json:"class"`
	InIndex     bool   `json:"in_index"`
	InDirectory bool   `json:"in_directory"`
	Cause       string `json:"cause"`      // one of the Cause constants; empty if it is a fault
	NotBefore   Time   `json:"not_before"` // of CauseReplication: earliest time of the removal
}

// Expected causes of a difference.
const (
	CauseHeld        = "held"        // the removal guard holds the removal back
	CauseReplication = "replication" // the address may not have replicated to the domain controller
	CausePending     = "pending"     // the removal takes effect with the next pass
	CauseChanging    = "changing"    // it changed at every look
	CauseRetired     = "retired"     // the directory was removed from the configuration
)

// ComparedDirectory is the result for one directory.
type ComparedDirectory struct {
	Name             string `json:"name"`
	DomainController string `json:"domain_controller"` // the one that was read
	Followed         bool   `json:"followed"`          // passes read the same one
	USN              uint64 `json:"usn"`               // its highest committed USN
	Objects          int64  `json:"objects"`           // objects with an address there
	Addresses        int64  `json:"addresses"`         // of these objects
	Differences      int64  `json:"differences"`       // reported differences
	Unlisted         int64  `json:"unlisted"`          // differing objects beyond the limit of the list
	// Unsettled is why differences may be changes during the comparison; empty if they are not.
	Unsettled string  `json:"unsettled"`
	Seconds   float64 `json:"seconds"`
	Error     string  `json:"error"` // why it could not be compared; empty on success
}

// Equal reports whether there is no difference.
func (d ComparedDirectory) Equal() bool {
	return d.Error == "" && d.Differences == 0 && d.Unlisted == 0
}
