package table

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"rcpt-milter/address"
)

// alias is a line "@domain @target" (virtual(5)): the recipients of the domain are the same
// local parts at its targets.
type alias struct {
	targets []string // canonical, in the order of the line
	line    int
}

// AliasTargets returns the domains to which a line of virtual(5) maps a canonical domain:
// those of a value that consists of @domain only. Any other value, such as an address or
// OK, maps the domain to none: the line names every recipient of the domain.
func AliasTargets(domain, value string) ([]string, error) {
	return aliasTargets("@"+domain, []byte(value), false)
}

// CopyTargets returns the domains of a value of virtual(5) that has other words as well, such as the address of an
// archive, and these words. The domains may include that of the line. It returns none for a value without a
// domain, or with domains only. In a table, such a line names every recipient of its domain, because the address
// takes mail for all of them.
func CopyTargets(value string) (targets, others []string) {
	for _, word := range valueWords([]byte(value)) {
		target, err := address.ParseDomain(strings.TrimPrefix(word, "@"))
		switch {
		case word[0] != '@' || err != nil || address.CheckEntry(word) != nil:
			others = append(others, word)
		case !slices.Contains(targets, target):
			targets = append(targets, target)
		}
	}
	if len(targets) == 0 || len(others) == 0 {
		return nil, nil
	}
	return targets, others
}

// aliasTargets is AliasTargets for a key, and for a value that may have been cut off.
func aliasTargets(key string, value []byte, cut bool) (targets []string, err error) {
	words := valueWords(value)
	if len(words) == 0 || slices.ContainsFunc(words, func(word string) bool { return word[0] != '@' }) {
		return nil, nil
	}
	if cut {
		return nil, fmt.Errorf("%q maps the domain to more domains than can be read", key)
	}
	for _, word := range words {
		target, err := address.ParseDomain(word[1:])
		if err == nil {
			err = address.CheckEntry(word)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q maps the domain to %s, which is not @domain: %w", key, shown([]byte(word)), err)
		case target != key[1:] && !slices.Contains(targets, target):
			targets = append(targets, target)
		}
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("%q maps the domain to itself, which accepts nothing; "+
			"for all of its recipients write %q",
			key, key+" OK")
	}
	return targets, nil
}

// valueWords splits the right side of a line as virtual(5) does, without its comments.
func valueWords(value []byte) []string {
	if i := bytes.Index(value, []byte("#")); i >= 0 {
		value = value[:i]
	}
	return strings.FieldsFunc(string(withoutRemarks(value)), func(r rune) bool {
		return strings.ContainsRune(space+",", r)
	})
}

// withoutRemarks removes comments in parentheses (RFC 5322 section 3.2.2).
func withoutRemarks(value []byte) []byte {
	var out []byte
	depth := 0
	for _, c := range value {
		switch {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			out = append(out, c)
		}
	}
	return out
}

// addAlias takes in an alias; of several lines for one domain the first counts.
func (t *Table) addAlias(domain string, a alias) {
	if t.aliases == nil {
		t.aliases = map[string]alias{}
	}
	if _, twice := t.aliases[domain]; !twice {
		t.aliases[domain] = a
	}
}

// settleAliases decides about domains that have both an alias and a line for all of their
// recipients: the first line counts.
func (t *Table) settleAliases() {
	if len(t.aliases) == 0 {
		return
	}
	t.entries = slices.DeleteFunc(t.entries, func(e entry) bool {
		if t.key(e)[0] != '@' {
			return false
		}
		a, both := t.aliases[string(t.key(e)[1:])]
		return both && a.line < int(e.line)
	})
	maps.DeleteFunc(t.aliases, func(domain string, _ alias) bool { return t.Has("@" + domain) })
}

// Aliases returns the domains to which the table maps a canonical domain, and the line that
// does.
func (t *Table) Aliases(domain string) (targets []string, line int) {
	a := t.aliases[domain]
	return a.targets, a.line
}

// AllAliases visits the domains that the table maps to others, in their order.
func (t *Table) AllAliases() iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		for _, domain := range slices.Sorted(maps.Keys(t.aliases)) {
			if !yield(domain, t.aliases[domain].targets) {
				return
			}
		}
	}
}

// AliasCount returns the number of domain aliases.
func (t *Table) AliasCount() int { return len(t.aliases) }
