package control

// JournalQuery selects rows of the journal. The zero value selects all.
type JournalQuery struct {
	Since Time   // not older; zero means no limit
	Pass  uint64 // of this pass only; 0 means all
}

// The two changes.
const (
	Gained = "+" // the object gained the address
	Lost   = "-" // the object lost the address
)

// JournalRow is one change: an object gained or lost an address, for all senders or for
// outside senders only. The first full pass of a directory writes none.
type JournalRow struct {
	Change           string `json:"change"` // Gained or Lost
	Address          string `json:"address"`
	Directory        string `json:"directory"`
	GUID             string `json:"guid"`
	DN               string `json:"dn"` // at that time
	Pass             uint64 `json:"pass"`
	DomainController string `json:"domain_controller"` // the source of the change; empty if no longer known
	USN              uint64 `json:"usn"`               // of the object there; 0 if a full pass did not find it
	Time             Time   `json:"time"`              // of a gain: when it was read; of a loss: when it took effect

	// InternalOnly means that the object had the address before and after: it stopped (Lost)
	// or began (Gained) to accept mail from outside senders.
	InternalOnly bool `json:"internal_only,omitempty"`
}

// Note returns the remark of a row about outside senders only; empty for other rows.
func (r JournalRow) Note() string {
	switch {
	case !r.InternalOnly:
		return ""
	case r.Change == Lost:
		return "(internal-only)"
	}
	return "(open to outside senders again)"
}
