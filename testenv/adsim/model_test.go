package adsim

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

const base = "DC=corp,DC=example"

// must gives the value of a call that is not meant to fail here.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, d *Directory, kind Kind, dn string, addresses ...string) GUID {
	t.Helper()
	attrs := Attrs{}
	for _, a := range addresses {
		attrs["proxyAddresses"] = append(attrs["proxyAddresses"], "smtp:"+a)
	}
	return must[GUID](t)(d.Add(kind, dn, attrs))
}

func TestMovingAnOUTouchesOnlyTheOU(t *testing.T) {
	d := NewDirectory(DirectoryConfig{})
	ou := add(t, d, OU, "OU=People,"+base)
	add(t, d, OU, "OU=Old,"+base)
	anna := add(t, d, User, "CN=Berg\\, Anna,OU=People,"+base, "anna@corp.example")
	before, beforeOU := must[Entry](t)(d.Get(anna)), must[Entry](t)(d.Get(ou))
	ok(t, d.Move(ou, "OU=Old,"+base))
	after, afterOU := must[Entry](t)(d.Get(anna)), must[Entry](t)(d.Get(ou))
	if want := `CN=Berg\, Anna,OU=People,OU=Old,` + base; after.DN != want {
		t.Errorf("DN = %q, want %q", after.DN, want)
	}
	if after.USN != before.USN {
		t.Errorf("uSNChanged of the child moved from %d to %d", before.USN, after.USN)
	}
	if afterOU.USN != d.HighestUSN() || afterOU.USN <= beforeOU.USN {
		t.Errorf("uSNChanged of the OU = %d, want %d", afterOU.USN, d.HighestUSN())
	}
	if e := must[Entry](t)(d.Lookup(strings.ToUpper(after.DN))); e.GUID != anna {
		t.Errorf("Lookup after the move found %s", e.GUID)
	}
	if err := d.Move(must[Entry](t)(d.Lookup("OU=Old,"+base)).GUID, "OU=People,OU=Old,"+base); !errors.Is(err,
		ErrName) {
		t.Errorf("move into itself: %v", err)
	}
}

func TestDeleteAndUndelete(t *testing.T) {
	for _, bin := range []bool{false, true} {
		d := NewDirectory(DirectoryConfig{RecycleBin: bin})
		guid := add(t, d, User, "CN=Anna,CN=Users,"+base, "anna@corp.example")
		usn := d.HighestUSN()
		ok(t, d.Delete(guid))
		e := must[Entry](t)(d.Get(guid))
		if !e.Deleted || e.USN != usn+1 || !strings.HasSuffix(e.DN, `\0ADEL:`+guid.String()+",CN=Deleted "+
			"Objects,"+base) {
			t.Errorf("deleted: %+v", e)
		}
		if kept := len(e.Attrs["proxyaddresses"]) == 1; kept != bin {
			t.Errorf("recycle bin %v: addresses kept: %v", bin, kept)
		}
		if n := len(d.Owners()); n != 0 {
			t.Errorf("%d owners after the deletion", n)
		}
		ok(t, d.Undelete(guid, ""))
		e = must[Entry](t)(d.Get(guid))
		if e.Deleted || e.DN != "CN=Anna,CN=Users,"+base {
			t.Errorf("undeleted: %+v", e)
		}
		if back := len(d.Owners()["anna@corp.example"]) == 1; back != bin {
			t.Errorf("recycle bin %v: address back: %v", bin, back)
		}
	}
}

func TestModelErrors(t *testing.T) {
	d := NewDirectory(DirectoryConfig{})
	ou := add(t, d, OU, "OU=People,"+base)
	guid := add(t, d, User, "CN=Anna,OU=People,"+base)
	dead := add(t, d, User, "CN=Dead,OU=People,"+base)
	ok(t, d.Delete(dead))
	_, exists := d.Add(User, "cn=ANNA,OU=People,"+base, nil)
	_, orphan := d.Add(User, "CN=X,OU=Nowhere,"+base, nil)
	_, badKind := d.Add(OU, "CN=X,"+base, nil)
	for _, tc := range []struct {
		name string
		got  error
		want error
	}{
		{"add twice", exists, ErrExists},
		{"add without parent", orphan, ErrNoObject},
		{"wrong naming attribute", badKind, ErrName},
		{"delete a parent", d.Delete(ou), ErrNotEmpty},
		{"modify a deleted one", d.Modify(dead, Set("mail", "x@y")), ErrNoObject},
		{"undelete a live one", d.Undelete(guid, ""), ErrNotDeleted},
		{"purge a live one", d.Purge(guid), ErrNotDeleted},
		{"move into nothing", d.Move(guid, "OU=Nowhere,"+base), ErrNoObject},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !errors.Is(tc.got, tc.want) {
				t.Errorf("%s: %v, want %v", tc.name, tc.got, tc.want)
			}
		})
	}
}

func TestSnapshotIsIndependent(t *testing.T) {
	d := NewDirectory(DirectoryConfig{})
	guid := add(t, d, User, "CN=Anna,CN=Users,"+base, "anna@corp.example")
	usn, id, then := d.HighestUSN(), d.InvocationID(), d.Snapshot()
	ok(t, d.Modify(guid, AddValues("proxyAddresses", "smtp:a2@corp.example"), Set("mail", "m@corp.example")))
	ok(t, d.Rename(guid, "Anna Berg"))
	add(t, d, User, "CN=Later,CN=Users,"+base, "later@corp.example")
	if got := slices.Sorted(maps.Keys(d.Owners())); !slices.Equal(got,
		[]string{"a2@corp.example", "anna@corp.example", "later@corp.example", "m@corp.example"}) {
		t.Errorf("owners = %q", got)
	}
	d.Restore(then)
	if d.HighestUSN() != usn || d.InvocationID() != id {
		t.Errorf("restored to USN %d of %s, want %d of %s", d.HighestUSN(), d.InvocationID(), usn, id)
	}
	if got := slices.Sorted(maps.Keys(d.Owners())); !slices.Equal(got, []string{"anna@corp.example"}) {
		t.Errorf("owners after restore = %q", got)
	}
	if _, err := d.Lookup("CN=Anna,CN=Users," + base); err != nil {
		t.Error(err)
	}
}
