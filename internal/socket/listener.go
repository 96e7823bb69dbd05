package socket

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse says that another process answers where we were to listen.
var ErrInUse = errors.New("another process answers there: stop it, or choose another place to listen")

// Options say who may connect.
type Options struct {
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

// Listener is a socket to which MTAs connect. It can stop without turning anybody away
// who connected before.
type Listener struct {
	kernel
	name    *socketFile // of a unix socket that is ours; nil: it has none
	allow   *allowList  // nil: everybody may connect
	lasting bool        // somebody else holds it open, and whoever waits in its queue is answered by the next
}

// kernel is a socket that listens, as package net has it.
type kernel interface {
	net.Listener
	SetDeadline(time.Time) error
	SyscallConn() (syscall.RawConn, error)
}

// Listen opens a listener at an address in Postfix's notation, "unix:/path" or
// "inet:host:port". A unix socket that nobody serves any more is replaced. The error
// is a sentence for whoever wrote the address, and wraps ErrInUse if that is why.
func Listen(addr string, o Options) (*Listener, error) {
	l, err := Prepare(addr, o)
	if err != nil {
		return nil, err
	}
	if err := l.Take(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Prepare is the first half of Listen: MTAs can connect from now on, and wait in the
// queue of the socket until it is served. Only where another process serves the path of a
// unix socket the new one stands beside it, and waits. When that process is a daemon like
// this one, and stops, it moves the new socket into its place itself, so that there is
// one at every moment.
func Prepare(addr string, o Options) (*Listener, error) {
	kind, where, _ := strings.Cut(addr, ":")
	var l *Listener
	var err error
	switch kind {
	case "unix":
		l, err = prepareUnix(where, o)
	case "inet":
		l, err = listenInet(where, o)
	default:
		err = errors.New("expected unix:/path or inet:host:port")
	}
	if err != nil {
		return nil, fmt.Errorf("listen %q: %w", addr, err)
	}
	return l, nil
}

// Take is the second half: a socket that still waits beside its path moves there, unless
// somebody serves that even now.
func (l *Listener) Take() error {
	if l.name == nil {
		return nil
	}
	if err := l.name.take(); err != nil {
		return fmt.Errorf("listen %q: %w", "unix:"+l.name.path, err)
	}
	return nil
}

// Adopt serves a socket that somebody else opened, and holds open: systemd, for example.
// It stays when we stop, and whoever waits in its queue is answered by the next daemon.
// Who may connect to a unix socket is up to whoever made it.
func Adopt(socket net.Listener, o Options) (*Listener, error) {
	own, ok := socket.(kernel)
	if !ok {
		return nil, fmt.Errorf("listen on a passed socket: expected a unix or TCP socket that listens, got %T", socket)
	}
	l := &Listener{kernel: own, lasting: true}
	if tcp, ok := socket.Addr().(*net.TCPAddr); ok {
		var err error
		if l.allow, err = newAllowList(tcp, o); err != nil {
			return nil, fmt.Errorf("listen on the passed socket %s: %w", tcp, err)
		}
	}
	return l, nil
}

// Addr is where MTAs find the socket, now or once its turn comes.
func (l *Listener) Addr() net.Addr {
	if l.name != nil {
		return &net.UnixAddr{Name: l.name.path, Net: "unix"}
	}
	return l.kernel.Addr()
}

// Accept gives the next connection from a network that is allowed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.kernel.Accept()
		if err != nil || l.allow.permits(c) {
			return c, err
		}
		c.Close()
	}
}

// Withdraw takes the name of the socket away: nobody finds it any more.
func (l *Listener) Withdraw() {
	if l.name != nil {
		l.name.withdraw()
	}
}

// Interrupt has a waiting Accept return, and those to come.
func (l *Listener) Interrupt() { l.SetDeadline(time.Unix(1, 0)) }

// lull is how long nobody may connect until a queue counts as empty: whoever found the
// name of a socket before it was withdrawn is in its queue within microseconds.
const lull = 50 * time.Millisecond

// Queued reports whether somebody waits in the queue who is ours to answer, and has the
// next Accept fetch him.
func (l *Listener) Queued() (waiting bool) {
	if l.lasting {
		return false
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, int(lull.Milliseconds()))
		for err == unix.EINTR {
			n, err = unix.Poll(poll, int(lull.Milliseconds()))
		}
		waiting = err == nil && n == 1 && poll[0].Revents&unix.POLLIN != 0
	})
	if waiting { // who gave up in the meantime must not keep us
		l.SetDeadline(time.Now().Add(lull))
	}
	return waiting
}

// Close withdraws the socket and closes it.
func (l *Listener) Close() error {
	l.Withdraw()
	return l.kernel.Close()
}

// Withdrawable reports whether Withdraw ends new connections.
func (l *Listener) Withdrawable() bool { return l.name != nil }
