package store

import (
	"slices"
	"time"

	"rcpt-milter/address"
)

// Owning is one address of a stored object.
type StoredAddress struct {
	Address             address.Address
	InternalOnly        bool      // as look-ups take it
	Known               bool      // look-ups find the object's ownership; it is so for every one of a sound store
	Gone                bool      // a completed or running pass missed it, and the removal is not in effect
	BecomesInternalOnly bool      // a completed or running pass found it internal-only, which is not in effect
	NotBefore           time.Time // Gone or Closes: it is not released before; zero: at any time
}

// Stored is what is stored of one object. The zero value: nothing.
type Stored struct {
	DN, Class string
	Addresses []StoredAddress
}

// Stored gives what is stored of one object of a directory. Of the addresses named
// besides it includes those that look-ups find to be the object's, though its record
// does not have them.
func (s *Store) Stored(name string, guid GUID, besides ...address.Address) (Stored, error) {
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
		o.Gone, o.BecomesInternalOnly, o.NotBefore = !a.gone.isZero() && !a.becomesInternalOnly, a.becomesInternalOnly, a.notBefore
		out.Addresses = append(out.Addresses, o)
	}
	for _, a := range besides {
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

// owning is what look-ups find of an object's address.
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

// Owners visits every ownership of an address by an object of a directory, as look-ups
// find it, in the order of addresses. recorded tells whether the object's record has it
// too, which is so in a sound store. All is of one commit. An error of visit ends it and
// is returned. Close waits for it.
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

// idOf is the id of a directory; false: there is none of the name.
func (s *Store) directoryID(name string) (dirID, bool) {
	s.state.Lock()
	defer s.state.Unlock()
	d := s.state.dirs[name]
	if d == nil {
		return 0, false
	}
	return d.record.id, true
}
