package milter

import (
	"io"
	"net"
	"os"
	"syscall"
)

// A direct connection reads and writes without the Go scheduler. Package net announces every
// system call to the scheduler. In a process that was idle, the announcement wakes the monitor
// thread, which then polls for a while: with one client at a time that costs more than the answer
// to a RCPT. The descriptor does not block, so its system calls return at once and need no
// announcement. If there is nothing to read, or no room to write, the goroutine waits in the
// poller as it does with package net.
//
// Deadlines, Close and errors are those of package net: a deadline that passes, and a Close, end
// a waiting Read or Write. At most one goroutine may read and one may write at a time.
type direct struct {
	net.Conn
	raw     syscall.RawConn
	in, out transfer
}

// A transfer is one system call on a part of a buffer. Its function is made once for each
// connection: a closure for each call would be allocated.
type transfer struct {
	p     []byte
	n     int
	errno syscall.Errno
	try   func(fd uintptr) (done bool)
}

// newDirect returns a direct connection, or the connection itself if it has no descriptor.
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
	d.in.try = func(fd uintptr) bool { return d.in.call(rawRead, fd) }
	d.out.try = func(fd uintptr) bool { return d.out.call(rawWrite, fd) }
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

// Read reads what is there, at least one byte unless p is empty.
func (d *direct) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	d.in.p, d.in.n, d.in.errno = p, 0, 0
	err := d.raw.Read(d.in.try)
	n, errno := d.in.n, d.in.errno
	d.in.p = nil
	switch {
	case err != nil: // the deadline, or Close
		return 0, renamed(err, "read")
	case errno != 0:
		return 0, d.failed("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write writes all of p unless it returns an error.
func (d *direct) Write(p []byte) (written int, err error) {
	defer func() { d.out.p = nil }()
	for written < len(p) {
		d.out.p, d.out.n, d.out.errno = p[written:], 0, 0
		if err := d.raw.Write(d.out.try); err != nil {
			return written, renamed(err, "write")
		}
		if d.out.errno != 0 {
			return written, d.failed("write", d.out.errno)
		}
		written += d.out.n
	}
	return written, nil
}

// renamed gives an error of the poller the name of the operation that package net uses.
func renamed(err error, op string) error {
	if e, ok := err.(*net.OpError); ok {
		e.Op = op
	}
	return err
}

// failed returns the error of a system call as package net does.
func (d *direct) failed(call string, errno syscall.Errno) error {
	return &net.OpError{Op: call, Net: d.LocalAddr().Network(), Source: d.LocalAddr(), Addr: d.RemoteAddr(),
		Err: os.NewSyscallError(call, errno)}
}
