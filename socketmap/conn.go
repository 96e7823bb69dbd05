package socketmap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// States of a connection.
const (
	idle    = int32(iota) // waits for a request, or for the rest of one
	busy                  // has received a request and not yet answered it
	dropped               // closed to make room
)

// conn is a connection from Postfix.
type conn struct {
	net.Conn
	server    *Server
	state     atomic.Int32
	answered  atomic.Bool  // at least one request was answered
	idleSince atomic.Int64 // in nanoseconds since the start of the server
}

func newConn(raw net.Conn, s *Server) *conn {
	c := &conn{Conn: raw, server: s}
	c.idleSince.Store(int64(time.Since(s.began)))
	return c
}

// drop closes an idle connection. It reports false if the connection is not idle.
func (c *conn) drop() bool {
	if !c.state.CompareAndSwap(idle, dropped) {
		return false
	}
	c.Conn.Close()
	return true
}

// serve answers requests until the connection ends, and then closes it.
func (c *conn) serve() {
	defer c.server.pool.remove(c)
	defer c.Conn.Close()
	defer func() { // a panic ends only this connection
		if v := recover(); v != nil {
			c.server.log.Error("panic in a socketmap connection", "panic", fmt.Sprint(v), "stack",
				string(debug.Stack()))
		}
	}()
	reader := bufio.NewReaderSize(c.Conn, 1<<10)
	for {
		request, err := c.read(reader)
		if err != nil {
			c.report(err)
			return
		}
		if !c.state.CompareAndSwap(idle, busy) {
			return // it was dropped
		}
		err = c.write(c.server.answer(request))
		c.answered.Store(true)
		c.idleSince.Store(int64(time.Since(c.server.began)))
		c.state.Store(idle)
		c.server.pool.becameIdle()
		if err != nil {
			c.report(err)
			return
		}
		if c.server.stopping() {
			return
		}
	}
}

// read reads the next request. It waits for the first byte for the idle time, and for the rest for the request
// time. The first request of a connection must arrive within the request time.
func (c *conn) read(reader *bufio.Reader) (string, error) {
	if reader.Buffered() == 0 {
		limit := c.server.cfg.Idle
		if !c.answered.Load() {
			limit = c.server.cfg.Request
		}
		c.Conn.SetReadDeadline(time.Now().Add(limit))
		if _, err := reader.Peek(1); err != nil {
			return "", err
		}
	}
	c.Conn.SetReadDeadline(time.Now().Add(c.server.cfg.Request))
	return readNetstring(reader)
}

// write sends a reply within the write time.
func (c *conn) write(r reply) error {
	c.Conn.SetWriteDeadline(time.Now().Add(c.server.cfg.Write))
	_, err := c.Conn.Write(appendNetstring(nil, r.String()))
	return err
}

// report logs why a connection ended, unless it ended normally. Postfix closes its idle connections, and so
// does the server.
func (c *conn) report(err error) {
	if err == io.EOF || errors.Is(err, net.ErrClosed) || c.state.Load() == dropped {
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && c.answered.Load() {
		c.server.log.Debug("socketmap connection idle for too long", "peer", c.peer())
		return
	}
	c.server.trouble.Warn("socketmap connection dropped", "peer", c.peer(), "error", err)
}

// peer returns the address of the peer, or "local" for a unix socket.
func (c *conn) peer() string {
	if addr := c.Conn.RemoteAddr(); addr != nil && addr.String() != "" && addr.String() != "@" {
		return addr.String()
	}
	return "local"
}
