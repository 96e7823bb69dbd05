package control

// ReportQuery asks what was refused.
type ReportQuery struct {
	Since Time // from the hour on in which it falls; zero: as long as is kept
	Limit int  // rows of each list at most; 0: all there are
	Brief bool // no addresses, and no near misses; not over the socket
}

// Report is what was refused, or would have been if mode report had not kept it from
// it, in whole hours. The numbers are exact; the lists hold the most frequent, and what
// was left out of them for a while counts from then on.
type Report struct {
	From Time `json:"from"` // beginning of the first hour
	To   Time `json:"to"`

	Refused     int64            `json:"refused"`
	WouldRefuse int64            `json:"would_refuse"` // beside Refused
	Unlisted    int64            `json:"unlisted"`     // of both: what came too fast to be in a list
	Verdicts    map[string]int64 `json:"verdicts"`     // of both, without Unlisted
	Incomplete  string           `json:"incomplete"`   // why the last minutes are missing; empty: they are not

	Addresses []RefusedAddress `json:"addresses"`
	Domains   []RefusedName    `json:"domains"`
	Networks  []RefusedName    `json:"networks"` // of clients
	// NearMisses are refused addresses that are one slip of the finger from one that is
	// known. Nobody but the administrator may see them.
	NearMisses []NearMiss `json:"near_misses"`
	Searched   int        `json:"near_misses_searched"` // of Addresses, the first so many were looked at
}

// RefusedName is how often something was refused.
type RefusedName struct {
	Name        string `json:"name"`
	Refused     int64  `json:"refused"`
	WouldRefuse int64  `json:"would_refuse"`
	First       Time   `json:"first"`
	Last        Time   `json:"last"`
}

// RefusedAddress is one address that was refused.
type RefusedAddress struct {
	RefusedName
	Network string `json:"network"` // of the client that asked last; empty: not known
	Verdict string `json:"verdict"` // that it got then
	Now     string `json:"now"`     // one of the Now constants
}

// What an address is when the report is made.
const (
	NowKnown   = "known"   // somebody owns it: mail was lost, or is welcome from now on
	NowRemoved = "removed" // somebody owned it
	NowUnknown = "unknown" // nobody ever did, as far as is kept
	NowHidden  = "hidden"  // it is kept as a hash
)

// NearMiss is a refused address that looks like a slip of the finger.
type NearMiss struct {
	RefusedAddress
	Known []string `json:"known"` // what may have been meant
}

// normal makes empty lists of missing ones.
func (r Report) normal() Report {
	r.Verdicts = present(r.Verdicts)
	r.Addresses = append([]RefusedAddress{}, r.Addresses...)
	r.Domains, r.Networks = append([]RefusedName{}, r.Domains...), append([]RefusedName{}, r.Networks...)
	r.NearMisses = append([]NearMiss{}, r.NearMisses...)
	return r
}
