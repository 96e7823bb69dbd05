package store

import (
	"slices"
	"time"

	"rcpt-milter/address"
)

// StoredAddress is one address of a stored object.
type StoredAddress struct {
	Address             address.Address
	InternalOnly        bool      // as lookups answer it
	Known               bool      // lookups find the object's ownership, which is so for every address of a sound store
	Gone                bool      // a completed or running pass missed it; the removal is not yet in effect
	BecomesInternalOnly bool      // a completed or running pass found it internal-only, which is not yet in effect
	NotBefore           time.Time // Gone or BecomesInternalOnly: the earliest release; zero means at any time
}

// Stored is the stored record of one object. The zero value means that there is none.
type Stored struct {
	DN, Class string
	Addresses []StoredAddress
}

// Stored returns what is stored of one object of a directory. It includes addresses of extra
// that lookups find to be the object's, even if its record does not have them.
func (s *Store) Stored(name string, guid GUID, extra ...address.Address) (Stored, error) {
	v, err := s.view()
	if err != nil {
		return Stored{}, err
	}
	defer v.done()
	id, ok := s.directoryID(name)
	if !ok {
		return Stored{}, nil
	}
	record, err := v.object(id, guid)
	if err != nil {
		return Stored{}, err
	}
	out := Stored{DN: record.dn, Class: record.class}
	for _, a := range record.addresses {
		o, err := v.storedAddress(a.address, id, guid)
		if err != nil {
			return Stored{}, err
		}
		o.Gone, o.BecomesInternalOnly = !a.mark.isZero() && !a.becomesInternalOnly, a.becomesInternalOnly
		o.NotBefore = a.notBefore
		out.Addresses = append(out.Addresses, o)
	}
	for _, a := range extra {
		if slices.ContainsFunc(record.addresses, func(r ownedRecord) bool { return r.address == a.String() }) {
			continue
		}
		if o, err := v.storedAddress(a.String(), id, guid); err != nil {
			return Stored{}, err
		} else if o.Known {
			out.Addresses = append(out.Addresses, o)
		}
	}
	return out, nil
}

// storedAddress returns what lookups find of an object's address.
func (r reader) storedAddress(a string, dir dirID, guid GUID) (StoredAddress, error) {
	record, err := r.addressRecord(a)
	if err != nil {
		return StoredAddress{}, err
	}
	out := StoredAddress{Address: parse(a)}
	if i := slices.IndexFunc(record.owners, func(o owner) bool { return o.dir == dir && o.guid == guid }); i >= 0 {
		out.Known, out.InternalOnly = true, record.owners[i].internalOnly
	}
	return out, nil
}

// Owners visits every ownership of an address by an object of a directory, as lookups find it,
// sorted by address. recorded reports whether the object's record has the address too, which is
// so in a sound store. Everything is of one commit. An error from visit stops it and is
// returned. Close waits for it.
func (s *Store) Owners(name string, visit func(a address.Address, guid GUID, recorded bool) error) error {
	v, err := s.view()
	if err != nil {
		return err
	}
	defer v.done()
	id, ok := s.directoryID(name)
	if !ok {
		return nil
	}
	return v.addresses(func(text string, r addressRecord) error {
		for _, o := range r.owners {
			if o.dir != id {
				continue
			}
			record, err := v.object(id, o.guid)
			if err != nil {
				return err
			}
			recorded := slices.ContainsFunc(record.addresses, func(a ownedRecord) bool { return a.address == text })
			if err := visit(parse(text), o.guid, recorded); err != nil {
				return err
			}
		}
		return nil
	})
}

// directoryID returns the id of a directory and reports whether it exists.
func (s *Store) directoryID(name string) (dirID, bool) {
	s.state.Lock()
	defer s.state.Unlock()
	d := s.state.dirs[name]
	if d == nil {
		return 0, false
	}
	return d.record.id, true
}
