package stream

import (
	"encoding/json"
	"testing"
	"time"
)

// TestNamesAreRemoved checks that published names leave the stream when names are switched off, and return when
// names are switched on.
func TestNamesAreRemoved(t *testing.T) {
	e, d := newEngine(t, nil), newDomain(t)
	d.fill(5)
	hub := newHub(t, "hub", d, e.client("hub"))
	edge := newEdge(t, "edge", e.client("edge")).start()
	for _, names := range []bool{true, false, true} {
		hub.publish.Names = names
		hub.start()
		eventually(t, "names in the stream", func() bool { return countNames(t, e) == map[bool]int{true: 5}[names] })
		equal(t, hub, edge)
		hub.stop()
	}
}

// countNames returns the number of objects in the stream that have a name, or -1 if the stream has no state.
func countNames(t *testing.T, e *engine) int {
	t.Helper()
	s, err := e.admin().Stream(t.Context(), streamName("corp"))
	if err != nil {
		return -1
	}
	if _, err := s.GetLastMsgForSubject(t.Context(), stateSubject("corp")); err != nil {
		return -1
	}
	info, err := s.Info(t.Context(), subjectsOf(allObjects("corp")))
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for subject := range info.State.Subjects {
		raw, err := s.GetLastMsgForSubject(t.Context(), subject)
		if err != nil {
			return -1
		}
		var m objectMessage
		if err := json.Unmarshal(raw.Data, &m); err != nil {
			t.Fatal(err)
		}
		if m.DN != "" {
			named++
		}
	}
	return named
}

// TestDue checks that edges get time to apply a change and to report it. States without changes do not count.
func TestDue(t *testing.T) {
	at := term{changed: 10, due: 10}
	begin := time.Now()
	for _, tt := range []struct {
		name    string
		after   time.Duration
		changed uint64
		want    uint64
	}{
		{"nothing new", 0, 10, 10},
		{"a change", time.Second, 12, 10},
		{"another change", 2 * time.Second, 15, 10},
		{"the first is due", time.Second + reportTime, 15, 12},
		{"the second too", 2*time.Second + 2*reportTime, 15, 15},
		{"long afterwards", time.Hour, 15, 15},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at.changed = tt.changed
			if at.settle(begin.Add(tt.after)); at.due != tt.want {
				t.Errorf("due %d, want %d", at.due, tt.want)
			}
		})
	}
}
