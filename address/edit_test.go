package address

import (
	"slices"
	"testing"
)

func TestNeighbours(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"jane.doe@x.test", "jane.deo@x.test", true}, // swapped
		{"jane.doe@x.test", "jan.doe@x.test", true},  // left out
		{"jane.doe@x.test", "janedoe@x.test", true},
		{"jane.doe@x.test", "janne.doe@x.test", true}, // put in
		{"jane.doe@x.test", "jane.does@x.test", true},
		{"jane.doe@x.test", "xjane.doe@x.test", true},
		{"jane.doe@x.test", "jane_doe@x.test", true}, // replaced
		{"jane.doe@x.test", "jane.dof@x.test", true},
		{"müller@x.test", "mller@x.test", true},
		{"müller@x.test", "muller@x.test", true},
		{"müller@x.test", "mülelr@x.test", true},
		{"jane.doe@x.test", "jane.doe@x.test", false},
		{"jane.doe@x.test", "jane.doe@y.test", false},
		{"jane.doe@x.test", "jan.do@x.test", false},
		{"jane.doe@x.test", "jane.oed@x.test", false},
		{"a@x.test", "b@x.test", true},
		{`"jane doe"@x.test`, "janedoe@x.test", false},
	} {
		a, err := Parse(c.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse(c.b)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(slices.Collect(a.Neighbours()), b); got != c.want {
			t.Errorf("%s is a neighbour of %s: %t, want %t", c.b, c.a, got, c.want)
		}
	}
}

// TestNeighboursAreCanonical: what is yielded is what Parse gives of its text.
func TestNeighboursAreCanonical(t *testing.T) {
	for _, text := range []string{"jane@x.test", "ß@x.test", "e\u0301t\u00e9@x.test", "a@[192.0.2.1]", "a@b"} {
		a, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for b := range a.Neighbours() {
			n++
			if again, err := Parse(b.String()); err != nil || again != b || b == a {
				t.Errorf("%q has the neighbour %q, which reads as %q, %v", a, b, again, err)
			}
		}
		if most := 85*(len(a.Local())+1) + 1; n == 0 || n > most {
			t.Errorf("%q has %d neighbours, want 1 to %d", a, n, most)
		}
	}
	for range (Address{}).Neighbours() {
		t.Error("no address has a neighbour")
	}
}

func BenchmarkNeighbours(b *testing.B) {
	a, _ := Parse("jane.doe@corp.example")
	for b.Loop() {
		for range a.Neighbours() {
		}
	}
}
