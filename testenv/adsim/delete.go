package adsim

import (
	"fmt"
	"slices"
)

// preserved are the stored attributes that a tombstone keeps (MS-ADTS 3.1.1.5.5.1.1). It loses all
// others, including objectCategory and the addresses.
var preserved = []string{"samaccountname", "useraccountcontrol", "legacyexchangedn", "grouptype"}

// Delete deletes a live leaf object: it becomes "name\nDEL:guid" in CN=Deleted Objects, with
// isDeleted TRUE. Without the recycle bin it is a tombstone and loses most attributes; with it,
// it keeps all.
func (d *Directory) Delete(guid GUID) error {
	d.lock()
	defer d.mu.Unlock()
	i, err := d.findLive(guid)
	if err != nil {
		return err
	}
	e := d.entries[i]
	if e.parent < 0 {
		return fmt.Errorf("%w: %q", ErrName, e.name)
	}
	if e.children > 0 {
		return fmt.Errorf("%w: %q", ErrNotEmpty, d.dn(i))
	}
	e.deleted = true
	e.deletion = d.writeDeletion(e.deletion)
	e.lastParent, e.parent = e.parent, d.deletedObjects
	e.originalName, e.name = e.name, e.name+"\nDEL:"+e.guid.String()
	if !d.recycleBin {
		e.attrs = d.stripAttributes(e.attrs)
	}
	e.place = d.next(e.place)
	d.replace(i, e)
	return nil
}

// stripAttributes returns the stored attributes that a tombstone keeps.
func (d *Directory) stripAttributes(attrs []attr) []attr {
	attrs = slices.Clone(attrs)
	for n, a := range attrs {
		if len(a.values) > 0 && !slices.Contains(preserved, a.key) {
			attrs[n].values, attrs[n].written = nil, d.next(a.written)
		}
	}
	return attrs
}

// Recycle ends the time in the recycle bin: the deleted object loses its attributes, isRecycled
// becomes TRUE, and it cannot be restored.
func (d *Directory) Recycle(guid GUID) error {
	d.lock()
	defer d.mu.Unlock()
	i, err := d.find(guid)
	if err != nil {
		return err
	}
	e := &d.entries[i]
	if !e.deleted || i == d.deletedObjects {
		return fmt.Errorf("%w: %s", ErrNotDeleted, guid)
	}
	e.recycled = true
	e.place = d.next(e.place)
	e.attrs = d.stripAttributes(e.attrs)
	d.recordWrite(e)
	return nil
}

// Purge removes a deleted object for good, as garbage collection does after the tombstone
// lifetime. It takes no USN, so clients do not notice.
func (d *Directory) Purge(guid GUID) error {
	d.lock()
	defer d.mu.Unlock()
	i, err := d.find(guid)
	if err != nil {
		return err
	}
	e := &d.entries[i]
	if !e.deleted || i == d.deletedObjects {
		return fmt.Errorf("%w: %s", ErrNotDeleted, guid)
	}
	delete(d.byName, e.key())
	delete(d.byGUID, guid)
	d.entries[e.parent].children--
	*e = entry{purged: true, parent: -1, lastParent: -1}
	return nil
}

// Undelete restores a deleted object under its old name, in its last parent or in the container
// with the given DN. With the recycle bin it gets its attributes back; a tombstone has none. It
// keeps its GUID.
func (d *Directory) Undelete(guid GUID, parentDN string) error {
	d.lock()
	defer d.mu.Unlock()
	i, err := d.find(guid)
	if err != nil {
		return err
	}
	e := d.entries[i]
	if !e.deleted || e.recycled || i == d.deletedObjects {
		return fmt.Errorf("%w: %s", ErrNotDeleted, guid)
	}
	e.parent = e.lastParent
	if parentDN != "" {
		if e.parent, err = d.lookupDN(parentDN); err != nil {
			return err
		}
	}
	if p := &d.entries[e.parent]; p.deleted || p.purged {
		return fmt.Errorf("%w: its parent is deleted", ErrNoObject)
	}
	e.deleted, e.lastParent = false, -1
	e.deletion = d.writeDeletion(e.deletion)
	e.name, e.originalName = e.originalName, ""
	if _, taken := d.byName[e.key()]; taken {
		return fmt.Errorf("%w: %q", ErrExists, e.name)
	}
	e.place = d.next(e.place)
	d.replace(i, e)
	return nil
}

// SetRecycleBin enables or disables the recycle bin for later deletions.
func (d *Directory) SetRecycleBin(on bool) {
	d.lock()
	defer d.mu.Unlock()
	d.recycleBin = on
}
