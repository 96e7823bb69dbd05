package mirror

import (
	"testing"
	"time"

	"rcpt-milter/internal/clock"
)

// TestIsOver checks that a pause since a time in the future is over, except for small corrections of the clock.
func TestIsOver(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for at, want := range map[time.Duration]bool{-time.Minute: false, -time.Hour: true, 0: false,
		clock.Slack: false, clock.Slack + 1: true, 365 * 24 * time.Hour: true} {
		if over := isOver(now.Add(at), now, time.Hour); over != want {
			t.Errorf("a pause of an hour since %v from now: over %t, want %t", at, over, want)
		}
	}
	if !isOver(time.Time{}, now, 24*time.Hour) {
		t.Error("a pause since never is not over")
	}
}
