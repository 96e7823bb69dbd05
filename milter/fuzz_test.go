package milter

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"rcpt-milter/internal/text"
)

// expectedReplies returns the replies that an MTA must receive for a stream, as codes in order, with R for the
// reply to a RCPT. It is an independent implementation of the protocol.
func expectedReplies(stream string) string {
	var replies strings.Builder
	for len(stream) >= headerSize {
		length := binary.BigEndian.Uint32([]byte(stream))
		if length == 0 || length > maxPacket || int(length) > len(stream)-headerSize {
			break
		}
		command, data := stream[headerSize], stream[headerSize+1:headerSize+int(length)]
		stream = stream[headerSize+int(length):]
		switch {
		case command == 'A', command == 'K', command == 'D' && data != "":
		case command == 'C':
			name, rest, _ := strings.Cut(data, "\x00")
			if len(data) < len(name)+2 {
				return replies.String()
			}
			if strings.IndexByte("46", rest[0]) >= 0 && len(rest) < 3 {
				replies.WriteByte('t')
			} else {
				replies.WriteByte('c')
			}
		case command == 'O', command == 'R':
			replies.WriteByte(command)
		case strings.IndexByte("BEHLMNTU", command) >= 0:
			replies.WriteByte('c')
		default: // Q, and everything outside of the protocol
			return replies.String()
		}
	}
	return replies.String()
}

// checkReplies reads all replies until the end and compares them.
func checkReplies(t *testing.T, c net.Conn, want string) {
	t.Helper()
	for i := 0; ; i++ {
		code, data, err := readReply(c)
		if err != nil {
			// A reset also counts as the end: the server closed the connection before it had read everything.
			if netErr, ok := err.(net.Error); ok && netErr.Timeout() || err == io.ErrUnexpectedEOF {
				t.Fatalf("after %d replies: %v", i, err)
			}
			if err == io.EOF && i != len(want) {
				t.Fatalf("%d replies, want %d: %q", i, len(want), want)
			}
			return
		}
		if i >= len(want) {
			t.Fatalf("reply %d, %c %q, is one too many for %q", i, code, data, want)
		}
		if want[i] != 'R' {
			if code != want[i] {
				t.Fatalf("reply %d is %c %q, want %c", i, code, data, want[i])
			}
			continue
		}
		line := strings.TrimSuffix(data, "\x00")
		good := code == 'c' && data == "" || code == 'y' && len(data) == len(line)+1 && text.IsPrintable(line) &&
			(strings.HasPrefix(line, "550 5.1.1 ") || strings.HasPrefix(line, "451 4.3.0 ") ||
				strings.HasPrefix(line, "450 4.1.1 "))
		if !good {
			t.Fatalf("reply %d to RCPT is %c %q", i, code, data)
		}
	}
}

// FuzzSession checks over a real connection that every command gets exactly one reply or ends the connection,
// and that no session is left behind. Each command has one line of data, in which ~ stands for NUL. tail
// follows unchanged. The stream is sent at once, or in pieces of the given size.
func FuzzSession(f *testing.F) {
	defer BridgeLog(slog.New(slog.DiscardHandler))()
	r := serve(f, "unix", func(cfg *ServerConfig) { cfg.Logger = nil })
	f.Add("OCHMDRDRAMREQ",
		"~~~\x06~~\x01\xff~\x1f\xff\xff\nclient.test~4~\x19192.0.2.1~\nhelo.test~\n<>~\n"+
			"R{rcpt_addr}~nobody@enforce.test~\n<x>~\nR{rcpt_addr}~user@enforce.test~", "", byte(0))
	f.Add("RRRRRR",
		"<user@enforce.test>~\n<broken@enforce.test>\npanic@enforce.test~\ngone@enforce.test\n<us\"er@report.test>\n",
		"GET / HTTP/1.0\r\n", byte(1))
	f.Add("CCCCC", "~\n~4\n~4~\nx~6~\x19IPv6:::1~\n~U~", "\x00\x00\x00\x00", byte(3))
	f.Add("LLLNBBBT", "A~b~\nA~\n~\n\nbody\n", "\x00\x00\x00\x02R", byte(7))
	f.Add("DDDR", "R~~~\nRi~\nR{rcpt_addr}~a\r@enforce.test~\nx", "\x00\x01\x00\x01R", byte(0))
	f.Add("zR", "", "\xff\xff\xff\xff", byte(2))
	f.Fuzz(func(t *testing.T, commands, lines, tail string, pieces byte) {
		if len(commands) > 1000 {
			t.Skip("long enough")
		}
		data := strings.Split(strings.ReplaceAll(lines, "~", "\x00"), "\n")
		var stream strings.Builder
		for i := range len(commands) {
			line := ""
			if i < len(data) {
				line = data[i]
			}
			stream.WriteString(packet(commands[i], line))
		}
		stream.WriteString(tail)
		c, err := net.Dial(r.network, r.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		sent := make(chan bool)
		go func() {
			defer close(sent)
			writePieces(c, stream.String(), int(pieces))
			c.(*net.UnixConn).CloseWrite()
		}()
		checkReplies(t, c, expectedReplies(stream.String()))
		c.Close()
		<-sent
		waitForSessions(t, r.Server, 0)
	})
}

// writePieces writes text in pieces of the given size, or at once if size is 0. It stops when the server closes
// the connection.
func writePieces(w io.Writer, text string, size int) {
	if size == 0 {
		size = len(text)
	}
	for len(text) > 0 {
		n := min(size, len(text))
		if _, err := io.WriteString(w, text[:n]); err != nil {
			return
		}
		text = text[n:]
	}
}

// waitForSessions waits until this number of sessions is left.
func waitForSessions(t *testing.T, s *Server, want int) {
	t.Helper()
	for late := deadline(); s.Sessions() != want; runtime.Gosched() {
		if time.Now().After(late) {
			t.Fatalf("%d sessions, want %d", s.Sessions(), want)
		}
	}
}
