package milter

import (
	"errors"
	"net"
	"time"

	"rcpt-milter/internal/socket"
)

// Pauses between failing attempts to accept a connection.
const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// lastCall is how long a stopping server still accepts connections on TCP. A TCP socket has no name that could
// be removed first.
const lastCall = time.Second

// acceptor returns connections as slots become free. Serving ends at the first error of Accept, so Accept
// returns only permanent errors.
type acceptor struct {
	net.Listener
	server *Server
	close  time.Time // end of the last call; zero until it is known
}

// Accept returns the next connection once it has a slot. Later connections wait in the backlog. It takes the
// slot after the connection arrived, so an idle listener does not occupy one.
func (a *acceptor) Accept() (*conn, error) {
	raw, err := a.accept()
	if err != nil {
		return nil, err
	}
	c := newConn(raw, a.server)
	if !a.server.addConn(c) {
		raw.Close()
		return nil, net.ErrClosed
	}
	if !a.waitSlot() {
		raw.Close()
		a.server.removeConn(c)
		return nil, net.ErrClosed
	}
	c.placed = true
	return c, nil
}

// waitSlot takes a slot. It reports false if the server closes its sessions before one is free.
func (a *acceptor) waitSlot() bool {
	return a.server.slots.take(a.server.ctx.Done(), func(limit int) {
		a.server.atLimit.Add(1)
		a.server.trouble.Warn("connection limit reached, others wait", "connections", limit)
	})
}

// accept retries after temporary errors, such as a lack of file descriptors. At a stopping server, it returns
// the connections that are already queued, and then net.ErrClosed.
func (a *acceptor) accept() (net.Conn, error) {
	for pause := acceptPause; ; pause = min(2*pause, acceptPauseMax) {
		if a.stopping() && !a.moreToCome() {
			return nil, net.ErrClosed
		}
		raw, err := a.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return raw, err
		}
		if a.stopping() {
			continue
		}
		a.server.failures.Add(1)
		a.server.trouble.Warn("accepting a connection failed, trying again", "listen", a.Addr().String(), "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-a.server.stopping:
			timer.Stop()
		}
	}
}

func (a *acceptor) stopping() bool {
	select {
	case <-a.server.stopping:
		return true
	default:
		return false
	}
}

// moreToCome reports whether a stopping server may still have queued connections.
func (a *acceptor) moreToCome() bool {
	own, ok := a.Listener.(*socket.Listener)
	now := time.Now()
	if a.close.IsZero() {
		a.close = now.Add(lastCall)
	}
	return ok && (own.Withdrawable() || now.Before(a.close)) && own.Queued()
}
