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
	// maxPacket is the longest packet taken: a chunk of 65535 octets with its
	// command, which is the most that an MTA sends, and it should send us none.
	maxPacket = 64 << 10
	// bufferSize holds the commands that we ask for with their macros.
	bufferSize = 4 << 10
)

// errPacket is for a peer that announces a packet no MTA sends, most likely because
// it does not speak the milter protocol at all.
var errPacket = errors.New("not a milter packet")

// conn is a connection as the library should have it. It knows where packets begin
// and end, and hands out a packet only once all of it is there: the library
// allocates what a packet announces, waits for it without a limit, and reads header
// and body apart. Memory thus grows only with what a peer really sends.
//
// Every end of reading is io.EOF to the library, which has nothing better to do with
// errors than to print them; conn logs those that say something.
type conn struct {
	net.Conn
	server *Server
	reader *bufio.Reader

	// Of the goroutine that reads.
	packet  []byte // what is left of the packet that is being handed out
	held    int    // octets of the reader's buffer under packet
	started bool   // a packet came already

	placed  bool // it has a slot; set before the session begins
	closing sync.Once
}

func newConn(raw net.Conn, s *Server) *conn {
	return &conn{Conn: raw, server: s, reader: bufio.NewReaderSize(raw, bufferSize)}
}

// Read hands out the current packet, or waits for the next.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.packet) == 0 {
		if err := c.next(); err != nil {
			c.report(err)
			return 0, io.EOF
		}
	}
	n := copy(p, c.packet)
	c.packet = c.packet[n:]
	return n, nil
}

// next waits for a whole packet.
func (c *conn) next() error {
	// Discard cannot fail: what is held is in the buffer.
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

// await waits for the first octet of a packet: long, but not for the first packet of
// a connection, which MTAs send at once.
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

// long reads a packet that does not fit into the buffer, into memory that grows as
// it comes.
func (c *conn) long(total int64) error {
	var packet bytes.Buffer
	if _, err := io.CopyN(&packet, c.reader, total); err != nil {
		return within(err)
	}
	c.packet = packet.Bytes()
	return nil
}

// within marks the end of a stream inside a packet.
func within(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// report logs why reading ended, where it says something.
func (c *conn) report(err error) {
	switch {
	case err == io.EOF, errors.Is(err, net.ErrClosed):
		return // the ordinary ends
	case errors.Is(err, os.ErrDeadlineExceeded) && c.started && c.reader.Buffered() == 0:
		c.server.log.Debug("milter session idle for too long", "peer", c.peer())
	default:
		c.server.trouble.Warn("milter connection dropped", "peer", c.peer(), "error", err)
	}
}

// peer names the other end; that of a unix socket has no name.
func (c *conn) peer() string {
	if addr := c.Conn.RemoteAddr(); addr != nil && addr.String() != "" && addr.String() != "@" {
		return addr.String()
	}
	return "local"
}

// Write sends a reply, within the time that it may take.
func (c *conn) Write(p []byte) (int, error) {
	c.Conn.SetWriteDeadline(time.Now().Add(c.server.cfg.Write))
	return c.Conn.Write(p)
}

// Close is the library's last call: the session has ended.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.closing.Do(func() {
		err = c.Conn.Close()
		c.server.removeConn(c)
	})
	return err
}

// abort takes the connection away from a session, which then ends by itself.
func (c *conn) abort() { c.Conn.Close() }
