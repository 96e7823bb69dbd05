package milter

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// scripted is a connection whose peer sends the given pieces, one per Read, and nothing more. It records the
// deadlines of the reads.
type scripted struct {
	net.Conn  // nil, so other methods panic
	pieces    []string
	deadline  time.Duration
	deadlines []time.Duration // at each Read
	set       int             // calls of SetReadDeadline
}

func (s *scripted) Read(p []byte) (int, error) {
	s.deadlines = append(s.deadlines, s.deadline)
	if len(s.pieces) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; s.pieces[0] == "" {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (s *scripted) SetReadDeadline(t time.Time) error {
	s.set++
	s.deadline = time.Until(t).Round(time.Second)
	return nil
}

func (s *scripted) RemoteAddr() net.Addr { return nil }

// Limits in tests with scripted connections.
const (
	testIdle   = time.Hour
	testPacket = time.Minute
)

func scriptedConn(t *testing.T, pieces ...string) (*conn, *scripted, *logBuffer) {
	t.Helper()
	log := newLogBuffer()
	s, err := NewServer(ServerConfig{Policy: testPolicy(t, nil), Logger: log.logger(-4), Connections: 9, Idle: testIdle,
		Packet: testPacket})
	if err != nil {
		t.Fatal(err)
	}
	raw := &scripted{pieces: pieces}
	return newConn(raw, s), raw, log
}

// bytewise splits text into single bytes.
func bytewise(text string) []string {
	pieces := make([]string, len(text))
	for i := range pieces {
		pieces[i] = text[i : i+1]
	}
	return pieces
}

// readAll returns all packets as they were sent, and reports why there are no more.
func readAll(c *conn) string {
	var all strings.Builder
	c.report(c.serve(func(p []byte) (bool, error) {
		all.WriteString(packet(p[0], string(p[1:])))
		return true, nil
	}))
	return all.String()
}

// TestConnReads checks that a dialogue reads only whole packets, and the same packets no matter how the stream
// is split.
func TestConnReads(t *testing.T) {
	short, large := packet('R', "<user@enforce.test>\x00"), packet('B', strings.Repeat("x", maxPacket-1))
	full := packet('D', strings.Repeat("y", bufferSize-5)) // just fits into the buffer
	over := packet('D', strings.Repeat("z", bufferSize-4)) // just too long for the buffer
	stream := short + large + short + full + over + short
	for _, c := range []struct {
		name   string
		pieces []string
		want   string
	}{
		{"all at once", []string{stream}, stream},
		{"bytewise", bytewise(stream), stream},
		{"header and body apart", []string{short[:4], short[4:], full[:4], full[4:], over[:4], over[4:]},
			short + full + over},
		{"two headers at once", []string{short + short[:4], short[4:]}, short + short},
		{"half a header at the end", []string{short + short[:2]}, short},
		{"half a body at the end", []string{short + short[:9]}, short},
		{"half a large body at the end", []string{short + large[:60000]}, short},
		{"header of a large packet only", []string{large[:4]}, ""},
		{"no packet length", []string{short, "\x00\x00\x00\x00" + short}, short},
		{"one byte too many", []string{short, "\x00\x01\x00\x01" + large}, short},
		{"the library's own limit", []string{"\x00\x10\x00\x00"}, ""},
		{"all that can be announced", []string{"\xff\xff\xff\xff"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, _, _ := scriptedConn(t, c.pieces...)
			if got := readAll(conn); got != c.want {
				t.Errorf("read %d bytes, want %d", len(got), len(c.want))
			}
		})
	}
}

// TestConnDeadlines checks that the long deadline applies only between packets, and that a deadline does not
// move during a packet.
func TestConnDeadlines(t *testing.T) {
	p := packet('R', "<u@d>\x00")
	conn, raw, _ := scriptedConn(t, append(bytewise(p+p), p+p)...)
	readAll(conn)
	var want []time.Duration
	for range len(p) { // a new connection must send its first packet quickly
		want = append(want, testPacket)
	}
	want = append(want, testIdle)
	for range len(p) - 1 {
		want = append(want, testPacket)
	}
	want = append(want, testIdle, testIdle) // for two packets at once and for the end
	if got := fmt.Sprint(raw.deadlines); got != fmt.Sprint(want) {
		t.Errorf("deadlines %v, want %v", got, want)
	}
	if raw.set != 5 {
		t.Errorf("the deadline was set %d times, want 5", raw.set)
	}
}

func TestConnReports(t *testing.T) {
	p := packet('R', "<u@d>\x00")
	for _, c := range []struct {
		name   string
		pieces []string
		want   string
	}{
		{"silent", nil, `level=WARN msg="milter connection dropped" peer=local error="i/o timeout"`},
		{"idle", []string{p}, `level=DEBUG msg="milter session idle for too long" peer=local`},
		{"half a packet", []string{p, p[:7]},
			`level=WARN msg="milter connection dropped" peer=local error="i/o timeout"`},
		{"http", []string{"GET / HTTP/1.1\r\n\r\n"},
			`level=WARN msg="milter connection dropped" peer=local error="not a milter packet: it begins with ` +
				`\"GET \""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, _, log := scriptedConn(t, c.pieces...)
			readAll(conn)
			if got := strings.TrimSpace(log.String()); got != c.want {
				t.Errorf("log %s, want %s", got, c.want)
			}
		})
	}
}

// TestConnEnds checks that a session ends soon after its connection, although the idle time is an hour, whatever the
// peer sends last and however it ends the connection. The session learns of both at once.
func TestConnEnds(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // the session does not run between Write and the end
	ask := packet('R', "<user@enforce.test>\x00")
	for _, network := range []string{"unix", "tcp"} {
		for _, last := range []struct{ name, text string }{
			{"nothing", ""}, {"recipient", ask}, {"macros", packet('D', "R{rcpt_addr}\x00user@enforce.test\x00")},
			{"abort", ask + packet('A', "")}, {"half a packet", ask[:7]},
			{"two recipients and half of one", ask + ask + ask[:2]}, {"quit", packet('Q', "")},
			{"as much as the buffer", strings.Repeat(ask, bufferSize/len(ask)) + packet('D', "R"+strings.Repeat("x",
				bufferSize%len(ask)-headerSize-2))},
		} {
			for _, end := range []struct {
				name string
				do   func(net.Conn) error
			}{
				{"close", net.Conn.Close},
				{"close for writing",
					func(c net.Conn) error { return c.(interface{ CloseWrite() error }).CloseWrite() }},
			} {
				t.Run(network+"/"+last.name+"/"+end.name, func(t *testing.T) {
					s, err := NewServer(ServerConfig{Policy: testPolicy(t, nil), Connections: 9, Idle: time.Hour,
						Packet: time.Hour})
					if err != nil {
						t.Fatal(err)
					}
					c, peer := socketPair(t, network)
					peer.SetDeadline(time.Now().Add(patience))
					ended := make(chan bool)
					go func() { newDialogue(newConn(c, s)).run(); close(ended) }()
					if _, err := io.WriteString(peer, optneg); err != nil {
						t.Fatal(err)
					}
					if code, _, err := readReply(peer); code != 'O' || err != nil {
						t.Fatalf("negotiation: %c, %v", code, err)
					}
					for range 100 { // lets the session wait
						runtime.Gosched()
					}
					if _, err := io.WriteString(peer, last.text); err != nil {
						t.Fatal(err)
					}
					if err := end.do(peer); err != nil {
						t.Fatal(err)
					}
					go io.Copy(io.Discard, peer)
					select {
					case <-ended:
					case <-time.After(patience):
						t.Fatal("the session does not end")
					}
				})
			}
		}
	}
}

// TestBadPeers checks that peers which send nothing, stop sending, or use another protocol are dropped, while
// other peers are served.
func TestBadPeers(t *testing.T) {
	check := goroutines(t)
	for _, c := range []struct {
		name         string
		idle, packet time.Duration
		send         string
	}{
		{"silent", time.Hour, time.Millisecond, ""},
		{"idle", time.Millisecond, time.Hour, optneg},
		{"half a header", time.Hour, time.Millisecond, optneg + "\x00\x00"},
		{"half a packet", time.Hour, time.Millisecond, optneg + "\x00\x00\x00\x10R<u"},
		{"oversized", time.Hour, time.Hour, "\x00\x0f\xff\xffR"},
		{"http", time.Hour, time.Hour, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"smtp", time.Hour, time.Hour, "EHLO localhost\r\n"},
		{"tls", time.Hour, time.Hour, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
		{"line feeds", time.Hour, time.Hour, "\r\n\r\n"},
		{"unknown command", time.Hour, time.Hour, packet('z', "")},
		{"short connect", time.Hour, time.Hour, packet('C', "name\x00")},
		{"empty macros", time.Hour, time.Hour, packet('D', "")},
		{"zero packet", time.Hour, time.Hour, "\x00\x00\x00\x00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := serve(t, "tcp", func(cfg *ServerConfig) { cfg.Idle, cfg.Packet = c.idle, c.packet })
			bad := r.dial(t)
			fmt.Fprint(bad, c.send)
			// The only reply is the answer to the negotiation, followed by the end. The end is a reset if the server
			// has not read everything. With a limit of a millisecond, even the negotiation may be too late.
			hurried := c.idle == time.Millisecond || c.packet == time.Millisecond
			got, err := io.ReadAll(bad)
			if os.IsTimeout(err) || len(got) > 0 && !strings.HasPrefix(c.send, optneg) {
				t.Errorf("read %q, %v", got, err)
			}
			if hurried {
				return
			}
			s := r.session(t)
			if got := rcpt(t, s, "user@enforce.test"); got != goOn {
				t.Errorf("the next session: %q", got)
			}
			s.Close()
		})
	}
	check()
}

// TestAnnouncementMemory checks that announced sizes allocate no memory, unlike in the library.
func TestAnnouncementMemory(t *testing.T) {
	const peers = 100
	r := serve(t, "unix", func(cfg *ServerConfig) { cfg.Packet = time.Millisecond })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range peers {
		c := r.dial(t)
		fmt.Fprint(c, "\x00\x01\x00\x00O") // 64 KiB
		io.Copy(io.Discard, c)             // until the server drops the connection
		c.Close()
	}
	runtime.ReadMemStats(&after)
	// TotalAlloc only grows. The limit covers a buffer, a session and the allocations of the test.
	if got := (after.TotalAlloc - before.TotalAlloc) / peers; got > 32<<10 {
		t.Errorf("%d bytes allocated for each peer, want less than 32 KiB", got)
	}
}

// TestPipelining checks a client that sends everything before it reads.
func TestPipelining(t *testing.T) {
	c := serve(t, "unix", nil).dial(t)
	var stream strings.Builder
	stream.WriteString(optneg)
	for i := range 100 {
		to := fmt.Sprintf("nobody%d@enforce.test", i)
		if i%2 == 0 {
			to = "user@enforce.test"
		}
		stream.WriteString(packet('D', "R{rcpt_addr}\x00"+to+"\x00") + packet('R', "<x>\x00"))
	}
	stream.WriteString(packet('Q', ""))
	go io.WriteString(c, stream.String())
	if code, _, err := readReply(c); code != 'O' || err != nil {
		t.Fatalf("negotiation: %c, %v", code, err)
	}
	for i := range 100 {
		want, text := byte('c'), ""
		if i%2 == 1 {
			want, text = 'y', expect(noUser, fmt.Sprintf("nobody%d@enforce.test", i))+"\x00"
		}
		if code, data, err := readReply(c); code != want || data != text || err != nil {
			t.Fatalf("reply %d: %c %q, %v, want %c %q", i, code, data, err, want, text)
		}
	}
	if _, _, err := readReply(c); err != io.EOF {
		t.Errorf("after quit: %v, want EOF", err)
	}
}

// TestWriteDeadline checks that a peer that reads nothing cannot keep a session open forever.
func TestWriteDeadline(t *testing.T) {
	r := serve(t, "unix", func(cfg *ServerConfig) { cfg.Write = time.Millisecond })
	c := r.dial(t)
	ask := packet('R', "<"+strings.Repeat("x", 300)+"@enforce.test>\x00")
	for { // until the server gives up
		if _, err := io.WriteString(c, ask); err != nil {
			if os.IsTimeout(err) {
				t.Error("the server still reads")
			}
			return
		}
	}
}
