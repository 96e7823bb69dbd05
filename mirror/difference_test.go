package mirror

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rcpt-milter/store"
)

func TestCompareObject(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	owned := func(addresses ...string) (o store.Object) {
		o.DN = "CN=read"
		for _, a := range addresses {
			text, restricted := strings.CutPrefix(a, "!")
			o.Addresses = append(o.Addresses, store.Owned{Address: mustParse(t, text), InternalOnly: restricted})
		}
		return o
	}
	owning := func(change func(*store.StoredAddress), addresses ...string) (s store.Stored) {
		s.DN = "CN=stored"
		for _, a := range addresses {
			text, restricted := strings.CutPrefix(a, "!")
			o := store.StoredAddress{Address: mustParse(t, text), InternalOnly: restricted, Known: true}
			if change != nil {
				change(&o)
			}
			s.Addresses = append(s.Addresses, o)
		}
		return s
	}
	gone := func(o *store.StoredAddress) { o.Gone = true }
	lagging := func(o *store.StoredAddress) { o.Gone, o.NotBefore = true, now.Add(time.Hour) }
	lagged := func(o *store.StoredAddress) { o.Gone, o.NotBefore = true, now }
	orphan := func(o *store.StoredAddress) { o.Known = false }
	for _, c := range []struct {
		what   string
		read   store.Object
		stored store.Stored
		held   bool
		want   string
	}{
		{"nothing on both sides", owned(), owning(nil), false, ""},
		{"the same", owned("a@x", "!b@x"), owning(nil, "!b@x", "a@x"), false, ""},
		{"named twice in the directory", owned("a@x", "a@x"), owning(nil, "a@x"), false, ""},
		{"marked and there again", owned("a@x"), owning(gone, "a@x"), true, ""},
		{"missing in the index", owned("a@x", "b@x", "b@x"), owning(nil, "a@x"), false,
			"b@x in the directory of CN=read"},
		{"only in the index", owned(), owning(nil, "a@x"), false, "a@x in the index of CN=stored"},
		{"held", owned(), owning(gone, "a@x"), true, "a@x in the index of CN=stored: held"},
		{"replication, held or not", owned(), owning(lagging, "a@x"), true,
			"a@x in the index of CN=stored: replication"},
		{"after the replication lag", owned(), owning(lagged, "a@x"), false, "a@x in the index of CN=stored: pending"},
		{"about to go", owned(), owning(gone, "a@x"), false, "a@x in the index of CN=stored: pending"},
		{"restricted here only", owned("a@x"), owning(nil, "!a@x"), false, "a@x in both of CN=read"},
		{"recorded and not found by look-ups", owned("a@x"), owning(orphan, "a@x"), false,
			"a@x in the directory of CN=read"},
		{"neither found nor there", owned(), owning(orphan, "a@x"), false, ""},
		{"an object that is not there", store.Object{}, owning(nil, "a@x"), false, "a@x in the index of CN=stored"},
	} {
		t.Run(c.what, func(t *testing.T) {
			var got []string
			for _, d := range compareObject(c.read, c.stored, heldAll(c.held), now) {
				where := map[[2]bool]string{{true, true}: "both", {true, false}: "the index",
					{false, true}: "the directory"}[[2]bool{d.InIndex, d.InDirectory}]
				text := fmt.Sprintf("%s in %s of %s", d.Address, where, d.DN)
				if d.Cause != "" {
					text += ": " + string(d.Cause)
				}
				got = append(got, text)
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("%q, want %q", text, c.want)
			}
		})
	}
}

// heldAll returns a directory that holds all removals, or none.
func heldAll(held bool) (d store.Directory) {
	if held {
		d.Hold = "too many"
	}
	return d
}

// TestCompareObjectHeldByDomain checks that removals of a held domain wait for an approval, and others for the
// next pass.
func TestCompareObjectHeldByDomain(t *testing.T) {
	at := store.Directory{Hold: "some", HeldDomains: []store.HeldDomain{{Domain: "held.test", Why: "too many"}}}
	stored := store.Stored{DN: "CN=x", Addresses: []store.StoredAddress{
		{Address: mustParse(t, "a@held.test"), Known: true, Gone: true},
		{Address: mustParse(t, "a@free.test"), Known: true, Gone: true},
	}}
	causes := map[string]Cause{}
	for _, d := range compareObject(store.Object{}, stored, at, time.Now()) {
		causes[d.Address.String()] = d.Cause
	}
	if causes["a@held.test"] != CauseHeld || causes["a@free.test"] != CausePending {
		t.Errorf("causes: %v", causes)
	}
}
