package milter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rcpt-milter/address"
)

// Mode says what the verdicts about a domain lead to.
type Mode string

const (
	ModeEnforce Mode = "enforce" // they are the reply
	ModeReport  Mode = "report"  // they are logged; the reply is always continue
	ModePass    Mode = "pass"    // there are none; also the mode of a domain that is not ours
)

// Fallback says what to reply where the index cannot be trusted to know better. The
// zero value is FallbackTempfail.
type Fallback string

const (
	FallbackTempfail Fallback = "tempfail" // 451: the client comes again later
	FallbackAccept   Fallback = "accept"   // continue: what nobody knows is accepted
	FallbackRefuse   Fallback = "refuse"   // 550: an old answer is believed
)

// Entry is what an index knows of one address. The zero value: never seen.
type Entry struct {
	Known        bool      // somebody owns it now
	InternalOnly bool      // Known, and every owner is restricted to inside senders
	Removed      time.Time // not Known, and was: when the last owner went; InternalOnly, and was not: since when
}

// FreshnessState says how far an index can be trusted about a domain. The zero value
// is not ready: an index that says nothing has nothing to say.
type FreshnessState uint8

const (
	FreshnessNotReady FreshnessState = iota // some directory never completed a full pass
	FreshnessWidening                       // its limits were widened, and a full pass is not done yet
	FreshnessFresh
	FreshnessLate  // older than it should be; answers are as when fresh
	FreshnessStale // too old to refuse anybody
)

// ready reports whether a full pass stands behind what the index says.
func (s FreshnessState) ready() bool {
	return s == FreshnessFresh || s == FreshnessLate || s == FreshnessStale
}

// String is the word that logs and status use.
func (s FreshnessState) String() string {
	switch s {
	case FreshnessNotReady:
		return "not_ready"
	case FreshnessWidening:
		return "widening"
	case FreshnessFresh:
		return "fresh"
	case FreshnessLate:
		return "late"
	case FreshnessStale:
		return "stale"
	}
	return fmt.Sprintf("FreshnessState(%d)", uint8(s))
}

// Freshness is the worst state among the directories that may own a domain.
type Freshness struct {
	State     FreshnessState
	Directory string    // the one that is in this state; empty: none in particular
	Since     time.Time // its last good pass; zero: never, or not known
}

// Index is what the policy asks about addresses. It is called by many sessions at
// once and must answer from what is at hand.
type Index interface {
	// Lookup looks up one canonical address. Any error means: cannot tell.
	Lookup(address.Address) (Entry, error)
	// Freshness is asked about addresses that are not Known, with their canonical
	// domain. A domain that no directory may own is fresh: there is nothing to wait for.
	Freshness(domain string) Freshness
}

// Confirmer asks a directory about what the index does not know. It is called by many
// sessions at once, and keeps deadline, budget and memory itself.
type Confirmer interface {
	// Confirm searches for the owners of exactly this address. Any error means that
	// there was no answer, for whatever reason. A suspect client is over the harvest
	// limit: its questions must not keep others' from being asked.
	Confirm(ctx context.Context, a address.Address, suspect bool) (Entry, error)
}

// HarvestLimit keeps the score of those who guess addresses. It is called by many
// sessions at once.
type HarvestLimit interface {
	// Limited reports whether the client of a query is over the limit. It charges
	// nobody.
	Limited(Query) bool
	// Charge counts a recipient that the client of a query asked about: one that never
	// existed, or one that does.
	Charge(q Query, recipient string, unknown bool)
}

// HarvestReply says how those over the harvest limit are told. The zero value is
// HarvestHangup.
type HarvestReply string

const (
	HarvestHangup   HarvestReply = "hangup"   // 421: the MTA ends the connection
	HarvestTempfail HarvestReply = "tempfail" // 450: the client comes again later
)

// PolicyConfig is what a policy is made of.
type PolicyConfig struct {
	// Index is required.
	Index Index
	// HasAddresses reports whether the index or a list has an address of a canonical
	// domain: of an enforced domain without one, row 7 answers. It is called by many sessions
	// at once and must answer from what is at hand. Nil: every domain has one.
	HasAddresses func(domain string) bool
	// Domains are ours: "example.com" the domain itself, ".example.com" all its
	// sub-domains. In any case, as U-labels or A-labels.
	Domains map[string]Mode
	// AlwaysAccept are local parts accepted in all our domains. nil: postmaster
	// (RFC 5321 section 4.5.1) and abuse (RFC 2142); empty but not nil: none.
	AlwaysAccept []string
	// Accept are addresses accepted whatever the index says; "@example.com" all of a
	// domain of ours. Refuse are addresses refused in the same way. In any form that
	// Parse of package address reads.
	Accept, Refuse []string
	// AcceptFiles holds more addresses to accept; nil: none.
	AcceptFiles Table
	// AcceptPatterns are RE2 expressions that match a whole canonical address.
	AcceptPatterns []string
	// DomainAliases are domains whose recipients are judged as the same local parts in
	// another domain, by alias and target. The target may be an alias itself. Both in any
	// case, as U-labels or A-labels. An alias has the mode of its own entry in Domains.
	DomainAliases map[string]string
	// RecipientDelimiter are the ASCII characters of which any may begin the extension
	// of a local part; empty: there are no extensions. It is Postfix's setting of this
	// name.
	RecipientDelimiter string
	// ExemptNetworks and ExemptAuthenticated are clients to whom nothing is refused.
	ExemptNetworks      []netip.Prefix
	ExemptAuthenticated bool
	// InsideNetworks are clients that count as authenticated for internal-only recipients,
	// and for nothing else.
	InsideNetworks []netip.Prefix
	// Confirm is asked before an address is refused as unknown; nil: nobody is.
	Confirm Confirmer
	// Harvest knows the networks that guess addresses; nil: there is no limit.
	// HarvestScopeAll lets it hold for the known as well, so that row 11 moves up in
	// front of row 6.
	Harvest         HarvestLimit
	HarvestScopeAll bool
	// HarvestReply is the reply of row 11; "" means hangup.
	HarvestReply HarvestReply
	// RemovalGrace is how long a removed address gets 450 before it gets 550; 0: not
	// at all.
	RemovalGrace time.Duration
	// WhenStale and WhenNotReady are the replies of rows 9 and 7; "" means
	// tempfail. WhenNotReady cannot be refuse: an index that was never filled would
	// refuse everybody.
	WhenStale, WhenNotReady Fallback
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Policy decides about recipients. It never changes once it is made, and all its
// methods may be called concurrently. Make it with NewPolicy.
type Policy struct {
	index      Index
	populated  func(domain string) bool // has addresses; never nil
	domains    map[string]Mode          // canonical; the entry for all sub-domains begins with a dot
	always     map[string]bool          // canonical local parts
	lists      lists
	delimiters string
	aliases    map[string]string // canonical domains, alias to target

	exemptNetworks      []netip.Prefix
	exemptAuthenticated bool
	insideNetworks      []netip.Prefix

	confirm      Confirmer
	harvest      HarvestLimit
	harvestAll   bool
	harvestReply HarvestReply

	removalGrace time.Duration
	whenStale    Fallback
	whenNotReady Fallback
	now          func() time.Time
}

// check finds what makes no sense by itself.
func (cfg *PolicyConfig) check() error {
	switch h := cfg.HarvestReply; {
	case cfg.Index == nil:
		return errors.New("no index to ask")
	case cfg.RemovalGrace < 0:
		return fmt.Errorf("removal grace is negative: %v", cfg.RemovalGrace)
	case !cfg.WhenStale.valid():
		return fmt.Errorf("when stale: %q is none of tempfail, accept, refuse", cfg.WhenStale)
	case !cfg.WhenNotReady.valid() || cfg.WhenNotReady == FallbackRefuse:
		return fmt.Errorf("when not ready: %q is none of tempfail, accept", cfg.WhenNotReady)
	case h != "" && h != HarvestHangup && h != HarvestTempfail:
		return fmt.Errorf("harvest reply: %q is none of hangup, tempfail", h)
	case !isASCII(cfg.RecipientDelimiter):
		return fmt.Errorf("recipient delimiter: %q is not ASCII", cfg.RecipientDelimiter)
	}
	return nil
}

// NewPolicy checks the configuration and makes a policy of it.
func NewPolicy(cfg PolicyConfig) (*Policy, error) {
	p := &Policy{
		index: cfg.Index, populated: cfg.HasAddresses, delimiters: cfg.RecipientDelimiter,
		exemptNetworks: slices.Clone(cfg.ExemptNetworks), exemptAuthenticated: cfg.ExemptAuthenticated,
		insideNetworks: slices.Clone(cfg.InsideNetworks),
		confirm:        cfg.Confirm, harvest: cfg.Harvest, harvestAll: cfg.HarvestScopeAll, harvestReply: cfg.HarvestReply,
		removalGrace: cfg.RemovalGrace,
		whenStale:    cfg.WhenStale, whenNotReady: cfg.WhenNotReady, now: cfg.Now,
	}
	if p.now == nil {
		p.now = time.Now
	}
	if p.populated == nil {
		p.populated = func(string) bool { return true }
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	var err error
	if p.domains, err = canonicalDomains(cfg.Domains); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if p.aliases, err = canonicalAliases(cfg.DomainAliases); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if p.always, err = canonicalLocals(cfg.AlwaysAccept); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if p.lists, err = newLists(cfg); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return p, nil
}

// canonicalDomains reads configured domains, and refuses two spellings of one.
func canonicalDomains(configured map[string]Mode) (map[string]Mode, error) {
	domains := make(map[string]Mode, len(configured))
	for text, mode := range configured {
		if mode != ModeEnforce && mode != ModeReport && mode != ModePass {
			return nil, fmt.Errorf("domain %q: mode %q is none of enforce, report, pass", text, mode)
		}
		bare, parent := strings.CutPrefix(text, ".")
		domain, err := address.ParseDomain(bare)
		if err != nil {
			return nil, fmt.Errorf("domain %q: %w", text, err)
		}
		if parent {
			domain = "." + domain
		}
		if _, twice := domains[domain]; twice {
			return nil, fmt.Errorf("domain %q is there twice, also in another spelling: keep one", domain)
		}
		domains[domain] = mode
	}
	return domains, nil
}

// canonicalLocals reads configured local parts.
func canonicalLocals(configured []string) (map[string]bool, error) {
	if configured == nil {
		configured = []string{"postmaster", "abuse"}
	}
	locals := make(map[string]bool, len(configured))
	for _, text := range configured {
		a, err := address.Parse(text + "@always.invalid")
		if err != nil || strings.Contains(text, "@") {
			return nil, fmt.Errorf("always accepted %q is not a local part, the part of an address before the @", text)
		}
		locals[a.Local()] = true
	}
	return locals, nil
}

// mode is the mode of a canonical domain: its own entry, else that of its nearest
// parent for sub-domains, else pass.
func (p *Policy) mode(domain string) Mode {
	if mode, ours := p.domains[domain]; ours {
		return mode
	}
	for i := 0; i < len(domain); i++ {
		if domain[i] != '.' {
			continue
		}
		if mode, ours := p.domains[domain[i:]]; ours {
			return mode
		}
	}
	return ModePass
}

func (f Fallback) valid() bool {
	return f == "" || f == FallbackTempfail || f == FallbackAccept || f == FallbackRefuse
}

// reply is the reply about the address in text, of which the index has entry. Accept
// is for what it does not know: it opens no restricted recipient to the outside.
func (f Fallback) reply(entry Entry, text string) Reply {
	switch {
	case f == FallbackAccept && !entry.Known:
		return Reply{}
	case f == FallbackRefuse:
		return unknownUser(text)
	}
	return cannotTell(text)
}

// reply is the reply of row 11 about the address in text.
func (h HarvestReply) reply(text string) Reply {
	if h == HarvestTempfail {
		return tooMany("450 4.7.1", text)
	}
	return tooMany("421 4.7.0", text)
}
