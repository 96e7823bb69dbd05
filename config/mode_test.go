package config

import "testing"

// TestGuards: the domains whose addresses decide about judged recipients are those of domains, of
// their parents, and the targets of their aliases.
func TestGuards(t *testing.T) {
	c := &Config{Domains: map[string]Mode{"own.test": Enforce, ".parent.test": Report, "no.parent.test": Pass,
		"alias.test": Enforce, "passed.test": Pass, "first.test": Report},
		DomainAliases: map[string]string{"alias.test": "target.test", "passed.test": "other.test",
			"first.test": "second.test", "second.test": "third.test"}}
	for domain, want := range map[string]bool{
		"own.test":         true,
		"a.own.test":       false,
		"parent.test":      false,
		"a.b.parent.test":  true,
		"no.parent.test":   false,
		"a.no.parent.test": true,
		"alias.test":       true,
		"target.test":      true,
		"passed.test":      false,
		"other.test":       false,
		"second.test":      true,
		"third.test":       true,
		"foreign.test":     false,
		"":                 false,
	} {
		t.Run(domain, func(t *testing.T) {
			if got := c.Guards(domain); got != want {
				t.Errorf("Guards(%q) = %t, want %t", domain, got, want)
			}
		})
	}
}
