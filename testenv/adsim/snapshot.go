package adsim

import (
	"maps"
	"slices"
)

// Snapshot is a copy of a directory's database at one moment.
type Snapshot struct {
	entries    []entry
	byGUID     map[GUID]int32
	byName     map[childKey]int32
	usn        uint64
	invocation GUID
	domains    bool
}

// Snapshot copies the database, like a copy of the files of a stopped controller.
func (d *Directory) Snapshot() *Snapshot {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return &Snapshot{
		slices.Clone(d.entries), maps.Clone(d.byGUID), maps.Clone(d.byName), d.usn, d.invocation, d.domains,
	}
}

// Restore restores a snapshot: objects, USNs and invocationId are as before. That is an
// unsupported restore of a controller; a supported one also calls [Directory.NewInvocationID].
func (d *Directory) Restore(s *Snapshot) {
	d.lock()
	defer d.mu.Unlock()
	d.entries = slices.Clone(s.entries)
	d.byGUID = maps.Clone(s.byGUID)
	d.byName = maps.Clone(s.byName)
	d.usn, d.invocation, d.domains = s.usn, s.invocation, s.domains
}

// InvocationID returns the identity of the database.
func (d *Directory) InvocationID() GUID {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.invocation
}

// NewInvocationID gives the database a new identity, as a supported restore does.
func (d *Directory) NewInvocationID() GUID {
	guid := d.config.NewGUID()
	d.SetInvocationID(guid)
	return guid
}

// SetInvocationID sets the identity of the database.
func (d *Directory) SetInvocationID(guid GUID) {
	d.lock()
	defer d.mu.Unlock()
	d.invocation = guid
}

// SetHighestUSN sets highestCommittedUSN, also to a lower value; objects keep their USNs.
func (d *Directory) SetHighestUSN(usn uint64) {
	d.lock()
	defer d.mu.Unlock()
	d.usn = usn
}

// Hide makes attributes unreadable for every client: entries lack them, and any assertion about
// them is Undefined. It replaces the attributes hidden before.
func (d *Directory) Hide(names ...string) {
	d.lock()
	defer d.mu.Unlock()
	clear(d.hidden)
	for _, n := range names {
		d.hidden[foldName(n)] = true
	}
}

// HideOf denies the right to read attributes of one object; without names, it restores the right
// to read all.
func (d *Directory) HideOf(guid GUID, names ...string) {
	d.lock()
	defer d.mu.Unlock()
	if d.hiddenOf == nil {
		d.hiddenOf = map[GUID]map[string]bool{}
	}
	hidden := map[string]bool{}
	for _, n := range names {
		hidden[foldName(n)] = true
	}
	d.hiddenOf[guid] = hidden
}

// WithholdDeleted revokes, or restores, the right to list deleted objects and to read their
// container. Searches then omit them without an error; the container is still found by its name,
// but without any attribute.
func (d *Directory) WithholdDeleted(withhold bool) {
	d.lock()
	defer d.mu.Unlock()
	d.hideDeleted = withhold
}
