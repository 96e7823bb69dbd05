package real

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"rcpt-milter/testenv"
)

// printedWrong is the number of wrong answers that are printed in full.
const printedWrong = 20

// journalLines is the number of lines of the journal that it is printed with.
const journalLines = 20

// recentFaults is the number of faults that a wrong answer is printed with.
const recentFaults = 6

// report counts what happened.
type report struct {
	began time.Time

	printing sync.Mutex // guards out
	out      io.Writer

	mu       sync.Mutex // guards the fields below
	asking   time.Time  // when the clients began
	answers  map[string]int
	byState  map[State]map[Class]int
	asked    int
	lostAny  int // asked about, without an answer
	mail     map[int]int
	sessions int // lost
	wrong    int
	failures []string // other than wrong answers
	faults   map[string]int
	recent   []string
	recovery map[string][]time.Duration
	during   map[string][]time.Duration
	quiets   int
}

func newReport(out io.Writer) *report {
	return &report{began: time.Now(), out: out, answers: map[string]int{}, byState: map[State]map[Class]int{},
		mail: map[int]int{}, faults: map[string]int{}, recovery: map[string][]time.Duration{},
		during: map[string][]time.Duration{}}
}

// say prints a line with the time since the beginning.
func (r *report) say(format string, args ...any) {
	r.printing.Lock()
	defer r.printing.Unlock()
	fmt.Fprintf(r.out, "%8.1f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *report) locked(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// clientsBegin records that the clients begin to ask.
func (r *report) clientsBegin() { r.locked(func() { r.asking = time.Now() }) }

// answered counts an answer. An address whose state changed meanwhile counts as changing.
func (r *report) answered(client string, states []State, code int) {
	state := states[0]
	if len(states) > 1 {
		state = Changing
	}
	r.locked(func() {
		r.asked++
		r.answers[fmt.Sprintf("%s %d", strings.TrimRight(client, "0123456789"), code)]++
		if r.byState[state] == nil {
			r.byState[state] = map[Class]int{}
		}
		r.byState[state][classOf(code)]++
	})
}

func (r *report) lost(n int)            { r.locked(func() { r.lostAny += n }) }
func (r *report) mailDeferred(code int) { r.locked(func() { r.mail[code]++ }) }
func (r *report) sessionLost()          { r.locked(func() { r.sessions++ }) }
func (r *report) quiet()                { r.locked(func() { r.quiets++ }) }

// fail records a failure other than a wrong answer.
func (r *report) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.locked(func() { r.failures = append(r.failures, text) })
	r.say("FAILED: %s", text)
}

// fault records the beginning or the end of a fault.
func (r *report) fault(text string, kind string) {
	r.locked(func() {
		if kind != "" {
			r.faults[kind]++
		}
		r.recent = append(r.recent, fmt.Sprintf("%8.1f s  %s", time.Since(r.began).Seconds(), text))
		r.recent = r.recent[max(0, len(r.recent)-2*recentFaults):]
	})
	r.say("%s", text)
}

func (r *report) recovered(kind string, took time.Duration) {
	r.locked(func() { r.recovery[kind] = append(r.recovery[kind], took) })
}

func (r *report) servedDuring(kind string, took time.Duration) {
	r.locked(func() { r.during[kind] = append(r.during[kind], took) })
}

// wrong prints a wrong answer with what reproduces it.
func (s *Soak) wrong(c *client, recipient string, asked, answered time.Time, states []State, reply testenv.Reply) {
	n := 0
	var recent []string
	s.report.locked(func() { s.report.wrong++; n, recent = s.report.wrong, slices.Clone(s.report.recent) })
	if n > printedWrong {
		return
	}
	since := func(at time.Time) float64 { return at.Sub(s.report.began).Seconds() }
	history := c.site.oracle.History(recipient)
	s.background.Go(func() { // the session goes on
		ctx, cancel := context.WithTimeout(context.Background(), lookupPatience)
		defer cancel()
		lookup, journal := s.explain(ctx, c.site, recipient)
		s.report.say("WRONG ANSWER %d, seed %d, site %s, client %s: %q to %s, which was %v\n"+
			"  asked at %.3f s, answered at %.3f s (%s)\n  its history:\n%s  the last faults:\n%s\n"+
			"  the rules now: %s\n  lookup now:\n%s\n  its lines in the journal:\n%s",
			n, s.options.Seed, c.site.name, c.name, reply, recipient, states,
			since(asked), since(answered), answered.Format(time.RFC3339Nano), history, indent(recent),
			s.rulesText.Load(), indent(lookup), indent(journal))
	})
}

// ask returns what the daemon of a site says about a recipient, and the newest lines about it in its
// journal.
func (s *Soak) ask(ctx context.Context, site *site, recipient string) (lookup, journal []string) {
	out, _ := s.h.Exec(ctx, site.daemon, "rcpt-milter", "lookup", recipient)
	lookup = strings.Split(strings.TrimSpace(out.Stdout+out.Stderr), "\n")
	out, _ = s.h.Exec(ctx, site.daemon, "rcpt-milter", "journal", "--since", "15m")
	for line := range strings.Lines(out.Stdout) {
		if strings.Contains(strings.ToLower(line), recipient) {
			journal = append(journal, strings.TrimRight(line, "\n"))
		}
	}
	return lookup, journal[max(0, len(journal)-journalLines):]
}

func indent(lines []string) string { return "    " + strings.Join(lines, "\n    ") }

// summary returns the counts as text.
func (r *report) summary() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var text strings.Builder
	took := time.Since(r.asking)
	fmt.Fprintf(&text, "  RCPTs answered: %d (%.0f a second); without an answer: %d; sessions lost: %d; "+
		"MAIL deferred: %s\n", r.asked, float64(r.asked)/took.Seconds(), r.lostAny, r.sessions, counts(r.mail))
	fmt.Fprintf(&text, "  by client and reply: %s\n", counts(r.answers))
	for _, state := range []State{Valid, Changing, Gone, Never} {
		fmt.Fprintf(&text, "  %-8s  accepted %d, deferred %d, rejected %d\n", state, r.byState[state][Accepted],
			r.byState[state][Deferred], r.byState[state][Rejected])
	}
	total := 0
	for _, n := range r.faults {
		total += n
	}
	fmt.Fprintf(&text, "  faults: %d: %s\n", total, counts(r.faults))
	fmt.Fprintf(&text, "  seconds until answers and index were right after the end of a fault:\n%s", times(r.recovery))
	fmt.Fprintf(&text, "  seconds until a pass succeeded while the fault lasted:\n%s", times(r.during))
	fmt.Fprintf(&text, "  quiet points where the index equalled the models: %d\n", r.quiets)
	fmt.Fprintf(&text, "  other failures: %d; WRONG ANSWERS: %d\n", len(r.failures), r.wrong)
	return text.String()
}

func counts[K cmp.Ordered](m map[K]int) string {
	if len(m) == 0 {
		return "none"
	}
	var list []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fmt.Sprintf("%v: %d", key, m[key]))
	}
	return strings.Join(list, ", ")
}

func times(m map[string][]time.Duration) string {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list := slices.Sorted(slices.Values(m[key]))
		fmt.Fprintf(&text, "    %-36s %3d times, median %5.1f, worst %5.1f\n", key, len(list),
			list[len(list)/2].Seconds(), list[len(list)-1].Seconds())
	}
	if text.Len() == 0 {
		return "    none\n"
	}
	return text.String()
}
