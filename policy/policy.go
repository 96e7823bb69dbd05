package policy

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

// Mode determines what happens to the verdicts about a domain.
type Mode string

const (
	ModeEnforce Mode = "enforce" // verdicts become replies
	ModeReport  Mode = "report"  // verdicts are logged; the reply is always continue
	ModePass    Mode = "pass"    // recipients are not evaluated; also the mode of a domain that is not ours
)

// Fallback is the reply if the index cannot be trusted. The zero value means FallbackTempfail.
type Fallback string

const (
	FallbackTempfail Fallback = "tempfail" // 451: the client retries later
	FallbackAccept   Fallback = "accept"   // continue: unknown recipients are accepted
	FallbackRefuse   Fallback = "refuse"   // 550: the old index counts
)

// Entry is the content of an index for one address. The zero value means that the address was never seen.
type Entry struct {
	Known        bool // the address has an owner
	InternalOnly bool // every owner accepts only mail from inside senders; implies Known
	// Removed is when the address lost its last owner, if it is not Known. If it is InternalOnly, Removed is when
	// it became so for outside senders. Zero means never.
	Removed time.Time
	// Doubt is the reason why an InternalOnly entry may no longer be restricted. If it is not nil, the entry can
	// only lead to acceptance or "cannot tell".
	Doubt error
}

// Index has the addresses of the directories. Its methods must be safe for concurrent use, are called once or
// more for each RCPT, and must not wait for a network.
type Index interface {
	// Lookup returns the entry of a canonical address. Any error means "cannot tell".
	Lookup(address.Address) (Entry, error)
	// Freshness returns the freshness of a canonical domain. It is called only for recipients that may be
	// rejected. A domain that no directory may own is Fresh.
	Freshness(domain string) Freshness
}

// Confirmer searches the directories for addresses that the index does not have. Its method must be safe for
// concurrent use. The implementation limits time, rate and memory.
type Confirmer interface {
	// Confirm searches for the owners of exactly this address. Any error means that there was no answer. suspect
	// means that the client is over its harvest limit, or an operator asks (Query.Lookup); such searches must not use
	// up the budget of other clients.
	Confirm(ctx context.Context, a address.Address, suspect bool) (Entry, error)
}

// HarvestReply is the reply to clients over their harvest limit. The zero value means HarvestHangup.
type HarvestReply string

const (
	HarvestHangup   HarvestReply = "hangup"   // 421: the MTA ends the connection
	HarvestTempfail HarvestReply = "tempfail" // 450: the client retries later
)

// Config configures a Policy.
type Config struct {
	// Index is required.
	Index Index
	// HasAddresses reports whether the index or a list has an address in a canonical domain. Row 7 matches an
	// enforced domain without one. It must be safe for concurrent use and must not wait for a network. Nil means
	// that every domain has addresses.
	HasAddresses func(domain string) bool
	// Domains are our domains and their modes. "example.com" is the domain itself, and ".example.com" is all its
	// sub-domains. Names may be in any case, as U-labels or A-labels.
	Domains map[string]Mode
	// AlwaysAccept lists local parts that are accepted in all our domains. Nil means postmaster (RFC 5321 section
	// 4.5.1) and abuse (RFC 2142). A non-nil empty list means none.
	AlwaysAccept []string
	// Accept lists addresses that are accepted regardless of the index; "@example.com" accepts all addresses of a
	// domain of ours. Refuse lists addresses that are rejected regardless of the index. Addresses may be in any
	// form that address.Parse accepts.
	Accept, Refuse []string
	// AcceptFiles has more addresses to accept; nil means none.
	AcceptFiles Table
	// AcceptPatterns are RE2 expressions that must match a whole canonical address.
	AcceptPatterns []string
	// DomainAliases maps alias domains to target domains. A recipient in an alias is looked up as the same local
	// part in the target, which may be an alias itself. Names may be in any case, as U-labels or A-labels. The
	// mode of an alias is that of its own entry in Domains.
	DomainAliases map[string]string
	// RecipientDelimiter has the ASCII characters that start the extension of a local part, as in the Postfix
	// setting of this name. Empty means that there are no extensions.
	RecipientDelimiter string
	// StripPrefixes start tagged local parts, for example "prvs=" of BATV; see address.WithoutTag. A tagged
	// recipient is also looked up without its tag, which can only make it known.
	StripPrefixes []string
	// ExemptNetworks and ExemptAuthenticated select clients whose recipients are all accepted.
	ExemptNetworks      []netip.Prefix
	ExemptAuthenticated bool
	// InsideNetworks are the networks of clients that count as authenticated for internal-only recipients, and
	// for nothing else.
	InsideNetworks []netip.Prefix
	// NAT64 are the prefixes of translators. A client below one of them counts as its embedded IPv4 address in
	// all lists of networks. Nil means WellKnownNAT64. A non-nil empty list means none.
	NAT64 []netip.Prefix
	// Confirm is queried before an address is rejected as unknown; nil means never.
	Confirm Confirmer
	// Harvest limits networks that guess addresses; nil means no limit. HarvestScopeAll also limits them for
	// known recipients. With HarvestReportOnly, row 11 never matches, and Decision.WouldLimit reports when it
	// would have matched.
	Harvest           HarvestLimit
	HarvestScopeAll   bool
	HarvestReportOnly bool
	// HarvestReply is the reply of row 11; "" means hangup.
	HarvestReply HarvestReply
	// RemovalGrace is how long a removed address gets 450 instead of 550; 0 means never.
	RemovalGrace time.Duration
	// WhenStale and WhenNotReady are the replies of rows 9 and 7; "" means tempfail. WhenNotReady cannot be
	// refuse, because an index that was never filled would reject everything.
	WhenStale, WhenNotReady Fallback
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Policy decides about recipients. It is immutable, and its methods are safe for concurrent use. Create it with
// New.
type Policy struct {
	index      Index
	populated  func(domain string) bool // Config.HasAddresses; never nil
	domains    map[string]Mode          // canonical; an entry for all sub-domains starts with a dot
	always     map[string]bool          // canonical local parts
	lists      lists
	delimiters string
	// stripPrefixes are in configuration order. The first one that matches counts.
	stripPrefixes []string
	aliases       map[string]string // canonical domains, alias to target

	exemptNetworks      []netip.Prefix
	exemptAuthenticated bool
	insideNetworks      []netip.Prefix
	translators         Translators

	confirm           Confirmer
	harvest           HarvestLimit
	harvestAll        bool
	harvestReportOnly bool
	harvestReply      HarvestReply

	removalGrace time.Duration
	whenStale    Fallback
	whenNotReady Fallback
	now          func() time.Time
}

// check validates the settings that need no parsing.
func (cfg *Config) check() error {
	switch h := cfg.HarvestReply; {
	case cfg.Index == nil:
		return errors.New("no index")
	case cfg.RemovalGrace < 0:
		return fmt.Errorf("removal grace is negative: %v", cfg.RemovalGrace)
	case !cfg.WhenStale.valid():
		return fmt.Errorf("when stale: %q is not one of tempfail, accept, refuse", cfg.WhenStale)
	case !cfg.WhenNotReady.valid() || cfg.WhenNotReady == FallbackRefuse:
		return fmt.Errorf("when not ready: %q is not one of tempfail, accept", cfg.WhenNotReady)
	case h != "" && h != HarvestHangup && h != HarvestTempfail:
		return fmt.Errorf("harvest reply: %q is not one of hangup, tempfail", h)
	case !isASCII(cfg.RecipientDelimiter):
		return fmt.Errorf("recipient delimiter: %q is not ASCII", cfg.RecipientDelimiter)
	}
	for _, prefix := range cfg.StripPrefixes {
		if name := strings.TrimRight(prefix, "="); name == "" || name == prefix || !isASCII(prefix) ||
			prefix != strings.ToLower(prefix) {
			return fmt.Errorf("strip prefix: %q must be lower-case ASCII, a name followed by =", prefix)
		}
	}
	for _, prefix := range cfg.NAT64 {
		if err := CheckNAT64(prefix); err != nil {
			return fmt.Errorf("NAT64: %w", err)
		}
	}
	return nil
}

// New validates a configuration and returns a policy for it.
func New(cfg Config) (*Policy, error) {
	p := &Policy{
		index: cfg.Index, populated: cfg.HasAddresses, delimiters: cfg.RecipientDelimiter,
		stripPrefixes:  slices.Clone(cfg.StripPrefixes),
		exemptNetworks: slices.Clone(cfg.ExemptNetworks), exemptAuthenticated: cfg.ExemptAuthenticated,
		insideNetworks: slices.Clone(cfg.InsideNetworks),
		confirm:        cfg.Confirm, harvest: cfg.Harvest, harvestAll: cfg.HarvestScopeAll,
		harvestReportOnly: cfg.HarvestReportOnly, translators: slices.Clone(cfg.NAT64),
		harvestReply: cfg.HarvestReply, removalGrace: cfg.RemovalGrace,
		whenStale: cfg.WhenStale, whenNotReady: cfg.WhenNotReady, now: cfg.Now,
	}
	if p.now == nil {
		p.now = time.Now
	}
	if p.populated == nil {
		p.populated = func(string) bool { return true }
	}
	if cfg.NAT64 == nil {
		p.translators = Translators{WellKnownNAT64}
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

// canonicalDomains returns the configured domains in canonical form. It returns an error if a domain is
// configured in two spellings.
func canonicalDomains(configured map[string]Mode) (map[string]Mode, error) {
	domains := make(map[string]Mode, len(configured))
	for text, mode := range configured {
		if mode != ModeEnforce && mode != ModeReport && mode != ModePass {
			return nil, fmt.Errorf("domain %q: mode %q is not one of enforce, report, pass", text, mode)
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
			return nil, fmt.Errorf("domain %q is configured twice, perhaps in another spelling; keep one", domain)
		}
		domains[domain] = mode
	}
	return domains, nil
}

// canonicalLocals returns the configured local parts in canonical form.
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

// mode returns the mode of a canonical domain: that of its own entry, otherwise that of its nearest parent with
// an entry for sub-domains, otherwise pass.
func (p *Policy) mode(domain string) Mode {
	if mode, ours := address.LookupDomain(p.domains, domain); ours {
		return mode
	}
	return ModePass
}

func (f Fallback) valid() bool {
	return f == "" || f == FallbackTempfail || f == FallbackAccept || f == FallbackRefuse
}

// reply returns the reply to the recipient in text, whose entry in the index is entry. FallbackAccept does not
// open internal-only recipients to outside senders.
func (f Fallback) reply(entry Entry, text string) Reply {
	switch {
	case f == FallbackAccept && !entry.Known:
		return Reply{}
	case f == FallbackRefuse:
		return unknownUser(text)
	}
	return CannotTell(text)
}

// reply returns the reply of row 11 to the recipient in text.
func (h HarvestReply) reply(text string) Reply {
	if h == HarvestTempfail {
		return tooMany("450 4.7.1", text)
	}
	return tooMany("421 4.7.0", text)
}
