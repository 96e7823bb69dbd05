package stream

import (
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// engine is an embedded NATS server that a test can stop, restart and restore from a backup.
type engine struct {
	t       *testing.T
	dir     string
	port    int
	options func(*server.Options)
	server  *server.Server
}

// newEngine starts a server on loopback.
func newEngine(t *testing.T, options func(*server.Options)) *engine {
	t.Helper()
	e := &engine{t: t, dir: t.TempDir(), port: -1, options: options}
	e.start()
	t.Cleanup(e.stop)
	return e
}

func (e *engine) start() {
	e.t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: e.port, JetStream: true, StoreDir: e.dir, NoSigs: true, NoLog: true}
	if e.options != nil {
		e.options(o)
	}
	s, err := server.NewServer(o)
	if err != nil {
		e.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		e.t.Fatal("the server is not ready")
	}
	e.server = s
	e.port = s.Addr().(*net.TCPAddr).Port
}

func (e *engine) stop() {
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
		e.server = nil
	}
}

// backup copies the files of a stopped server.
func (e *engine) backup() string {
	e.t.Helper()
	to := e.t.TempDir()
	if err := os.CopyFS(to, os.DirFS(e.dir)); err != nil {
		e.t.Fatal(err)
	}
	return to
}

// restore replaces the files of a stopped server.
func (e *engine) restore(from string) {
	e.t.Helper()
	if err := os.RemoveAll(e.dir); err != nil {
		e.t.Fatal(err)
	}
	if err := os.CopyFS(e.dir, os.DirFS(from)); err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) url() string {
	return "nats://127.0.0.1:" + itoa(e.port)
}

// client connects a host to the engine.
func (e *engine) client(name string, change ...func(*Config)) *Client {
	e.t.Helper()
	c := Config{URLs: []string{e.url()}, Name: name, Log: quiet()}
	for _, f := range change {
		f(&c)
	}
	client, err := Connect(c)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(client.Close)
	return client
}

// admin returns a connection without restrictions.
func (e *engine) admin() jetstream.JetStream {
	e.t.Helper()
	_, js, err := e.client("admin").js(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	return js
}

func quiet() *slog.Logger {
	if os.Getenv("STREAM_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}
