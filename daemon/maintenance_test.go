package daemon

import (
	"testing"
	"time"

	"rcpt-milter/config"
)

// TestJournalRetention checks that the journal is kept for what depends on it.
func TestJournalRetention(t *testing.T) {
	guard := func(limit int, window time.Duration) config.Directory {
		return config.Directory{RemovalGuard: config.Guard{Max: limit, Window: window}}
	}
	for _, c := range []struct {
		name        string
		keep, grace time.Duration
		directories []config.Directory
		want        time.Duration
	}{
		{"keep", 30 * day, time.Hour, []config.Directory{guard(500, day)}, 30 * day},
		{"removal grace", time.Hour, 2 * day, []config.Directory{guard(500, day)}, 2 * day},
		{"longest window", time.Hour, time.Hour, []config.Directory{guard(500, day), guard(500, 7*day)}, 7 * day},
		{"guard that is off", time.Hour, 0, []config.Directory{guard(0, day)}, time.Hour},
		{"no directory", time.Hour, 0, nil, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := &config.Config{Journal: config.Journal{Keep: c.keep}, RemovalGrace: c.grace,
				Directories: c.directories}
			if got := newMaintenance(nil, file, nil).retention.Load(); time.Duration(got) != c.want {
				t.Errorf("retention %v, want %v", time.Duration(got), c.want)
			}
		})
	}
}
