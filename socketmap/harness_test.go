package socketmap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rcpt-milter/address"
	"rcpt-milter/internal/socket"
	"rcpt-milter/policy"
)

// TestMain detects goroutines that tests and fuzz targets leave behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience limits how long a test waits for an event.
const patience = 10 * time.Second

var now = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// fakeIndex has one address of each kind in every domain. The domain determines the freshness.
type fakeIndex struct{ lookup func(address.Address) }

func (f fakeIndex) Lookup(a address.Address) (policy.Entry, error) {
	if f.lookup != nil {
		f.lookup(a)
	}
	switch a.Local() {
	case "ann", `"john doe"`:
		return policy.Entry{Known: true}, nil
	case "staff":
		return policy.Entry{Known: true, InternalOnly: true}, nil
	case "doubtful":
		return policy.Entry{Known: true, InternalOnly: true, Doubt: errors.New("damaged")}, nil
	case "closing":
		return policy.Entry{Known: true, InternalOnly: true, Removed: now.Add(-time.Minute)}, nil
	case "gone":
		return policy.Entry{Removed: now.Add(-time.Minute)}, nil
	case "broken":
		return policy.Entry{}, errors.New("the disk is gone")
	}
	return policy.Entry{}, nil
}

func (fakeIndex) Freshness(domain string) policy.Freshness {
	switch {
	case strings.HasPrefix(domain, "stale"):
		return policy.Freshness{State: policy.Stale, Directory: "corp"}
	case strings.HasPrefix(domain, "notready"):
		return policy.Freshness{State: policy.NotReady, Directory: "corp"}
	}
	return policy.Freshness{State: policy.Fresh, Directory: "corp"}
}

// confirmer finds an address that is not in the index.
type confirmer struct{}

func (confirmer) Confirm(_ context.Context, a address.Address, _ bool) (policy.Entry, error) {
	return policy.Entry{Known: a.Local() == "newcomer"}, nil
}

// testPolicy returns a policy with a fakeIndex.
func testPolicy(t testing.TB, change func(*policy.Config)) *policy.Policy {
	t.Helper()
	cfg := policy.Config{Index: fakeIndex{}, Confirm: confirmer{},
		Domains: map[string]policy.Mode{"enforce.test": policy.ModeEnforce, "report.test": policy.ModeReport,
			"pass.test": policy.ModePass, "stale.test": policy.ModeEnforce, "stalereport.test": policy.ModeReport,
			"notready.test": policy.ModeEnforce, "catchall.test": policy.ModeEnforce},
		Accept: []string{"@catchall.test"}, Refuse: []string{"left@enforce.test"}, RecipientDelimiter: "+",
		RemovalGrace: time.Hour, Now: func() time.Time { return now }}
	if change != nil {
		change(&cfg)
	}
	p, err := policy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// running is a server on its own unix socket, or on TCP.
type running struct {
	*Server
	address net.Addr
	log     *logBuffer
	stop    func() error // stops the server and returns the result of Run; later calls return the same
}

func serve(t testing.TB, network string, change func(*Config)) *running {
	t.Helper()
	log := &logBuffer{}
	cfg := Config{Policy: testPolicy(t, nil), Connections: 512,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	at := "inet:127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "map") // t.TempDir may be too long for a socket
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		at = "unix:" + filepath.Join(dir, "map.sock")
	}
	l, err := socket.Listen(at, socket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	r := &running{Server: s, address: l.Addr(), log: log,
		stop: sync.OnceValue(func() error { cancel(); return <-ended })}
	go func() { ended <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// client is a connection to a server under test.
type client struct {
	net.Conn
	t      testing.TB
	reader *bufio.Reader
}

func (r *running) dial(t testing.TB) *client {
	t.Helper()
	c, err := net.Dial(r.address.Network(), r.address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &client{c, t, bufio.NewReader(c)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// ask sends a request and returns the reply.
func (c *client) ask(request string) string {
	c.t.Helper()
	c.send(string(appendNetstring(nil, request)))
	reply, err := readNetstring(c.reader)
	if err != nil {
		c.t.Fatalf("reply to %q: %v", request, err)
	}
	return reply
}

// ends reports whether the server has closed the connection.
func (c *client) ends() bool {
	_, err := c.reader.ReadByte()
	var timeout net.Error
	return err != nil && !(errors.As(err, &timeout) && timeout.Timeout())
}

// endless is a search that ends only when its context does.
type endless struct{ asked chan struct{} }

func (e endless) Confirm(ctx context.Context, _ address.Address, _ bool) (policy.Entry, error) {
	close(e.asked)
	<-ctx.Done()
	return policy.Entry{}, ctx.Err()
}
