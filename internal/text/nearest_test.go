package text

import "testing"

func TestNearest(t *testing.T) {
	names := []string{"status", "stale_after", "up-to", "removals", "report"}
	for _, c := range []struct{ name, got, want string }{
		{"transposed", "stauts", "status"},
		{"case and dashes", "Stale-After", "stale_after"},
		{"dash of a flag", "up_to", "up-to"},
		{"beginning", "rem", "removals"},
		{"beginning of two", "re", ""},
		{"far from all", "frobnicate", ""},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Nearest(c.got, names); got != c.want {
				t.Errorf("Nearest(%q) = %q, want %q", c.got, got, c.want)
			}
		})
	}
}
