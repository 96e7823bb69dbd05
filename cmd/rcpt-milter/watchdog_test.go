package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// systemdSocket stands for systemd: it gives what the daemon tells it.
func systemdSocket(t *testing.T, dir string) func() string {
	t.Helper()
	path := filepath.Join(dir, "notify.sock")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		buffer := make([]byte, 4096)
		socket.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := socket.Read(buffer)
		if err != nil {
			t.Fatalf("nothing told to systemd: %v", err)
		}
		return string(buffer[:n])
	}
}

// TestWatchdog: systemd hears that the daemon is ready, that it lives, and that it stops.
func TestWatchdog(t *testing.T) {
	r := newRig(t)
	told := systemdSocket(t, r.dir)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", "20000")
	d := r.serve()
	seen := map[string]int{}
	for seen["READY=1"] == 0 || seen["WATCHDOG=1"] < 3 || seen["STATUS=fresh, 2 addresses, 0 sessions"] == 0 {
		seen[told()]++
	}
	r.edit("removal_grace: 0s", "removal_grace: soon")
	var reloaded atomic.Bool
	go func() { // what is told to systemd has to be read meanwhile
		r.want(exitConfig, "reload")
		reloaded.Store(true)
	}()
	reloading := false
	for !reloading || !reloaded.Load() || seen["STATUS=fresh, 2 addresses, 0 sessions; the configuration last read is refused"] == 0 {
		text := told()
		reloading = reloading || strings.HasPrefix(text, "RELOADING=1\nMONOTONIC_USEC=")
		seen[text]++
	}
	go d.stop()
	for seen["STOPPING=1"] == 0 {
		seen[told()]++
	}
}

// TestWatchdogHangs: while a look-up does not come back, systemd is told nothing.
func TestWatchdogHangs(t *testing.T) {
	told := systemdSocket(t, t.TempDir())
	asked, hang := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	w := &watchdog{every: time.Millisecond, answer: func() string {
		select {
		case asked <- struct{}{}:
		case <-hang:
		}
		return ""
	}}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	<-asked
	if got := told(); got != "WATCHDOG=1" {
		t.Errorf("told %q, want WATCHDOG=1", got)
	}
	<-asked // told again; the look-up after it hangs
	if got := told(); got != "WATCHDOG=1" {
		t.Errorf("told %q, want WATCHDOG=1", got)
	}
	notify("between")
	if got := told(); got != "between" {
		t.Errorf("told %q while the look-up hangs", got)
	}
	cancel()
	close(hang)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestWatchdogOff: without systemd there is nothing to do.
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
