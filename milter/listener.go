package milter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxSocketPath is the longest path of a unix socket on Linux: sun_path of unix(7)
// less its final NUL.
const maxSocketPath = 107

// dialWait bounds the question whether somebody serves a socket that exists already.
const dialWait = 2 * time.Second

// ErrInUse says that another process answers where we were to listen.
var ErrInUse = errors.New("another process answers there: stop it, or choose another place to listen")

// ListenOptions say who may connect.
type ListenOptions struct {
	// Group owns a unix socket, by name or number; empty: the daemon's own.
	Group string
	// Mode are the permissions of a unix socket; 0: 0660. Connecting takes write
	// permission.
	Mode os.FileMode
	// Allow are the networks served on an inet listener beyond loopback; empty: there
	// can be no such listener, because the protocol knows no authentication.
	Allow []netip.Prefix
	// Logger is told of peers turned away; nil: nobody is.
	Logger *slog.Logger
}

// Listen opens a listener at an address in Postfix's notation, "unix:/path" or
// "inet:host:port". A unix socket that nobody serves any more is replaced. The error
// is a sentence for whoever wrote the address, and wraps ErrInUse if that is why.
func Listen(addr string, o ListenOptions) (net.Listener, error) {
	kind, where, _ := strings.Cut(addr, ":")
	var l net.Listener
	var err error
	switch kind {
	case "unix":
		l, err = listenUnix(where, o)
	case "inet":
		l, err = listenInet(where, o)
	case "fd":
		err = errors.New("socket activation is not supported")
	default:
		err = errors.New("expected unix:/path or inet:host:port")
	}
	if err != nil {
		return nil, fmt.Errorf("listen %q: %w", addr, err)
	}
	return l, nil
}

// listenUnix makes the socket with no permissions for others, and widens them then:
// there is no moment when more may connect than should.
func listenUnix(path string, o ListenOptions) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("the path of a unix socket must be absolute")
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("the path of a unix socket can have %d octets at most, this one has %d: choose a shorter one", maxSocketPath, len(path))
	}
	gid, err := groupID(o.Group)
	if err != nil {
		return nil, err
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	l, err := bindClosed(path)
	if err != nil {
		return nil, explain(err, path)
	}
	own := &unixListener{UnixListener: l, path: path}
	if err := own.open(gid, o.Mode); err != nil {
		own.Close()
		return nil, err
	}
	return own, nil
}

// bindClosed makes a socket to which only its owner can connect. Linux gives the file
// the mode of the unbound socket, less the umask; setting the umask instead would
// touch the whole process.
func bindClosed(path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, failed)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	socket := l.(*net.UnixListener)
	socket.SetUnlinkOnClose(false)
	return socket, nil
}

// unixListener is a socket that is ours to remove.
type unixListener struct {
	*net.UnixListener
	path   string
	file   fs.FileInfo // of the socket we made
	remove sync.Once   // the number of a removed file can come back as another's
}

// open gives the socket to those who shall connect.
func (l *unixListener) open(gid int, mode os.FileMode) (err error) {
	if l.file, err = os.Lstat(l.path); err != nil {
		return err
	}
	if gid >= 0 {
		if err := os.Lchown(l.path, -1, gid); err != nil {
			return fmt.Errorf("giving the socket to group %d: %w: run as root or as a member of the group", gid, err)
		}
	}
	if mode == 0 {
		mode = 0o660
	}
	return os.Chmod(l.path, mode.Perm())
}

// Close removes the socket, unless another stands in its place by now.
func (l *unixListener) Close() error {
	l.remove.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.file) {
			os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}

// clearStale makes way for a socket at path. It removes a socket on which nobody
// answers, and nothing else.
func clearStale(path string) error {
	file, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain(err, path)
	}
	if file.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is no socket (%v): move it away, or choose another path", path, file.Mode())
	}
	peer, err := net.DialTimeout("unix", path, dialWait)
	if err == nil {
		peer.Close()
		return ErrInUse
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("a socket is there, and it cannot be told whether somebody serves it: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing the socket of a process that is gone: %w", err)
	}
	return nil
}

// explain turns what the system says about making a socket at path into what to do.
func explain(err error, path string) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s does not exist: create it, writable for this daemon and open to the MTA", dir)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is not a directory: choose another path", dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to make a socket in %s: make it writable for this daemon", dir)
	case errors.Is(err, syscall.EADDRINUSE):
		return ErrInUse
	}
	return err
}

// groupID finds a group by name or number; -1 for none.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.Atoi(group); err == nil && gid >= 0 {
		return gid, nil
	}
	found, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("there is no group %q: create it, or name another for the socket", group)
	}
	return strconv.Atoi(found.Gid)
}

// listenInet listens on TCP: on loopback for all, elsewhere for the networks allowed.
func listenInet(hostPort string, o ListenOptions) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(hostPort); err != nil {
		return nil, fmt.Errorf("expected inet:host:port: %w", err)
	}
	addr, err := net.ResolveTCPAddr("tcp", hostPort)
	if err != nil {
		return nil, err
	}
	loopback := addr.IP.IsLoopback()
	if !loopback && len(o.Allow) == 0 {
		return nil, errors.New("this is not a loopback address, and whoever reaches it could ask: name the networks of the MTAs in listen_allow")
	}
	l, err := net.ListenTCP("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, err
	}
	if loopback {
		return l, nil
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &allowListener{Listener: l, allow: o.Allow, trouble: newLimitedLog(o.Logger)}, nil
}

// allowListener closes connections from elsewhere than the networks allowed.
type allowListener struct {
	net.Listener
	allow   []netip.Prefix
	trouble *limitedLog
}

func (l *allowListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.allowed(c.RemoteAddr()) {
			return c, nil
		}
		l.trouble.warn("connection from a network that is not in listen_allow closed", "peer", c.RemoteAddr().String())
		c.Close()
	}
}

func (l *allowListener) allowed(peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, network := range l.allow {
		if network.Contains(ip) {
			return true
		}
	}
	return false
}
