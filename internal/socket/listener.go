// Package socket opens the sockets that a daemon listens on: unix sockets, TCP, and sockets that
// systemd passes. A unix socket is handed over from a daemon that stops to the next one, so
// there is a socket at its path at every moment.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse means that another process listens at the address.
var ErrInUse = errors.New("another process listens there; stop it or choose another address")

// Options restrict access to a socket.
type Options struct {
	// GID is the ID of the group of a unix socket. Nil means the group of the process.
	GID *int
	// Mode is the permissions of a unix socket. Zero means 0660. Connecting takes write
	// permission.
	Mode os.FileMode
	// Allow lists the networks that may connect to an inet listener beyond loopback. Without
	// one such a listener is an error, because the protocol has no authentication.
	Allow []netip.Prefix
	// AllowName is the name of Allow in messages, such as a configuration key.
	AllowName string
	// Logger receives a warning for each rejected connection. Nil discards them.
	Logger *slog.Logger
}

// Listener is a socket that listens. It can stop without losing a connection that is waiting in
// the queue of the socket. Its methods may be called concurrently.
type Listener struct {
	options Options
	allow   *allowList  // nil allows every peer
	adopted bool        // the process that passed it keeps it open and keeps its queue
	passed  *socketFile // of an adopted unix socket; nil if this process cannot see its file

	restoring sync.Mutex // held by Restore

	mu      sync.Mutex  // guards all below; not held while a call waits
	sockets []kernel    // never empty: the last one is at the address, Restore has replaced the others
	name    *socketFile // of a unix socket that is ours; nil if it has none
	stopped bool        // no longer restored
}

// kernel is a listening socket of package net.
type kernel interface {
	net.Listener
	SetDeadline(time.Time) error
	SyscallConn() (syscall.RawConn, error)
}

// Listen opens a listener at an address in Postfix's notation, "unix:/path" or
// "inet:host:port". A unix socket whose process is gone is replaced. The error names the
// address, and wraps ErrInUse if another process listens there.
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

// Prepare is the first half of Listen. From now on clients can connect, and wait in the queue of
// the socket. If another process listens at the path of a unix socket, the new socket waits
// beside it. When that process uses this package and stops, it moves the waiting socket to the
// path itself.
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

// Take is the second half of Listen. It moves a waiting socket to its path, and returns ErrInUse
// if another process still listens there.
func (l *Listener) Take() error {
	l.mu.Lock()
	name := l.name
	l.mu.Unlock()
	if name == nil {
		return nil
	}
	err := name.take()
	if errors.Is(err, fs.ErrNotExist) { // the file was removed after Prepare
		_, err = l.Restore()
	}
	if err != nil {
		return fmt.Errorf("listen %q: %w", "unix:"+name.path, err)
	}
	return nil
}

// Adopt returns a listener on a socket that another process opened and keeps open, such as
// systemd. It stays when this process stops, and the next one serves its queue. The other
// process decides who may connect to a unix socket.
func Adopt(socket net.Listener, o Options) (*Listener, error) {
	own, ok := socket.(kernel)
	if !ok {
		return nil, fmt.Errorf("listen on a passed socket: expected a unix or TCP socket that listens, got %T", socket)
	}
	l := &Listener{sockets: []kernel{own}, adopted: true, options: o}
	switch at := socket.Addr().(type) {
	case *net.TCPAddr:
		var err error
		if l.allow, err = newAllowList(at, o); err != nil {
			return nil, fmt.Errorf("listen on the passed socket %s: %w", at, err)
		}
	case *net.UnixAddr:
		l.passed = passedFile(at.Name)
	}
	return l, nil
}

// Addr returns the address at which clients find the socket, now or after Take.
func (l *Listener) Addr() net.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.name != nil {
		return &net.UnixAddr{Name: l.name.path, Net: "unix"}
	}
	return l.current().Addr()
}

// current returns the socket at the address. The caller holds the lock.
func (l *Listener) current() kernel { return l.sockets[len(l.sockets)-1] }

// Accept returns the next connection from an allowed network.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.accept()
		if err != nil || l.allow.permits(c) {
			return c, err
		}
		c.Close()
	}
}

// accept returns the next connection: first those in the queues of replaced sockets.
func (l *Listener) accept() (net.Conn, error) {
	for {
		socket, replaced := l.first()
		if replaced && !queued(socket) {
			l.drop(socket)
			continue
		}
		c, err := socket.Accept()
		if err == nil {
			return c, nil
		}
		// Restore interrupts the wait. Any other error is for the caller, which knows when to try again.
		if _, replaced = l.first(); !replaced || !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
	}
}

// first returns the oldest socket, and whether Restore has replaced it.
func (l *Listener) first() (socket kernel, replaced bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sockets[0], len(l.sockets) > 1
}

// drop closes a replaced socket.
func (l *Listener) drop(socket kernel) {
	socket.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sockets) > 1 && l.sockets[0] == socket {
		l.sockets = l.sockets[1:]
	}
}

// Withdraw removes the name of a unix socket, so no client finds it any more.
func (l *Listener) Withdraw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.name != nil {
		l.name.withdraw()
	}
}

// Withdrawable reports whether Withdraw ends new connections. On TCP clients go on connecting.
func (l *Listener) Withdrawable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.name != nil
}

// Interrupt makes a waiting Accept and every later one return a timeout.
func (l *Listener) Interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for _, socket := range l.sockets {
		socket.SetDeadline(past)
	}
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// drainPoll is the time without a connection after which a queue counts as empty. A client that
// found the name of a socket before Withdraw is in its queue within microseconds.
const drainPoll = 50 * time.Millisecond

// Queued reports whether a client waits in the queue, and lets the next Accept fetch it. The
// queue of an adopted socket counts as empty.
func (l *Listener) Queued() bool {
	if l.adopted {
		return false
	}
	l.mu.Lock()
	all := slices.Clone(l.sockets)
	l.mu.Unlock()
	return slices.ContainsFunc(all, queued)
}

// queued reports whether a client waits in the queue of a socket, and lets the next Accept fetch
// it.
func queued(socket kernel) (waiting bool) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, int(drainPoll.Milliseconds()))
		for err == unix.EINTR {
			n, err = unix.Poll(poll, int(drainPoll.Milliseconds()))
		}
		waiting = err == nil && n == 1 && poll[0].Revents&unix.POLLIN != 0
	})
	if waiting { // the client may give up before Accept
		socket.SetDeadline(time.Now().Add(drainPoll))
	}
	return waiting
}

// Close withdraws the socket and closes it.
func (l *Listener) Close() (err error) {
	l.Withdraw()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, socket := range l.sockets {
		err = errors.Join(err, socket.Close())
	}
	return err
}
