package console

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"rcpt-milter/control"
	"rcpt-milter/internal/text"
)

// ErrNotConfirmed means that the operator did not answer yes.
var ErrNotConfirmed = errors.New("nothing was removed; answer yes, or use --yes in scripts")

// An Approval counts what an approval of held removals would remove. The zero value counts none yet.
type Approval struct {
	UpTo uint64 // the last pass whose removals it covers; zero means all

	domains map[string]int    // addresses by domain
	last    map[string]uint64 // the last pass by directory
	total   int
}

// Add counts a held removal if the approval covers it. It never fails.
func (c *Approval) Add(h control.HeldRemoval) error {
	if h.WaitsFor != control.WaitsApproval || c.UpTo != 0 && h.Pass > c.UpTo {
		return nil
	}
	if c.domains == nil {
		c.domains, c.last = map[string]int{}, map[string]uint64{}
	}
	c.total++
	c.domains[h.Address[strings.LastIndexByte(h.Address, '@')+1:]]++
	c.last[h.Directory] = max(c.last[h.Directory], h.Pass)
	return nil
}

// Ask shows how many addresses each domain would lose, and reads the answer. It returns queries for exactly the
// removals that it showed, or ErrNotConfirmed. If there are none, it asks nothing and returns q.
func (c *Approval) Ask(q control.RemovalsQuery, in io.Reader, out io.Writer) ([]control.RemovalsQuery, error) {
	if c.total == 0 {
		return []control.RemovalsQuery{q}, nil
	}
	for _, domain := range slices.Sorted(maps.Keys(c.domains)) {
		fmt.Fprintf(out, "  %s: %s\n", text.Printable(domain), text.Count(c.domains[domain], "address", "addresses"))
	}
	fmt.Fprintf(out, "Remove %s? Type yes: ", text.Count(c.total, "address", "addresses"))
	answer, _ := bufio.NewReader(in).ReadString('\n')
	if strings.TrimSpace(answer) != "yes" {
		return nil, ErrNotConfirmed
	}
	var all []control.RemovalsQuery
	for _, directory := range slices.Sorted(maps.Keys(c.last)) {
		all = append(all, control.RemovalsQuery{Directory: directory, UpTo: c.last[directory]})
	}
	return all, nil
}
