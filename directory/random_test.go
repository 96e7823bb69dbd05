package directory

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"rcpt-milter/testenv/adsim"
)

// life does random things to a directory. What the model refuses, such as bringing
// back what is not deleted, counts as nothing done.
type life struct {
	*rand.Rand
	d     *adsim.Directory
	guids []adsim.GUID
	ous   []adsim.GUID
	made  int
}

func (l *life) step(t *testing.T) {
	t.Helper()
	address := fmt.Sprintf("smtp:a%d@corp.example", l.IntN(60)) // few, so that they wander between owners
	guid := l.guids[l.IntN(len(l.guids))]
	ou := must[adsim.Entry](t)(l.d.Get(l.ous[l.IntN(len(l.ous))])).DN
	l.made++
	name := fmt.Sprintf("o%d", l.made)
	switch l.IntN(11) {
	case 0, 1:
		kinds := []adsim.Kind{adsim.User, adsim.Group, adsim.Contact, adsim.PublicFolder, adsim.DynamicList,
			adsim.InetOrgPerson, adsim.Computer}
		l.guids = append(l.guids, add(t, l.d, kinds[l.IntN(len(kinds))], "CN="+name+","+ou, address[5:]))
	case 2, 3:
		l.d.Modify(guid, adsim.AddValues("proxyAddresses", address))
	case 4:
		l.d.Modify(guid, adsim.RemoveValues("proxyAddresses", address))
	case 5:
		l.d.Modify(guid, adsim.Set("proxyAddresses"))
	case 6:
		l.d.Rename(guid, name)
	case 7:
		l.d.Move(guid, ou)
	case 8:
		l.d.Delete(guid)
	case 9:
		l.d.Undelete(guid, ou)
	case 10:
		l.d.Move(l.ous[l.IntN(len(l.ous))], ou)
	}
}

// TestRandomLifeIsFollowed: the full read and all incremental reads, put together by
// GUID, are the directory, whatever happened in between and in the middle of a read.
func TestRandomLifeIsFollowed(t *testing.T) {
	for seed := range uint64(6) {
		d := adsim.NewDirectory(adsim.DirectoryConfig{RecycleBin: seed%2 == 1})
		l := &life{Rand: rand.New(rand.NewPCG(seed, 1)), d: d, guids: people(t, d, 30)}
		for i := range 4 {
			l.ous = append(l.ous, add(t, d, adsim.OU, fmt.Sprintf("OU=ou%d,%s", i, base)))
		}
		c, s := connect(t, d, adsim.ServerConfig{MaxValRange: 3}, func(c *Config) { c.PageSize = 7 })
		mirror, cursor := map[GUID]Object{}, uint64(0)
		for round := range 20 {
			s.SetFaults(adsim.Faults{BeforePage: func(adsim.Search) {
				if round%3 == 0 { // life goes on during the read
					l.step(t)
				}
			}})
			s.LoseCookies(round % 2)
			for quiet := range 2 {
				if quiet == 1 {
					s.SetFaults(adsim.Faults{})
				}
				root := must[Root](t)(c.Root(t.Context()))
				read, err := readAll(t.Context(), c, cursor)
				ok(t, err)
				for guid, o := range read {
					mirror[guid] = o
				}
				cursor = root.HighestCommittedUSN
			}
			if got, want := owners(mirror), truth(d); !slices.Equal(got, want) {
				t.Fatalf("seed %d, round %d: owners = %q, want %q", seed, round, got, want)
			}
			for range 15 {
				l.step(t)
			}
		}
	}
}
