package adsim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// version counts the writes of one property of an object, like the metadata with which controllers
// resolve conflicts (MS-ADTS 3.1.1.1.9). The property with more writes wins; between equal
// counts, the greater database wins. A restored database repeats counts; then the later write
// wins.
type version struct {
	writes, origin, serial uint32
	at                     int64 // Unix time of the write, by the clock of the controller that made it
}

func (v version) newer(than version) bool {
	return cmp.Or(cmp.Compare(v.writes, than.writes), cmp.Compare(v.origin, than.origin),
		cmp.Compare(v.serial, than.serial)) > 0
}

// next returns the version for a write on this controller.
func (d *Directory) next(v version) version {
	d.serial++
	return version{v.writes + 1, binary.BigEndian.Uint32(d.invocation[:]), d.serial, d.config.Clock().Unix()}
}

// NewReplica returns another controller of the same domain. It has all current objects of d, with
// its own USNs from firstUSN on, and gets no later changes by itself.
func (d *Directory) NewReplica(host string, firstUSN uint64) *Directory {
	config := d.config
	config.Host, config.FirstUSN = host, firstUSN
	r := NewDirectory(config)
	own := r.invocation
	r.Restore(d.Snapshot())
	r.invocation, r.usn = own, firstUSN
	server := r.entries[r.dsa].parent
	delete(r.byName, r.entries[server].key())
	r.entries[server].name = strings.ToUpper(host)
	r.byName[r.entries[server].key()] = server
	for _, i := range []int32{server, r.dsa} {
		delete(r.byGUID, r.entries[i].guid)
		r.entries[i].guid = config.NewGUID()
		r.byGUID[r.entries[i].guid] = i
	}
	for _, i := range r.byUSN() {
		r.usn++
		r.entries[i].created, r.entries[i].usn = r.usn, r.usn
	}
	return r
}

// byUSN returns the slots in use in the order of their last change.
func (d *Directory) byUSN() []int32 {
	var list []int32
	for i := range d.entries {
		if !d.entries[i].purged {
			list = append(list, int32(i))
		}
	}
	slices.SortFunc(list, func(a, b int32) int { return cmp.Compare(d.entries[a].usn, d.entries[b].usn) })
	return list
}

// ReplicateFrom replicates newer objects from another controller of the domain, in the order of
// its USNs, at most limit objects; 0 means no limit. Each changed object gets a USN of this
// controller. It returns the number of changed objects. Controllers that replicate from each
// other until nothing changes hold the same objects.
//
// An object whose parent is deleted here, or that would be below itself, moves to LostAndFound. If
// two objects have the same name, the incoming one is renamed, as in Active Directory. Values are
// not merged: proxyAddresses replicates as a whole.
func (d *Directory) ReplicateFrom(partner *Directory, limit int) int {
	copied := &Directory{config: partner.config, root: partner.root}
	copied.Restore(partner.Snapshot())
	d.lock()
	defer d.mu.Unlock()
	in := replication{d: d, from: copied, done: map[int32]bool{}}
	for _, i := range copied.byUSN() {
		if limit > 0 && in.changed >= limit {
			break
		}
		if i != copied.root && copied.within(i, copied.root) {
			in.replicate(i)
		}
	}
	return in.changed
}

// replication is one replication in progress.
type replication struct {
	d, from *Directory
	done    map[int32]bool
	changed int
}

// replicate replicates one object after its parent.
func (in *replication) replicate(theirs int32) {
	if in.done[theirs] {
		return
	}
	in.done[theirs] = true
	s := &in.from.entries[theirs]
	ours, known := in.d.byGUID[s.guid]
	if !known && s.deleted {
		return // it never existed here
	}
	for _, above := range []int32{s.parent, s.lastParent} {
		if above >= 0 && above != in.from.root {
			in.replicate(above)
		}
	}
	if !known {
		in.create(s)
		in.changed++
		return
	}
	e := in.d.entries[ours]
	if newest, changed := in.merge(ours, &e, s); changed {
		in.d.replace(ours, e)
		in.setChangedAt(ours, newest)
		in.changed++
	}
}

// setChangedAt sets whenChanged of a replicated object: see [DirectoryConfig.OriginTimes]. newest
// is the Unix time of the newest change.
func (in *replication) setChangedAt(ours int32, newest int64) {
	if in.d.config.OriginTimes {
		in.d.entries[ours].changedAt = newest
	}
}

// localParent returns the local slot of an object of the partner.
func (in *replication) localParent(theirs int32) int32 {
	if theirs < 0 {
		return -1
	}
	ours, known := in.d.byGUID[in.from.entries[theirs].guid]
	if !known {
		return -1
	}
	return ours
}

// create creates an object that does not exist here.
func (in *replication) create(s *entry) {
	e := *s
	e.parent, e.lastParent, e.children = in.localParent(s.parent), -1, 0
	in.place(-1, &e)
	i := in.d.insert(e.kind, e.parent, e.name, slices.Clone(s.attrs))
	at := &in.d.entries[i]
	delete(in.d.byGUID, at.guid)
	at.guid, at.attrs, at.place, at.deletion = s.guid, slices.Clone(s.attrs), e.place, s.deletion
	in.d.byGUID[at.guid] = i
	newest := s.place.at
	for _, a := range s.attrs {
		newest = max(newest, a.written.at)
	}
	in.setChangedAt(i, newest)
}

// merge takes newer properties from the partner. It reports whether there were any, and the Unix
// time of the newest change.
func (in *replication) merge(ours int32, e, s *entry) (newest int64, changed bool) {
	if s.place.newer(e.place) {
		newest, changed = s.place.at, true
		e.deletion = s.deletion
		e.name, e.originalName, e.deleted, e.recycled, e.place = s.name, s.originalName, s.deleted, s.recycled, s.place
		e.parent, e.lastParent = in.localParent(s.parent), in.localParent(s.lastParent)
		if e.deleted {
			in.moveChildren(ours, e)
		} else {
			in.place(ours, e)
		}
	}
	e.attrs = slices.Clone(e.attrs)
	for _, a := range s.attrs {
		n := slices.IndexFunc(e.attrs, func(b attr) bool { return b.key == a.key })
		switch {
		case n < 0:
			e.attrs = append(e.attrs, a)
		case a.written.newer(e.attrs[n].written):
			e.attrs[n] = a
		default:
			continue
		}
		newest, changed = max(newest, a.written.at), true
	}
	return newest, changed
}

// place resolves conflicts of parent and name for a live object.
func (in *replication) place(ours int32, e *entry) {
	d := in.d
	if e.parent < 0 || d.entries[e.parent].deleted || ours >= 0 && d.within(e.parent, ours) {
		e.parent, e.place = d.lostAndFound, d.next(e.place)
	}
	if at, taken := d.byName[e.key()]; taken && at != ours {
		e.name, e.place = fmt.Sprintf("%s\nCNF:%s", e.name, e.guid), d.next(e.place)
	}
}

// moveChildren moves the children of a deleted object to LostAndFound.
func (in *replication) moveChildren(parent int32, gone *entry) {
	d := in.d
	for _, i := range slices.Sorted(maps.Values(d.byGUID)) {
		e := d.entries[i]
		if e.parent != parent || e.deleted {
			continue
		}
		e.parent, e.place = d.lostAndFound, d.next(e.place)
		in.place(i, &e)
		d.replace(i, e)
		gone.children--
	}
}
