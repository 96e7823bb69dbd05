package store

import (
	"fmt"
	"math"
	"time"

	"github.com/dgraph-io/badger/v4"

	"rcpt-milter/address"
)

// Presence is the answer to a RCPT. The zero value: never seen.
type Presence struct {
	Known      bool
	Restricted bool      // every owner takes mail from inside senders only
	Removed    time.Time // not known any more: when the last owner went
}

// Lookup says whether an address is known. It reads one key and waits for nobody. Any
// error means that it cannot tell, which is not the same as unknown.
func (s *Store) Lookup(a address.Address) (Presence, error) {
	if err := s.enter(); err != nil {
		return Presence{}, err
	}
	defer s.leave()
	r, err := s.addressRecord(a.String())
	if err != nil {
		return Presence{}, err
	}
	if !r.known() && s.damaged.Load() {
		return Presence{}, fmt.Errorf("store %s: %w; %s", s.config.Dir, ErrDamaged, rebuildAdvice)
	}
	return Presence{Known: r.known(), Restricted: r.restricted(), Removed: r.removed}, nil
}

func (s *Store) addressRecord(a string) (r addressRecord, err error) {
	defer func() { // a damaged block sends Badger's parser out of bounds
		if p := recover(); p != nil {
			r, err = addressRecord{}, s.damage(fmt.Errorf("%v", p))
		}
	}()
	txn := s.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	item, err := txn.Get(addressKey(a))
	if err == badger.ErrKeyNotFound {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("store %s: read: %w", s.config.Dir, err)
	}
	err = item.Value(func(value []byte) error {
		r, err = decodeAddress(value)
		return err
	})
	if err != nil {
		return r, s.unreadable(string(addressKey(a)), err)
	}
	return r, nil
}

// Owner is one object that has an address, with what is known of how it came to it.
type Owner struct {
	Directory  string
	GUID       GUID
	DN         string
	Class      string
	Attribute  string
	Restricted bool
	Learned    time.Time // when the address was first read of this object
	Pass       uint64    // and in which pass
	Controller string    // and from which domain controller
	USN        uint64    // and at which uSNChanged there
	Gone       bool      // no longer there in the directory, its removal is not in effect
}

// Detail is all that the store knows of an address.
type Detail struct {
	Owners      []Owner
	Removed     time.Time // when the last owner went; zero: never, or it is known
	RemovedPass uint64    // and by which pass
	History     []Event   // oldest first
}

// Describe explains an address. It reads several keys one after the other, so that
// during a pass they may differ by it.
func (s *Store) Describe(a address.Address) (Detail, error) {
	if err := s.enter(); err != nil {
		return Detail{}, err
	}
	defer s.leave()
	r, err := s.addressRecord(a.String())
	if err != nil {
		return Detail{}, err
	}
	d := Detail{Removed: r.removed, RemovedPass: r.pass}
	for _, o := range r.owners {
		owner, err := s.owner(o, a.String())
		if err != nil {
			return Detail{}, err
		}
		d.Owners = append(d.Owners, owner)
	}
	d.History, err = s.History(a)
	return d, err
}

func (s *Store) owner(o owner, a string) (Owner, error) {
	out := Owner{GUID: o.guid, Restricted: o.restricted}
	out.Directory, _ = s.originOf(o.dir, 0)
	record, err := s.object(o.dir, o.guid)
	if err != nil {
		return out, err
	}
	out.DN, out.Class = record.dn, record.class
	for _, owned := range record.addresses {
		if owned.address == a {
			out.Attribute, out.Gone = owned.attribute, !owned.gone.isZero()
			out.Learned, out.Pass = owned.learned.time, owned.learned.pass
			_, out.Controller = s.originOf(o.dir, owned.learned.origin)
			out.USN = owned.learned.usn
		}
	}
	return out, nil
}

// originOf names a directory, and the domain controller behind an origin of it. Both
// are empty where the directory is not known any more.
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

// Totals are kept up with every change, so reading them costs nothing.
type Totals struct {
	Addresses int64            // with an owner
	Objects   int64            // with an address
	Unparsed  int64            // values that look like SMTP addresses and cannot be read
	Domains   map[string]int64 // addresses by domain
	Digest    string           // order-free: equal digests hold equal addresses and restricted flags
}

// Totals gives the counters as of the last commit.
func (s *Store) Totals() Totals { return s.totals.Load().public() }

func (t *totals) public() Totals {
	return Totals{Addresses: t.addresses, Objects: t.objects, Unparsed: t.unparsed,
		Domains: t.domains.clone(), Digest: t.digest.String()}
}

// Addresses visits every known address in the order of their text. Beside writers it
// may see some of a batch and not the rest.
func (s *Store) Addresses(visit func(a address.Address, restricted bool) error) error {
	return s.scan([]byte(prefixAddress), false, func(kv pair) error {
		if err := s.enter(); err != nil {
			return err
		}
		defer s.leave()
		r, err := decodeAddress(kv.value)
		if err != nil {
			return s.unreadable(string(kv.key), err)
		}
		if !r.known() {
			return nil
		}
		return visit(parse(string(kv.key[len(prefixAddress):])), r.restricted())
	})
}
