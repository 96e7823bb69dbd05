package adsim

import "time"

// Faults make a server misbehave. The zero value is a correct server. They apply from the next
// operation on, and to rootDSE only if a field names it.
type Faults struct {
	// Connecting
	SilentAccept   bool   // the server accepts connections and never sends anything
	RefuseStartTLS bool   // StartTLS is answered with unavailable
	InjectStartTLS []byte // sent in clear right after the answer to StartTLS
	SilentBind     bool   // binds get no answer
	BindSubCode    string // Active Directory's sub-code, such as "775": every bind fails with invalidCredentials
	BindResult     int    // another LDAP result code for every bind

	// Everything
	Silent bool // no request gets an answer, on open connections too

	// rootDSE
	HideRootDSE    []string // attributes missing from rootDSE
	Unsynchronized bool     // the controller says that it has not replicated since its start

	// Searches
	SilentSearch      bool             // searches get no answer
	Empty             bool             // searches succeed and find nothing
	Delay             time.Duration    // before the answer to each search
	SearchResult      int              // result code of every search instead of entries; 10 carries a referral
	SearchDiagnostic  string           // diagnostic text of that result
	References        []string         // continuation references sent with each page, requested or not
	DropPagingControl bool             // a paged answer lacks the control, although it is limited to a page
	BeforePage        func(Search)     // called before each search is answered; it may change the directory
	OnPage            int              // page of the three faults below; 0: every page
	StallAfterEntries int              // nothing is sent after this number of entries of a page
	CutAfterEntries   int              // the connection is reset after this number of entries of a page
	CutAfterBytes     int              // the connection is reset after this number of bytes of a page
	NotifyResult      int              // result code of a notification search, instead of waiting for changes
	DropNotifications bool             // changes are not reported
	Tamper            func(Raw) []byte // replaces an encoded entry before it is sent; nil omits it
	Repeat            int              // every entry is sent this number of times more
	Endless           bool             // a paged search that found entries begins again after its last page
}

// Raw is an entry before it is sent: its DN and the encoded LDAP message.
type Raw struct {
	DN      string
	Message []byte
}

// Search is one search request, or one page of it, as the server parsed it.
type Search struct {
	Page       int // 1: the first
	Base       string
	Scope      int // 0 base, 1 one level, 2 subtree
	Filter     string
	Attributes []string
	Controls   map[string]bool // by OID: critical?
}

// Stats counts the events of a server since its start.
type Stats struct {
	Connections int // accepted
	StartTLS    int // upgraded
	Binds       int // that succeeded
	FailedBinds int
	ClearBinds  int // with a password without TLS: always a bug in the client
	NoPassword  int // a name with an empty password, which Active Directory takes as anonymous
	Searches    int // pages, rootDSE included
	Entries     int // sent

	Notifications int // active notification searches
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

// LoseCookies makes the server forget the next n paging cookies that clients send. A negative n
// means all from now on; 0 means none.
func (s *Server) LoseCookies(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loseCookies = n
}

// Stats returns the current counters.
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
