package milter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// headerSize is the size of the length before every packet, 32 bits in network order.
	headerSize = 4
	// maxPacket limits the size of a packet. The largest packet that an MTA sends is a chunk of 65535 bytes with
	// its command.
	maxPacket = 64 << 10
	// bufferSize suffices for the requested commands with their macros.
	bufferSize = 4 << 10
	// lookAgain is the first wait of a direct connection between two packets. The read after it finds the end of a
	// connection that came with a packet.
	lookAgain = time.Second
	// idleSteps is the number of steps in which the deadline of an idle session moves.
	idleSteps = 64
)

// errPacket reports a packet that no MTA sends. Most likely the peer does not speak the milter protocol.
var errPacket = errors.New("not a milter packet")

// conn is a connection that reads whole packets. Its memory grows with the bytes that a peer has sent, not with
// the length that it announces.
type conn struct {
	net.Conn
	server *Server

	// The following fields are used only by the goroutine of the dialogue.
	buffer  []byte    // the first filled bytes are received and not handled
	filled  int       //
	started bool      // a packet was read
	partial bool      // part of a packet was read, and the deadline is that of the packet
	until   time.Time // the deadline between two packets; zero if another one is set
	idle    time.Time // when the idle time ends, if until is earlier; otherwise zero

	aborted atomic.Bool
	placed  bool // has a slot; set before the session starts
	closing sync.Once
}

func newConn(raw net.Conn, s *Server) *conn {
	return &conn{Conn: newDirect(raw), server: s, buffer: make([]byte, bufferSize)}
}

// A handler handles a packet without its length, which has at least one byte and is valid only during the call.
// It reports whether the packet was answered.
type handler func(packet []byte) (answered bool, err error)

// serve passes all packets to handle until the connection ends or handle returns an error. It returns that error,
// or io.EOF if the connection ended between two packets.
//
// It waits for a packet at most the idle time. For the first packet of a connection, which MTAs send at once, it
// waits for the packet time only.
func (c *conn) serve(handle handler) error {
	c.Conn.SetReadDeadline(time.Now().Add(c.server.cfg.Packet))
	received := func(n int) (bool, error) { return c.received(n, handle) }
	var err error
	if d, ok := c.Conn.(*direct); ok {
		for err = d.receive(c.room, received); c.looksAgain(err); {
			err = d.receive(c.room, received)
		}
	} else {
		for err == nil {
			var n int
			if n, err = c.Conn.Read(c.room()); n > 0 {
				if _, failed := received(n); failed != nil {
					err = failed
				}
			}
		}
	}
	if err == io.EOF && c.filled > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// looksAgain reports whether err is the end of the first wait between two packets, and sets the deadline of the
// second wait.
func (c *conn) looksAgain(err error) bool {
	if c.idle.IsZero() || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.until, c.idle = c.idle, time.Time{}
	c.Conn.SetReadDeadline(c.until)
	return true
}

// room returns memory for received bytes. The buffer doubles when a long packet has filled it.
func (c *conn) room() []byte {
	if c.filled == len(c.buffer) {
		c.buffer = append(c.buffer, make([]byte, len(c.buffer))...)
	}
	return c.buffer[c.filled:]
}

// received handles the whole packets in the buffer after n more bytes. It reports whether there is nothing but
// answered packets.
func (c *conn) received(n int, handle handler) (answered bool, err error) {
	c.filled += n
	handled := 0
	for {
		packet, err := whole(c.buffer[handled:c.filled])
		if err != nil {
			return false, err
		}
		if packet == nil {
			break
		}
		handled += len(packet)
		c.started = true
		if answered, err = handle(packet[headerSize:]); err != nil {
			return false, err
		}
	}
	c.filled = copy(c.buffer, c.buffer[handled:c.filled])
	c.setDeadline(handled > 0)
	return answered && c.filled == 0, nil
}

// whole returns the first packet of the received bytes with its length, or nil if it is incomplete.
func whole(received []byte) ([]byte, error) {
	if len(received) < headerSize {
		return nil, nil
	}
	length := binary.BigEndian.Uint32(received)
	if length == 0 || length > maxPacket {
		return nil, fmt.Errorf("%w: it begins with %q", errPacket, received[:headerSize])
	}
	if len(received) < headerSize+int(length) {
		return nil, nil
	}
	return received[:headerSize+int(length)], nil
}

// setDeadline sets the deadline of the next read. That of a packet does not move until the packet is complete. That
// between two packets moves only by a noticeable part of the idle time, because setting one costs as much as a lookup.
func (c *conn) setDeadline(handled bool) {
	switch {
	case c.filled > 0 && (handled || !c.partial):
		c.partial, c.until, c.idle = true, time.Time{}, time.Time{}
		c.Conn.SetReadDeadline(time.Now().Add(c.server.cfg.Packet))
	case c.filled == 0:
		now, limit := time.Now(), time.Duration(c.server.idle.Load())
		c.idle = time.Time{}
		if _, ok := c.Conn.(*direct); ok && limit > lookAgain {
			c.idle, limit = now.Add(limit), lookAgain
		}
		until := now.Add(limit)
		if moved := until.Sub(c.until); c.partial || moved < 0 || moved > limit/idleSteps {
			c.until = until
			c.Conn.SetReadDeadline(until)
		}
		c.partial = false
		if len(c.buffer) > bufferSize {
			c.buffer = make([]byte, bufferSize)
		}
	}
}

// report logs why reading ended, unless it ended normally.
func (c *conn) report(err error) {
	switch {
	case err == io.EOF, errors.Is(err, net.ErrClosed):
		return // the connection ended normally
	case errors.Is(err, os.ErrDeadlineExceeded) && c.started && c.filled == 0:
		c.server.log.Debug("milter session idle for too long", "peer", c.peer())
	default:
		c.dropped(err)
	}
}

// dropped logs an error that ends the session, unless the server has closed the connection itself.
func (c *conn) dropped(err error) {
	if !errors.Is(err, net.ErrClosed) && !c.aborted.Load() {
		c.server.trouble.Warn("milter connection dropped", "peer", c.peer(), "error", err)
	}
}

// peer returns the address of the peer, or "local" for a unix socket.
func (c *conn) peer() string {
	if addr := c.Conn.RemoteAddr(); addr != nil && addr.String() != "" && addr.String() != "@" {
		return addr.String()
	}
	return "local"
}

// Write sends a reply within the write time. Nearly every reply is sent at once and needs no deadline.
func (c *conn) Write(p []byte) (written int, err error) {
	if d, ok := c.Conn.(*direct); ok {
		if written, err = d.writeAtOnce(p); err != nil || written == len(p) {
			return written, err
		}
		defer c.Conn.SetWriteDeadline(time.Time{}) // for the next attempt
	}
	c.Conn.SetWriteDeadline(time.Now().Add(c.server.cfg.Write))
	n, err := c.Conn.Write(p[written:])
	return written + n, err
}

// Close ends the session. It is the last call of a dialogue.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.closing.Do(func() {
		err = c.Conn.Close()
		c.server.removeConn(c)
	})
	return err
}

// abort ends the connection, and so the session.
func (c *conn) abort() {
	c.aborted.Store(true)
	if d, ok := c.Conn.(*direct); ok {
		d.shutdown()
	} else {
		c.Conn.Close()
	}
}
