package control

import (
	"testing"
	"time"
)

func TestFleetRows(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, c := range []struct {
		name    string
		edge    EdgeStatus
		state   State
		behind  uint64
		healthy bool
	}{
		{"fresh and equal", EdgeStatus{State: Fresh, Generation: "g", Sequence: 7, DigestOK: true}, Fresh, 0, true},
		{"behind", EdgeStatus{State: Fresh, Generation: "g", Sequence: 3, DigestOK: true}, Fresh, 4, true},
		{"another generation", EdgeStatus{State: Fresh, Generation: "old", Sequence: 3, DigestOK: true}, Fresh, 0,
			true},
		{"differs", EdgeStatus{State: Fresh, Generation: "g", Sequence: 7}, Fresh, 0, false},
		{"holds removals", EdgeStatus{State: Fresh, Generation: "g", Sequence: 7, DigestOK: true, Held: 1}, Fresh, 0,
			false},
		{"fails", EdgeStatus{State: Fresh, Generation: "g", Sequence: 7, DigestOK: true, LastError: "x"}, Fresh, 0,
			false},
		{"stale", EdgeStatus{State: Stale, Generation: "g", Sequence: 7, DigestOK: true}, Stale, 0, false},
		{"silent", EdgeStatus{State: Fresh, Generation: "g", Sequence: 7, DigestOK: true,
			Reported: Time{now.Add(-EdgeSilentAfter - time.Second)}}, EdgeSilent, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.edge.Reported.IsZero() {
				c.edge.Reported = Time{now.Add(-time.Second)}
			}
			s := Status{Publish: []PublishStatus{{Directory: "corp", Generation: "g", Sequence: 9, Due: 7,
				Edges: []EdgeStatus{c.edge}}}}
			rows := s.FleetRows(now)
			if len(rows) != 1 || rows[0].State != c.state || rows[0].Behind != c.behind ||
				rows[0].Healthy() != c.healthy {
				t.Errorf("rows: %+v, healthy: %t", rows, rows[0].Healthy())
			}
		})
	}
}
