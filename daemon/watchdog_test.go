package daemon

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWatchdogHangs checks that the watchdog is silent while a lookup hangs.
func TestWatchdogHangs(t *testing.T) {
	states := make(chan string, 100)
	asked, hang := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	w := &watchdog{every: time.Millisecond, notify: func(state string) { states <- state }, answer: func() string {
		select {
		case asked <- struct{}{}:
		case <-hang:
		}
		return ""
	}}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	for range 3 { // the next lookup hangs
		<-asked
	}
	for range 3 {
		if got := <-states; got != "WATCHDOG=1" {
			t.Errorf("sent %q, want WATCHDOG=1", got)
		}
	}
	if len(states) > 0 {
		t.Errorf("sent %q while the lookup hangs", <-states)
	}
	cancel()
	close(hang)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestAliveSaysWhy checks that the line of systemctl status does not call a daemon fresh that defers recipients.
func TestAliveSaysWhy(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*testing.T, *daemon)
		want   []string
	}{
		{"a stale accept file", func(t *testing.T, d *daemon) {
			file := d.config.Load().AcceptFiles[0]
			if err := os.Chtimes(file, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
				t.Fatal(err)
			}
			if done := d.reload(); done.Refused != "" {
				t.Fatal(done.Refused)
			}
		}, []string{"stale, "}},
		{"a store that cannot be read", func(t *testing.T, d *daemon) {
			if err := d.store.Close(); err != nil {
				t.Fatal(err)
			}
		}, []string{"fresh, ", "; recipients that the index does not find get 451"}},
		{"nothing", func(*testing.T, *daemon) {}, []string{"fresh, 0 addresses, 0 sessions"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "list")
			if err := os.WriteFile(file, []byte("info@corp.example OK\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			d := openConfiguredDaemon(t, "accept_files: ["+file+"]\naccept_files_max_age: 1h")
			c.change(t, d)
			d.syncs.current.Store(&directorySet{}) // no directory, so only the file has a state
			line := d.alive()
			for _, want := range c.want {
				if !strings.Contains(line, want) {
					t.Errorf("%q, want %q", line, want)
				}
			}
		})
	}
}

// TestWatchdogOff checks that the watchdog does nothing without systemd.
func TestWatchdogOff(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		fails     bool
	}{{"", "", false}, {"1000000", "1", false}, {"soon", "", true}} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		w, err := newWatchdog(func() string { t.Error("asked"); return "" })
		if (err != nil) != c.fails {
			t.Errorf("WATCHDOG_USEC=%s: %v", c.usec, err)
		}
		if err == nil {
			if err := w.Run(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}
