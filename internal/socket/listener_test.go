package socket

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is the longest wait of a test for an event that must come.
const patience = 10 * time.Second

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// socketPath returns a path that is short enough for a socket.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "socket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "milter.sock")
}

func TestListenRefuses(t *testing.T) {
	dir := filepath.Dir(socketPath(t))
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	long := "/" + strings.Repeat("x", MaxPath)
	for _, c := range []struct{ addr, want string }{
		{"", "expected unix:/path or inet:host:port"},
		{"/run/milter.sock", "expected unix:/path or inet:host:port"},
		{"tcp:127.0.0.1:1", "expected unix:/path or inet:host:port"},
		{"unix:", "must be absolute"},
		{"unix:milter.sock", "must be absolute"},
		{"unix:@abstract", "must be absolute"},
		{"unix:" + long, "at most 102 bytes, this one has 103"},
		{"unix:" + dir + "/no/milter.sock", "the directory " + dir + "/no does not exist; create it"},
		{"unix:" + file + "/milter.sock", file + " is not a directory"},
		{"unix:" + file, file + " exists and is not a socket (-rw-------); move it away"},
		{"unix:" + dir, "exists and is not a socket (drwx------)"},
		{"unix:" + link, "exists and is not a socket (L"},
		{"inet:", "expected inet:host:port"},
		{"inet:127.0.0.1", "expected inet:host:port"},
		{"inet:8891@localhost", "expected inet:host:port"},
		{"inet:127.0.0.1:99999", "invalid port"},
		{"inet::0", "set allowed_here to the networks of the clients"},
		{"inet:0.0.0.0:0", "set allowed_here to the networks of the clients"},
		{"inet:[::]:0", "set allowed_here to the networks of the clients"},
		{"inet:192.0.2.1:0", "set allowed_here to the networks of the clients"},
	} {
		l, err := Listen(c.addr, Options{AllowName: "allowed_here"})
		if err == nil {
			l.Close()
			t.Errorf("Listen(%q) succeeded, want %q", c.addr, c.want)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "listen "+strconv.Quote(c.addr)) {
			t.Errorf("Listen(%q): %v, want %q", c.addr, err, c.want)
		}
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "precious" {
		t.Errorf("the file in the way: %q, %v", content, err)
	}
}

func TestListenUnixMode(t *testing.T) {
	gid := os.Getgid()
	if os.Getuid() == 0 {
		gid = 12345 // only root can give to any group
	}
	for _, c := range []struct{ mode, want os.FileMode }{{0, 0o660}, {0o600, 0o600}, {0o666, 0o666}} {
		path := socketPath(t)
		l, err := Listen("unix:"+path, Options{GID: &gid, Mode: c.mode})
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := file.Mode().Perm(); got != c.want {
			t.Errorf("mode %o gives %o, want %o", c.mode, got, c.want)
		}
		if got := file.Sys().(*syscall.Stat_t).Gid; int(got) != gid {
			t.Errorf("group %d, want %d", got, gid)
		}
		l.Close()
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// Until its permissions are set only the owner can connect, whatever the umask.
func TestListenUnixBeginsClosed(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := socketPath(t)
	l, err := bindClosed(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := file.Mode().Perm(); got != 0o600 {
		t.Errorf("the socket begins with %o, want 600", got)
	}
}

// A socket on which a process listens stays; one whose process is gone is replaced.
func TestListenUnixInUse(t *testing.T) {
	path := socketPath(t)
	first, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	if _, err := Listen("unix:"+path, Options{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("in use: %v, want %v", err, ErrInUse)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first does not answer any more: %v", err)
	} else {
		c.Close()
	}
	first.Close()
	second, err := Listen("unix:"+path, Options{})
	if err != nil {
		t.Fatalf("stale: %v", err)
	}
	second.Close()
}

// A socket of another type stays.
func TestListenUnixDatagram(t *testing.T) {
	path := socketPath(t)
	other, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := Listen("unix:"+path, Options{}); err == nil || !strings.Contains(err.Error(), "cannot determine") {
		t.Errorf("a datagram socket: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// Close removes the socket once, and never one that has replaced it.
func TestUnixListenerClose(t *testing.T) {
	path := socketPath(t)
	first, err := Listen("unix:"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	second, err := Listen("unix:"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("closing twice removed the next one's socket: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	third, err := Listen("unix:"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	second.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("closing removed the socket of another: %v", err)
	}
}

func TestListenInetInUse(t *testing.T) {
	first, err := Listen("inet:127.0.0.1:0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := Listen("inet:"+first.Addr().String(), Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v, want %v", err, ErrInUse)
	}
}

func TestListenInetLocalhost(t *testing.T) {
	l, err := Listen("inet:localhost:0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		peer string
		want bool
	}{
		{"192.0.2.7:1", true},
		{"192.0.3.7:1", false},
		{"[::ffff:192.0.2.7]:1", true},
		{"[2001:db8::1]:1", true},
		{"[2001:db9::1]:1", false},
		{"[fe80::1%eth0]:1", true},
		{"127.0.0.1:1", false},
	} {
		l := allowList{networks: []netip.Prefix{
			netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32"),
			netip.MustParsePrefix("fe80::/10"),
		}}
		if got := l.contains(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.peer))); got != c.want {
			t.Errorf("contains(%s) = %v, want %v", c.peer, got, c.want)
		}
	}
	if (&allowList{}).contains(&net.UnixAddr{}) {
		t.Error("a peer without an address is allowed")
	}
}

// Beyond loopback only peers of the allowed networks can connect.
func TestListenAllow(t *testing.T) {
	for _, c := range []struct {
		allow string
		want  bool
	}{{"127.0.0.0/8", true}, {"192.0.2.0/24", false}} {
		var log syncBuffer
		l, err := Listen("inet:0.0.0.0:0", Options{Allow: []netip.Prefix{netip.MustParsePrefix(c.allow)},
			AllowName: "allowed_here", Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan bool, 1)
		go func() {
			c, err := l.Accept()
			accepted <- err == nil
			if err == nil {
				c.Close()
			}
		}()
		peer, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
		if err != nil {
			t.Fatal(err)
		}
		peer.SetDeadline(time.Now().Add(patience))
		if _, err := io.ReadAll(peer); err != nil {
			t.Error(err)
		}
		l.Close()
		if got := <-accepted; got != c.want {
			t.Errorf("with %s allowed, accepted is %v", c.allow, got)
		}
		if got := strings.Contains(log.String(), "setting=allowed_here"); got == c.want {
			t.Errorf("with %s allowed, the log is %s", c.allow, log.String())
		}
		peer.Close()
	}
}
