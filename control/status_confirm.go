package control

// ConfirmStatus counts the searches in directories before recipients are rejected as unknown,
// since the start.
type ConfirmStatus struct {
	Found      int64 `json:"found"`       // with an owner
	NotFound   int64 `json:"not_found"`   // without an owner
	Remembered int64 `json:"remembered"`  // answered from an earlier search
	OverBudget int64 `json:"over_budget"` // not searched because of the rate limit
	Unanswered int64 `json:"unanswered"`  // timeout, or no connection

	Directories []ConfirmDirectory `json:"directories"` // in the order of the configuration
}

// ConfirmDirectory is the connection for searches in one directory.
type ConfirmDirectory struct {
	Name             string `json:"name"`
	DomainController string `json:"domain_controller"` // DNS name; empty without a connection
	Followed         bool   `json:"followed"`          // passes read the same one, because no other one answers
	LastError        string `json:"last_error"`        // error of the connection
}

// HarvestStatus is the state of the harvest limit.
type HarvestStatus struct {
	Mode       string `json:"mode"`        // enforce; or report, which only counts
	WouldLimit int64  `json:"would_limit"` // decisions since the start that mode report left to other rows

	Networks int64            `json:"networks"` // with counters
	Octets   int64            `json:"octets"`   // bytes of memory for them
	Limited  []HarvestNetwork `json:"limited"`  // some of the networks over the limit, longest first
}

// HarvestNetwork has the counters of one network.
type HarvestNetwork struct {
	Network    string `json:"network"`    // such as 192.0.2.0/24
	Bounces    bool   `json:"bounces"`    // counts the recipients of a null sender, which have budgets of their own
	Unknown    int64  `json:"unknown"`    // estimated number of rejected addresses
	Recipients int64  `json:"recipients"` // estimated total; 0 while it is over the limit
	Until      Time   `json:"until"`      // end of the penalty; null if it is not over the limit
}
