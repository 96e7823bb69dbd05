package main

import (
	"strings"
	"testing"
	"time"
)

func TestPast(t *testing.T) {
	zone := time.FixedZone("TEST", 2*60*60)
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, zone)
	a := &app{now: func() time.Time { return now }}
	for _, c := range []struct{ text, want, trouble string }{
		{"2h", "2026-03-04T10:00:00+02:00", ""},
		{"1d12h", "2026-03-03T00:00:00+02:00", ""},
		{"0s", "2026-03-04T12:00:00+02:00", ""},
		{"2026-03-04 11:30", "2026-03-04T11:30:00+02:00", ""},
		{"2026-03-04 11:30:15", "2026-03-04T11:30:15+02:00", ""},
		{"2026-02-28", "2026-02-28T00:00:00+02:00", ""},
		{"2026-03-04T08:00:00Z", "2026-03-04T10:00:00+02:00", ""},
		{"2026-03-04T08:00:00.5-01:00", "2026-03-04T11:00:00.5+02:00", ""},
		{"2026-03-04 12:00:01", "", "2026-03-04 12:00:01 TEST is in the future"},
		{"2026-03-04T12:00:00Z", "", "is in the future"},
		{"yesterday", "", `got "yesterday"`},
		{"-2h", "", `got "-2h"`},
		{"", "", `got ""`},
	} {
		got, err := a.parsePast("at", c.text)
		if text := got.In(zone).Format(time.RFC3339Nano); c.trouble == "" && (err != nil || text != c.want) {
			t.Errorf("past(%q) = %s, %v, want %s", c.text, text, err, c.want)
		}
		if c.trouble != "" && (err == nil || !strings.Contains(err.Error(), c.trouble) || !strings.HasPrefix(err.Error(),
			"--at: ")) {
			t.Errorf("past(%q): %v, want %s", c.text, err, c.trouble)
		}
	}
}
