package control

// RemovalsQuery selects held removals.
type RemovalsQuery struct {
	Directory string `json:"directory"` // empty means all
	// UpTo is the number of the last pass whose removals are approved. Zero means the last
	// pass that had ended at the time of the request.
	UpTo uint64 `json:"up_to"`
}

// HeldRemoval is an address that an object no longer has, or that became internal-only, and
// that is still in the index as it was.
type HeldRemoval struct {
	Directory string `json:"directory"`
	Address   string `json:"address"`
	GUID      string `json:"guid"`
	DN        string `json:"dn"`
	Class     string `json:"class"`
	Pass      uint64 `json:"pass"`       // the pass that found it missing
	Since     Time   `json:"since"`      // time of that pass
	LastOwner bool   `json:"last_owner"` // after all held removals, no owner is left, or none open to outside senders
	WaitsFor  string `json:"waits_for"`  // one of the Waits constants
	NotBefore Time   `json:"not_before"` // of WaitsReplication: earliest time of the removal
	Why       string `json:"why"`        // of WaitsApproval: the reason

	// BecomesInternalOnly means that the object keeps the address and only outside senders
	// would lose it.
	BecomesInternalOnly bool `json:"becomes_internal_only,omitempty"`
}

// Conditions that a removal waits for.
const (
	WaitsApproval    = "approval"    // the removal guard holds it back
	WaitsReplication = "replication" // the address may not have replicated to a domain controller or another directory
	WaitsPass        = "pass"        // the next pass, which judges it
)

// RemovalsDone is the result of approving or discarding removals of one directory.
type RemovalsDone struct {
	Directory string `json:"directory"`
	Removed   int64  `json:"removed"` // removed addresses
	Waiting   int64  `json:"waiting"` // addresses held by later passes
	Pass      uint64 `json:"pass"`    // number of the approval in the journal; 0 if none
	Kept      int64  `json:"kept"`    // objects that keep their addresses after discard
}
