package adsim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// version counts the writes of one property of an object, as the metadata do by which
// controllers agree on one value (MS-ADTS 3.1.1.1.9): the one written more often
// counts, and of two as often the one of the greater database. A database that was set
// back writes as often again what it had written before; then the later one counts.
type version struct {
	writes, origin, serial uint32
	at                     int64 // Unix time of the write, by the clock of the controller that made it
}

func (v version) newer(than version) bool {
	return cmp.Or(cmp.Compare(v.writes, than.writes), cmp.Compare(v.origin, than.origin), cmp.Compare(v.serial, than.serial)) > 0
}

// next is the version of a property that is written here.
func (d *Directory) next(v version) version {
	d.serial++
	return version{v.writes + 1, binary.BigEndian.Uint32(d.invocation[:]), d.serial, d.config.Clock().Unix()}
}

// NewReplica makes another controller of the same domain: it has all that d has now,
// under USNs of its own from firstUSN on, and hears of nothing more by itself.
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

// byUSN lists the slots in use in the order of their last change.
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

// ReplicateFrom brings what another controller of the domain knows better, object by
// object in the order of its USNs, at most limit objects (0: all). Each object that it
// changes gets a USN of this controller. It reports how many it changed. After both
// have replicated from each other until nothing changes they hold the same.
//
// An object whose parent is deleted here, or would stand below itself, goes to
// LostAndFound, and of two objects of one name the one that arrives is renamed, as in
// the original. Values are not merged: proxyAddresses replicates as one.
func (d *Directory) ReplicateFrom(partner *Directory, limit int) int {
	copied := &Directory{config: partner.config, root: partner.root}
	copied.Restore(partner.Snapshot())
	d.mu.Lock()
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

// replication is one replication under way.
type replication struct {
	d, from *Directory
	done    map[int32]bool
	changed int
}

// replicate brings one object, its parent first.
func (in *replication) replicate(theirs int32) {
	if in.done[theirs] {
		return
	}
	in.done[theirs] = true
	s := &in.from.entries[theirs]
	ours, known := in.d.byGUID[s.guid]
	if !known && s.deleted {
		return // nobody here has to hear of it
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

// setChangedAt sets whenChanged of an object that replication changed: see
// [DirectoryConfig.OriginTimes]. The newest of the changes was made at a Unix time.
func (in *replication) setChangedAt(ours int32, newest int64) {
	if in.d.config.OriginTimes {
		in.d.entries[ours].changedAt = newest
	}
}

// localParent gives the slot here of an object there.
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

// create creates an object that is not known here.
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

// merge takes over what is newer there. It reports whether anything was, and the Unix
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

// place makes sure of a place for a live object.
func (in *replication) place(ours int32, e *entry) {
	d := in.d
	if e.parent < 0 || d.entries[e.parent].deleted || ours >= 0 && d.within(e.parent, ours) {
		e.parent, e.place = d.lostAndFound, d.next(e.place)
	}
	if at, taken := d.byName[e.key()]; taken && at != ours {
		e.name, e.place = fmt.Sprintf("%s\nCNF:%s", e.name, e.guid), d.next(e.place)
	}
}

// moveChildren moves what stands below an object that is deleted.
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
