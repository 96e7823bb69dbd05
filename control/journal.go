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

// JournalRow is one change: an object gained or lost an address. The first full pass of a
// directory writes none.
type JournalRow struct {
	Change           string `json:"change"` // Gained or Lost
	Address          string `json:"address"`
	Directory        string `json:"directory"`
	GUID             string `json:"guid"`
	DN               string `json:"dn"` // at that time
	Pass             uint64 `json:"pass"`
	DomainController string `json:"domain_controller"` // the source of the change; empty if no longer known
	USN              uint64 `json:"usn"`               // of the object there; 0 if a full pass did not find it
	Time             Time   `json:"time"`              // of a gain: start of the pass; of a loss: when it took effect
}
