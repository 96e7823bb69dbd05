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

// rawConn is the TCP connection beneath TLS. Limits of time are set here, because the LDAP
// library can time out neither a blocked write nor everything it reads, and because a
// deadline beneath TLS ends whatever stands above it. It remembers the first thing that
// went wrong, which the layers above turn into text.
type rawConn struct {
	net.Conn

	mu       sync.Mutex // guards all below
	firstErr error
	closed   bool // what fails from now on is of no interest
	aborted  bool // by us
}

// setDeadline ends all reading and writing at a time; the zero time lifts the limit.
func (w *rawConn) setDeadline(deadline time.Time) { w.SetDeadline(deadline) }

// abort ends all reading and writing now and for good. It is the end that we want; the
// layers above call Close when they give up.
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

// Close ends the TCP connection. Ending it here, beneath TLS, spares the farewell that
// TLS would send and, on a connection that takes no octets any more, wait for.
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

// err words what went wrong beneath TLS; nil: nothing did.
func (w *rawConn) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.firstErr == nil && w.aborted:
		return newError(ErrUnreachable, "the connection is closed; dial again")
	case w.firstErr == nil:
		return nil
	case errors.Is(w.firstErr, os.ErrDeadlineExceeded):
		return newError(ErrTimeout, "the controller did not answer in time")
	}
	if alert, _ := remoteAlert(w.firstErr); isClientCertAlert(alert) { // TLS 1.3 tells it after the handshake
		return newError(ErrTLS, "%s (%w)", alertText(alert, ""), w.firstErr)
	}
	return newError(ErrUnreachable, "the connection was lost: %w", w.firstErr)
}

// tlsConn is the encrypted connection over a wire. It tells the wire of the endings that
// show only here: the other side said farewell in TLS, or sent an alert.
type tlsConn struct {
	*tls.Conn
	raw *rawConn

	// Messages to the other side: counted before and after each is written, because an
	// answer may be here before the writing of its question has returned.
	writesStarted, writesDone atomic.Int64
	wrote                     chan struct{} // holds one: done has grown
}

func newTLSConn(conn *tls.Conn, wire *rawConn) *tlsConn {
	return &tlsConn{Conn: conn, raw: wire, wrote: make(chan struct{}, 1)}
}

func (t *tlsConn) Write(b []byte) (int, error) {
	t.writesStarted.Add(1)
	n, err := t.Conn.Write(b)
	t.writesDone.Add(1)
	select {
	case t.wrote <- struct{}{}:
	default:
	}
	return n, err
}

// waitWrites waits until more than so many messages have been written.
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

func (t *tlsConn) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if _, refused := remoteAlert(err); refused {
		t.raw.recordError(err)
	} else if errors.Is(err, io.EOF) {
		t.raw.recordError(io.EOF)
	}
	return n, err
}
