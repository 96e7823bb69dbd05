package daemon

import (
	"slices"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
)

// TestPublisherWithoutAClient checks that a hub raises the alarm if it cannot even try to connect.
func TestPublisherWithoutAClient(t *testing.T) {
	stream := config.Stream{URLs: []string{"tls://127.0.0.1:1"}, TLS: config.StreamTLS{CAFile: "/nowhere/ca"}}
	p := &publisher{directory: config.Directory{Name: "corp"}, link: &link{config: stream}}
	if s := p.status(time.Now()); !s.FailingSince.IsZero() {
		t.Errorf("before the first attempt it fails since %v", s.FailingSince)
	}
	for range 2 {
		if _, err := p.link.connect(); err == nil {
			t.Fatal("it connects")
		}
	}
	s := p.status(time.Now())
	first := s.FailingSince
	if first.IsZero() || s.LastError == "" {
		t.Fatalf("%+v", s)
	}
	status := control.Status{Publish: []control.PublishStatus{s}}
	want := "directory corp is not published to the edges: " + s.LastError
	if got := fleetAlarms(status, first.Add(publishAlarmAfter)); !slices.Contains(got, want) {
		t.Errorf("alarms %q, want %q", got, want)
	}
	if _, err := p.link.connect(); err == nil || !p.status(time.Now()).FailingSince.Equal(first.Time) {
		t.Errorf("a later attempt, %v, counts as the first", err)
	}
}
