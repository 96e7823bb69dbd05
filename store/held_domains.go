package store

import (
	"fmt"
	"slices"
	"strings"
)

// MaxHeldDomains limits the domains that one pass may hold, because each pass writes their list
// again.
const MaxHeldDomains = 20

// HeldDomain is a domain whose removals are held while other domains' removals are released.
type HeldDomain struct {
	Domain string
	Why    string
}

// DomainLoss is what releasing the marks of a directory would take from one domain.
type DomainLoss struct {
	Owned int // addresses that an object loses, or that become internal-only there
	Last  int // of these, addresses that would be lost: see Pass.WouldLose
}

// heldDomains are the held domains of one directory. The zero value holds none.
type heldDomains []HeldDomain

// newHeldDomains sorts the domains. It returns an error if there are too many.
func newHeldDomains(domains []HeldDomain) (heldDomains, error) {
	if len(domains) > MaxHeldDomains {
		return nil, fmt.Errorf("store: cannot hold %d domains, at most %d are possible; hold all removals instead",
			len(domains), MaxHeldDomains)
	}
	sorted := slices.Clone(domains)
	slices.SortFunc(sorted, func(a, b HeldDomain) int { return strings.Compare(a.Domain, b.Domain) })
	return sorted, nil
}

// has reports whether removals of a domain are held.
func (h heldDomains) has(domain string) bool {
	_, found := slices.BinarySearchFunc(h, domain, func(d HeldDomain, domain string) int {
		return strings.Compare(d.Domain, domain)
	})
	return found
}

// holds reports whether the removal of an address is held.
func (h heldDomains) holds(address string) bool { return len(h) > 0 && h.has(domainOf(address)) }

func (e *encoder) heldDomains(h heldDomains) {
	e.uint(uint64(len(h)))
	for _, d := range h {
		e.string(d.Domain)
		e.string(d.Why)
	}
}

func (d *decoder) heldDomains() heldDomains {
	n := d.count()
	if n == 0 {
		return nil
	}
	h := make(heldDomains, n)
	for i := range h {
		h[i] = HeldDomain{Domain: d.string(), Why: d.string()}
	}
	return h
}

// split returns how many addresses a release removes and how many stay held.
func (p Pending) split(held heldDomains) (removed, kept int) {
	for domain, loss := range p.Domains {
		if held.has(domain) {
			kept += loss.Owned
		}
	}
	return p.Owned - kept, kept
}
