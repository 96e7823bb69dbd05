package directory

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"rcpt-milter/testenv/adsim"
)

// TestEndlessRead: a controller that returns the same entries again, each time with a new cookie, ends no search.
// Every read of it fails.
func TestEndlessRead(t *testing.T) {
	for _, pageSize := range []int{1, 3, 1000} {
		d := adsim.NewDirectory(adsim.DirectoryConfig{})
		guid := GUID(people(t, d, 20)[0])
		c, s := connect(t, d, adsim.ServerConfig{}, func(c *Config) { c.PageSize = pageSize })
		for name, read := range map[string]func(func([]Object) error) error{
			"full":    func(page func([]Object) error) error { return c.Read(t.Context(), 0, page) },
			"changes": func(page func([]Object) error) error { return c.Read(t.Context(), 1, page) },
			"list":    func(page func([]Object) error) error { return c.List(t.Context(), page) },
			"some":    func(page func([]Object) error) error { return c.ReadObjects(t.Context(), []GUID{guid}, page) },
			"below":   func(page func([]Object) error) error { return c.ReadBelow(t.Context(), guid, page) },
		} {
			t.Run(fmt.Sprintf("%s, pages of %d", name, pageSize), func(t *testing.T) {
				s.SetFaults(adsim.Faults{Endless: true})
				defer s.SetFaults(adsim.Faults{})
				seen := 0
				err := read(func(objects []Object) error {
					if seen += len(objects); seen > 5000 {
						return fmt.Errorf("%d objects of about 20", seen)
					}
					return nil
				})
				wantError(t, name, err, ErrProtocol, "again and again")
			})
		}
	}
}

// TestProgress: a slow controller may take hours for a large directory, and may return objects again that change
// meanwhile. One that gets nowhere is left.
func TestProgress(t *testing.T) {
	const all = 5_000_000
	for _, test := range []struct {
		name     string
		pages    int
		entries  int           // of a page
		takes    time.Duration // of a page
		distinct int           // after so many, the objects come again
		want     error
	}{
		{"5 million objects over a slow line", all / 1000, 1000, 2 * time.Second, all, nil},
		{"5 million objects over a slower line", all / 1000, 1000, 15 * time.Second, all, nil},
		{"small pages of a slow controller", 1200, 100, time.Minute, all, nil},
		{"a few slow pages", 20, 1, 130 * time.Second, all, nil},
		{"sparse pages at first", 25, 0, 130 * time.Second, all, nil},
		{"each object twice", 2000, 1000, time.Second, 1_000_000, nil},
		{"ten objects that change during the read", 10, 10, time.Second, 10, nil},
		{"one object in each page", 100, 1, 130 * time.Second, all, ErrTimeout},
		{"for days", all / 1000, 1000, 30 * time.Second, all, ErrTimeout},
		{"one object that changes all the time", 100, 1, time.Second, 1, nil},
		{"the same page", 100, 1000, time.Millisecond, 1000, ErrProtocol},
		{"the same object", 200, 1, time.Millisecond, 1, ErrProtocol},
		{"the same 100 pages", 100 * 50, 1000, time.Millisecond, 100_000, ErrProtocol},
		{"the same pages, cut elsewhere", 100 * 50, 1000, time.Millisecond, 99_999, ErrProtocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			var p progress
			var err error
			objects := make([]Object, test.entries)
			next := 0
			for page := 0; page < test.pages && err == nil; page++ {
				for i := range objects {
					binary.BigEndian.PutUint64(objects[i].GUID[:], uint64(next))
					next = (next + 1) % test.distinct
				}
				err = p.note(objects, test.takes)
			}
			if test.want == nil && err != nil {
				t.Errorf("after %d objects: %v", next, err)
			}
			if test.want != nil {
				wantError(t, test.name, err, test.want, "")
			}
		})
	}
}
