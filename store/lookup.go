package store

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"rcpt-milter/address"
)

// Presence is the answer to a RCPT. The zero value means that the address was never seen.
type Presence struct {
	Known        bool
	InternalOnly bool // every owner accepts mail from internal senders only
	// Removed is when the last owner went, unless the address is known. For an internal-only
	// address it is when outside senders lost it; zero means that they never had it.
	Removed time.Time
	// Doubt is why an internal-only address may be open by now; nil means that it is not. A
	// damaged store cannot record that an address was opened, and lost commits may have done so.
	Doubt error
}

// Lookup reports whether an address is known. Most lookups are answered from memory; for the others, Lookup
// reads one key at its newest version. It does not wait for a pass or for a commit to disk. Any error means
// that the answer cannot be determined, which is not the same as unknown. A record that a damaged file hides
// is an error. No answer of a damaged store may lead to a permanent rejection: it is known and open, has a
// Doubt, or is an error.
func (s *Store) Lookup(a address.Address) (Presence, error) {
	memory, err := s.fromMemory(a.String())
	if err != nil {
		return Presence{}, err
	}
	if memory == openToAll {
		s.spotCheck(a.String())
		return Presence{Known: true}, nil
	}
	var r addressRecord
	if memory == askBadger {
		if r, err = s.addressRecord(a.String()); err != nil {
			return Presence{}, err
		}
	}
	p := Presence{Known: r.known(), InternalOnly: r.internalOnly(), Removed: r.lostAt()}
	switch {
	case p.Known && !p.InternalOnly:
		return p, nil
	case p.Known:
		p.Doubt = s.recordIsUncertain()
		return p, nil
	}
	err = errors.Join(s.damageOrNil(), s.missIsUncertain())
	if err != nil {
		return Presence{}, err
	}
	return p, nil
}

// damageOrNil returns the error of what a damaged store does not have.
func (s *Store) damageOrNil() error {
	if !s.damaged.Load() {
		return nil
	}
	return fmt.Errorf("store %s: %w; %s", s.config.Dir, ErrDamaged, damageAdvice)
}

// recordIsUncertain returns why a record may have changed since: the store is damaged and learns
// nothing, or was opened at an older state than it was left in.
func (s *Store) recordIsUncertain() error {
	if why := s.inDoubt.Load(); why != nil {
		return fmt.Errorf("store %s: %s", s.config.Dir, *why)
	}
	return s.damageOrNil()
}

func (s *Store) addressRecord(a string) (addressRecord, error) { return s.newest().addressRecord(a) }

func (r reader) addressRecord(a string) (record addressRecord, err error) {
	key := addressKey(a)
	err = r.read(key, func(value []byte) (err error) {
		record, err = r.s.decodeAddress(key, value)
		return err
	})
	if err != nil && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("store %s: read: %w", r.s.config.Dir, err)
	}
	return record, err
}

// Owner is one object that has an address, and how the address was learned.
type Owner struct {
	Directory           string
	GUID                GUID
	DN                  string
	Class               string
	Attribute           string
	InternalOnly        bool
	Learned             time.Time // when the address was first read from this object
	Pass                uint64    // in which pass
	Controller          string    // from which domain controller
	USN                 uint64    // at which uSNChanged there
	Gone                bool      // gone from the directory; the removal is not yet in effect
	BecomesInternalOnly bool      // internal-only in the directory, not yet in effect
}

// Detail is everything that the store has about an address.
type Detail struct {
	Owners      []Owner
	Removed     time.Time // when the last owner went; zero means never, or that it is known
	RemovedPass uint64    // by which pass
	History     []Event   // oldest first
}

// Describe returns the details of an address, as of the newest commit.
func (s *Store) Describe(a address.Address) (Detail, error) {
	v, err := s.view()
	if err != nil {
		return Detail{}, err
	}
	defer v.done()
	return v.describe(a)
}

func (r reader) describe(a address.Address) (Detail, error) {
	record, err := r.addressRecord(a.String())
	if err != nil {
		return Detail{}, err
	}
	d := Detail{Removed: record.removed, RemovedPass: record.pass}
	for _, o := range record.owners {
		owner, err := r.owner(o, a.String())
		if err != nil {
			return Detail{}, err
		}
		d.Owners = append(d.Owners, owner)
	}
	d.History, err = r.history(a)
	return d, err
}

func (r reader) owner(o owner, a string) (Owner, error) {
	s := r.s
	out := Owner{GUID: o.guid, InternalOnly: o.internalOnly}
	out.Directory, _ = s.originOf(o.dir, 0)
	record, err := r.object(o.dir, o.guid)
	if err != nil {
		return out, err
	}
	out.DN, out.Class = record.dn, record.class
	for _, owned := range record.addresses {
		if owned.address == a {
			out.Attribute, out.BecomesInternalOnly = owned.attribute, owned.becomesInternalOnly
			out.Gone = !owned.mark.isZero() && !owned.becomesInternalOnly
			out.Learned, out.Pass = owned.learned.time, owned.learned.pass
			_, out.Controller = s.originOf(o.dir, owned.learned.origin)
			out.USN = owned.learned.usn
		}
	}
	return out, nil
}

// originOf returns the name of a directory and the domain controller of one of its origins. Both
// are empty if the directory no longer exists.
func (s *Store) originOf(id dirID, origin originID) (name, controller string) {
	s.state.Lock()
	defer s.state.Unlock()
	for name, d := range s.state.dirs {
		if d.record.id == id {
			return name, d.record.controllerOf(origin)
		}
	}
	return "", ""
}

// Totals are updated with every change, so reading them costs nothing.
type Totals struct {
	Addresses int64            // with an owner
	Objects   int64            // with an address
	Unparsed  int64            // values that look like SMTP addresses and cannot be parsed
	Domains   map[string]int64 // addresses by domain
	Digest    string           // independent of order; equal digests mean equal addresses and internal-only flags
}

// Totals returns the counters as of the last commit.
func (s *Store) Totals() Totals { return s.totals.Load().public() }

func (t *totals) public() Totals {
	return Totals{Addresses: t.addresses, Objects: t.objects, Unparsed: t.unparsed,
		Domains: t.domains.clone(), Digest: t.digest.String()}
}

// Addresses visits every known address, sorted by text, all of one commit. An error from visit
// stops it and is returned. An error at the end means that a damaged file hides some addresses.
func (s *Store) Addresses(visit func(a address.Address, internalOnly bool) error) error {
	v, err := s.view()
	if err != nil {
		return err
	}
	defer v.done()
	return v.addresses(func(text string, r addressRecord) error { return visit(parse(text), r.internalOnly()) })
}

// addresses visits the records of all known addresses, then compares their number with the
// totals.
func (r reader) addresses(visit func(text string, record addressRecord) error) error {
	var visited int64
	err := r.scan([]byte(prefixAddress), false, func(kv pair) error {
		record, err := decodeAddress(kv.value)
		if err != nil {
			return r.s.unreadable(string(kv.key), err)
		}
		if !record.known() {
			return nil
		}
		visited++
		return visit(string(kv.key[len(prefixAddress):]), record)
	})
	if err != nil {
		return err
	}
	t, err := r.totals()
	if err == nil && t.addresses != visited {
		err = r.s.markSuspected(fmt.Errorf("%d of %d addresses can be read", visited, t.addresses))
	}
	return err
}

// DomainAddresses returns how many addresses of a canonical domain have an owner, as of the last
// commit. It takes no lock and copies nothing.
func (s *Store) DomainAddresses(domain string) int64 { return s.totals.Load().domains.of(domain) }

// HasDomain reports whether the index has an address of a canonical domain. The daemon calls it
// for each unknown recipient.
func (s *Store) HasDomain(domain string) bool { return s.DomainAddresses(domain) > 0 }

// HasDomainBelow reports whether the index has an address in a subdomain of parent, which begins
// with a dot.
func (s *Store) HasDomainBelow(parent string) bool {
	found := false
	s.totals.Load().domains.all(func(domain string, _ int64) { found = found || strings.HasSuffix(domain, parent) })
	return found
}
