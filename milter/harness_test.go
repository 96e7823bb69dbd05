package milter

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	gomilter "github.com/emersion/go-milter"
	"go.uber.org/goleak"

	"rcpt-milter/internal/socket"
)

// TestMain detects goroutines that tests and fuzz targets leave behind.
func TestMain(m *testing.M) {
	if path := os.Getenv(wireClient); path != "" {
		if err := runWireClient(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// patience limits how long a test waits for an event. A test that passes never waits that long.
const patience = 10 * time.Second

// logBuffer is a log that a test can read and wait for.
type logBuffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{} // receives a value after a write
}

func newLogBuffer() *logBuffer { return &logBuffer{wrote: make(chan struct{}, 1)} }

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.wrote <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// wait waits until the log contains want.
func (b *logBuffer) wait(t *testing.T, want string) {
	t.Helper()
	late := time.After(patience)
	for !strings.Contains(b.String(), want) {
		select {
		case <-b.wrote:
		case <-late:
			t.Fatalf("no %q in the log:\n%s", want, b)
		}
	}
}

// logger logs all levels without the time.
func (b *logBuffer) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// running is a server on its own socket.
type running struct {
	*Server
	network, address string
	log              *logBuffer
	served           chan error // receives the result of Serve
}

// serve runs a server until the end of the test, on a unix socket, or on TCP if network is "tcp".
func serve(t testing.TB, network string, change func(*ServerConfig)) *running {
	t.Helper()
	log := newLogBuffer()
	cfg := ServerConfig{Policy: testPolicy(t, nil), Connections: 2000, Idle: 2 * time.Hour,
		Logger: log.logger(slog.LevelDebug)}
	if change != nil {
		change(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	addr := "inet:127.0.0.1:0"
	if network == "unix" {
		addr = "unix:" + socketPath(t)
	}
	l, err := socket.Listen(addr, socket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Server: s, network: network, address: l.Addr().String(), log: log, served: make(chan error, 1)}
	go func() { r.served <- s.Serve(l) }()
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ended)
		if err := <-r.served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

// socketPath returns a path that is short enough for a unix socket; t.TempDir may be too long.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "milter")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "milter.sock")
}

// session negotiates a session with the library's client. It stays open until the end of the test, because the
// garbage collector would close a connection without a reference.
func (r *running) session(t testing.TB) *gomilter.ClientSession {
	t.Helper()
	client := gomilter.NewClientWithOptions(r.network, r.address, gomilter.ClientOptions{
		ReadTimeout: patience, WriteTimeout: patience, ActionMask: 0x3f, ProtocolMask: 0x7f,
	})
	s, err := client.Session()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.KeepAlive(s) })
	return s
}

// dial connects without sending anything.
func (r *running) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial(r.network, r.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// rcpt sends a recipient with its macro, and returns the reply that the SMTP client receives.
func rcpt(t testing.TB, s *gomilter.ClientSession, recipient string) string {
	t.Helper()
	if err := s.Macros(gomilter.CodeRcpt, "{rcpt_addr}", recipient); err != nil {
		t.Fatal(err)
	}
	return bareRcpt(t, s, recipient)
}

// bareRcpt sends a recipient without macros.
func bareRcpt(t testing.TB, s *gomilter.ClientSession, argument string) string {
	t.Helper()
	action, err := s.Rcpt(argument, nil)
	if err != nil {
		t.Fatal(err)
	}
	switch action.Code {
	case gomilter.ActContinue:
		return goOn
	case gomilter.ActReplyCode:
		return unescape(itoa(action.SMTPCode) + " " + action.SMTPText)
	}
	t.Fatalf("RCPT %q: action %c", argument, action.Code)
	return ""
}

func itoa(code int) string {
	return string([]byte{byte('0' + code/100), byte('0' + code/10%10), byte('0' + code%10)})
}

// packet returns one packet of the milter protocol.
func packet(command byte, data string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(data)+1))) + string(command) + data
}

// readReply reads one packet from a server.
func readReply(r io.Reader) (byte, string, error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, "", err
	}
	data := make([]byte, binary.BigEndian.Uint32(header[:]))
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, "", err
	}
	return data[0], string(data[1:]), nil
}

// optneg is the first packet of Postfix 3.7.
var optneg = packet('O', "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff")

// goroutines returns a function that checks that no more goroutines run than now. It waits for goroutines that
// are about to end.
func goroutines(t *testing.T) (check func()) {
	t.Helper()
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		for start := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Since(start) > patience {
				stacks := make([]byte, 1<<20)
				t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before,
					stacks[:runtime.Stack(stacks, true)])
			}
		}
	}
}

// deadline is the time at which a test stops waiting.
func deadline() time.Time { return time.Now().Add(patience) }

// canceled returns a context that has ended.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
