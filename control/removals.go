package control

// RemovalsQuery is about the removals that wait.
type RemovalsQuery struct {
	Directory string `json:"directory"` // empty: all
	// UpTo is the number of the last pass whose removals are approved; 0: the last one that
	// had ended when the daemon was asked.
	UpTo uint64 `json:"up_to"`
}

// HeldRemoval is one address that a directory object no longer has, or that has become
// internal-only, and that stays in the index as it was for the time being.
type HeldRemoval struct {
	Directory string `json:"directory"`
	Address   string `json:"address"`
	GUID      string `json:"guid"`
	DN        string `json:"dn"`
	Class     string `json:"class"`
	Pass      uint64 `json:"pass"`       // that missed it
	Since     Time   `json:"since"`      // when that was
	LastOwner bool   `json:"last_owner"` // releasing all that waits leaves no owner, or none that takes mail from outside senders
	WaitsFor  string `json:"waits_for"`  // one of the Waits constants
	NotBefore Time   `json:"not_before"` // of WaitsReplication: when it may go
	Why       string `json:"why"`        // of WaitsApproval: why it is held back

	// BecomesInternalOnly: the object keeps the address; only outside senders would lose it.
	BecomesInternalOnly bool `json:"becomes_internal_only,omitempty"`
}

// What a removal waits for.
const (
	WaitsApproval    = "approval"    // the removal guard holds it back
	WaitsReplication = "replication" // a domain controller or another directory may not have heard of the address yet
	WaitsPass        = "pass"        // nothing but the next pass
)

// RemovalsDone is what became of the held removals of one directory.
type RemovalsDone struct {
	Directory string `json:"directory"`
	Removed   int64  `json:"removed"` // addresses that objects lost by approval
	Waiting   int64  `json:"waiting"` // addresses that passes after the one named hold back, and that still wait
	Pass      uint64 `json:"pass"`    // that approved them, as the journal has it; 0: none
	Kept      int64  `json:"kept"`    // objects that keep their addresses, after discarding
}
