package milter

import (
	"errors"
	"net"
	"time"

	"rcpt-milter/internal/socket"
)

// Pauses between attempts to accept, while that fails.
const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// lastCall bounds for how long those are let in who connect to a server that stops. It
// matters on TCP only, where a socket has no name to withdraw.
const lastCall = time.Second

// acceptor gives the library connections one by one as there is room for them. The
// library stops serving at the first error of Accept, so the only ones that get
// through are those after which nothing more can come.
type acceptor struct {
	net.Listener
	server *Server
	close  time.Time // of the last call; zero: not yet
}

// Accept returns the next connection once there is a free slot for it. Those behind
// it wait in the backlog meanwhile, and are served when sessions end. The slot is
// taken last, so that a quiet listener holds none back from a busy one.
func (a *acceptor) Accept() (net.Conn, error) {
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

// waitSlot takes a slot; false if sessions are cut off before there is one.
func (a *acceptor) waitSlot() bool {
	return a.server.slots.take(a.server.ctx.Done(), func(limit int) {
		a.server.trouble.Warn("connection limit reached, others wait", "connections", limit)
	})
}

// accept repeats what fails for a moment, such as a lack of file descriptors. Once the
// server stops it gives those who have connected by then, and ends.
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

// moreToCome reports whether somebody is left in the queue of a server that stops.
func (a *acceptor) moreToCome() bool {
	own, ok := a.Listener.(*socket.Listener)
	now := time.Now()
	if a.close.IsZero() {
		a.close = now.Add(lastCall)
	}
	return ok && (own.Withdrawable() || now.Before(a.close)) && own.Queued()
}
