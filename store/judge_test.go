package store

import (
	"slices"
	"testing"
	"time"
)

// TestDeletedAfter: a deletion ends the lag only if it is certainly later than every sighting in
// another database.
func TestDeletedAfter(t *testing.T) {
	const lag = time.Hour
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	now := stamp{time: at(30), pass: 9, origin: 2}
	names := func(id originID) string { return []string{"", "one", "two", "three"}[id] }
	one := sighting{origin: 1, database: "one", read: at(10), usn: 500, pass: 5}
	three := sighting{origin: 3, database: "three", read: at(20), usn: 700, pass: 6}
	learned, here := stamp{time: at(0), pass: 1, origin: 1, usn: 400}, stamp{time: at(0), pass: 1, origin: 2}
	since, back := stamp{time: at(15), pass: 7, origin: 2}, stamp{time: at(12), pass: 4, origin: 3, usn: 90}
	failed := sighting{origin: 1, database: "one", read: at(25), usn: 500}
	never, twice := time.Time{}, []sighting{one, three}
	for name, c := range map[string]struct {
		others  []sighting
		learned stamp
		again   stamp
		death   Deletion
		want    time.Time // not before
	}{
		"nothing known of it":      {[]sighting{one}, learned, stamp{}, Deletion{}, at(10 + 60)},
		"older":                    {[]sighting{one}, learned, stamp{}, Deletion{After: at(10)}, at(10 + 60)},
		"newer":                    {[]sighting{one}, learned, stamp{}, Deletion{After: at(11)}, never},
		"newer than one of two":    {twice, learned, stamp{}, Deletion{After: at(11)}, at(20 + 60)},
		"at the other one, unread": {[]sighting{one}, learned, stamp{}, Deletion{Database: "one", USN: 501}, never},
		"at the other one, read": {[]sighting{one}, learned, stamp{}, Deletion{Database: "one", USN: 500},
			at(10 + 60)},
		"at the other one of two": {twice, learned, stamp{}, Deletion{Database: "one", USN: 501}, at(20 + 60)},
		"learned here after that": {[]sighting{one}, since, stamp{}, Deletion{}, never},
		"a pass elsewhere failed": {[]sighting{failed}, since, stamp{}, Deletion{}, at(25 + 60)},
		"back at another one":     {nil, here, back, Deletion{}, at(12 + 60)},
		"died there after it was back": {nil, here, back,
			Deletion{Database: "three", USN: 91}, never},
		"only this database": {nil, here, stamp{}, Deletion{}, never},
	} {
		t.Run(name, func(t *testing.T) {
			stored := objectRecord{addresses: []ownedRecord{{address: "a@x", learned: c.learned, lastSource: c.again}}}
			j := judge{current: now, lag: lag, otherDatabases: c.others, databaseOf: names, latest: at(25)}
			next, d := diff(stored, Object{Deleted: true, Deletion: c.death}, j)
			a := next.addresses[0]
			if !a.notBefore.Equal(c.want) || d.marked != 1 || !a.seen.Equal(at(25)) {
				t.Errorf("not before %v, want %v; last seen %v", a.notBefore, c.want, a.seen)
			}
			if again, _ := diff(next, Object{Deleted: true, Deletion: c.death}, j); !again.equal(&next) {
				t.Errorf("met again it is %+v, before it was %+v", again, next)
			}
			j.current.origin, j.current.pass = 3, 10
			other, d := diff(next, Object{}, j)
			got := other.addresses[0]
			if got.mark.pass != 9 || got.mark.origin != 3 || !got.seen.Equal(a.seen) || d.marked != 0 {
				t.Errorf("missed at another database: %+v", got)
			}
			j.rules = 7
			other, _ = diff(next, Object{}, j)
			if got = other.addresses[0]; got.mark.pass != 10 || got.rules != 7 {
				t.Errorf("missed under other rules: %+v", got)
			}
		})
	}
}

// TestMarkRecords: the details of a mark are stored, and records of earlier versions can be
// read.
func TestMarkRecords(t *testing.T) {
	gone := stamp{time: start, pass: 3, origin: 2, usn: 8}
	r := objectRecord{class: "user", dn: "CN=Ann", addresses: []ownedRecord{
		{address: "a@x", learned: stamp{time: start, pass: 1, origin: 1}},
		{address: "b@x", learned: stamp{time: start, pass: 1, origin: 1}, lastSource: gone},
		{address: "c@x", learned: gone, lastSource: gone, mark: gone, notBefore: start.Add(time.Hour),
			rules: 1<<63 + 5, seen: start, undeleted: true},
		{address: "d@x", learned: gone, mark: gone},
	}}
	got, err := decodeObject(r.encode())
	if err != nil || !got.equal(&r) {
		t.Errorf("decoded %+v, %v, want %+v", got, err, r)
	}
	o := originRecord{controller: "dc2", database: "two", read: start, usn: 77, pass: 12}
	left := originRecord{controller: "dc2", database: "two", unfinished: start, unfinishedUSN: 5, reading: true}
	for _, o := range []originRecord{o, left, {controller: "dc3", reading: true}} {
		if read, err := decodeOrigin(o.encode()); err != nil || read != o {
			t.Errorf("decoded %+v, %v, want %+v", read, err, o)
		}
	}
	d := directoryRecord{id: 4, fullPassPending: "because", doubted: 12}
	if read, err := decodeDirectory(d.encode()); err != nil || read.doubted != d.doubted {
		t.Errorf("decoded %+v, %v, want %+v", read, err, d)
	}
	object, dir := r.encode(), d.encode()
	for _, damaged := range [][]byte{slices.Concat(object, []byte{9, 1}),
		slices.Concat(object, []byte{4, 4, 1, 1}), slices.Concat(dir, []byte{2, 1, 1, 1})} {
		_, err := decodeObject(damaged)
		if _, other := decodeDirectory(damaged); err == nil || other == nil {
			t.Errorf("damaged record %x is read", damaged)
		}
	}
}
