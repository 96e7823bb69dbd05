package text

import (
	"testing"
	"time"
)

func TestParseMoment(t *testing.T) {
	zone := time.FixedZone("TEST", 2*60*60)
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, zone)
	for _, c := range []struct{ text, want string }{
		{"2h", "2026-03-04T10:00:00+02:00"},
		{"1d12h", "2026-03-03T00:00:00+02:00"},
		{"0s", "2026-03-04T12:00:00+02:00"},
		{"2026-03-04 11:30", "2026-03-04T11:30:00+02:00"},
		{"2026-03-04 11:30:15", "2026-03-04T11:30:15+02:00"},
		{"2026-02-28", "2026-02-28T00:00:00+02:00"},
		{"2026-03-04T08:00:00Z", "2026-03-04T10:00:00+02:00"},
		{"2026-03-04T08:00:00.5-01:00", "2026-03-04T11:00:00.5+02:00"},
		{"yesterday", ""},
		{"-2h", ""},
		{"", ""},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, ok := ParseMoment(c.text, now)
			if text := got.In(zone).Format(time.RFC3339Nano); ok != (c.want != "") || ok && text != c.want {
				t.Errorf("ParseMoment(%q) = %s, %t, want %q", c.text, text, ok, c.want)
			}
		})
	}
}

func TestParseDuration(t *testing.T) {
	for _, c := range []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"5s", 5 * time.Second, true},
		{"15m", 15 * time.Minute, true},
		{"24h", 24 * time.Hour, true},
		{"30d", 720 * time.Hour, true},
		{"1d12h", 36 * time.Hour, true},
		{"1h30m", 90 * time.Minute, true},
		{"0s", 0, true},
		{"0d", 0, true},
		{"106751d", 106751 * 24 * time.Hour, true},
		{"106752d", 0, false},
		{"106751d24h", 0, false},
		{"9999999999h", 0, false},
		{"-5s", 0, false},
		{"+5s", 0, false},
		{"1d-5s", 0, false},
		{"5", 0, false},
		{"5 s", 0, false},
		{"1.5d", 0, false},
		{"d", 0, false},
		{"1h1d", 0, false},
		{"1w", 0, false},
		{"", 0, false},
	} {
		t.Run(c.in, func(t *testing.T) {
			if got, ok := ParseDuration(c.in); got != c.want || ok != c.ok {
				t.Errorf("ParseDuration(%q) = %v, %t, want %v, %t", c.in, got, ok, c.want, c.ok)
			}
		})
	}
}
