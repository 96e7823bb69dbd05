package control

// ReportQuery selects rejected recipients.
type ReportQuery struct {
	Since Time // rounded down to the hour; zero means the whole retention
	Limit int  // maximum rows of each list; 0 means no limit
	Brief bool // without addresses and near misses; not sent over the socket
}

// Report has the recipients that were rejected, or would have been without mode report, in
// whole hours. The totals are exact. The lists have the most frequent entries; an entry that
// was dropped from a list for a while counts from its return.
type Report struct {
	From Time `json:"from"` // start of the first hour
	To   Time `json:"to"`

	Refused     int64            `json:"refused"`
	WouldRefuse int64            `json:"would_refuse"` // not included in Refused
	WouldLimit  int64            `json:"would_limit"`  // of both: the harvest limit only reported
	Unlisted    int64            `json:"unlisted"`     // of both: too frequent to be listed
	Verdicts    map[string]int64 `json:"verdicts"`     // of both, without Unlisted
	Incomplete  string           `json:"incomplete"`   // why the last minutes are missing; empty if they are not

	Addresses []RefusedAddress `json:"addresses"`
	Domains   []RefusedName    `json:"domains"`
	Networks  []RefusedName    `json:"networks"` // of clients
	// NearMisses are rejected addresses that are one typing error away from a known one. Only
	// administrators may see them.
	NearMisses []NearMiss `json:"near_misses"`
	Searched   int        `json:"near_misses_searched"` // number of Addresses that were searched
}

// RefusedName counts the rejections of a domain, a network or an address.
type RefusedName struct {
	Name        string `json:"name"`
	Refused     int64  `json:"refused"`
	WouldRefuse int64  `json:"would_refuse"`
	First       Time   `json:"first"`
	Last        Time   `json:"last"`
}

// RefusedAddress is a rejected address.
type RefusedAddress struct {
	RefusedName
	Network string `json:"network"` // of the last client; empty if not known
	Verdict string `json:"verdict"` // at that time
	Now     string `json:"now"`     // one of the Now constants
}

// States of an address at the time of the report.
const (
	NowKnown   = "known"   // it has an owner: mail was lost, or is accepted from now on
	NowRemoved = "removed" // it had an owner
	NowUnknown = "unknown" // it had no owner within the retention
	NowHidden  = "hidden"  // it is stored as a hash
)

// NearMiss is a rejected address that looks like a typing error.
type NearMiss struct {
	RefusedAddress
	Known []string `json:"known"` // known addresses that may have been meant
}

// normal replaces missing lists with empty ones.
func (r Report) normal() Report {
	r.Verdicts = present(r.Verdicts)
	r.Addresses = append([]RefusedAddress{}, r.Addresses...)
	r.Domains, r.Networks = append([]RefusedName{}, r.Domains...), append([]RefusedName{}, r.Networks...)
	r.NearMisses = append([]NearMiss{}, r.NearMisses...)
	return r
}
