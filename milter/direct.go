package milter

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// A direct connection receives and writes without involving the Go scheduler; its Read is that of package net.
// Package net announces every system call to the scheduler. In a process that was idle, that wakes the monitor
// thread, which then polls for a while. With one client at a time, that costs more than the answer to a RCPT.
// The descriptor is non-blocking, so its system calls return at once and need no announcement. If there is
// nothing to read, or no room to write, the goroutine waits in the poller, as with package net.
//
// Deadlines, Close and errors behave as in package net: a deadline or Close ends a waiting call. At most one
// goroutine may read and one may write at a time.
type direct struct {
	net.Conn
	raw syscall.RawConn
	out transfer
}

// A transfer is one system call on part of a buffer. Its functions are created once per connection, because a
// closure per call would be allocated.
type transfer struct {
	p     []byte
	n     int
	errno syscall.Errno
	try   func(fd uintptr) (done bool) // reports false if the call must wait
	once  func(fd uintptr) (done bool) // never waits
}

// newDirect returns a direct connection, or c itself if it has no descriptor.
func newDirect(c net.Conn) net.Conn {
	file, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return c
	}
	d := &direct{Conn: c, raw: raw}
	d.out.try = func(fd uintptr) bool { return d.out.call(rawWrite, fd) }
	d.out.once = func(fd uintptr) bool { d.out.call(rawWrite, fd); return true }
	return d
}

// call makes the system call. It reports false if the descriptor is not ready.
func (t *transfer) call(system func(fd uintptr, p []byte) (int, syscall.Errno), fd uintptr) bool {
	for {
		if t.n, t.errno = system(fd, t.p); t.errno != syscall.EINTR {
			return t.errno != syscall.EAGAIN
		}
	}
}

// receive reads until the connection ends or received returns an error, which it returns. The error is io.EOF
// if the peer closes the connection. room returns the memory for the next bytes; it must not be empty. received
// is called with the number of bytes that were read. It reports whether the peer sends nothing more before it
// has read an answer.
//
// The poller reports only that bytes arrive, not that there are bytes. A reader therefore reads until there are
// none before it waits, which costs a system call for each RCPT. Here, all reads are part of one call of the
// poller, which remembers what arrives between two waits. A read that leaves room has then read everything that
// had arrived. It may have missed only the end of the connection, if that arrived with the last bytes. Nothing reports
// it again, so the caller sets a deadline after which it calls receive once more.
func (d *direct) receive(room func() []byte, received func(n int) (answered bool, err error)) error {
	var in transfer
	var failure error
	err := d.raw.Read(func(fd uintptr) bool {
		for {
			in.p = room()
			if !in.call(rawRead, fd) {
				return false
			}
			switch {
			case in.errno != 0:
				failure = d.failed("read", in.errno)
				return true
			case in.n == 0:
				failure = io.EOF
				return true
			}
			var answered bool
			if answered, failure = received(in.n); failure != nil {
				return true
			}
			if answered && in.n < len(in.p) {
				return false
			}
		}
	})
	if err != nil { // the deadline has passed, or Close was called
		return renamed(err, "read")
	}
	return failure
}

// Write writes all of p unless it returns an error.
func (d *direct) Write(p []byte) (written int, err error) { return d.write(p, d.out.try) }

// writeAtOnce writes what the buffers of the socket have room for. It does not wait.
func (d *direct) writeAtOnce(p []byte) (written int, err error) {
	written, err = d.write(p, d.out.once)
	if errors.Is(err, syscall.EAGAIN) {
		err = nil
	}
	return written, err
}

func (d *direct) write(p []byte, try func(fd uintptr) bool) (written int, err error) {
	defer func() { d.out.p = nil }()
	for written < len(p) {
		d.out.p, d.out.n, d.out.errno = p[written:], 0, 0
		if err := d.raw.Write(try); err != nil {
			return written, renamed(err, "write")
		}
		if d.out.errno != 0 {
			return written, d.failed("write", d.out.errno)
		}
		written += d.out.n
	}
	return written, nil
}

// shutdown ends both directions at once. Unlike Close, it does not wait for receive to end.
func (d *direct) shutdown() {
	d.raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }) // fails if the peer has gone
}

// renamed replaces the operation in an error of the poller by the name that package net uses.
func renamed(err error, op string) error {
	if e, ok := err.(*net.OpError); ok {
		e.Op = op
	}
	return err
}

// failed returns the error of a system call in the form of package net.
func (d *direct) failed(call string, errno syscall.Errno) error {
	return &net.OpError{Op: call, Net: d.LocalAddr().Network(), Source: d.LocalAddr(), Addr: d.RemoteAddr(),
		Err: os.NewSyscallError(call, errno)}
}
