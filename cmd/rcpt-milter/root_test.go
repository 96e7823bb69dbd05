package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParsePast(t *testing.T) {
	a := &app{now: func() time.Time { return noon }}
	for _, c := range []struct {
		name, text string
		want       time.Time // zero: wrong usage
	}{
		{"duration", "2h", noon.Add(-2 * time.Hour)},
		{"time", "2026-03-04 11:30", noon.Add(-30 * time.Minute)},
		{"now", "2026-03-04T12:00:00Z", noon},
		{"in the future", "2026-03-04 12:00:01", time.Time{}},
		{"not a time", "yesterday", time.Time{}},
		{"empty", "", time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := a.parsePast("at", c.text)
			if !c.want.IsZero() && (err != nil || !got.Equal(c.want)) {
				t.Errorf("parsePast(%q) = %s, %v, want %s", c.text, got, err, c.want)
			}
			var usage *exitError
			if c.want.IsZero() && (!errors.As(err, &usage) || usage.status != exitUsage ||
				!strings.HasPrefix(err.Error(), "--at: ")) {
				t.Errorf("parsePast(%q) = %s, %v, want exit status %d", c.text, got, err, exitUsage)
			}
		})
	}
}
