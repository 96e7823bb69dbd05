package directory

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rcpt-milter/testenv/adsim"
)

// TestSomeObjectsHideTheirUSN: they are reported with USN 0 when all is read, with all
// their values, and no incremental read finds them.
func TestSomeObjectsHideTheirUSN(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	guids := people(t, d, 12)
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf("alias%02d@corp.example", i))
	}
	guids = append(guids, add(t, d, adsim.Group, "CN=many,CN=Users,"+base, many...))
	c, _ := connect(t, d, adsim.ServerConfig{MaxValRange: 5}, func(c *Config) { c.PageSize = 4 })
	since := must[Root](t)(c.Root(t.Context())).HighestCommittedUSN
	for i, guid := range guids {
		if i%3 == 0 {
			d.HideOf(guid, "uSNChanged")
		}
		ok(t, d.Touch(guid))
	}
	all, err := readAll(t.Context(), c, 0)
	if got, want := owners(all), truth(d); err != nil || !slices.Equal(got, want) {
		t.Errorf("owners = %q, %v, want %q", got, err, want)
	}
	later, err := readAll(t.Context(), c, since)
	if err != nil {
		t.Fatal(err)
	}
	for i, guid := range guids {
		if hidden := all[GUID(guid)].USN == 0; hidden != (i%3 == 0) {
			t.Errorf("object %d is read as hidden: %t", i, hidden)
		}
		if _, found := later[GUID(guid)]; found != (i%3 != 0) {
			t.Errorf("an incremental read finds object %d: %t", i, found)
		}
	}
}

// TestAllObjectsHideTheirUSN: a large directory is not read to its end to find that.
func TestAllObjectsHideTheirUSN(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	people(t, d, maxHidden+2000)
	d.Hide("uSNChanged")
	c, s := connect(t, d, adsim.ServerConfig{}, nil)
	all, err := readAll(t.Context(), c, 0)
	wantError(t, "all hidden", err, ErrProtocol, "came without uSNChanged")
	if n := s.Stats().Entries; len(all) > maxHidden || n > maxHidden+1100 {
		t.Errorf("%d objects are reported and %d were sent before the read ends", len(all), n)
	}
	if !strings.Contains(err.Error(), "give this account the right") {
		t.Errorf("the error gives no remedy: %v", err)
	}
}
