package table

import (
	"bytes"
	"fmt"
	"slices"

	"rcpt-milter/internal/text"
)

// countedDomains bounds how many domains of one table are counted.
const countedDomains = 10_000

// tally counts the entries of one domain.
type tally struct {
	entries int
	line    int // the first
}

// countDomains counts the entries of each domain, aliases included.
func (t *Table) countDomains() {
	t.byDomain = map[string]tally{}
	for _, e := range t.entries {
		key := t.key(e)
		t.count(key[bytes.LastIndexByte(key, '@')+1:], int(e.line))
	}
	for domain, a := range t.aliases {
		t.count([]byte(domain), a.line)
	}
}

func (t *Table) count(domain []byte, line int) {
	n, known := t.byDomain[string(domain)]
	if !known && len(t.byDomain) == countedDomains {
		return
	}
	if !known || line < n.line {
		n.line = line
	}
	n.entries++
	t.byDomain[string(domain)] = n
}

// Unjudged returns the lines that can never match because their domains are not judged: the
// first line of each domain, in the order of the file, and how many entries there are in all.
func (t *Table) Unjudged(judged func(domain string) bool) (first []Problem, all int) {
	for domain, n := range t.byDomain {
		if judged(domain) {
			continue
		}
		all += n.entries
		first = append(first, Problem{n.line, fmt.Sprintf(
			"%s of domain %q can never match: the domain is not judged here; add it to domains, or leave them out",
			text.Count(n.entries, "entry", "entries"), domain)})
	}
	slices.SortFunc(first, func(a, b Problem) int { return a.Line - b.Line })
	return first[:min(len(first), keptProblems)], all
}
