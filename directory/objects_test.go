package directory

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"rcpt-milter/testenv/adsim"
)

// collect returns what a read reports, and the number of its pages.
func collect(t *testing.T, read func(func([]Object) error) error) (all map[GUID]Object, pages int) {
	t.Helper()
	all = map[GUID]Object{}
	ok(t, read(func(objects []Object) error {
		pages++
		for _, o := range objects {
			all[o.GUID] = o
		}
		return nil
	}))
	return all, pages
}

// TestReadObjects checks that ReadObjects reports the named objects that exist, as Read does,
// however many they are, and in the middle of another read.
func TestReadObjects(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	guids := people(t, d, 2*maxIdentities+50)
	pc := add(t, d, adsim.Computer, "CN=PC,CN=Users,"+base, "pc@corp.example")
	ok(t, d.Delete(guids[3]))
	ok(t, d.Rename(guids[4], "Renamed"))
	d.HideOf(guids[5], "uSNChanged")
	c, _ := connect(t, d, adsim.ServerConfig{MaxPageSize: 40, MaxValRange: 5}, nil)
	all, err := readAll(t.Context(), c, 0)
	ok(t, err)
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf("alias%02d@corp.example", i))
	}
	group := add(t, d, adsim.Group, "CN=many,CN=Users,"+base, many...)
	for _, named := range [][]adsim.GUID{nil, guids[:1], guids[:10], guids[100:101], guids, {pc}, {{1, 2}}, {group}} {
		asked := []GUID{}
		want := map[GUID]Object{}
		for _, guid := range named {
			asked = append(asked, GUID(guid))
			if o, there := all[GUID(guid)]; there {
				want[GUID(guid)] = o
			}
		}
		got, _ := collect(t, func(page func([]Object) error) error { return c.ReadObjects(t.Context(), asked, page) })
		if len(named) > 0 && named[0] == group {
			if o := got[GUID(group)]; len(got) != 1 || len(o.Values) != len(many) {
				t.Errorf("a group with %d addresses in ranges is %+v", len(many), got)
			}
			continue
		}
		if !maps.EqualFunc(got, want, equalObjects) {
			t.Errorf("of %d named objects %d are reported, want %d", len(named), len(got), len(want))
		}
	}
	nested := 0
	_, pages := collect(t, func(page func([]Object) error) error {
		return c.Read(t.Context(), 0, func(objects []Object) error {
			one, _ := collect(t, func(page func([]Object) error) error {
				return c.ReadObjects(t.Context(), []GUID{objects[0].GUID}, page)
			})
			nested += len(one)
			return page(objects)
		})
	})
	if nested != pages || pages < 3 {
		t.Errorf("%d objects are reported in the middle of %d pages", nested, pages)
	}
}

func equalObjects(a, b Object) bool {
	return a.DN == b.DN && a.USN == b.USN && a.Deleted == b.Deleted && slices.Equal(a.Classes, b.Classes) &&
		slices.Equal(a.Values, b.Values)
}

// TestList checks that List reports the objects of a full read, without their values.
func TestList(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	guids := people(t, d, 20)
	ok(t, d.Delete(guids[3]))
	d.HideOf(guids[5], "uSNChanged")
	c, s := connect(t, d, adsim.ServerConfig{MaxPageSize: 4}, nil)
	all, err := readAll(t.Context(), c, 0)
	ok(t, err)
	s.LoseCookies(1)
	got, pages := collect(t, func(page func([]Object) error) error { return c.List(t.Context(), page) })
	equal := func(a, b Object) bool {
		return a.DN == b.DN && slices.Equal(a.Classes, b.Classes) && len(a.Values) == 0 && a.USN == 0
	}
	if !maps.EqualFunc(got, all, equal) || pages < 5 {
		t.Errorf("%d objects in %d pages are listed, %d are read", len(got), pages, len(all))
	}
}
