package milter

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// headerSize is the length that precedes every packet, 32 bits in network order.
	headerSize = 4
	// maxPacket is the size limit of a packet: a chunk of 65535 bytes with its command, the
	// most that an MTA sends.
	maxPacket = 64 << 10
	// bufferSize is enough for the requested commands with their macros.
	bufferSize = 4 << 10
)

// errPacket means that a peer announces a packet that no MTA sends. Most likely it does not
// speak the milter protocol.
var errPacket = errors.New("not a milter packet")

// conn is a connection that reads whole packets. Memory grows only with what a peer has sent,
// not with what it announces.
type conn struct {
	net.Conn
	server *Server
	reader *bufio.Reader

	// Used by the reading goroutine only.
	packet  []byte // the current packet with its length
	held    int    // bytes of the reader's buffer that packet refers to
	started bool   // a packet was read

	placed  bool // has a slot; set before the session begins
	closing sync.Once
}

func newConn(raw net.Conn, s *Server) *conn {
	raw = newDirect(raw)
	return &conn{Conn: raw, server: s, reader: bufio.NewReaderSize(raw, bufferSize)}
}

// readPacket waits for the next packet and returns it without its length: at least one byte,
// valid until the next call.
func (c *conn) readPacket() ([]byte, error) {
	if err := c.next(); err != nil {
		return nil, err
	}
	return c.packet[headerSize:], nil
}

// next waits for a whole packet.
func (c *conn) next() error {
	// Discard cannot fail: held bytes are in the buffer.
	c.reader.Discard(c.held)
	c.packet, c.held = nil, 0
	if c.reader.Buffered() == 0 {
		if err := c.await(); err != nil {
			return err
		}
	}
	if !c.complete() {
		c.Conn.SetReadDeadline(time.Now().Add(c.server.cfg.Packet))
	}
	header, err := c.reader.Peek(headerSize)
	if err != nil {
		return within(err)
	}
	length := binary.BigEndian.Uint32(header)
	if length == 0 || length > maxPacket {
		return fmt.Errorf("%w: it begins with %q", errPacket, header)
	}
	c.started = true
	total := headerSize + int(length)
	if total > c.reader.Size() {
		return c.long(int64(total))
	}
	if c.packet, err = c.reader.Peek(total); err != nil {
		c.packet = nil
		return within(err)
	}
	c.held = total
	return nil
}

// await waits for the first byte of a packet, for the idle time. MTAs send the first packet of
// a connection at once, so it waits for that one only for the packet time.
func (c *conn) await() error {
	limit := time.Duration(c.server.idle.Load())
	if !c.started {
		limit = c.server.cfg.Packet
	}
	c.Conn.SetReadDeadline(time.Now().Add(limit))
	_, err := c.reader.Peek(1)
	return err
}

// complete reports whether a whole packet is in the buffer, as most are.
func (c *conn) complete() bool {
	n := c.reader.Buffered()
	if n < headerSize {
		return false
	}
	header, _ := c.reader.Peek(headerSize)
	return int64(n) >= headerSize+int64(binary.BigEndian.Uint32(header))
}

// long reads a packet that does not fit into the buffer. Its memory grows with the received
// bytes.
func (c *conn) long(total int64) error {
	var packet bytes.Buffer
	if _, err := io.CopyN(&packet, c.reader, total); err != nil {
		return within(err)
	}
	c.packet = packet.Bytes()
	return nil
}

// within returns io.ErrUnexpectedEOF for an end of the stream inside a packet.
func within(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// report logs why reading ended, unless the end is ordinary.
func (c *conn) report(err error) {
	switch {
	case err == io.EOF, errors.Is(err, net.ErrClosed):
		return // ordinary ends
	case errors.Is(err, os.ErrDeadlineExceeded) && c.started && c.reader.Buffered() == 0:
		c.server.log.Debug("milter session idle for too long", "peer", c.peer())
	default:
		c.dropped(err)
	}
}

// dropped logs an error that ends the session, unless the server closed the connection itself.
func (c *conn) dropped(err error) {
	if !errors.Is(err, net.ErrClosed) {
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

// Write sends a reply within the write time.
func (c *conn) Write(p []byte) (int, error) {
	c.Conn.SetWriteDeadline(time.Now().Add(c.server.cfg.Write))
	return c.Conn.Write(p)
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

// abort closes the connection. The session then ends by itself.
func (c *conn) abort() { c.Conn.Close() }
