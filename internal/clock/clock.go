// Package clock computes the age of a recorded time, even if the clock was set back since then. A
// time in the future was recorded while the clock was ahead, so its age is unknown.
package clock

import "time"

const (
	// Slack is how far ahead of now a time may be and still count as now. Small corrections set
	// clocks back now and then, and the clock of a file server may be a little ahead.
	Slack = time.Minute

	// StoredSlack is Slack for the times of passes in the store, by which the removal guard counts and old
	// records are pruned. A pass that is disregarded is not counted, so more is allowed: the five minutes of Kerberos.
	StoredSlack = 5 * time.Minute
)

// Elapsed returns the time since a recorded time, and whether it is known.
func Elapsed(at, now time.Time) (age time.Duration, known bool) {
	age = now.Sub(at)
	return max(age, 0), age >= -Slack
}

// Believable reports whether a pass in the store may have happened at a time.
func Believable(at, now time.Time) bool { return !at.After(now.Add(StoredSlack)) }

// Distance returns the time between now and a time in the past or in the future. It is for limits
// in which a time far in the future must count like one in the far past, not like no time at all.
func Distance(at, now time.Time) time.Duration { return now.Sub(at).Abs() }
