package table

import (
	"bytes"
	"fmt"
	"slices"

	"rcpt-milter/internal/text"
)

// tally counts the entries of one domain.
type tally struct {
	keys    int // mailboxes, and the domain itself
	aliases int // 1 if the domain is mapped to another one
	line    int // the first of all
}

func (n tally) entries() int { return n.keys + n.aliases }

// countDomains counts the entries of each domain.
func (t *Table) countDomains() {
	t.byDomain = map[string]tally{}
	for _, e := range t.entries {
		key := t.key(e)
		domain := key[bytes.LastIndexByte(key, '@')+1:]
		n, known := t.byDomain[string(domain)]
		if !known || int(e.line) < n.line {
			n.line = int(e.line)
		}
		n.keys++
		t.byDomain[string(domain)] = n
	}
	for domain, a := range t.aliases {
		n, known := t.byDomain[domain]
		if !known || a.line < n.line {
			n.line = a.line
		}
		n.aliases++
		t.byDomain[domain] = n
	}
}

// Unjudged returns the lines that can never match because their domains are not judged: the
// first line of each domain, in the order of the file, and how many entries there are in all.
func (t *Table) Unjudged(judged func(domain string) bool) (first []Problem, all int) {
	for domain, n := range t.byDomain {
		if judged(domain) {
			continue
		}
		all += n.entries()
		first = append(first, Problem{n.line, fmt.Sprintf(
			"%s of domain %q can never match: the domain is not judged here; add it to domains, or leave them out",
			text.Count(n.entries(), "entry", "entries"), domain)})
	}
	slices.SortFunc(first, func(a, b Problem) int { return a.Line - b.Line })
	return first[:min(len(first), keptProblems)], all
}
