package control

import (
	"context"
	"errors"

	"rcpt-milter/address"
)

// Scope is the set of domains that a tenant may see: canonical domains, and ".example.org" for all
// sub-domains of example.org. The zero value covers none.
type Scope map[string]bool

// Covers reports whether a canonical domain, or a ".parent", is in the scope.
func (s Scope) Covers(domain string) bool {
	covered, _ := address.LookupDomain(s, domain)
	return covered
}

// CoversText reports whether the domain of a text is in the scope. The text is an address, or a recipient
// that cannot be read as one. It may have the form of the argument of RCPT TO.
func (s Scope) CoversText(text string) bool {
	a, err := address.ParsePath(text)
	if err != nil {
		return s.Covers(address.DomainOf(text))
	}
	return s.Covers(a.Domain())
}

// ErrForeignDomain is the error of a tenant's request about a domain outside its scope. It is the same
// whether the domain exists or not.
var ErrForeignDomain = errors.New("this token gives no access to that domain")

// TenantBackend answers tenants. Its answers depend on the domains of the scope only. Their types have
// fields of their own, so a new field of Status, LookupAnswer or Report does not reach tenants.
type TenantBackend interface {
	TenantStatus(context.Context, Scope) (TenantStatus, error)
	// TenantLookup returns what Lookup returns for any client. Outside the scope it returns
	// ErrForeignDomain without a look at the index. It reads the index only: a search in the directory
	// would show by its time and its budget what others do.
	TenantLookup(ctx context.Context, scope Scope, address string) (TenantLookup, error)
	// TenantReport returns the rejected recipients of the domains; q.Brief is ignored.
	TenantReport(context.Context, Scope, ReportQuery) (TenantReport, error)
}

// TenantStatus is what a tenant sees of the daemon.
type TenantStatus struct {
	Host    string         `json:"host"`    // name of this host
	Started Time           `json:"started"` // start of the daemon, where the counts begin
	State   State          `json:"state"`   // the worst state of the domains
	Domains []TenantDomain `json:"domains"` // by name
}

// TenantDomain is the state of one domain.
type TenantDomain struct {
	Domain      string       `json:"domain"`       // ".example.org" stands for all sub-domains without a row
	Mode        string       `json:"mode"`         // empty if the domain is not judged here
	State       State        `json:"state"`        // the worst state of what the domain is read from
	LastSuccess Time         `json:"last_success"` // start of the last good pass; null means none yet, or not known
	Addresses   int64        `json:"addresses"`    // in the index
	Empty       bool         `json:"empty"`        // enforced without an address, so its recipients get 451
	Unknown     UnknownReply `json:"unknown"`      // what unknown recipients get now
	WouldRefuse bool         `json:"would_refuse"` // unknown recipients are accepted only because the mode is report

	// Decisions are the recipients since the start by outcome. Null means that the domain has no entry of
	// its own in the configuration: an entry for sub-domains counts its recipients together with others.
	Decisions map[string]int64 `json:"decisions"`
}

// TenantLookup is the reply that an address of a tenant would get.
type TenantLookup struct {
	Address   string `json:"address"`   // as asked
	Canonical string `json:"canonical"` // empty if it is not an address
	Domain    string `json:"domain"`
	Mode      string `json:"mode"`

	Outcome     Outcome `json:"outcome"`
	Reply       string  `json:"reply"`
	Verdict     string  `json:"verdict"`
	WouldRefuse bool    `json:"would_refuse"`
	WouldReply  string  `json:"would_reply"`
	Rule        int     `json:"rule"`

	Owners  []TenantOwner  `json:"owners"`
	Removed Time           `json:"removed"` // null means that it has an owner, or never had one
	History []TenantChange `json:"history"` // oldest first
}

// TenantOwner is an object that has an address. It has no name: that would show how the directory is
// organised.
type TenantOwner struct {
	Class               string `json:"class"`
	InternalOnly        bool   `json:"internal_only"`
	Gone                bool   `json:"gone"` // the removal is not in effect yet
	BecomesInternalOnly bool   `json:"becomes_internal_only"`
	Learned             Time   `json:"learned"`
}

// TenantChange is a change of an address.
type TenantChange struct {
	Time   Time   `json:"time"`
	Change string `json:"change"` // Gained or Lost
	// InternalOnly means that it had the address before and after, for inside senders.
	InternalOnly bool `json:"internal_only"`
}

// TenantReport has the rejected recipients of a tenant, in whole hours.
type TenantReport struct {
	From Time `json:"from"`
	To   Time `json:"to"`

	Refused     int64            `json:"refused"`
	WouldRefuse int64            `json:"would_refuse"` // not included in Refused
	Domains     []RefusedName    `json:"domains"`
	Addresses   []RefusedAddress `json:"addresses"`
}
