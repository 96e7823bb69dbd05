package control

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"rcpt-milter/internal/clock"
	"rcpt-milter/policy"
)

// Time is an optional time. The zero value is null in JSON; others are RFC 3339 in UTC.
type Time struct{ time.Time }

// lastYear is the last year that RFC 3339 can write.
const lastYear = 9999

// MarshalJSON implements json.Marshaler; the method of time.Time reads it back. A year that RFC 3339 cannot write
// is null: an account in Active Directory that expires at the end of the year 9999 does so in the year 10000 of
// UTC, and a file may have any time. An error would leave the whole answer empty.
func (t Time) MarshalJSON() ([]byte, error) {
	if year := t.UTC().Year(); t.IsZero() || year < 0 || year > lastYear {
		return []byte("null"), nil
	}
	return json.Marshal(t.UTC())
}

// State is the freshness of the index or of a directory.
type State = policy.State

// The states of the index and of directories, from best to worst.
const (
	Fresh    = policy.Fresh
	Late     = policy.Late
	Stale    = policy.Stale
	NotReady = policy.NotReady

	// Retired is the state of a directory that was removed from the configuration and still
	// owns addresses. No answer depends on it, so it ranks with Fresh.
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

// StoreState says how far the store works.
type StoreState string

const (
	StoreOK       StoreState = "ok"
	StoreReadOnly StoreState = "read_only" // it answers and cannot be written
	StoreDamaged  StoreState = "damaged"   // it answers what it finds, and "cannot tell" otherwise
	StoreFailed   StoreState = "failed"    // it answers nothing
)

// Defers reports whether recipients get 451 because of the store, whatever the state of the directories.
func (s StoreState) Defers() bool { return s == StoreDamaged || s == StoreFailed }

// StoreStates has all of them.
var StoreStates = []StoreState{StoreOK, StoreReadOnly, StoreDamaged, StoreFailed}

// Results of a pass.
const (
	ResultOK     = "ok"     // committed
	ResultHeld   = "held"   // committed, its removals held back
	ResultFailed = "failed" // not committed; only the addresses that it added take effect
)

// Status is the state of the daemon, its index and its directories.
type Status struct {
	Version string `json:"version"` // of the daemon
	Host    string `json:"host"`    // its name; empty if it has none
	Started Time   `json:"started"` // start of the daemon
	Offline bool   `json:"offline"` // read from the store of a stopped daemon, with the state as of now
	State   State  `json:"state"`   // the worst state of the directories and accept files

	Addresses int64  `json:"addresses"` // addresses with an owner
	Objects   int64  `json:"objects"`   // objects that own an address
	Unparsed  int64  `json:"unparsed"`  // number of unusable values in the directories
	Digest    string `json:"digest"`    // equal for indexes with equal recipients

	UnparsedValues []UnparsedValue `json:"unparsed_values"` // the first of them, a few of each object

	Domains     map[string]int64  `json:"domains"`      // addresses by domain
	Modes       map[string]string `json:"modes"`        // of the domains in the configuration
	Decisions   map[string]int64  `json:"decisions"`    // since the start, by verdict
	WouldRefuse map[string]int64  `json:"would_refuse"` // of these, accepted only because the mode is report
	Sessions    int               `json:"sessions"`     // open milter connections

	// Outcomes count all decisions since the start by outcome. Verdicts do not: their outcome depends on
	// when_stale and when_not_ready.
	Outcomes map[string]int64 `json:"outcomes"`
	// DomainDecisions are those of the domains in the configuration, since the start, by outcome.
	DomainDecisions map[string]map[string]int64 `json:"domain_decisions"`

	Listeners   []ListenerStatus `json:"listeners"`   // of a running daemon; those for Postfix first
	Descriptors DescriptorStatus `json:"descriptors"` // of a running daemon

	HarvestClients int `json:"harvest_clients"` // client networks over the harvest limit now

	LogDropped int64 `json:"log_dropped"` // lines of the log that were dropped since the start

	ReloadError   string   `json:"reload_error"`   // why the last reload was rejected; empty means it was not
	RestartNeeded []string `json:"restart_needed"` // keys with new values that need a restart
	StoreVerified Time     `json:"store_verified"` // time of the last successful checksum verification

	StoreState    StoreState `json:"store_state"`
	StoreError    string     `json:"store_error"`     // why store_state is not ok
	StoreSetAside string     `json:"store_set_aside"` // the newest damaged store that was set aside; empty means none

	JournalFrom Time `json:"journal_from"` // the journal is complete from here; null means no row was ever dropped

	Alarms []string `json:"alarms"` // conditions that need repair, a sentence each

	// EmptyDomains are the enforced domains without an address in the index or in a list.
	// Their recipients get 451. ".parent" means all sub-domains of parent.
	EmptyDomains []string `json:"empty_domains"`

	AcceptFiles []AcceptFile `json:"accept_files"` // in the order of the configuration

	// WhenStale and WhenNotReady say what unknown recipients get while the index cannot tell: tempfail,
	// accept or refuse.
	WhenStale    policy.Fallback `json:"when_stale"`
	WhenNotReady policy.Fallback `json:"when_not_ready"`

	Confirm *ConfirmStatus `json:"confirm"` // null means off
	Harvest *HarvestStatus `json:"harvest"` // null means off

	Export *ExportStatus `json:"export"` // null means off

	Socketmap *SocketmapStatus `json:"socketmap"` // null means off

	Directories []DirectoryStatus `json:"directories"` // in the order of the configuration

	Publish []PublishStatus `json:"publish,omitempty"` // of a hub, in the order of the configuration
	Engine  *EngineStatus   `json:"engine,omitempty"`  // absent means that this daemon has no engine
}

// UnparsedValue is a value of a directory that should be an SMTP address but is invalid or
// ambiguous, or an attribute that the account cannot read.
type UnparsedValue struct {
	Directory string `json:"directory"`
	DN        string `json:"dn"`
	Attribute string `json:"attribute"`
	Value     string `json:"value"` // cut if it is long
	Reason    string `json:"reason"`
}

// Text describes the value. The result is not escaped.
func (v UnparsedValue) Text() string {
	line := cmp.Or(v.DN, "an object of directory "+v.Directory) + ": " + v.Attribute
	if v.Value != "" {
		line += " " + v.Value
	}
	return line + ": " + v.Reason
}

// AcceptFile is the state of one file of accept_files.
type AcceptFile struct {
	File        string   `json:"file"`
	Entries     int64    `json:"entries"`      // addresses and domains in effect
	Domains     int64    `json:"domains"`      // of these, whole domains
	Aliases     int64    `json:"aliases"`      // of these, domain aliases
	State       State    `json:"state"`        // Fresh, or Stale by accept_files_max_age or by doubt
	Read        Time     `json:"read"`         // time of the last good read
	Modified    Time     `json:"modified"`     // modification time of the file at that read
	Trouble     string   `json:"trouble"`      // why an earlier copy is in effect; empty means the file is current
	Since       Time     `json:"since"`        // start of the trouble
	Doubt       string   `json:"doubt"`        // why entries may be missing; empty means that none are
	Unread      int64    `json:"unread"`       // number of invalid lines
	UnreadLines []string `json:"unread_lines"` // the first of them, with the reason

	Unmatched      int64    `json:"unmatched"`       // entries that cannot match, because their domains are not judged
	UnmatchedLines []string `json:"unmatched_lines"` // the first of each domain

	Suspicious      int64    `json:"suspicious"`       // lines that count, but probably not as they were intended
	SuspiciousLines []string `json:"suspicious_lines"` // the first of them, with the reason
}

func (f AcceptFile) inDoubt() bool { return f.Doubt != "" }

// StaleText returns why a file is stale, the effect and the remedy.
func (f AcceptFile) StaleText(now time.Time) string {
	if f.Doubt != "" {
		return "it may lack entries: unknown recipients of all domains get 451 unless when_stale is accept; " + f.Doubt
	}
	if _, known := clock.Elapsed(f.Modified.Time, now); !known {
		return "modified in the future, so its age is not known: unknown recipients of its domains get 451 unless " +
			"when_stale says otherwise; correct the clock, or touch the file"
	}
	return "older than accept_files_max_age: unknown recipients of its domains get 451 unless when_stale says " +
		"otherwise; bring a new version, or touch the file if it is still right"
}

// DirectoryStatus is the state of one directory.
type DirectoryStatus struct {
	Name  string `json:"name"`
	State State  `json:"state"`

	DomainController    string `json:"domain_controller"`     // DNS name; empty means none yet
	InvocationID        string `json:"invocation_id"`         // of its database
	USN                 uint64 `json:"usn"`                   // the index includes all changes up to this one
	HighestCommittedUSN uint64 `json:"highest_committed_usn"` // highestCommittedUSN at the last rootDSE

	LastSuccess     Time        `json:"last_success"`     // start of the last good pass; State depends on its age
	LastIncremental *PassStatus `json:"last_incremental"` // null means none yet
	LastFull        *PassStatus `json:"last_full"`        // null means none yet
	FullPassReason  string      `json:"full_pass_reason"` // reason of the last full pass or of the running one
	Running         *SyncEvent  `json:"running"`          // the running pass; null means none
	NextPass        Time        `json:"next_pass"`        // null means none planned

	LastError    string `json:"last_error"` // error of the last pass, with the remedy; empty means success
	FailingSince Time   `json:"failing_since"`
	// FullFailingSince is the time of the first failure of a full pass that is due. It is
	// absent if the last one succeeded or none is due. Incremental passes continue.
	FullFailingSince Time `json:"full_failing_since,omitzero"`

	Warnings []string `json:"warnings"` // conditions that work but should be changed, a sentence each

	HeldRemovals int64  `json:"held_removals"` // addresses whose removal waits for approval
	HoldReason   string `json:"hold_reason"`

	// the account can read deleted objects; null means not known yet
	DeletedObjectsVisible *bool `json:"deleted_objects_visible"`
	// commands for a domain administrator that grant this right
	DeletedObjectsGrant []string `json:"deleted_objects_grant"`
	Notify              bool     `json:"notify"` // change notification is active

	Expiry *ExpiryStatus `json:"expiry,omitempty"` // absent means that it was not read yet, or comes from a stream
	Stream *StreamStatus `json:"stream,omitempty"` // absent means that domain controllers are read
}

// USNLag returns the number of update sequence numbers that the index is behind its
// controller. Most of them do not concern recipients.
func (d *DirectoryStatus) USNLag() uint64 {
	if d.HighestCommittedUSN < d.USN {
		return 0
	}
	return d.HighestCommittedUSN - d.USN
}

// UpToDate reports whether the index has all changes of its controller or hub, as far as a running daemon
// knows. They may have later ones while they cannot be reached, and until the first pass after a start.
func (d *DirectoryStatus) UpToDate() bool {
	return d.USNLag() == 0 && d.State == Fresh && d.LastError == "" && (d.Stream == nil || d.Stream.Link.Connected)
}

// PassStatus is the result of one pass.
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
	s.WhenStale = cmp.Or(s.WhenStale, policy.FallbackTempfail)
	s.WhenNotReady = cmp.Or(s.WhenNotReady, policy.FallbackTempfail)
	s.Domains, s.Modes = present(s.Domains), present(s.Modes)
	s.Decisions, s.WouldRefuse = present(s.Decisions), present(s.WouldRefuse)
	s.Outcomes, s.DomainDecisions = present(s.Outcomes), present(s.DomainDecisions)
	s.Alarms = append([]string{}, s.Alarms...)
	s.EmptyDomains = append([]string{}, s.EmptyDomains...)
	s.UnparsedValues = append([]UnparsedValue{}, s.UnparsedValues...)
	s.RestartNeeded = append([]string{}, s.RestartNeeded...)
	s.AcceptFiles = append([]AcceptFile{}, s.AcceptFiles...)
	for i, f := range s.AcceptFiles {
		s.AcceptFiles[i].State = cmp.Or(f.State, Fresh)
		s.AcceptFiles[i].UnreadLines = append([]string{}, f.UnreadLines...)
		s.AcceptFiles[i].UnmatchedLines = append([]string{}, f.UnmatchedLines...)
		s.AcceptFiles[i].SuspiciousLines = append([]string{}, f.SuspiciousLines...)
	}
	s.Listeners = append([]ListenerStatus{}, s.Listeners...)
	s.Directories = append([]DirectoryStatus{}, s.Directories...)
	for i, d := range s.Directories {
		s.Directories[i].Warnings = append([]string{}, d.Warnings...)
		s.Directories[i].DeletedObjectsGrant = append([]string{}, d.DeletedObjectsGrant...)
	}
	s.Publish = slices.Clone(s.Publish)
	for i, p := range s.Publish {
		s.Publish[i] = p.normal()
	}
	if s.Engine != nil {
		engine := *s.Engine
		engine.URLs = append([]string{}, engine.URLs...)
		engine.Flooding = append([]string{}, engine.Flooding...)
		s.Engine = &engine
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
