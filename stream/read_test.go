package stream

import (
	"strings"
	"testing"

	"rcpt-milter/directory"
)

// TestPages checks that a page is passed on before its objects need much memory.
func TestPages(t *testing.T) {
	for _, c := range []struct {
		name          string
		objects, each int    // addresses of each object
		raw           string // text of an address
		want          int    // objects of the first page
	}{
		{"common objects", 1500, 3, "p1@corp.example", pageSize},
		{"objects without addresses", 1500, 0, "", pageSize},
		{"many addresses", 100, 20_000, "p1@corp.example", 3},
		{"the most addresses", 3, maxAddresses, "p1@corp.example", 1},
		{"long addresses", 100, 10_000, strings.Repeat("x", 300) + "@corp.example", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			var pages []int
			r := &reading{page: func(all []directory.Object) error {
				pages = append(pages, len(all))
				return nil
			}}
			o := directory.Object{Values: make([]directory.Value, c.each)}
			for i := range o.Values {
				o.Values[i] = directory.Value{Attribute: "mail", Raw: c.raw}
			}
			for range c.objects {
				if err := r.add(o); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.flush(); err != nil {
				t.Fatal(err)
			}
			sum := 0
			for i, n := range pages {
				if sum += n; n != c.want && i < len(pages)-1 {
					t.Errorf("page %d has %d objects, want %d", i, n, c.want)
				}
			}
			if pages[0] != c.want || sum != c.objects {
				t.Errorf("pages of %v objects, want %d in the first and %d in all", pages, c.want, c.objects)
			}
		})
	}
}
