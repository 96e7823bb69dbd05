package directory

import (
	"fmt"
	"slices"
	"testing"

	"rcpt-milter/testenv/adsim"
)

// TestReadBelow: one object and what lives below it, in pages, in the middle of another read
// that goes on where it was, however often.
func TestReadBelow(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	add := func(kind adsim.Kind, dn string) adsim.GUID { return must[adsim.GUID](t)(d.Add(kind, dn+","+base, nil)) }
	sales := add(adsim.OU, "OU=Sales")
	inner := add(adsim.OU, "OU=Inner,OU=Sales")
	other := add(adsim.OU, "OU=Other")
	want := []string{"OU=Inner,OU=Sales," + base, "OU=Sales," + base}
	for i := range 7 {
		want = append(want, fmt.Sprintf("CN=s%d,OU=Inner,OU=Sales,%s", i, base))
		add(adsim.User, fmt.Sprintf("CN=s%d,OU=Inner,OU=Sales", i))
		add(adsim.User, fmt.Sprintf("CN=o%d,OU=Other", i))
	}
	c, _ := connect(t, d, adsim.ServerConfig{MaxPageSize: 2}, nil)
	below := func(top adsim.GUID) []string {
		names := []string{}
		if err := c.ReadBelow(t.Context(), GUID(top), func(objects []Object) error {
			for _, o := range objects {
				names = append(names, o.DN)
			}
			return nil
		}); err != nil {
			t.Errorf("ReadBelow: %v", err)
		}
		slices.Sort(names)
		return names
	}
	slices.Sort(want)
	all, pages := 0, 0
	if err := c.Read(t.Context(), 0, func(objects []Object) error {
		all += len(objects)
		pages++
		if got := below(sales); !slices.Equal(got, want) {
			t.Errorf("below OU=Sales in the middle of page %d: %q", pages, got)
		}
		if err := c.Read(t.Context(), d.HighestUSN()-3, func([]Object) error { return nil }); err != nil {
			t.Errorf("changes in the middle of page %d: %v", pages, err)
		}
		return nil
	}); err != nil || pages < 8 || all < 17 {
		t.Errorf("the read around it: %d objects in %d pages, %v", all, pages, err)
	}
	if err := d.Move(inner, "OU=Other,"+base); err != nil {
		t.Fatal(err)
	}
	if got := below(inner); len(got) != 8 || got[0] != "CN=s0,OU=Inner,OU=Other,"+base {
		t.Errorf("below one that moved: %q", got)
	}
	if err := d.Delete(sales); err != nil {
		t.Fatal(err)
	}
	if err := d.Purge(sales); err != nil {
		t.Fatal(err)
	}
	if got := below(sales); len(got) != 0 {
		t.Errorf("below one that is gone: %q", got)
	}
	if got := below(other); len(got) != 16 {
		t.Errorf("below OU=Other: %q", got)
	}
}
