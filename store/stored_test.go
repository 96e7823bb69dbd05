package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/address"
)

func TestStoredAndOwners(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "!b@x.test"), object(t, 2, "b@x.test"))
	pass(t, s, "lab", Full, start, "", object(t, 1, "a@x.test"))
	pass(t, s, "corp", Incremental, start, "held", object(t, 1, "a@x.test"))
	got, err := s.Stored("corp", GUID{15: 1}, mustParse(t, "a@x.test"), mustParse(t, "never@x.test"))
	want := Stored{DN: "CN=1,DC=corp,DC=example", Class: "user", Addresses: []StoredAddress{
		{Address: mustParse(t, "a@x.test"), Known: true},
		{Address: mustParse(t, "b@x.test"), Known: true, InternalOnly: true, Gone: true,
			NotBefore: got.Addresses[1].NotBefore}}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(address.Address{})); err != nil || d != "" {
		t.Errorf("stored: %v (-want +got):\n%s", err, d)
	}
	for name, guid := range map[string]GUID{"corp": {15: 9}, "nowhere": {15: 1}} {
		if got, err := s.Stored(name, guid); err != nil || got.DN != "" || len(got.Addresses) > 0 {
			t.Errorf("stored of an object that is not there: %+v, %v", got, err)
		}
	}
	wantOwners(t, s, "corp", "a@x.test of 1", "b@x.test of 1", "b@x.test of 2")
	wantOwners(t, s, "lab", "a@x.test of 1")
	wantOwners(t, s, "nowhere")
	enough := errors.New("enough")
	if err := s.Owners("corp", func(address.Address, GUID, bool) error { return enough }); err != enough {
		t.Errorf("Owners with an error of the visitor: %v", err)
	}

	// No sound store has this: an ownership on one side only.
	id, _ := s.directoryID("corp")
	err = s.write(func(t *tx) error {
		record, err := t.object(id, GUID{15: 2})
		if err != nil {
			return err
		}
		record.addresses[0].address = "c@x.test"
		return t.set(objectKey(id, GUID{15: 2}), record.encode())
	})
	if err != nil {
		t.Fatal(err)
	}
	wantOwners(t, s, "corp", "a@x.test of 1", "b@x.test of 1", "b@x.test of 2, not recorded")
	got, err = s.Stored("corp", GUID{15: 2}, mustParse(t, "b@x.test"))
	if err != nil || len(got.Addresses) != 2 || got.Addresses[0].Known || !got.Addresses[1].Known {
		t.Errorf("stored: %+v, %v", got, err)
	}
}

func wantOwners(t *testing.T, s *Store, name string, want ...string) {
	t.Helper()
	var got []string
	err := s.Owners(name, func(a address.Address, guid GUID, recorded bool) error {
		text := fmt.Sprintf("%s of %d", a, guid[15])
		if !recorded {
			text += ", not recorded"
		}
		got = append(got, text)
		return nil
	})
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("owners of %s: %v (-want +got):\n%s", name, err, d)
	}
}
