package control

import "rcpt-milter/policy"

// LookupQuery asks about one address.
type LookupQuery struct {
	Address       string // as in RCPT TO, with or without brackets
	Client        string // IP address of the client; empty means any
	Authenticated bool   // the client is authenticated
	At            Time   // zero means now; otherwise the index at that time, with the configuration of today
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

// LookupAnswer is the reply that an address would get, and the reason.
type LookupAnswer struct {
	Address   string `json:"address"`   // as asked
	At        Time   `json:"at"`        // as asked; null means now
	Offline   bool   `json:"offline"`   // no daemon is running; answered from its store
	Canonical string `json:"canonical"` // as in the index; empty if it is not an address
	Domain    string `json:"domain"`
	Mode      string `json:"mode"` // of the domain

	Outcome     Outcome `json:"outcome"`
	Reply       string  `json:"reply"` // "continue", or the line that the client reads
	Verdict     string  `json:"verdict"`
	WouldRefuse bool    `json:"would_refuse"` // WouldReply was not sent because of mode report
	WouldReply  string  `json:"would_reply"`
	Rule        int     `json:"rule"`       // row of the decision table; 0 means an internal error
	Reason      string  `json:"reason"`     // the row in words
	Entry       string  `json:"entry"`      // matching entry of the configuration; empty if none, or if it is Matched
	JudgedAs    string  `json:"judged_as"`  // canonical address in the target of the domain alias; empty if none
	AliasedBy   string  `json:"aliased_by"` // the source of the alias: domain_aliases, or a line of an accept file
	Matched     string  `json:"matched"`    // the form that was found, maybe without its extension or tag
	Stripped    string  `json:"stripped"`   // the entry of strip_prefixes whose tag Matched lacks; empty if none
	Error       string  `json:"error"`      // internal error; empty if none

	LoggedAs string `json:"logged_as"` // the address in the log; empty if it is not hashed

	Directory      string  `json:"directory"`       // the directory whose state mattered; empty if none
	DirectoryState State   `json:"directory_state"` // empty if it did not matter
	Owners         []Owner `json:"owners"`          // of Matched, otherwise of JudgedAs, otherwise of Canonical
	Removed        Time    `json:"removed"`
	RemovedPass    uint64  `json:"removed_pass"` // pass of the removal; 0 if none, or not known

	Harvest *HarvestNetwork `json:"harvest"` // network of the client; null without a limit or a client

	Assumed []string     `json:"assumed"` // assumptions of an answer about the past
	History []JournalRow `json:"history"` // of the address, oldest first, within the retention of the journal
}

// Owner is one object that has an address, and when it was learned.
type Owner struct {
	Directory    string `json:"directory"`
	GUID         string `json:"guid"`
	DN           string `json:"dn"`
	Class        string `json:"class"` // empty, like all below, if it has lost the address since At
	Attribute    string `json:"attribute"`
	InternalOnly bool   `json:"internal_only"` // it accepts mail from inside senders only
	Gone         bool   `json:"gone"`          // no longer in the directory; the removal is not yet in effect
	// BecomesInternalOnly means that it is internal-only in the directory, which is not yet in
	// effect.
	BecomesInternalOnly bool `json:"becomes_internal_only,omitempty"`

	Learned          Time   `json:"learned"`
	Pass             uint64 `json:"pass"`
	DomainController string `json:"domain_controller"`
	USN              uint64 `json:"usn"`

	// Hub published the directory that the owner belongs to, and HubController is the domain
	// controller that this hub follows now. Both are empty if the directory is read by LDAP.
	Hub           string `json:"hub,omitempty"`
	HubController string `json:"hub_controller,omitempty"`
}

// normal replaces missing lists with empty ones.
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
