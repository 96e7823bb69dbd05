package table

import (
	"bytes"
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

// missing returns the number of entries, including domain aliases, that t has and other does not. An alias with
// other targets is the same entry.
func (t *Table) missing(other *Table) (n int) {
	at := 0 // both tables are in the order of their keys
	for _, e := range t.entries {
		key := t.key(e)
		for at < len(other.entries) && bytes.Compare(other.key(other.entries[at]), key) < 0 {
			at++
		}
		if at < len(other.entries) && bytes.Equal(other.key(other.entries[at]), key) {
			continue
		}
		if _, alias := other.aliases[string(key[1:])]; key[0] != '@' || !alias {
			n++
		}
	}
	for domain := range t.aliases {
		if _, alias := other.aliases[domain]; !alias && !other.Has("@"+domain) {
			n++
		}
	}
	return n
}
