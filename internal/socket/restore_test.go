package socket

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// names returns the names of the listening sockets of /proc/net/unix in a directory.
func names(t *testing.T, dir string) (found []string) {
	t.Helper()
	table, err := os.Open("/proc/net/unix")
	if err != nil {
		t.Skip(err)
	}
	defer table.Close()
	for lines := bufio.NewScanner(table); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		const acceptsConnections = "00010000" // __SO_ACCEPTCON of include/linux/net.h
		if len(fields) == 8 && fields[3] == acceptsConnections && strings.HasPrefix(fields[7], dir+"/") {
			found = append(found, fields[7])
		}
	}
	return found
}

// TestSocketHasItsName: cleaners such as systemd-tmpfiles spare a socket whose path is in
// /proc/net/unix.
func TestSocketHasItsName(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(t *testing.T, path string)
	}{
		{"at a free path", func(*testing.T, string) {}},
		{"in place of a stale socket", func(t *testing.T, path string) { leaveStale(t, path) }},
		{"with stale sockets beside it", func(t *testing.T, path string) {
			leaveStale(t, path+nextSuffix)
			leaveStale(t, path+newSuffix)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := socketPath(t)
			test.before(t, path)
			l, err := Listen("unix:"+path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if got := names(t, filepath.Dir(path)); len(got) != 1 || got[0] != path {
				t.Errorf("the names in /proc/net/unix are %q, want %q", got, path)
			}
			if files, _ := filepath.Glob(path + "*"); len(files) != 1 {
				t.Errorf("the files are %q", files)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if restored, err := l.Restore(); err != nil || !restored {
				t.Fatalf("Restore: %v, %v", restored, err)
			}
			if got := names(t, filepath.Dir(path)); len(got) == 0 || got[len(got)-1] != path && got[0] != path {
				t.Errorf("after Restore the names are %q, want %q", got, path)
			}
		})
	}
}

func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

// answering serves a listener: each client gets one line and is closed.
func answering(l net.Listener) (ended chan error) {
	ended = make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			io.WriteString(c, "220\n")
			c.Close()
		}
	}()
	return ended
}

// greet connects to a socket and returns what it says.
func greet(path string) (string, error) {
	c, err := net.DialTimeout("unix", path, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	text, err := io.ReadAll(c)
	return string(text), err
}

// TestRestore: whatever happens to the file of a socket, a check brings it back, unless something
// else is there, which stays.
func TestRestore(t *testing.T) {
	gid := os.Getgid()
	if os.Getuid() == 0 {
		gid = 12345 // only root can give to any group
	}
	for _, test := range []struct {
		name     string
		happens  func(t *testing.T, path string)
		restored bool
		want     string // in the error
	}{
		{"nothing happens", func(*testing.T, string) {}, false, ""},
		{"the file is removed", func(t *testing.T, path string) { must(t, os.Remove(path)) }, true, ""},
		{"it is moved", func(t *testing.T, path string) { must(t, os.Rename(path, path+".bak")) }, true, ""},
		{"the directory is made again", func(t *testing.T, path string) {
			must(t, os.RemoveAll(filepath.Dir(path)))
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
		}, true, ""},
		{"a stale socket takes its place", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			leaveStale(t, path)
		}, true, ""},
		{"the directory is gone", func(t *testing.T, path string) { must(t, os.RemoveAll(filepath.Dir(path))) }, false,
			"does not exist; create it"},
		{"a file is in the way", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.WriteFile(path, []byte("precious"), 0o600))
		}, false, "is not a socket"},
		{"another process listens there", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			other, err := net.Listen("unix", path)
			must(t, err)
			t.Cleanup(func() { other.Close() })
		}, false, ErrInUse.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := socketPath(t)
			l, err := Listen("unix:"+path, Options{GID: &gid, Mode: 0o620})
			if err != nil {
				t.Fatal(err)
			}
			ended := answering(l)
			test.happens(t, path)
			restored, err := l.Restore()
			if restored != test.restored || (err == nil) != (test.want == "") ||
				err != nil && !strings.Contains(err.Error(), test.want) {
				t.Fatalf("Restore: %v, %v, want %v and %q", restored, err, test.restored, test.want)
			}
			if err != nil {
				before, _ := os.ReadFile(path)
				l.Close()
				<-ended
				if after, _ := os.ReadFile(path); string(before) != string(after) {
					t.Errorf("the file in the way had %q and has %q", before, after)
				}
				return
			}
			file, err := os.Lstat(path)
			must(t, err)
			if got := file.Sys().(*syscall.Stat_t).Gid; file.Mode().Perm() != 0o620 || int(got) != gid {
				t.Errorf("the socket has mode %v and group %d", file.Mode(), got)
			}
			for range 2 {
				if got, err := greet(path); err != nil || got != "220\n" {
					t.Errorf("a client gets %q, %v", got, err)
				}
			}
			if again, err := l.Restore(); again || err != nil {
				t.Errorf("a second Restore: %v, %v", again, err)
			}
			l.Close()
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept after Close: %v", err)
			}
			if _, err := os.Lstat(path); err == nil {
				t.Error("Close left the file")
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRestoreServesTheQueue: clients that were in the queue of the former socket are served, those
// of the new one as well, and none of them twice.
func TestRestoreServesTheQueue(t *testing.T) {
	path := socketPath(t)
	l, err := Listen("unix:"+path, Options{})
	must(t, err)
	defer l.Close()
	var clients []net.Conn
	connect := func() {
		c, err := net.Dial("unix", path)
		must(t, err)
		t.Cleanup(func() { c.Close() })
		clients = append(clients, c)
	}
	for range 3 {
		for range 2 {
			connect()
		}
		must(t, os.Remove(path))
		if restored, err := l.Restore(); !restored || err != nil {
			t.Fatalf("Restore: %v, %v", restored, err)
		}
	}
	connect()
	ended := answering(l)
	for i, c := range clients {
		c.SetDeadline(time.Now().Add(patience))
		if text, err := io.ReadAll(c); err != nil || string(text) != "220\n" {
			t.Errorf("client %d gets %q, %v", i, text, err)
		}
	}
	l.Withdraw()
	l.Interrupt()
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Accept after Interrupt: %v", err)
	}
	if got := names(t, filepath.Dir(path)); len(got) > 1 {
		t.Errorf("the replaced sockets are still open: %q", got)
	}
}

// TestRestoreAfterWithdraw: a listener that stops does not come back.
func TestRestoreAfterWithdraw(t *testing.T) {
	path := socketPath(t)
	l, err := Listen("unix:"+path, Options{})
	must(t, err)
	defer l.Close()
	l.Withdraw()
	if restored, err := l.Restore(); restored || err != nil {
		t.Errorf("Restore: %v, %v", restored, err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is back")
	}
}

// TestRestoreAdopted: only systemd can make its socket again.
func TestRestoreAdopted(t *testing.T) {
	path := socketPath(t)
	systemd, err := net.Listen("unix", path)
	must(t, err)
	defer systemd.Close()
	l, err := Adopt(systemd, Options{})
	must(t, err)
	if restored, err := l.Restore(); restored || err != nil {
		t.Errorf("Restore: %v, %v", restored, err)
	}
	must(t, os.Remove(path))
	if restored, err := l.Restore(); restored || err == nil || !strings.Contains(err.Error(), "restart the socket") {
		t.Errorf("Restore without the file: %v, %v", restored, err)
	}
}

// TestRestoreTouches: a file does not become so old that a cleaner removes it.
func TestRestoreTouches(t *testing.T) {
	path := socketPath(t)
	l, err := Listen("unix:"+path, Options{})
	must(t, err)
	defer l.Close()
	old := time.Now().Add(-30 * 24 * time.Hour)
	must(t, os.Chtimes(path, old, old))
	if restored, err := l.Restore(); restored || err != nil {
		t.Fatalf("Restore: %v, %v", restored, err)
	}
	file, err := os.Lstat(path)
	must(t, err)
	if age := time.Since(file.ModTime()); age > touchAfter {
		t.Errorf("the file is %v old", age)
	}
}

// TestMakeDir: clients can reach the socket, whatever the umask. A directory that exists is not
// changed.
func TestMakeDir(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := filepath.Join(t.TempDir(), "run")
	for _, want := range []os.FileMode{0o755, 0o700} {
		must(t, MakeDir(dir))
		info, err := os.Stat(dir)
		must(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("the directory has mode %o, want %o", got, want)
		}
		must(t, os.Chmod(dir, 0o700))
	}
}
