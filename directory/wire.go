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

// wire is the TCP connection beneath TLS. Limits of time are set here, because the LDAP
// library can time out neither a blocked write nor everything it reads, and because a
// deadline beneath TLS ends whatever stands above it. It remembers the first thing that
// went wrong, which the layers above turn into text.
type wire struct {
	net.Conn

	mu     sync.Mutex // guards all below
	first  error
	closed bool // what fails from now on is of no interest
	hungUp bool // by us
}

// arm ends all reading and writing at a time; the zero time lifts the limit.
func (w *wire) arm(deadline time.Time) { w.SetDeadline(deadline) }

// hangUp ends all reading and writing now and for good. It is the end that we want; the
// layers above call Close when they give up.
func (w *wire) hangUp() {
	w.mu.Lock()
	w.hungUp = true
	w.mu.Unlock()
	w.Close()
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.note(err)
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.note(err)
	return n, err
}

// Close ends the TCP connection. Ending it here, beneath TLS, spares the farewell that
// TLS would send and, on a connection that takes no octets any more, wait for.
func (w *wire) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	return w.Conn.Close()
}

func (w *wire) note(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil && !w.closed {
		w.first = err
	}
}

// trouble words what went wrong beneath TLS; nil: nothing did.
func (w *wire) trouble() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.first == nil && w.hungUp:
		return problem(ErrUnreachable, "the connection is closed; dial again")
	case w.first == nil:
		return nil
	case errors.Is(w.first, os.ErrDeadlineExceeded):
		return problem(ErrTimeout, "the controller did not answer in time")
	}
	if alert, _ := remoteAlert(w.first); wantsCertificate(alert) { // TLS 1.3 tells it after the handshake
		return problem(ErrTLS, "%s (%w)", alertWords(alert, ""), w.first)
	}
	return problem(ErrUnreachable, "the connection was lost: %w", w.first)
}

// tunnel is the encrypted connection over a wire. It tells the wire of the endings that
// show only here: the other side said farewell in TLS, or sent an alert.
type tunnel struct {
	*tls.Conn
	wire *wire

	// Messages to the other side: counted before and after each is written, because an
	// answer may be here before the writing of its question has returned.
	begun, done atomic.Int64
	written     chan struct{} // holds one: done has grown
}

func newTunnel(conn *tls.Conn, wire *wire) *tunnel {
	return &tunnel{Conn: conn, wire: wire, written: make(chan struct{}, 1)}
}

func (t *tunnel) Write(b []byte) (int, error) {
	t.begun.Add(1)
	n, err := t.Conn.Write(b)
	t.done.Add(1)
	select {
	case t.written <- struct{}{}:
	default:
	}
	return n, err
}

// awaitWritten waits until more than so many messages have been written.
func (t *tunnel) awaitWritten(ctx context.Context, messages int64) error {
	for t.done.Load() <= messages {
		select {
		case <-t.written:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (t *tunnel) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if _, refused := remoteAlert(err); refused {
		t.wire.note(err)
	} else if errors.Is(err, io.EOF) {
		t.wire.note(io.EOF)
	}
	return n, err
}
