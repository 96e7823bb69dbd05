package table

import (
	"maps"
	"math"
	"slices"
)

// with returns a table that has what t has, and what other has. It names an address of both by its
// line in other. If both are too large for one table, it returns t.
func (t *Table) with(other *Table) *Table {
	if len(t.text)+len(other.text) > math.MaxUint32 {
		return t
	}
	both := &Table{text: slices.Clone(other.text), entries: slices.Clone(other.entries), problems: other.problems,
		unread: other.unread}
	for _, e := range t.entries {
		if key := t.key(e); !other.Has(string(key)) {
			both.add(string(key), int(e.line))
		}
	}
	if both.aliases = maps.Clone(other.aliases); both.aliases == nil {
		both.aliases = map[string]alias{}
	}
	for domain, old := range t.aliases {
		a, known := both.aliases[domain]
		if !known {
			a.line = old.line
		}
		a.targets = slices.Clone(a.targets)
		for _, target := range old.targets {
			if !slices.Contains(a.targets, target) {
				a.targets = append(a.targets, target)
			}
		}
		both.aliases[domain] = a
	}
	both.order()
	both.count()
	return both
}
