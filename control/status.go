package control

import (
	"encoding/json"
	"time"

	"rcpt-milter/policy"
)

// Time is a moment that there may be none of: the zero value, which is null in JSON.
// Any other is RFC 3339 in UTC.
type Time struct{ time.Time }

// MarshalJSON implements json.Marshaler; the method of time.Time reads it back.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(t.UTC())
}

// State says how far the index can be trusted.
type State = policy.State

// The states of the index and of directories, from best to worst.
const (
	Fresh    = policy.Fresh
	Late     = policy.Late
	Stale    = policy.Stale
	NotReady = policy.NotReady

	// Retired is a directory that is no longer in the configuration and still owns
	// addresses. No answer depends on it, so it is as good as Fresh.
	Retired State = "retired"
)

// Worst returns the worst of the states, or Fresh if there is none.
func Worst(states ...State) State {
	worst := Fresh
	for _, s := range states {
		if s != Retired && s.Rank() > worst.Rank() {
			worst = s
		}
	}
	return worst
}

// Results of a pass.
const (
	ResultOK     = "ok"     // committed
	ResultHeld   = "held"   // committed, its removals held back
	ResultFailed = "failed" // nothing of it counts but the addresses it added
)

// Status is the state of the daemon, its index and its directories.
type Status struct {
	Version string `json:"version"` // of the daemon
	Started Time   `json:"started"` // when it began to answer
	Offline bool   `json:"offline"` // no daemon runs; this is its store as it left it, with the state that it has by now
	State   State  `json:"state"`   // the worst of its directories

	Addresses int64  `json:"addresses"` // that have an owner
	Objects   int64  `json:"objects"`   // that own an address
	Unparsed  int64  `json:"unparsed"`  // values of the directories that are to be corrected, all of them counted
	Digest    string `json:"digest"`    // equal digests hold equal recipients, in any order

	UnparsedValues []UnparsedValue `json:"unparsed_values"` // the first of these values; of each object a few

	Domains     map[string]int64  `json:"domains"`      // addresses by domain
	Modes       map[string]string `json:"modes"`        // of the domains in the configuration
	Decisions   map[string]int64  `json:"decisions"`    // since the start, by verdict
	WouldRefuse map[string]int64  `json:"would_refuse"` // of these, what mode report kept from being refusals
	Sessions    int               `json:"sessions"`     // open milter connections

	HarvestClients int `json:"harvest_clients"` // client networks that are over their harvest limit now

	ReloadError   string   `json:"reload_error"`   // why the file last read is not in force; empty: it is
	RestartNeeded []string `json:"restart_needed"` // the keys of that file whose new values need a restart
	StoreVerified Time     `json:"store_verified"` // when the store's checksums were last found good
	JournalFrom   Time     `json:"journal_from"`   // from when on the journal is whole; null: nothing was ever dropped

	Alarms []string `json:"alarms"` // what must not be and is, a sentence each

	// EmptyDomains are the enforced domains, ".parent" for all its sub-domains, of which
	// neither the index nor a list has an address: recipients there get 451.
	EmptyDomains []string `json:"empty_domains"`

	AcceptFiles []AcceptFile `json:"accept_files"` // in the order of the configuration

	Confirm *ConfirmStatus `json:"confirm"` // null: switched off
	Harvest *HarvestStatus `json:"harvest"` // null: switched off

	Directories []DirectoryStatus `json:"directories"` // in the order of the configuration
}

// UnparsedValue is a value of a directory that is meant as an SMTP address and cannot be
// used, or not without a doubt; or an attribute that is hidden from the account.
type UnparsedValue struct {
	Directory string `json:"directory"`
	DN        string `json:"dn"`
	Attribute string `json:"attribute"`
	Value     string `json:"value"` // its beginning, when it is long
	Reason    string `json:"reason"`
}

// Text names the value for people. It is not escaped.
func (v UnparsedValue) Text() string {
	line := v.DN + ": " + v.Attribute
	if v.Value != "" {
		line += " " + v.Value
	}
	return line + ": " + v.Reason
}

// AcceptFile is the state of one file of addresses that are accepted.
type AcceptFile struct {
	File        string   `json:"file"`
	Entries     int64    `json:"entries"`      // addresses and domains in force
	Domains     int64    `json:"domains"`      // how many of them are whole domains
	Aliases     int64    `json:"aliases"`      // how many of them map a domain to others
	Read        Time     `json:"read"`         // when they were read
	Trouble     string   `json:"trouble"`      // why they are what the file held before; empty: they are what it holds
	Since       Time     `json:"since"`        // when that began
	Unread      int64    `json:"unread"`       // lines that do not count
	UnreadLines []string `json:"unread_lines"` // the first of these, and why

	Unmatched      int64    `json:"unmatched"`       // entries that can never match, because their domains are not judged
	UnmatchedLines []string `json:"unmatched_lines"` // the first one of each domain
}

// DirectoryStatus is the state of one directory.
type DirectoryStatus struct {
	Name  string `json:"name"`
	State State  `json:"state"`

	DomainController    string `json:"domain_controller"`     // DNS name of the one followed; empty: none yet
	InvocationID        string `json:"invocation_id"`         // of its database
	USN                 uint64 `json:"usn"`                   // how far it has been read
	HighestCommittedUSN uint64 `json:"highest_committed_usn"` // how far it was when it was last asked

	LastSuccess     Time        `json:"last_success"`     // start of the last good pass, which State counts from
	LastIncremental *PassStatus `json:"last_incremental"` // null: none yet
	LastFull        *PassStatus `json:"last_full"`        // null: none yet
	FullPassReason  string      `json:"full_pass_reason"` // why the last full pass, or the one under way, was one
	Running         *SyncEvent  `json:"running"`          // the pass under way; null: none
	NextPass        Time        `json:"next_pass"`        // zero: none planned

	LastError    string `json:"last_error"` // of the last pass, with what to do about it; empty: it was good
	FailingSince Time   `json:"failing_since"`
	// FullFailingSince is when a full pass that is due first failed; absent: the last one was
	// good, or none is due. Incremental passes go on meanwhile.
	FullFailingSince Time `json:"full_failing_since,omitzero"`

	Warnings []string `json:"warnings"` // what works and should not be left as it is, a sentence each

	HeldRemovals int64  `json:"held_removals"` // addresses whose removal waits for approval
	HoldReason   string `json:"hold_reason"`

	// may we see deletions as they happen; null: not known yet
	DeletedObjectsVisible *bool `json:"deleted_objects_visible"`
	// commands for a domain administrator that grant the right
	DeletedObjectsGrant []string `json:"deleted_objects_grant"`
	Notify              bool     `json:"notify"` // the controller wakes us up
}

// USNLag is how many update sequence numbers the index is behind its controller. Most
// of them are of no concern to recipients.
func (d *DirectoryStatus) USNLag() uint64 {
	if d.HighestCommittedUSN < d.USN {
		return 0
	}
	return d.HighestCommittedUSN - d.USN
}

// PassStatus is what one pass did.
type PassStatus struct {
	Number  uint64  `json:"number"`
	Started Time    `json:"started"`
	Seconds float64 `json:"seconds"`
	Seen    int64   `json:"seen"`    // objects read
	Added   int64   `json:"added"`   // addresses
	Changed int64   `json:"changed"` // objects
	Removed int64   `json:"removed"` // addresses
	Result  string  `json:"result"`  // ResultOK, ResultHeld or ResultFailed
}

// normal replaces missing lists and maps with empty ones.
func (s Status) normal() Status {
	s.Domains, s.Modes = present(s.Domains), present(s.Modes)
	s.Decisions, s.WouldRefuse = present(s.Decisions), present(s.WouldRefuse)
	s.Alarms = append([]string{}, s.Alarms...)
	s.EmptyDomains = append([]string{}, s.EmptyDomains...)
	s.UnparsedValues = append([]UnparsedValue{}, s.UnparsedValues...)
	s.RestartNeeded = append([]string{}, s.RestartNeeded...)
	s.AcceptFiles = append([]AcceptFile{}, s.AcceptFiles...)
	for i, f := range s.AcceptFiles {
		s.AcceptFiles[i].UnreadLines = append([]string{}, f.UnreadLines...)
		s.AcceptFiles[i].UnmatchedLines = append([]string{}, f.UnmatchedLines...)
	}
	s.Directories = append([]DirectoryStatus{}, s.Directories...)
	for i, d := range s.Directories {
		s.Directories[i].Warnings = append([]string{}, d.Warnings...)
		s.Directories[i].DeletedObjectsGrant = append([]string{}, d.DeletedObjectsGrant...)
	}
	if s.Confirm != nil {
		confirm := *s.Confirm
		confirm.Directories = append([]ConfirmDirectory{}, confirm.Directories...)
		s.Confirm = &confirm
	}
	if s.Harvest != nil {
		harvest := *s.Harvest
		harvest.Limited = append([]HarvestNetwork{}, harvest.Limited...)
		s.Harvest = &harvest
	}
	return s
}

func present[M ~map[K]V, K comparable, V any](m M) M {
	if m == nil {
		return M{}
	}
	return m
}
