package adsim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Add adds an object with a DN; the parent must exist. Accounts get a userAccountControl (512,
// enabled) if they have none.
func (d *Directory) Add(kind Kind, dn string, attrs Attrs) (GUID, error) {
	naming, name, parentDN, err := splitDN(dn)
	if err != nil {
		return GUID{}, err
	}
	d.lock()
	defer d.mu.Unlock()
	parent, err := d.lookupDN(parentDN)
	if err != nil {
		return GUID{}, err
	}
	if !kind.valid() || !strings.EqualFold(naming, kind.info().naming) || d.entries[parent].deleted {
		return GUID{}, fmt.Errorf("%w: %q", ErrName, dn)
	}
	e := entry{kind: kind, parent: parent, name: name}
	if _, taken := d.byName[e.key()]; taken {
		return GUID{}, fmt.Errorf("%w: %q", ErrExists, dn)
	}
	stored := sortedAttrs(attrs)
	if slices.Contains(kind.info().classes, "user") && !slices.ContainsFunc(stored, isControl) {
		stored = append(stored, attr{key: "useraccountcontrol", name: "userAccountControl", values: []string{"512"}})
	}
	return d.entries[d.insert(kind, parent, name, stored)].guid, nil
}

func isControl(a attr) bool { return a.key == "useraccountcontrol" }

// A Change is one modification of an attribute: see Set, AddValues, RemoveValues.
type Change struct {
	name   string
	values []string
	mode   changeMode
}

type changeMode uint8

const (
	replaceAll changeMode = iota
	addSome
	removeSome
)

// Set replaces all values of an attribute; no values remove it.
func Set(name string, values ...string) Change { return Change{name, values, replaceAll} }

// AddValues adds values that do not exist yet.
func AddValues(name string, values ...string) Change { return Change{name, values, addSome} }

// RemoveValues removes values; it ignores case.
func RemoveValues(name string, values ...string) Change { return Change{name, values, removeSome} }

// Modify changes attributes of a live object under one new USN, even if nothing differs
// afterwards. Without a change it only moves uSNChanged, as a logon does.
func (d *Directory) Modify(guid GUID, changes ...Change) error {
	d.lock()
	defer d.mu.Unlock()
	i, err := d.findLive(guid)
	if err != nil {
		return err
	}
	e := &d.entries[i]
	for _, c := range changes {
		e.attrs = c.apply(e.attrs, d.next)
	}
	d.recordWrite(e)
	return nil
}

// apply returns the attributes after a change, in new slices.
func (c Change) apply(attrs []attr, next func(version) version) []attr {
	key := foldName(c.name)
	attrs = slices.Clone(attrs)
	n := slices.IndexFunc(attrs, func(a attr) bool { return a.key == key })
	if n < 0 {
		n = len(attrs)
		attrs = append(attrs, attr{key: key, name: c.name})
	}
	values := slices.Clone(attrs[n].values)
	holds := func(list []string, v string) bool {
		return slices.ContainsFunc(list, func(w string) bool { return strings.EqualFold(v, w) })
	}
	switch c.mode {
	case replaceAll:
		values = slices.Clone(c.values)
	case addSome:
		for _, v := range c.values {
			if !holds(values, v) {
				values = append(values, v)
			}
		}
	case removeSome:
		values = slices.DeleteFunc(values, func(v string) bool { return holds(c.values, v) })
	}
	attrs[n].values, attrs[n].written = values, next(attrs[n].written)
	return attrs
}

// Touch moves an object's uSNChanged and changes nothing else.
func (d *Directory) Touch(guid GUID) error { return d.Modify(guid) }

// SetDisabled disables an account (ADS_UF_ACCOUNTDISABLE in userAccountControl) or enables it.
func (d *Directory) SetDisabled(guid GUID, disabled bool) error {
	control := 512
	if disabled {
		control |= 2
	}
	return d.Modify(guid, Set("userAccountControl", strconv.Itoa(control)))
}

// Rename renames a live object in the same parent. The objects below it get another DN and no new
// USN.
func (d *Directory) Rename(guid GUID, name string) error {
	return d.relocate(guid, func(e *entry) error {
		e.name = name
		return nil
	})
}

// Move moves a live object, with its subtree, into another container or organizational unit, named
// by its DN.
func (d *Directory) Move(guid GUID, parentDN string) error {
	return d.relocate(guid, func(e *entry) error {
		parent, err := d.lookupDN(parentDN)
		if err == nil && (d.entries[parent].deleted || d.within(parent, d.byGUID[guid])) {
			err = fmt.Errorf("%w: cannot move into %q", ErrName, parentDN)
		}
		e.parent = parent
		return err
	})
}

// relocate changes the parent or name of an object unless the new name is in use.
func (d *Directory) relocate(guid GUID, change func(*entry) error) error {
	d.lock()
	defer d.mu.Unlock()
	i, err := d.findLive(guid)
	if err != nil {
		return err
	}
	moved := d.entries[i]
	if err := change(&moved); err != nil {
		return err
	}
	if moved.parent < 0 || moved.name == "" {
		return fmt.Errorf("%w: %q", ErrName, moved.name)
	}
	if at, taken := d.byName[moved.key()]; taken && at != i {
		return fmt.Errorf("%w: %q", ErrExists, moved.name)
	}
	moved.place = d.next(moved.place)
	d.replace(i, moved)
	return nil
}

// replace stores an object in its slot under a new USN and updates the name index.
func (d *Directory) replace(i int32, e entry) {
	delete(d.byName, d.entries[i].key())
	d.entries[d.entries[i].parent].children--
	d.entries[e.parent].children++
	d.entries[i] = e
	d.byName[e.key()] = i
	d.recordWrite(&d.entries[i])
}
