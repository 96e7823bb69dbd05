package policy

import (
	"testing"
	"time"
)

// TestElapsed checks that a time in the future tells nothing, but for small corrections of the
// clock.
func TestElapsed(t *testing.T) {
	for _, c := range []struct {
		name  string
		at    time.Duration // from now on
		age   time.Duration
		known bool
	}{
		{"a minute ago", -time.Minute, time.Minute, true},
		{"now", 0, 0, true},
		{"in a minute", ClockSlack, 0, true},
		{"in more than a minute", ClockSlack + 1, 0, false},
		{"in half an hour", 30 * time.Minute, 0, false},
		{"in a year", 365 * 24 * time.Hour, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if age, known := Elapsed(now.Add(c.at), now); age != c.age || known != c.known {
				t.Errorf("Elapsed = %v, %t, want %v, %t", age, known, c.age, c.known)
			}
		})
	}
}
