package directory

import (
	"slices"
	"strings"
	"testing"

	"rcpt-milter/testenv"
)

// TestSambaReadBelow: a real controller reads below one object, by its GUID and in pages,
// and changes too, in the middle of another read on the same connection.
func TestSambaReadBelow(t *testing.T) {
	dc := samba(t)
	c := dc.dial(t, func(c *Config) { c.PageSize = 3 })
	root := must[Root](t)(c.Root(t.Context()))
	var all, want []string
	var staff GUID
	ok(t, c.Read(t.Context(), 0, func(objects []Object) error {
		for _, o := range objects {
			all = append(all, o.DN)
			if strings.EqualFold(o.DN, testenv.StaffOU) {
				staff = o.GUID
			}
			if strings.HasSuffix(strings.ToLower(o.DN), strings.ToLower(testenv.StaffOU)) {
				want = append(want, o.DN)
			}
		}
		return c.Read(t.Context(), root.HighestCommittedUSN, func([]Object) error { return nil })
	}))
	if staff.IsZero() || len(want) < 4 {
		t.Fatalf("%d objects, %d of them in %s", len(all), len(want), testenv.StaffOU)
	}
	pages := 0
	ok(t, c.Read(t.Context(), 0, func([]Object) error {
		if pages++; pages > 2 {
			return nil
		}
		var got []string
		err := c.ReadBelow(t.Context(), staff, func(objects []Object) error {
			for _, o := range objects {
				got = append(got, o.DN)
			}
			return nil
		})
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("below %s: %q, want %q", testenv.StaffOU, got, want)
		}
		return err
	}))
	if pages < 3 {
		t.Errorf("the read around it ended after %d pages", pages)
	}
	ok(t, c.ReadBelow(t.Context(), GUID{1, 2, 3}, func([]Object) error {
		t.Error("an object that does not " +
			"exist")
		return nil
	}))
}
