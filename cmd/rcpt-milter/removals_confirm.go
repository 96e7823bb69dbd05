package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

// errNotConfirmed means that the operator did not answer yes.
var errNotConfirmed = errors.New("nothing was removed; answer yes, or use --yes in scripts")

// confirmApproval shows on a terminal how many addresses each domain would lose, and asks. It returns
// queries for exactly the removals that it showed. Without a terminal it asks nothing.
func (a *app) confirmApproval(ctx context.Context, client *control.Client, q control.RemovalsQuery) (
	[]control.RemovalsQuery, error) {
	in, ok := a.stdin, false
	if in == nil {
		in, ok = os.Stdin, terminal.IsTerminal(os.Stdin)
	}
	if !ok || !terminal.IsTerminal(a.stdout) {
		return []control.RemovalsQuery{q}, nil
	}
	held := approvalCount{domains: map[string]int{}, last: map[string]uint64{}, upTo: q.UpTo}
	if err := client.Removals(ctx, q, held.add); err != nil {
		return nil, err
	}
	return held.ask(q, in, a.stdout)
}

// approvalCount counts what an approval would remove.
type approvalCount struct {
	upTo    uint64            // zero means all
	domains map[string]int    // addresses by domain
	last    map[string]uint64 // the last pass by directory
	total   int
}

func (c *approvalCount) add(h control.HeldRemoval) error {
	if h.WaitsFor != control.WaitsApproval || c.upTo != 0 && h.Pass > c.upTo {
		return nil
	}
	c.total++
	c.domains[h.Address[strings.LastIndexByte(h.Address, '@')+1:]]++
	c.last[h.Directory] = max(c.last[h.Directory], h.Pass)
	return nil
}

// ask shows the counts and reads the answer. If nothing waits, it asks nothing.
func (c *approvalCount) ask(q control.RemovalsQuery, in io.Reader, out io.Writer) ([]control.RemovalsQuery, error) {
	if c.total == 0 {
		return []control.RemovalsQuery{q}, nil
	}
	for _, domain := range slices.Sorted(maps.Keys(c.domains)) {
		fmt.Fprintf(out, "  %s: %s\n", text.Printable(domain), text.Count(c.domains[domain], "address", "addresses"))
	}
	fmt.Fprintf(out, "Remove %s? Type yes: ", text.Count(c.total, "address", "addresses"))
	answer, _ := bufio.NewReader(in).ReadString('\n')
	if strings.TrimSpace(answer) != "yes" {
		return nil, errNotConfirmed
	}
	var all []control.RemovalsQuery
	for _, directory := range slices.Sorted(maps.Keys(c.last)) {
		all = append(all, control.RemovalsQuery{Directory: directory, UpTo: c.last[directory]})
	}
	return all, nil
}
