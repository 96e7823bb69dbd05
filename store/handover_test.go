package store

import (
	"slices"
	"testing"
	"time"
)

// TestOldTombstoneAfterHandover: an object was deleted, undeleted and given to another directory
// within the lag. A controller that has only the deletion must not end the wait of the
// hand-over, for the other directory may not have the object yet.
func TestOldTombstoneAfterHandover(t *testing.T) {
	const lag = 3 * time.Hour
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	tombstone := func(minutes int) func(o *Object) {
		return func(o *Object) {
			o.Addresses, o.Deleted = nil, true
			o.Deletion = Deletion{After: at(minutes), Database: "one", USN: uint64(minutes)}
		}
	}
	moved := func(o *Object) { o.Addresses = nil }
	type read struct {
		database string
		minute   int
		ann      func(*Object) // nil means that this pass did not see ann
	}
	for _, c := range []struct {
		name      string
		reads     []read
		goneAfter int // minutes; ann is known in all passes before
	}{
		{"moved, then the old tombstone", []read{
			{"one", 35, moved}, {"three", 48, tombstone(20)},
		}, 35 + 180},
		{"missing, then the old tombstone", []read{
			{"one", 35, nil}, {"three", 48, tombstone(20)},
		}, 35 + 180},
		{"missing, then a tombstone that no other database has read", []read{
			{"one", 35, nil}, {"three", 48, tombstone(40)},
		}, 48},
		{"moved, then a later deletion", []read{
			{"one", 35, moved}, {"three", 60, tombstone(50)},
		}, 60},
		{"moved, met again at another controller, then a deletion between both", []read{
			{"one", 35, moved}, {"two", 55, moved}, {"three", 70, tombstone(50)},
		}, 35 + 180},
		{"deleted, and nothing later", []read{{"three", 48, tombstone(40)}}, 48},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			pass := func(r read, addresses ...string) []string {
				t.Helper()
				ann := object(t, 1, addresses...)
				ann.USN, ann.Read = uint64(r.minute)+1, at(r.minute)
				objects := []Object{object(t, 2, "bob@x.test")}
				objects[0].Read = at(r.minute)
				if r.ann != nil {
					r.ann(&ann)
					objects = append(objects, ann)
				}
				fullPass(t, s, Origin{Controller: r.database, Database: r.database, Started: at(r.minute), Lag: lag,
					HandoverLag: func(string) time.Duration { return lag }},
					Outcome{Cursor: []byte("x"), USN: uint64(r.minute) + 1, Ended: at(r.minute)}, objects...)
				return known(t, s)
			}
			isKnown := func(known []string) bool { return slices.Contains(known, "ann@x.test") }
			pass(read{"one", 0, func(*Object) {}}, "ann@x.test")
			last := read{}
			for _, last = range c.reads {
				if got := isKnown(pass(last)); got != (last.minute < c.goneAfter) {
					t.Fatalf("known is %v at %q in minute %d", got, last.database, last.minute)
				}
			}
			for _, minute := range []int{c.goneAfter - 1, c.goneAfter} {
				if minute <= last.minute {
					continue
				}
				if got := isKnown(pass(read{last.database, minute, last.ann})); got != (minute < c.goneAfter) {
					t.Fatalf("known is %v at %q in minute %d", got, last.database, minute)
				}
			}
		})
	}
}
