package adsim

import (
	"iter"
	"slices"
	"strings"
)

// Entry is the current state of one object.
type Entry struct {
	GUID     GUID
	DN       string
	Kind     Kind
	USN      uint64
	Deleted  bool
	Recycled bool
	Attrs    Attrs // stored attributes, by lower-case name
}

// Get returns one object, live or deleted.
func (d *Directory) Get(guid GUID) (Entry, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	i, err := d.find(guid)
	if err != nil {
		return Entry{}, err
	}
	return d.export(i), nil
}

// Lookup returns the object with a DN.
func (d *Directory) Lookup(dn string) (Entry, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	i, err := d.lookupDN(dn)
	if err != nil {
		return Entry{}, err
	}
	return d.export(i), nil
}

func (d *Directory) export(i int32) Entry {
	e := &d.entries[i]
	out := Entry{
		GUID: e.guid, DN: d.dn(i), Kind: e.kind, USN: e.usn,
		Deleted: e.deleted, Recycled: e.recycled, Attrs: Attrs{},
	}
	for _, a := range e.attrs {
		if len(a.values) > 0 {
			out.Attrs[a.key] = a.values
		}
	}
	return out
}

// Entries returns all objects of the domain's naming context in the order of their creation,
// including deleted ones. The directory must not be written to during the iteration.
func (d *Directory) Entries() iter.Seq[Entry] { return d.exported(true) }

// Live returns the objects of Entries without the deleted ones.
func (d *Directory) Live() iter.Seq[Entry] { return d.exported(false) }

// Version returns a number that differs whenever the directory may have changed, also by a restored
// snapshot.
func (d *Directory) Version() uint64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.version
}

func (d *Directory) exported(deleted bool) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		d.mu.RLock()
		defer d.mu.RUnlock()
		for i := range int32(len(d.entries)) {
			e := &d.entries[i]
			if !e.purged && (deleted || !e.deleted) && d.within(i, d.root) && !yield(d.export(i)) {
				return
			}
		}
	}
}

// Owners returns the expected index under default rules: each address of a live user, group,
// contact, public folder or dynamic list, in lower case, with the objects that own it. An address
// is an smtp: value of proxyAddresses without the prefix, or a value of mail. If bases are given,
// only objects at or below one of these DNs count.
func (d *Directory) Owners(bases ...string) map[string][]GUID {
	owners := map[string][]GUID{}
	for e := range d.Live() {
		if e.Kind.receivesMail() && under(e.DN, bases) {
			for _, address := range e.Addresses() {
				owners[address] = append(owners[address], e.GUID)
			}
		}
	}
	return owners
}

func (k Kind) receivesMail() bool {
	return k != Computer && k != ManagedService && k != OU && k != Container && k != PrintQueue && k.valid()
}

// under reports whether a DN is at or below one of the bases; all DNs are as this package prints
// them.
func under(dn string, bases []string) bool {
	return len(bases) == 0 || slices.ContainsFunc(bases, func(base string) bool {
		return strings.EqualFold(dn, base) || strings.HasSuffix(foldName(dn), ","+foldName(base))
	})
}

// Addresses returns the SMTP addresses of an object, in lower case, without duplicates.
func (e Entry) Addresses() []string {
	var out []string
	add := func(address string) {
		if address = foldName(address); !slices.Contains(out, address) {
			out = append(out, address)
		}
	}
	for _, v := range e.Attrs["proxyaddresses"] {
		if kind, rest, ok := strings.Cut(v, ":"); ok && strings.EqualFold(kind, "smtp") {
			add(rest)
		}
	}
	for _, v := range e.Attrs["mail"] {
		add(v)
	}
	return out
}
