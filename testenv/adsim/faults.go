package adsim

import "time"

// Faults are the ways in which a server misbehaves. The zero value is an honest
// server. They apply from the next operation on; rootDSE is read undisturbed unless a
// field names it.
type Faults struct {
	// Connecting
	SilentAccept   bool   // connections are taken and nothing is ever said on them
	RefuseStartTLS bool   // StartTLS is answered with unavailable
	InjectStartTLS []byte // sent in clear right after the answer to StartTLS
	SilentBind     bool   // binds get no answer
	BindSubCode    string // Active Directory's sub-code, "775" for one: every bind fails with invalidCredentials
	BindResult     int    // another LDAP result code for every bind

	// Everything
	Silent bool // requests of every kind get no answer, on connections there are too

	// rootDSE
	HideRootDSE []string // attributes that rootDSE lacks

	// Searches
	SilentSearch      bool             // searches get no answer
	Empty             bool             // searches succeed and find nothing
	Delay             time.Duration    // before the answer to each search
	SearchResult      int              // result code of every search in place of entries; 10 carries a referral
	SearchDiagnostic  string           // its text
	References        []string         // continuation references sent with each page, asked for or not
	DropPagingControl bool             // a paged answer lacks the control, though it is cut to a page
	BeforePage        func(Search)     // called before each search is answered; it may change the directory
	OnPage            int              // the three faults below strike on this page only; 0: on every page
	StallAfterEntries int              // after so many entries of a page nothing more is said
	CutAfterEntries   int              // after so many entries of a page the connection is cut
	CutAfterBytes     int              // after so many octets of a page the connection is cut
	NotifyResult      int              // result code of a search for notification, in place of waiting for changes
	DropNotifications bool             // changes are not reported
	Tamper            func(Raw) []byte // replaces an encoded entry before it is sent; nil leaves it out
}

// Raw is an entry about to be sent: its name, and the whole encoded LDAP message.
type Raw struct {
	DN      string
	Message []byte
}

// Search is one search request, or one page of it, as the server read it.
type Search struct {
	Page       int // 1: the first
	Base       string
	Scope      int // 0 base, 1 one level, 2 subtree
	Filter     string
	Attributes []string
	Controls   map[string]bool // by OID: critical?
}

// Stats counts what a server saw since it started.
type Stats struct {
	Connections int // accepted
	StartTLS    int // upgraded
	Binds       int // that succeeded
	FailedBinds int
	ClearBinds  int // that carried a password without TLS: always a mistake of the client
	NoPassword  int // a name with an empty password, which Active Directory takes as anonymous
	Searches    int // pages, rootDSE included
	Entries     int // sent

	Notifications int // searches for notification that wait for changes now
}

// SetFaults replaces all faults.
func (s *Server) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

func (s *Server) currentFaults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// LoseCookies lets the next n paging cookies that come back be unknown; a negative n
// means all from now on, 0 ends it.
func (s *Server) LoseCookies(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loseCookies = n
}

// Stats tells what the server saw.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// count changes the statistics.
func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}
