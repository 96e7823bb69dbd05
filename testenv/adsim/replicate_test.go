package adsim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestReplicaKnowsWhatItIsTold(t *testing.T) {
	d := NewDirectory(DirectoryConfig{})
	ou := add(t, d, OU, "OU=People,"+base)
	anna := add(t, d, User, "CN=Anna,OU=People,"+base, "anna@corp.example")
	r := d.NewReplica("dc2", 700_000)
	if r.HostName() != "dc2.corp.example" || r.InvocationID() == d.InvocationID() || r.HighestUSN() <= 700_000 {
		t.Errorf("replica: %s %s %d", r.HostName(), r.InvocationID(), r.HighestUSN())
	}
	if n := r.ReplicateFrom(d, 0); n != 0 {
		t.Errorf("%d objects replicated where nothing changed", n)
	}
	bert := add(t, d, User, "CN=Bert,OU=People,"+base, "bert@corp.example")
	ok(t, d.Modify(anna, Set("proxyAddresses")))
	ok(t, d.Rename(ou, "Staff"))
	if len(r.Owners()["anna@corp.example"]) != 1 || r.Owners()["bert@corp.example"] != nil {
		t.Error("the replica has the change before replication")
	}
	usn := r.HighestUSN()
	if n := r.ReplicateFrom(d, 1); n != 2 || r.HighestUSN() != usn+2 {
		t.Errorf("one step: %d objects, USN %d after %d, want Bert and his parent", n, r.HighestUSN(), usn)
	}
	if n := r.ReplicateFrom(d, 0); n != 1 {
		t.Errorf("the rest: %d objects, want 1", n)
	}
	e := must[Entry](t)(r.Get(bert))
	if e.DN != "CN=Bert,OU=Staff,"+base || len(r.Owners()["anna@corp.example"]) != 0 {
		t.Errorf("at the replica: %+v", e)
	}
	ok(t, r.Delete(anna))
	ok(t, d.Modify(anna, Set("description", "still here")))
	d.ReplicateFrom(r, 0)
	if e := must[Entry](t)(d.Get(anna)); !e.Deleted {
		t.Errorf("a deletion did not arrive: %+v", e)
	}
}

func TestReplicationSettlesConflicts(t *testing.T) {
	d := NewDirectory(DirectoryConfig{})
	a, b := add(t, d, OU, "OU=A,"+base), add(t, d, OU, "OU=B,"+base)
	r := d.NewReplica("dc2", 700_000)
	ok(t, d.Move(a, "OU=B,"+base)) // each below the other
	ok(t, r.Move(b, "OU=A,"+base))
	add(t, d, User, "CN=Same,CN=Users,"+base)
	add(t, r, User, "CN=Same,CN=Users,"+base)
	c := add(t, d, OU, "OU=C,"+base)
	converge(t, d, r)
	ok(t, d.Delete(c)) // and a user is added to it
	late := add(t, r, User, "CN=Late,OU=C,"+base, "late@corp.example")
	converge(t, d, r)
	if e := must[Entry](t)(d.Get(late)); e.DN != "CN=Late,CN=LostAndFound,"+base {
		t.Errorf("an object without a parent is at %q", e.DN)
	}
}

// TestReplicationAfterASetBack: replication distinguishes the changes of a database after a
// set-back from those before, although they have the same version.
func TestReplicationAfterASetBack(t *testing.T) {
	d := NewDirectory(DirectoryConfig{})
	anna := add(t, d, User, "CN=Anna,CN=Users,"+base, "anna@corp.example")
	r := d.NewReplica("dc2", 700_000)
	before := d.Snapshot()
	ok(t, d.Modify(anna, Set("mail", "before@corp.example")))
	r.ReplicateFrom(d, 0)
	d.Restore(before)
	ok(t, d.Modify(anna, Set("mail", "after@corp.example")))
	converge(t, d, r)
	if e := must[Entry](t)(r.Get(anna)); e.Attrs["mail"][0] != "after@corp.example" {
		t.Errorf("mail is %q, want what was written last", e.Attrs["mail"])
	}
}

// converge replicates both ways until nothing changes, and compares.
func converge(t *testing.T, a, b *Directory) {
	t.Helper()
	for range 6 {
		if a.ReplicateFrom(b, 0)+b.ReplicateFrom(a, 0) == 0 {
			if got, want := content(a), content(b); !slices.Equal(got, want) {
				t.Fatalf("they differ:\n%q\n%q", got, want)
			}
			return
		}
	}
	t.Fatal("replication does not end")
}

// content prints all that lives.
func content(d *Directory) []string {
	var out []string
	for e := range d.Entries() {
		if !e.Deleted {
			out = append(out, fmt.Sprint(e.GUID, e.DN, e.Attrs))
		}
	}
	slices.Sort(out)
	return out
}

func TestReplicationConverges(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		d := NewDirectory(DirectoryConfig{RecycleBin: seed%2 == 1})
		var ous, users []GUID
		for i := range 3 {
			ous = append(ous, add(t, d, OU, fmt.Sprintf("OU=o%d,%s", i, base)))
		}
		r := d.NewReplica("dc2", 700_000)
		for i := range 300 {
			at := []*Directory{d, r}[rnd.IntN(2)]
			pick := func(list []GUID) GUID { return list[rnd.IntN(len(list))] }
			name := fmt.Sprint("n", i)
			e, err := at.Get(pick(ous))
			if err != nil {
				continue
			}
			ou := e.DN
			if guid, err := at.Add(User, "CN="+name+","+ou, Attrs{"mail": {name + "@corp.example"}}); err == nil {
				users = append(users, guid)
			}
			u := pick(users)
			switch rnd.IntN(10) { // what the model refuses is not done
			case 0:
				at.Rename(u, name+"x")
			case 1:
				at.Move(u, ou)
			case 2, 3:
				at.Modify(u, AddValues("proxyAddresses", "smtp:"+name+"@corp.example"))
			case 4:
				at.Modify(u, Set("mail"))
			case 5:
				at.Delete(u)
			case 6:
				at.Undelete(u, ou)
			case 7:
				at.Move(pick(ous), ou)
			case 8:
				at.Recycle(u)
			case 9:
				[]*Directory{r, d}[rnd.IntN(2)].ReplicateFrom(at, 1+rnd.IntN(5))
			}
			if i%50 == 49 {
				converge(t, d, r)
			}
		}
	}
}
