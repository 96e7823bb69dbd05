package control

import "rcpt-milter/policy"

// LookupQuery asks about one address.
type LookupQuery struct {
	Address       string // as it would stand in RCPT TO, with or without brackets
	Client        string // IP address of the client; empty: none in particular
	Authenticated bool   // the client has logged in
	At            Time   // zero: now; else the index as it was then, under today's configuration
}

// Outcome is the effect of a reply on a recipient.
type Outcome = policy.Outcome

// The outcomes of a lookup.
const (
	Accepted = policy.Accepted
	Refused  = policy.Refused
	Deferred = policy.Deferred
)

// The verdicts of a lookup that commands tell apart.
const (
	VerdictNotOurs     = string(policy.VerdictNotOurs)
	VerdictAlways      = string(policy.VerdictAlways)
	VerdictAllowlisted = string(policy.VerdictAllowlisted)
	VerdictNotReady    = string(policy.VerdictNotReady)
	VerdictError       = string(policy.VerdictError)
)

// LookupAnswer is the reply an address would get, and why.
type LookupAnswer struct {
	Address   string `json:"address"`   // as asked
	At        Time   `json:"at"`        // as asked; null: now
	Offline   bool   `json:"offline"`   // no daemon runs; this is what its store makes of it
	Canonical string `json:"canonical"` // as in the index; empty: not readable as an address
	Domain    string `json:"domain"`
	Mode      string `json:"mode"` // of the domain

	Outcome     Outcome `json:"outcome"`
	Reply       string  `json:"reply"` // "continue", or the line that the client reads
	Verdict     string  `json:"verdict"`
	WouldRefuse bool    `json:"would_refuse"` // mode report keeps it from getting WouldReply
	WouldReply  string  `json:"would_reply"`
	Rule        int     `json:"rule"`       // row of the decision table that answered; 0: an internal error
	Reason      string  `json:"reason"`     // the same in words
	Entry       string  `json:"entry"`      // what of the configuration matched; empty: nothing, or Matched itself
	JudgedAs    string  `json:"judged_as"`  // canonical in the domain that its own is an alias of; empty: as it is
	AliasedBy   string  `json:"aliased_by"` // what says so: domain_aliases, or a line of an accept file
	Matched     string  `json:"matched"`    // what was found: one of these, or it without its extension
	Error       string  `json:"error"`      // what failed inside; empty: nothing did

	LoggedAs string `json:"logged_as"` // how the address stands in the log; empty: as it is

	Directory      string  `json:"directory"`       // whose state mattered; empty: none in particular
	DirectoryState State   `json:"directory_state"` // empty: it did not matter
	Owners         []Owner `json:"owners"`          // of Matched, else of JudgedAs, else of Canonical
	Removed        Time    `json:"removed"`
	RemovedPass    uint64  `json:"removed_pass"` // by which pass; 0: it was not removed, or not known

	Harvest *HarvestNetwork `json:"harvest"` // the network of the client; null: there is no limit, or no client

	Assumed []string     `json:"assumed"` // of a time in the past: what the answer takes for granted
	History []JournalRow `json:"history"` // of the address, oldest first, as far back as the journal is kept
}

// Owner is one directory object that has an address, and how it came to be known.
type Owner struct {
	Directory    string `json:"directory"`
	GUID         string `json:"guid"`
	DN           string `json:"dn"`
	Class        string `json:"class"` // empty, like all below: it lost the address since the time asked about
	Attribute    string `json:"attribute"`
	InternalOnly bool   `json:"internal_only"` // only inside senders may write to it
	Gone         bool   `json:"gone"`          // no longer in the directory; the removal is not in effect yet
	// BecomesInternalOnly: it is internal-only in the directory; that is not in effect yet.
	BecomesInternalOnly bool `json:"becomes_internal_only,omitempty"`

	Learned          Time   `json:"learned"`
	Pass             uint64 `json:"pass"`
	DomainController string `json:"domain_controller"`
	USN              uint64 `json:"usn"`
}

// normal makes an empty list of a missing one.
func (a LookupAnswer) normal() LookupAnswer {
	if a.Owners == nil {
		a.Owners = []Owner{}
	}
	if a.Assumed == nil {
		a.Assumed = []string{}
	}
	if a.History == nil {
		a.History = []JournalRow{}
	}
	return a
}
