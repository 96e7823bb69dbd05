package main

import (
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
	// Reading never stops, because a full socket would block the daemon at its end.
	messages := make(chan string, 1000)
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := socket.Read(buffer)
			if err != nil {
				return
			}
			select {
			case messages <- string(buffer[:n]):
			default:
			}
		}
	}()
	return func() string {
		t.Helper()
		select {
		case message := <-messages:
			return message
		case <-time.After(time.Minute):
			t.Fatal("systemd received nothing")
			return ""
		}
	}
}

// TestWatchdog: systemd hears that the daemon is ready, that it lives, and that it stops.
func TestWatchdog(t *testing.T) {
	r := newRig(t)
	message := systemdSocket(t, r.dir)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", "20000")
	d := r.serve()
	seen := map[string]int{}
	for seen["READY=1"] == 0 || seen["WATCHDOG=1"] < 3 || seen["STATUS=fresh, 2 addresses, 0 sessions"] == 0 {
		seen[message()]++
	}
	r.edit("removal_grace: 0s", "removal_grace: soon")
	var reloaded atomic.Bool
	go func() { // read the messages to systemd meanwhile
		r.want(exitConfig, "reload")
		reloaded.Store(true)
	}()
	reloading := false
	for !reloading || !reloaded.Load() || seen["STATUS=fresh, 2 addresses, 0 sessions; the configuration last read was "+
		"rejected"] == 0 {
		text := message()
		reloading = reloading || strings.HasPrefix(text, "RELOADING=1\nMONOTONIC_USEC=")
		seen[text]++
	}
	go d.stop()
	for seen["STOPPING=1"] == 0 {
		seen[message()]++
	}
}
