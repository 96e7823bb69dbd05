package store

import (
	"slices"
	"testing"
	"time"

	"rcpt-milter/address"

	"github.com/google/go-cmp/cmp"
)

// The stamps of the stored records and of the pass in tests of diff.
var (
	diffOld = stamp{time: start, pass: 1}
	diffNow = stamp{time: start.Add(time.Hour), pass: 2, usn: 7}
)

// diffRecord returns the record of object 7 with some addresses.
func diffRecord(entries ...ownedRecord) objectRecord {
	r := objectRecord{addresses: entries}
	if len(entries) > 0 {
		r.class, r.dn = "user", "CN=7,DC=corp,DC=example"
	}
	return r
}

func plainEntry(a string, learned, gone stamp) ownedRecord {
	return ownedRecord{address: a, attribute: "proxyaddresses", learned: learned, mark: gone}
}

func internalOnlyEntry(a string, learned, gone stamp) ownedRecord {
	r := plainEntry(a, learned, gone)
	r.internalOnly = true
	return r
}

func becomingEntry(a string, gone stamp) ownedRecord {
	r := plainEntry(a, diffOld, gone)
	r.becomesInternalOnly, r.undeleted = true, true
	return r
}

// missedEntry was missed by the first pass, which read no tombstone.
func missedEntry(a string) ownedRecord {
	r := plainEntry(a, diffOld, diffOld)
	r.undeleted = true
	return r
}

// A diffCase is what is stored of object 7, what is read, and what diff makes of it.
type diffCase struct {
	name          string
	unsettled     bool
	stored        objectRecord
	read          []string
	want          objectRecord
	added, marked int
}

// run runs the case as a subtest.
func (c diffCase) run(t *testing.T) {
	read := object(t, 7, c.read...)
	read.Unsettled = c.unsettled
	c.want.class, c.want.dn = read.Class, read.DN
	got, d := diff(c.stored, read, judge{current: diffNow, lag: time.Hour})
	for i := range c.want.addresses { // all of them were last seen when they were learned
		if a := &c.want.addresses[i]; a.mark == diffNow {
			a.seen, a.undeleted = diffOld.time, true
			if !a.lastSource.isZero() {
				a.seen = diffNow.time
			}
		}
	}
	if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(objectRecord{}, ownedRecord{}, stamp{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(d.added) != c.added || d.marked != c.marked {
		t.Errorf("%d added, %d marked, want %d, %d", len(d.added), d.marked, c.added, c.marked)
	}
}

func TestDiff(t *testing.T) {
	for _, c := range []diffCase{
		{name: "never seen", read: []string{"a@x"}, want: diffRecord(plainEntry("a@x", diffNow, stamp{})), added: 1},
		{name: "unchanged", stored: diffRecord(plainEntry("a@x", diffOld, stamp{})), read: []string{"a@x"},
			want: diffRecord(plainEntry("a@x", diffOld, stamp{}))},
		{name: "the same twice", stored: diffRecord(plainEntry("a@x", diffOld, stamp{})), read: []string{"a@x", "A@X"},
			want: diffRecord(plainEntry("a@x", diffOld, stamp{}))},
		{name: "gained", stored: diffRecord(plainEntry("a@x", diffOld, stamp{})), read: []string{"b@x", "a@x"},
			want: diffRecord(plainEntry("b@x", diffNow, stamp{}), plainEntry("a@x", diffOld, stamp{})), added: 1},
		{name: "lost", stored: diffRecord(plainEntry("a@x", diffOld, stamp{}), plainEntry("b@x", diffOld, stamp{})),
			read: []string{"b@x"},
			want: diffRecord(plainEntry("b@x", diffOld, stamp{}), plainEntry("a@x", diffOld, diffNow)), marked: 1},
		{name: "lost all", stored: diffRecord(plainEntry("a@x", diffOld, stamp{})),
			want: diffRecord(plainEntry("a@x", diffOld, diffNow)), marked: 1},
		{name: "still gone", stored: diffRecord(missedEntry("a@x")), want: diffRecord(missedEntry("a@x"))},
		{name: "undeleted without the address", stored: diffRecord(plainEntry("a@x", diffOld, diffOld)),
			want: diffRecord(plainEntry("a@x", diffOld, diffNow))},
		{name: "came back", stored: diffRecord(plainEntry("a@x", diffOld, diffOld)), read: []string{"a@x"},
			want: diffRecord(ownedRecord{address: "a@x", attribute: "proxyaddresses", learned: diffOld,
				lastSource: diffNow})},
		{name: "lost while the pass read", unsettled: true,
			stored: diffRecord(plainEntry("a@x", diffOld, stamp{}), plainEntry("b@x", diffOld, stamp{})),
			read:   []string{"c@x", "b@x"}, want: diffRecord(plainEntry("c@x", diffNow, stamp{}),
				plainEntry("b@x", diffOld, stamp{}),
				plainEntry("a@x", diffOld, stamp{})), added: 1},
		{name: "still gone, changed while the pass read", unsettled: true,
			stored: diffRecord(plainEntry("a@x", diffOld, diffOld)),
			want:   diffRecord(plainEntry("a@x", diffOld, stamp{}))},
	} {
		t.Run(c.name, c.run)
	}
}

// TestDiffInternalOnly: objects that become internal-only, or open again.
func TestDiffInternalOnly(t *testing.T) {
	for _, c := range []diffCase{
		{name: "internal-only now", stored: diffRecord(plainEntry("a@x", diffOld, stamp{})), read: []string{"!a@x"},
			want: diffRecord(becomingEntry("a@x", diffNow)), marked: 1},
		{name: "internal-only before, too", stored: diffRecord(becomingEntry("a@x", diffOld)), read: []string{"!a@x"},
			want: diffRecord(becomingEntry("a@x", diffOld))},
		{name: "internal-only from the start", read: []string{"!a@x"},
			want: diffRecord(internalOnlyEntry("a@x", diffNow, stamp{})), added: 1},
		{name: "internal-only as ever", stored: diffRecord(internalOnlyEntry("a@x", diffOld, stamp{})),
			read: []string{"!a@x"},
			want: diffRecord(internalOnlyEntry("a@x", diffOld, stamp{}))},
		{name: "open again", stored: diffRecord(internalOnlyEntry("a@x", diffOld, stamp{})), read: []string{"a@x"},
			want: diffRecord(ownedRecord{address: "a@x", attribute: "proxyaddresses", learned: diffOld,
				lastSource: diffNow})},
		{name: "open again before it was closed", stored: diffRecord(becomingEntry("a@x", diffOld)),
			read: []string{"a@x"},
			want: diffRecord(ownedRecord{address: "a@x", attribute: "proxyaddresses", learned: diffOld,
				lastSource: diffNow})},
		{name: "gone, and to be closed before", stored: diffRecord(becomingEntry("a@x", diffOld)),
			want: diffRecord(plainEntry("a@x", diffOld, diffNow)), marked: 1},
		{name: "back internal-only", stored: diffRecord(plainEntry("a@x", diffOld, diffOld)), read: []string{"!a@x"},
			marked: 1,
			want: diffRecord(ownedRecord{address: "a@x", attribute: "proxyaddresses", learned: diffOld,
				lastSource: diffNow,
				mark:       diffNow, becomesInternalOnly: true})},
		{name: "internal-only while the pass read", unsettled: true,
			stored: diffRecord(plainEntry("a@x", diffOld, stamp{}), becomingEntry("b@x", diffOld)),
			read:   []string{"!a@x", "!b@x"}, want: diffRecord(plainEntry("a@x", diffOld, stamp{}),
				plainEntry("b@x", diffOld, stamp{}))},
		{name: "internal-only and back internal-only", stored: diffRecord(internalOnlyEntry("a@x", diffOld, diffOld)),
			read: []string{"!a@x"},
			want: diffRecord(ownedRecord{address: "a@x", attribute: "proxyaddresses", internalOnly: true,
				learned:    diffOld,
				lastSource: diffNow})},
	} {
		t.Run(c.name, c.run)
	}
}

func TestRelease(t *testing.T) {
	old := stamp{time: start, pass: 1}
	r := objectRecord{addresses: []ownedRecord{{address: "here@x"}, {address: "gone@x", mark: old},
		{address: "later@x", mark: old, notBefore: start.Add(time.Hour)},
		{address: "shut@x", mark: old, becomesInternalOnly: true}}}
	for _, c := range []struct {
		at         time.Time
		kept, gone int
	}{{start, 3, 2}, {start.Add(time.Hour), 2, 3}} {
		t.Run(c.at.Sub(start).String(), func(t *testing.T) {
			kept, gone := release(r, (&Pass{info: PassInfo{Started: c.at}}).goes)
			if len(kept.addresses) != c.kept || len(gone) != c.gone {
				t.Errorf("at %v %d stay and %d go, want %d and %d", c.at, len(kept.addresses), len(gone), c.kept,
					c.gone)
			}
			shut := ownedRecord{address: "shut@x", internalOnly: true}
			if !slices.Contains(kept.addresses, shut) || kept.addresses[0].internalOnly {
				t.Errorf("at %v these stay: %+v", c.at, kept.addresses)
			}
		})
	}
}

// TestClockSetBack: a time that was recorded while the clock was ahead does not delay a removal
// until that time.
func TestClockSetBack(t *testing.T) {
	const lag = time.Hour
	learned := stamp{time: start.Add(365 * 24 * time.Hour), pass: 1, origin: 1}
	now := stamp{time: start, pass: 2, origin: 2}
	stored := objectRecord{addresses: []ownedRecord{{address: "a@x", learned: learned}}}
	next, _ := diff(stored, Object{}, judge{current: now, lag: lag})
	if got := next.addresses[0].notBefore; !got.Equal(start.Add(lag)) {
		t.Errorf("marked: not before %v, want %v", got, start.Add(lag))
	}
	next.addresses[0].notBefore = learned.time
	for _, c := range []struct{ latest, want time.Time }{{start.Add(lag), start.Add(lag)},
		{time.Time{}, learned.time}} {
		if got := unmark(next, 2, c.latest).addresses[0].notBefore; !got.Equal(c.want) {
			t.Errorf("marked before, latest %v: not before %v, want %v", c.latest, got, c.want)
		}
	}
}

// TestReplicationLag: an address that was recently learned from another database stays until the
// lag has passed, unless there is a tombstone.
func TestReplicationLag(t *testing.T) {
	const lag = time.Hour
	learned := start
	died := func(after time.Time) Object { return Object{Deleted: true, Deletion: Deletion{After: after}} }
	for _, c := range []struct {
		name   string
		origin originID
		at     time.Duration // after it was learned
		read   Object
		want   time.Duration // not before, after it was learned; negative means at once
	}{
		{"the same database", 1, time.Minute, Object{}, -1},
		{"another one, soon after", 2, time.Minute, Object{}, lag},
		{"another one, long after", 2, 3 * lag, Object{}, -1},
		{"a tombstone from the same", 1, time.Minute, Object{Deleted: true}, -1},
		{"a tombstone from another one", 2, time.Minute, died(learned.Add(time.Second)), -1},
		{"an old tombstone from another one", 2, time.Minute, died(learned), lag},
		{"a tombstone of no known age", 2, time.Minute, Object{Deleted: true}, lag},
	} {
		t.Run(c.name, func(t *testing.T) {
			stored := objectRecord{addresses: []ownedRecord{{address: "a@x",
				learned: stamp{time: learned, pass: 1, origin: 1}}}}
			next, _ := diff(stored, c.read, judge{current: stamp{time: learned.Add(c.at), pass: 2, origin: c.origin},
				lag: lag})
			want := time.Time{}
			if c.want >= 0 {
				want = learned.Add(c.want)
			}
			if got := next.addresses[0].notBefore; !got.Equal(want) || next.addresses[0].mark.isZero() {
				t.Errorf("not before %v, want %v", got, want)
			}
			again, _ := diff(next, died(learned.Add(time.Second)),
				judge{current: stamp{time: learned.Add(c.at), pass: 3, origin: c.origin}, lag: lag})
			if got := again.addresses[0].notBefore; !got.IsZero() {
				t.Errorf("then a tombstone: not before %v", got)
			}
		})
	}
}

// TestReplicationLagOfWhatCameBack: an address comes back on another database after a pass
// missed it and before it is released. That database is its last source, and the previous one
// may not have it yet.
func TestReplicationLagOfWhatCameBack(t *testing.T) {
	const lag = time.Hour
	a, err := address.Parse("a@x.test")
	if err != nil {
		t.Fatal(err)
	}
	has, at := Object{Addresses: []Owned{{Address: a}}}, func(pass uint64, origin originID, after time.Duration) stamp {
		return stamp{time: start.Add(after), pass: pass, origin: origin}
	}
	learned, _ := diff(objectRecord{}, has, judge{current: at(1, 1, 0), lag: lag})
	missed, _ := diff(learned, Object{}, judge{current: at(2, 1, 24*time.Hour), lag: lag})
	back, _ := diff(missed, has, judge{current: at(3, 2, 25*time.Hour), lag: lag})
	if same, _ := diff(back, has, judge{current: at(4, 2, 26*time.Hour), lag: lag}); !same.equal(&back) {
		t.Errorf("unchanged, it is %+v, before it was %+v", same, back)
	}
	if got := back.addresses[0].learned; got != at(1, 1, 0) {
		t.Errorf("learned %+v, want the first time: it was known all along", got)
	}
	for _, c := range []struct {
		origin originID
		want   time.Time
	}{{1, start.Add(25*time.Hour + lag)}, {2, time.Time{}}} {
		gone, _ := diff(back, Object{}, judge{current: at(5, c.origin, 25*time.Hour+time.Minute), lag: lag})
		if got := gone.addresses[0].notBefore; !got.Equal(c.want) {
			t.Errorf("missed by database %d: not before %v, want %v", c.origin, got, c.want)
		}
	}
}
