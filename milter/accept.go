package milter

import (
	"errors"
	"net"
	"time"
)

// Pauses between attempts to accept, while that fails.
const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// acceptor gives the library connections one by one as there is room for them. The
// library stops serving at the first error of Accept, so the only ones that get
// through are those after which nothing more can come.
type acceptor struct {
	net.Listener
	server *Server
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
	if !a.waitSlot() {
		raw.Close()
		return nil, net.ErrClosed
	}
	if !a.server.addConn(c) {
		raw.Close()
		a.server.slots.release()
		return nil, net.ErrClosed
	}
	return c, nil
}

// waitSlot takes a slot; false if the server stops before there is one.
func (a *acceptor) waitSlot() bool {
	return a.server.slots.take(a.server.stopping, func(limit int) {
		a.server.trouble.warn("connection limit reached, others wait", "connections", limit)
	})
}

// accept repeats what fails for a moment, such as a lack of file descriptors.
func (a *acceptor) accept() (net.Conn, error) {
	for pause := acceptPause; ; pause = min(2*pause, acceptPauseMax) {
		raw, err := a.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return raw, err
		}
		a.server.trouble.warn("accepting a connection failed, trying again", "listen", a.Addr().String(), "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-a.server.stopping:
			timer.Stop()
			return nil, net.ErrClosed
		}
	}
}
