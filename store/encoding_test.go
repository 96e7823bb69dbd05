package store

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRecordsSurviveEncoding(t *testing.T) {
	at := stamp{time: start, pass: 3, origin: 2, usn: 99}
	record := objectRecord{class: "user", dn: "CN=ä", container: true, unparsed: 2, addresses: []ownedRecord{
		{address: "a@x.test", attribute: "mail", internalOnly: true, learned: at},
		{address: "b@x.test", mark: at, notBefore: start, learned: at},
		{address: "d@x.test", mark: at, notBefore: start, learned: at, becomesInternalOnly: true}}}
	back := record
	back.addresses = append(slices.Clone(record.addresses),
		ownedRecord{address: "c@x.test", learned: at, lastSource: stamp{time: start, pass: 7, origin: 3, usn: 1}})
	for _, r := range []objectRecord{record, back} {
		if got, err := decodeObject(r.encode()); err != nil || !got.equal(&r) {
			t.Errorf("object record: %+v, %v, want %+v", got, err, r)
		}
	}
	closed := addressRecord{owners: []owner{{dir: 1, guid: GUID{1}, ownerFlags: ownerFlags{internalOnly: true}}},
		internalOnlySince: start}
	marked := addressRecord{owners: []owner{{dir: 1, guid: GUID{1}, ownerFlags: ownerFlags{becomesInternalOnly: true}},
		{dir: 2, guid: GUID{1}, ownerFlags: ownerFlags{internalOnly: true, leaving: true}}}}
	for _, r := range []addressRecord{closed, marked, {removed: start, pass: 4}} {
		got, err := decodeAddress(r.encode())
		if d := cmp.Diff(r, got, cmp.AllowUnexported(r, owner{}, ownerFlags{})); err != nil || d != "" {
			t.Errorf("address record: %v (-want +got):\n%s", err, d)
		}
	}
	row := journalRecord{time: start, address: "a@x.test", outsideOnly: true, internalOnly: true}
	if got, err := decodeJournal(row.encode()); err != nil || got != row {
		t.Errorf("journal record: %+v, %v, want %+v", got, err, row)
	}
	for n := range record.encode() {
		if _, err := decodeObject(record.encode()[:n:n]); err == nil {
			t.Errorf("the first %d bytes of an object record are read as one", n)
		}
	}
}

// FuzzDecode: damaged values give errors, never panics or large allocations.
func FuzzDecode(f *testing.F) {
	for _, r := range []objectRecord{{}, {class: "user", dn: "CN=x",
		addresses: []ownedRecord{{address: "a@x.test", learned: stamp{pass: 1}}}},
		{addresses: []ownedRecord{{address: "a@x.test", learned: stamp{pass: 1}, lastSource: stamp{pass: 2}}}}} {
		f.Add(r.encode())
	}
	one := addressRecord{owners: []owner{{dir: 1, guid: GUID{1}, ownerFlags: ownerFlags{internalOnly: true}}}}
	f.Add(one.encode())
	one.internalOnlySince = start
	f.Add(one.encode())
	shut := objectRecord{addresses: []ownedRecord{{address: "a@x.test", learned: stamp{pass: 1}, mark: stamp{pass: 2},
		becomesInternalOnly: true}}}
	f.Add(shut.encode())
	gone := addressRecord{removed: start, pass: 4}
	f.Add(gone.encode())
	all := totals{nextPass: 2, digest: addressDigest("a@x.test", false)}
	f.Add(all.counters())
	counts := dirCounts{owned: 3, marked: 2, leaving: 1, due: 2, waiting: 1}
	f.Add(counts.encode())
	f.Add((&objectRecord{class: "user", dn: "CN=x"}).encodeSplit(&partBitmap{1}))
	f.Add(counts.encode()[:1+countsOfFormatTwo]) // of format 2
	f.Add((&outboxRecord{lost: []lostAddress{{"a@x.test", true}}}).encode())
	f.Add((&feedRecord{on: true, place: []byte("place")}).encode())
	f.Add(encodeUnread([]UnreadValue{{Attribute: "mail", Value: "x", Reason: "no domain"}}))
	f.Add([]byte(nil))
	f.Add([]byte{recordVersion, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, value []byte) {
		if r, err := decodeObject(value); err == nil && value != nil {
			if again, err := decodeObject(r.encode()); err != nil || !again.equal(&r) {
				t.Fatalf("object record %x reads as %+v and that as %+v, %v", value, r, again, err)
			}
		}
		if r, err := decodeAddress(value); err == nil && value != nil {
			if again, err := decodeAddress(r.encode()); err != nil ||
				cmp.Diff(r, again, cmp.AllowUnexported(r, owner{}, ownerFlags{})) != "" {
				t.Fatalf("address record %x reads as %+v and that as %+v, %v", value, r, again, err)
			}
		}
		if r, err := decodeCounters(value); err == nil && value != nil {
			if again, err := decodeCounters(r.counters()); err != nil || !bytes.Equal(r.counters(), again.counters()) {
				t.Fatalf("totals %x do not survive", value)
			}
		}
		if r, err := decodeDirCounts(value); err == nil {
			if again, err := decodeDirCounts(r.encode()); err != nil || again != r {
				t.Fatalf("counts %x do not survive", value)
			}
		}
		if isSplit(value) {
			_, _ = decodeSplit(value, func(byte) ([]byte, error) { return value, nil })
		}
		if r, err := decodeOutbox(value); err == nil {
			if again, err := decodeOutbox(r.encode()); err != nil || !slices.Equal(again.lost, r.lost) {
				t.Fatalf("entry of the outbox %x reads as %+v and that as %+v, %v", value, r, again, err)
			}
		}
		if r, err := decodeFeed(value); err == nil && value != nil {
			if again, err := decodeFeed(r.encode()); err != nil || !bytes.Equal(again.place, r.place) {
				t.Fatalf("feed %x reads as %+v and that as %+v, %v", value, r, again, err)
			}
		}
		if r, err := decodeUnread(value); err == nil && value != nil {
			if again, err := decodeUnread(encodeUnread(r)); err != nil || !slices.Equal(again, r) {
				t.Fatalf("unread values %x read as %+v and that as %+v, %v", value, r, again, err)
			}
		}
		_, _ = decodeOrigin(value)
		_, _ = decodeDirectory(value)
		_, _ = decodeRedo(value)
		_, _ = decodeJournal(value)
		_, _ = decodeCursor(value)
	})
}
