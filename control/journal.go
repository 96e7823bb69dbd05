package control

// JournalQuery chooses rows of the journal. The zero value: all.
type JournalQuery struct {
	Since Time   // not older; zero: however old
	Pass  uint64 // of this pass only; 0: of all
}

// The two changes.
const (
	Gained = "+" // the object has the address from then on
	Lost   = "-" // it has it no longer
)

// JournalRow is one change: a directory object, or outside senders to it, gained an address
// or lost it. The first
// full pass of a directory writes none.
type JournalRow struct {
	Change           string `json:"change"` // Gained or Lost
	Address          string `json:"address"`
	Directory        string `json:"directory"`
	GUID             string `json:"guid"`
	DN               string `json:"dn"` // at that time
	Pass             uint64 `json:"pass"`
	DomainController string `json:"domain_controller"` // that said so; empty: not known any more
	USN              uint64 `json:"usn"`               // of the object there; 0: a full pass did not see it
	Time             Time   `json:"time"`              // of a gain when its pass began, of a loss when it took effect

	// InternalOnly: the object had the address before and after. Lost says that it takes mail
	// from inside senders only from now on, Gained that it takes mail from outside again.
	InternalOnly bool `json:"internal_only,omitempty"`
}

// Note returns what a row of outside senders only says besides; empty: it is of all.
func (r JournalRow) Note() string {
	switch {
	case !r.InternalOnly:
		return ""
	case r.Change == Lost:
		return "(internal-only)"
	}
	return "(open to outside senders again)"
}
