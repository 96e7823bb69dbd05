package control

// ConfirmStatus is how the directories are asked about recipients before they are refused
// as unknown; counts are since the start.
type ConfirmStatus struct {
	Found      int64 `json:"found"`       // an owner
	NotFound   int64 `json:"not_found"`   // nobody
	Remembered int64 `json:"remembered"`  // one of these two, without a search of its own
	OverBudget int64 `json:"over_budget"` // not asked: too many in too short a time
	Unanswered int64 `json:"unanswered"`  // no answer in time, or no connection

	Directories []ConfirmDirectory `json:"directories"` // in the order of the configuration
}

// ConfirmDirectory is where one directory is asked.
type ConfirmDirectory struct {
	Name             string `json:"name"`
	DomainController string `json:"domain_controller"` // DNS name; empty: there is no connection
	Followed         bool   `json:"followed"`          // it is the one that passes read: no other one answers
	LastError        string `json:"last_error"`        // why there is no connection
}

// HarvestStatus is what is remembered of the networks of clients.
type HarvestStatus struct {
	Networks int64            `json:"networks"` // of which something is remembered
	Octets   int64            `json:"octets"`   // of memory for it
	Limited  []HarvestNetwork `json:"limited"`  // of those over the limit, some that are so for longest
}

// HarvestNetwork is what is remembered of one network.
type HarvestNetwork struct {
	Network    string `json:"network"`    // such as 192.0.2.0/24
	Unknown    int64  `json:"unknown"`    // about how many addresses that never existed it asked about
	Recipients int64  `json:"recipients"` // about how many in all; 0 while it is over the limit
	Until      Time   `json:"until"`      // when it is not over the limit any more; null: it is not
}
