package store

import (
	"strings"
	"testing"
)

// TestHoldEmptyRecord: whether a hold follows a full pass without an address is a field of the record. In
// records that were written before the field, the sentence for people said it.
func TestHoldEmptyRecord(t *testing.T) {
	const sentence = "a full pass saw no object with an address; " +
		"check the rights of the bind account, bases and address_attributes"
	for _, c := range []struct {
		name   string
		record directoryRecord
		want   bool
	}{
		{"the sentence", directoryRecord{hold: sentence, holdEmpty: true}, true},
		{"the sentence, doubted", directoryRecord{hold: sentence, holdEmpty: true, doubted: 3}, true},
		{"the sentence for another reason", directoryRecord{hold: sentence}, false},
		{"another sentence", directoryRecord{hold: "too many"}, false},
		{"nothing held", directoryRecord{}, false},
		{"another wording", directoryRecord{hold: "no address was seen", holdEmpty: true}, true},
		{"another wording, doubted", directoryRecord{hold: "no address was seen", holdEmpty: true, doubted: 3}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.record.id = 1
			read, err := decodeDirectory(c.record.encode())
			if err != nil || read.holdEmpty != c.want || read.hold != c.record.hold ||
				read.doubted != c.record.doubted {
				t.Errorf("decoded %+v, %v, want holdEmpty %t", read, err, c.want)
			}
		})
	}
}

// TestHoldEmptyOfEarlierVersions: versions without the field reject a record with it. The usual record has
// none, so they can read it, and their records mean the same.
func TestHoldEmptyOfEarlierVersions(t *testing.T) {
	usual := directoryRecord{id: 1, hold: holdTextEmpty, holdEmpty: true}
	earlier := directoryRecord{id: 1, hold: strings.Repeat("x", len(holdTextEmpty))}
	if got, want := len(usual.encode()), len(earlier.encode()); got != want {
		t.Errorf("the record has %d bytes, want %d", got, want)
	}
}

// TestHoldEmpty: the fact goes with the hold that it belongs to, and survives a restart.
func TestHoldEmpty(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(*testing.T, *Store)
		want bool
	}{
		{"held", func(*testing.T, *Store) {}, true},
		{"still held", func(t *testing.T, s *Store) { holdEmpty(t, s, Incremental, "other words", true) }, true},
		{"held for another reason", func(t *testing.T, s *Store) { holdEmpty(t, s, Incremental, "too many", false) },
			false},
		{"released", func(t *testing.T, s *Store) { holdEmpty(t, s, Incremental, "", true) }, false},
		{"approved", func(t *testing.T, s *Store) {
			info, err := approveHeld(s, "corp", s.Directory("corp").Newest().Number, start)
			if err != nil || info.Removed != 1 {
				t.Errorf("approved %+v, %v, want one removed", info, err)
			}
		}, false},
		{"discarded", func(t *testing.T, s *Store) {
			if n, err := s.Discard("corp", start); n != 1 || err != nil {
				t.Errorf("discarded %d, %v, want 1", n, err)
			}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			pass(t, s, "corp", Full, start, "", object(t, 1, "ann@corp.example"))
			holdEmpty(t, s, Full, "no address", true)
			c.then(t, s)
			for _, when := range []string{"before", "after"} {
				if got := s.Directory("corp").HoldEmpty; got != c.want {
					t.Errorf("HoldEmpty %s the restart: %t, want %t", when, got, c.want)
				}
				s = reopen(t, s)
			}
		})
	}
}

// holdEmpty runs a pass that sees nothing and holds what is marked.
func holdEmpty(t *testing.T, s *Store, kind Kind, hold string, empty bool) {
	t.Helper()
	p, err := s.Begin("corp", kind, Origin{Controller: "dc1.corp.example", Started: start})
	if err != nil {
		t.Fatal(err)
	}
	if kind == Full {
		err = p.Sweep()
	}
	if err == nil {
		_, err = p.Commit(Outcome{Cursor: []byte("x"), Fingerprint: "rules", Ended: start, Hold: hold,
			HoldEmpty: empty})
	}
	if err != nil {
		t.Fatal(err)
	}
}
