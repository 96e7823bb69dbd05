package policy

import "time"

// ClockSlack is how far the clock may be set back without effect.
const ClockSlack = time.Minute

// Elapsed returns the time since something was noted, and whether it is known. A time in
// the future was noted before the clock was set back, and says nothing about the present.
func Elapsed(at, now time.Time) (age time.Duration, known bool) {
	age = now.Sub(at)
	return max(age, 0), age >= -ClockSlack
}
