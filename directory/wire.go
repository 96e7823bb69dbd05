package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// rawConn is the TCP connection beneath TLS. Time limits are set here: the LDAP library cannot
// time out a blocked write or every read, and a deadline beneath TLS ends all layers above it.
// It keeps the first error, which the layers above explain.
type rawConn struct {
	net.Conn

	mu       sync.Mutex // guards the fields below
	firstErr error
	closed   bool // later errors do not count
	aborted  bool // by this side
}

// setDeadline limits all reads and writes; the zero time removes the limit.
func (w *rawConn) setDeadline(deadline time.Time) { w.SetDeadline(deadline) }

// abort ends all reads and writes for good. This side wants the end; the layers above call Close
// when they give up.
func (w *rawConn) abort() {
	w.mu.Lock()
	w.aborted = true
	w.mu.Unlock()
	w.Close()
}

func (w *rawConn) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.recordError(err)
	return n, err
}

func (w *rawConn) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.recordError(err)
	return n, err
}

// Close ends the TCP connection. Closing it beneath TLS skips the TLS close message, which would
// block on a connection that accepts no more bytes.
func (w *rawConn) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	return w.Conn.Close()
}

func (w *rawConn) recordError(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.firstErr == nil && !w.closed {
		w.firstErr = err
	}
}

// err explains the first error beneath TLS; nil if there is none.
func (w *rawConn) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.firstErr == nil && w.aborted:
		return newError(ErrUnreachable, "the connection is closed; dial again")
	case w.firstErr == nil:
		return nil
	case errors.Is(w.firstErr, ErrProtocol):
		return w.firstErr
	case errors.Is(w.firstErr, os.ErrDeadlineExceeded):
		return newError(ErrTimeout, "the controller did not answer in time")
	}
	// In TLS 1.3 this alert arrives after the handshake.
	if alert, _ := remoteAlert(w.firstErr); isClientCertAlert(alert) {
		return newError(ErrTLS, "%s (%w)", alertText(alert, ""), w.firstErr)
	}
	return newError(ErrUnreachable, "the connection was lost: %w", w.firstErr)
}

// tlsConn is the encrypted connection over a rawConn. It records the errors that show only in
// TLS: the other side closed the TLS connection, sent an alert, or sent messages beyond the limits
// of frames.
type tlsConn struct {
	*tls.Conn
	raw    *rawConn
	frames frames

	// Messages to the other side, counted before and after each write: an answer may arrive
	// before the write of its request has returned.
	writesStarted, writesDone atomic.Int64
	wrote                     chan struct{} // holds one: writesDone has grown
}

func newTLSConn(conn *tls.Conn, raw *rawConn) *tlsConn {
	t := &tlsConn{Conn: conn, raw: raw, wrote: make(chan struct{}, 1)}
	t.frames.budget.lift()
	return t
}

func (t *tlsConn) Write(b []byte) (n int, err error) {
	defer t.recordPanic(&err)
	t.writesStarted.Add(1)
	n, err = t.Conn.Write(b)
	t.writesDone.Add(1)
	select {
	case t.wrote <- struct{}{}:
	default:
	}
	return n, err
}

// Close ends the connection. It sends the TLS close message only if nothing has failed beneath: on a
// connection that accepts no more bytes, crypto/tls would wait five seconds for it.
func (t *tlsConn) Close() (err error) {
	defer t.recordPanic(&err)
	if t.raw.err() != nil {
		t.raw.Close()
	}
	return t.Conn.Close()
}

// recordPanic turns a panic into an error and ends the connection. The methods of tlsConn run in
// goroutines of the LDAP library. It recovers from most panics, but one in Close would end the
// process, and after one in Write the operation would wait forever.
func (t *tlsConn) recordPanic(err *error) {
	if v := recover(); v != nil {
		*err = newError(ErrProtocol, "panic: %v", v)
		t.raw.recordError(*err)
		t.raw.Close()
	}
}

// waitWrites waits until more than this number of messages have been written.
func (t *tlsConn) waitWrites(ctx context.Context, messages int64) error {
	for t.writesDone.Load() <= messages {
		select {
		case <-t.wrote:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (t *tlsConn) Read(b []byte) (n int, err error) {
	defer t.recordPanic(&err)
	n, err = t.Conn.Read(b)
	if violation := t.frames.check(b[:n]); violation != nil {
		t.raw.recordError(violation)
		return 0, violation
	}
	if _, refused := remoteAlert(err); refused {
		t.raw.recordError(err)
	} else if errors.Is(err, io.EOF) {
		t.raw.recordError(io.EOF)
	}
	return n, err
}
