package address

import "testing"

func TestLookupDomain(t *testing.T) {
	configured := map[string]string{
		"example.org":       "own",
		".example.org":      "parent",
		".lab.example.org":  "nearest",
		"deep.example.test": "exact",
		".test":             "top",
		"net":               "no parent without its dot",
	}
	for _, c := range []struct{ name, domain, want string }{
		{"own entry", "example.org", "own"},
		{"parent", "a.example.org", "parent"},
		{"grandparent", "a.b.example.org", "parent"},
		{"nearest parent", "a.lab.example.org", "nearest"},
		{"parent is not the domain itself", "lab.example.org", "parent"},
		{"exact before parent", "deep.example.test", "exact"},
		{"top level", "other.test", "top"},
		{"entry of a parent", ".lab.example.org", "nearest"},
		{"part of a label", "myexample.org", ""},
		{"no entry for sub-domains", "a.net", ""},
		{"unknown", "example.com", ""},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, found := LookupDomain(configured, c.domain); got != c.want || found != (c.want != "") {
				t.Errorf("LookupDomain(%q) = %q, %v, want %q", c.domain, got, found, c.want)
			}
		})
	}
	if n := testing.AllocsPerRun(100, func() { LookupDomain(configured, "a.b.example.com") }); n != 0 {
		t.Errorf("LookupDomain allocates %v times", n)
	}
}
