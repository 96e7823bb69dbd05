package stream

import (
	"errors"
	"testing"
	"time"

	"rcpt-milter/internal/safely"
)

// TestLeasePanics checks that a panic in the goroutine of the lease ends the term, but not the daemon.
func TestLeasePanics(t *testing.T) {
	p := NewPublisher(PublisherConfig{Directory: "corp", Log: quiet()})
	if err := p.keep(t.Context(), &lease{ttl: 4 * time.Millisecond}); !errors.Is(err, safely.ErrPanic) {
		// panics without a bucket
		t.Errorf("error %v", err)
	}
}

// TestKilledHubResumes checks that a hub that was killed resumes its own lease at once. A hub with another
// store waits, even if it has the same name.
func TestKilledHubResumes(t *testing.T) {
	const never = 10 * time.Minute // longer than the test
	e, d := newEngine(t, nil), newDomain(t)
	d.fill(5)
	hub := newHub(t, "hub", d, e.client("hub"), func(c *PublisherConfig) { c.LeaseTTL = never }).start()
	eventually(t, "hub publishes", func() bool { return hub.publisher.Status().Sequence > 0 })
	kill := func() {
		t.Helper()
		hub.client.Close() // prevents the release of the lease
		hub.stop()
		hub.client = e.client("hub")
		hub.publish.Client = hub.client
	}
	for range 2 {
		kill()
		hub.start()
		eventually(t, "hub publishes again", func() bool {
			s := hub.publisher.Status()
			return s.Leading && !s.Published.IsZero()
		})
	}
	kill()
	hub.dir = t.TempDir()
	hub.start()
	eventually(t, "a new store waits", func() bool {
		s := hub.publisher.Status()
		return !s.Leading && s.Holder == "hub"
	})
}
