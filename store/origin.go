package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// originID numbers the databases that a directory was read from, beginning with 1. Stamps are
// numerous and contain this number instead of names.
type originID uint32

type originRecord struct {
	controller, database string

	read time.Time // when its last committed pass last read an object; zero means unknown
	usn  uint64    // no later change of it was read by then
	pass uint64    // the number of that pass

	// Of passes that did not end since: when one last read an object, and up to which change. Zero
	// means that there was none. It is as of the end of the previous process: see unfinished.go.
	unfinished    time.Time
	unfinishedUSN uint64
	reading       bool // a process reads it, or ended without writing the sightings
}

func (r originRecord) encode() []byte {
	e := newEncoder()
	e.string(r.controller)
	e.string(r.database)
	e.time(r.read)
	e.uint(r.usn)
	e.uint(r.pass)
	if !r.unfinished.IsZero() || r.reading {
		e.time(r.unfinished)
		e.uint(r.unfinishedUSN)
		e.bool(r.reading)
	}
	return e
}

func decodeOrigin(value []byte) (originRecord, error) {
	d := newDecoder(value)
	r := originRecord{controller: d.string(), database: d.string(), read: d.time(), usn: d.uint(), pass: d.uint()}
	if d.err == nil && len(d.rest) > 0 {
		r.unfinished, r.unfinishedUSN, r.reading = d.time(), d.uint(), d.bool()
	}
	return r, d.done()
}

// origin returns the number of a database. It adds an unknown one and reports whether it did.
func (r *directoryRecord) origin(controller, database string) (id originID, added bool) {
	for i, o := range r.origins {
		if o.controller == controller && o.database == database {
			return originID(i + 1), false
		}
	}
	r.origins = append(slices.Clip(r.origins), originRecord{controller: controller, database: database})
	return originID(len(r.origins)), true
}

// lastOriginOf returns the newest database of a domain controller. Zero means that none is
// known.
func (r *directoryRecord) lastOriginOf(controller string) originID {
	for i := len(r.origins) - 1; i >= 0; i-- {
		if r.origins[i].controller == controller {
			return originID(i + 1)
		}
	}
	return 0
}

// databaseOf returns the database with a number; empty means unknown.
func (r *directoryRecord) databaseOf(id originID) string {
	if id == 0 || int(id) > len(r.origins) {
		return ""
	}
	return r.origins[id-1].database
}

// controllerOf returns the domain controller with a number; empty means unknown.
func (r *directoryRecord) controllerOf(id originID) string {
	if id == 0 || int(id) > len(r.origins) {
		return ""
	}
	return r.origins[id-1].controller
}

// loadOrigins reads the databases that a directory was read from.
func (s *Store) loadOrigins(record *directoryRecord) error {
	return s.scan(dirKey(prefixOrigin, record.id), false, func(kv pair) error {
		o, err := decodeOrigin(kv.value)
		if err != nil {
			return s.unreadable(fmt.Sprintf("%x", kv.key), err)
		}
		if id := binary.BigEndian.Uint32(kv.key[len(prefixOrigin)+dirIDSize:]); int(id) == len(record.origins)+1 {
			record.origins = append(record.origins, o)
		}
		return nil
	})
}
