package clock

import (
	"testing"
	"time"
)

// TestElapsed checks that a time in the future tells nothing, but for small corrections of the
// clock.
func TestElapsed(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		at    time.Duration // from now on
		age   time.Duration
		known bool
	}{
		{"a minute ago", -time.Minute, time.Minute, true},
		{"now", 0, 0, true},
		{"in a minute", Slack, 0, true},
		{"in more than a minute", Slack + 1, 0, false},
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

func TestBelievable(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		at   time.Duration // from now on
		want bool
	}{
		{"a year ago", -365 * 24 * time.Hour, true},
		{"now", 0, true},
		{"in five minutes", StoredSlack, true},
		{"in more", StoredSlack + 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Believable(now.Add(c.at), now); got != c.want {
				t.Errorf("Believable = %t, want %t", got, c.want)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, at := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(at.String(), func(t *testing.T) {
			if got := Distance(now.Add(at), now); got != time.Hour {
				t.Errorf("Distance = %v, want an hour", got)
			}
		})
	}
}
