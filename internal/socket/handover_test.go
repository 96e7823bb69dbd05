package socket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestHandOver: a waiting socket takes the place of one that is withdrawn, and the first one
// never removes it.
func TestHandOver(t *testing.T) {
	path := socketPath(t)
	first, err := Listen("unix:"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	next, err := Prepare("unix:"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := next.Take(); !errors.Is(err, ErrInUse) {
		t.Errorf("Take while the first one listens: %v, want %v", err, ErrInUse)
	}
	if _, err := Prepare("unix:"+path, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("a third one: %v, want %v", err, ErrInUse)
	}
	for first.Queued() { // the checks above connected
		if c, err := first.Accept(); err == nil {
			c.Close()
		}
	}
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	first.Withdraw()
	first.Interrupt()
	if !next.name.isAt(path) {
		t.Error("the waiting socket is not at the path")
	}
	if !first.Queued() {
		t.Error("a client that connected before is not in the queue")
	}
	if served, err := first.Accept(); err != nil {
		t.Errorf("Accept of a queued client: %v", err)
	} else {
		served.Close()
	}
	if err := next.Take(); err != nil {
		t.Errorf("Take after the hand-over: %v", err)
	}
	first.Close()
	if !next.name.isAt(path) {
		t.Error("the first one removed the socket of the next")
	}
	if _, err := os.Lstat(path + nextSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the path of the waiting socket: %v", err)
	}
}

// TestNameAfterHandOver: a socket that was handed over has the name at which it was made in
// /proc/net/unix, as docs/operations.md says, and its own after its file was made again.
func TestNameAfterHandOver(t *testing.T) {
	path := socketPath(t)
	first, err := Listen("unix:"+path, Options{})
	must(t, err)
	next, err := Prepare("unix:"+path, Options{})
	must(t, err)
	defer next.Close()
	must(t, first.Close())
	must(t, next.Take())
	if got := names(t, filepath.Dir(path)); !slices.Equal(got, []string{path + newSuffix}) {
		t.Errorf("the names after the hand-over are %q, want one with %s", got, newSuffix)
	}
	must(t, os.Remove(path))
	if restored, err := next.Restore(); err != nil || !restored {
		t.Fatalf("Restore: %v, %v", restored, err)
	}
	if got := names(t, filepath.Dir(path)); !slices.Contains(got, path) {
		t.Errorf("the names after the repair are %q, want %q", got, path)
	}
}

// TestPrepare: if no process listens at the path, clients can connect at once.
func TestPrepare(t *testing.T) {
	for _, stale := range []bool{false, true} {
		path := socketPath(t)
		if stale {
			for _, name := range []string{path, path + nextSuffix, path + newSuffix} {
				l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
				if err != nil {
					t.Fatal(err)
				}
				l.SetUnlinkOnClose(false)
				l.Close()
			}
		}
		l, err := Prepare("unix:"+path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !l.Withdrawable() || l.Addr().String() != path {
			t.Errorf("a unix socket at %s, withdrawable %v", l.Addr(), l.Withdrawable())
		}
		if c, err := net.Dial("unix", path); err != nil {
			t.Error(err)
		} else {
			c.Close()
		}
		if err := l.Take(); err != nil {
			t.Error(err)
		}
		l.Close()
		if left, _ := filepath.Glob(path + "*"); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

// TestTakeAfterDeath: a process that was killed hands nothing over.
func TestTakeAfterDeath(t *testing.T) {
	path := socketPath(t)
	killed, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	killed.SetUnlinkOnClose(false)
	l, err := Prepare("unix:"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	killed.Close()
	if err := l.Take(); err != nil || !l.name.isAt(path) {
		t.Errorf("Take: %v", err)
	}
	l.Close()
	if left, _ := filepath.Glob(path + "*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestAdopt: an adopted socket stays after Close, and its queue is left to the next process.
func TestAdopt(t *testing.T) {
	path := socketPath(t)
	systemd, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	file, err := systemd.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	passed, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Adopt(passed, Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if l.Withdrawable() || l.Queued() {
		t.Errorf("withdrawable %v, queued %v", l.Withdrawable(), l.Queued())
	}
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// notSocket is a listener that is not a socket.
type notSocket struct{ net.Listener }

func TestAdoptRefuses(t *testing.T) {
	open, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if _, err := Adopt(open, Options{}); err == nil {
		t.Error("a socket beyond loopback is adopted without allowed networks")
	}
	if _, err := Adopt(notSocket{open}, Options{}); err == nil {
		t.Error("a listener that is not a socket is adopted")
	}
}
