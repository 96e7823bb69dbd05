package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// MaxHeldDomains limits the domains that one pass may hold. Their list is one value, of four bytes
// for each domain and the reasons of the first ones, which must stay out of Badger's value log. It is
// written when it changes, not by each pass.
const MaxHeldDomains = 100_000

// maxNamedDomains is the number of held domains whose names and reasons are stored.
const maxNamedDomains = 20

// HeldDomain is a domain whose removals are held while other domains' removals are released.
type HeldDomain struct {
	Domain string // or ".parent" for all sub-domains of parent
	Why    string
}

// Covers reports whether removals of a domain are held.
func (h HeldDomain) Covers(domain string) bool {
	return h.Domain == domain || h.isParent() && strings.HasSuffix(domain, h.Domain)
}

// isParent reports whether sub-domains are held.
func (h HeldDomain) isParent() bool { return strings.HasPrefix(h.Domain, ".") }

// DomainLoss is what releasing the marks of a directory would take from one domain.
type DomainLoss struct {
	Owned int // addresses that an object loses, or that become internal-only there
	Last  int // of these, addresses that would be lost: see Pass.WouldLose
}

// heldDomains are the held domains of one directory. The zero value holds none. Two domains share a
// hash by chance about once in four billion pairs; the removals of both are then held.
type heldDomains struct {
	named  []HeldDomain // all of them or the first ones, sorted
	hashes []uint32     // of the others, sorted
}

// newHeldDomains sorts the domains. It returns an error if there are too many.
func newHeldDomains(domains []HeldDomain) (h heldDomains, err error) {
	if len(domains) > MaxHeldDomains {
		return h, fmt.Errorf("store: cannot hold %d domains, at most %d are possible; hold all removals instead",
			len(domains), MaxHeldDomains)
	}
	h.named = slices.Clone(domains)
	slices.SortFunc(h.named, func(a, b HeldDomain) int { return strings.Compare(a.Domain, b.Domain) })
	if len(h.named) <= maxNamedDomains {
		return h, nil
	}
	for _, d := range h.named[maxNamedDomains:] {
		if d.isParent() { // its sub-domains have other hashes
			return heldDomains{}, errors.New("store: cannot hold so many parent domains; hold all removals instead")
		}
		h.hashes = append(h.hashes, domainHash(d.Domain))
	}
	slices.Sort(h.hashes)
	h.named = slices.Clone(h.named[:maxNamedDomains])
	return h, nil
}

func domainHash(domain string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(domain)) // never fails
	return h.Sum32()
}

// any reports whether the hold is limited to domains.
func (h *heldDomains) any() bool { return len(h.named) > 0 }

func (h *heldDomains) equal(o *heldDomains) bool {
	return slices.Equal(h.named, o.named) && slices.Equal(h.hashes, o.hashes)
}

// has reports whether removals of a domain are held.
func (h *heldDomains) has(domain string) bool {
	_, found := slices.BinarySearchFunc(h.named, domain, func(d HeldDomain, domain string) int {
		return strings.Compare(d.Domain, domain)
	})
	for i := 0; !found && i < len(h.named) && h.named[i].isParent(); i++ { // parents sort first
		found = h.named[i].Covers(domain)
	}
	return found || h.hashed(domain)
}

func (h *heldDomains) hashed(domain string) bool {
	if len(h.hashes) == 0 {
		return false
	}
	_, found := slices.BinarySearch(h.hashes, domainHash(domain))
	return found
}

// holds reports whether the removal of an address is held.
func (h *heldDomains) holds(address string) bool { return h.any() && h.has(domainOf(address)) }

// holds reports whether an address has a mark that the last pass held: it is due, and the hold is of
// all domains or of its own.
func (r *directoryRecord) holds(a ownedRecord) bool {
	return r.hold != "" && a.due() && (!r.held.any() || r.held.holds(a.address))
}

func (e *encoder) namedDomains(named []HeldDomain) {
	e.uint(uint64(len(named)))
	for _, d := range named {
		e.string(d.Domain)
		e.string(d.Why)
	}
}

func (d *decoder) namedDomains() []HeldDomain {
	n := d.count()
	if n == 0 {
		return nil
	}
	named := make([]HeldDomain, n)
	for i := range named {
		named[i] = HeldDomain{Domain: d.string(), Why: d.string()}
	}
	return named
}

// heldDomains appends a list that ends the record.
func (e *encoder) heldDomains(h heldDomains) {
	e.namedDomains(h.named)
	for _, hash := range h.hashes {
		e.raw(binary.BigEndian.AppendUint32(nil, hash))
	}
}

func (d *decoder) heldDomains() (h heldDomains) {
	h.named = d.namedDomains()
	for d.err == nil && len(d.rest) > 0 {
		if raw := d.raw(4); raw != nil {
			h.hashes = append(h.hashes, binary.BigEndian.Uint32(raw))
		}
	}
	return h
}

// setHeldDomains writes a changed list that does not fit the record of its directory.
func (u *unit) setHeldDomains(dir dirID, before, after heldDomains) {
	key := dirKey(prefixHeld, dir)
	switch {
	case before.equal(&after):
	case len(after.hashes) > 0:
		e := newEncoder()
		e.heldDomains(after)
		u.set(key, e)
	case len(before.hashes) > 0:
		u.delete(key)
	}
}

// loadHeldDomains reads the list of a directory that has one outside of its record.
func (s *Store) loadHeldDomains(record *directoryRecord) error {
	key := dirKey(prefixHeld, record.id)
	value, err := s.get(key)
	if err != nil || value == nil {
		return err
	}
	d := newDecoder(value)
	record.held = d.heldDomains()
	if err := d.done(); err != nil {
		return s.unreadable(fmt.Sprintf("%x", key), err)
	}
	return nil
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
