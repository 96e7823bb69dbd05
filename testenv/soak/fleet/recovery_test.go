package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// recoveries are the times from the end of faults of one kind until the edges had a new change.
type recoveries struct{ times []time.Duration }

// kind returns a fault without the numbers of its hosts.
func kind(fault string) string {
	if strings.Contains(fault, ", ") {
		return "several faults"
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, fault))
}

// recovered records that the edges follow again.
func (w *world) recovered(fault string, took []time.Duration) {
	var each []string
	for i, d := range took {
		each = append(each, fmt.Sprintf("%s %.2f s", w.edges[i].name, d.Seconds()))
	}
	w.note("  recovered: %s", strings.Join(each, ", "))
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.stats[kind(fault)]
	if r == nil {
		r = &recoveries{}
		w.stats[kind(fault)] = r
	}
	r.times = append(r.times, slices.Max(took))
}

// summarize prints the recoveries by kind of fault.
func (w *world) summarize() {
	w.mu.Lock()
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(w.stats)) {
		times := w.stats[name].times
		slices.Sort(times)
		lines = append(lines, fmt.Sprintf("%-40s %3d times, recovery median %.2f s, worst %.2f s", name, len(times),
			times[len(times)/2].Seconds(), times[len(times)-1].Seconds()))
	}
	w.mu.Unlock()
	for _, line := range lines {
		w.note("%s", line)
	}
}
