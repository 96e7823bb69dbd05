package stream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/internal/safely"
)

// Config configures the connection to an engine: a NATS server with JetStream.
type Config struct {
	URLs            []string                   // tls://host:port or nats://host:port; empty with InProcess
	CredentialsFile string                     // nkey seed or NATS credentials; read at each connection; empty: none
	TLS             *tls.Config                // nil: no TLS, for an engine in this process or on loopback
	InProcess       nats.InProcessConnProvider // an engine in this process; nil: dial URLs
	Name            string                     // of this host, as in Permissions and as shown at the hub
	Log             *slog.Logger               // required
	// Connected is called after each connection, in a goroutine of the connection; it must return soon.
	// Nil means no call.
	Connected func()
}

// Delays of reconnection. The random part keeps many edges from returning at the same moment.
const (
	reconnectWait   = time.Second
	reconnectJitter = time.Second
	connectTimeout  = 4 * time.Second
)

// Client is a connection to an engine that renews itself. All methods may be called concurrently. The
// NATS library holds its lock while it dials, so its methods are never called under that of a Client.
type Client struct {
	config Config
	stop   context.CancelFunc // ends dialling
	ended  context.Context    // ends with stop

	mu      sync.Mutex // guards all below
	current *attempt   // nil: none yet, or the last one failed
	closed  bool
	leaving bool // the next loss of the connection is its end
	status  ClientStatus
	hubs    map[string]Hub // by directory
	lost    chan struct{}  // closed and replaced when the connection is lost
	back    chan struct{}  // closed and replaced when there is a connection

	reports map[string]reported // of this edge, by subject
}

// attempt is a connection of the NATS library, which connects again by itself.
type attempt struct {
	file   string        // CredentialsFile
	secret []byte        // content of file
	result sync.Once     // closes tried
	tried  chan struct{} // closed when the engine was reached, or could not be
	made   chan struct{} // closed when nc and err are set

	nc  *nats.Conn
	err error // of the options; an engine that cannot be reached is none
}

// ClientStatus is the present state of a Client.
type ClientStatus struct {
	Connected bool
	Server    string    // URL of the connected server; empty if there is none
	Since     time.Time // of the connection, or of its loss
	LastError error     // why there is no connection, or the last error of one; nil: none
}

// Connect returns a client that connects and reconnects by itself until Close. It does not wait for the
// engine. Credentials that cannot be read are no error; they are read again later.
func Connect(c Config) (*Client, error) {
	switch {
	case c.Name == "":
		return nil, errors.New("stream: this host has no name; set one")
	case (len(c.URLs) == 0) == (c.InProcess == nil):
		return nil, errors.New("stream: either urls or an engine in this process is needed")
	}
	client := &Client{config: c, hubs: map[string]Hub{}, reports: map[string]reported{},
		status: ClientStatus{Since: time.Now()}, lost: make(chan struct{}), back: make(chan struct{})}
	client.ended, client.stop = context.WithCancel(context.Background())
	if _, err := client.attempt(); err != nil {
		c.Log.Warn("cannot connect to the engine of the stream yet", "error", err)
	}
	return client, nil
}

// options returns the options of a connection.
func (c *Client) options(a *attempt) ([]nats.Option, error) {
	all := []nats.Option{
		nats.Name("rcpt-milter " + c.config.Name), nats.CustomInboxPrefix(inboxPrefix(c.config.Name)),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.Timeout(connectTimeout), nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(maxPings),
		nats.SetCustomDialer(dialer{c.ended}), nats.ReconnectBufSize(-1),
		nats.ConnectHandler(func(nc *nats.Conn) { c.connected(a, nc) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { c.connected(a, nc) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.disconnected(a, err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.failed(a, err) }),
		nats.ClosedHandler(func(*nats.Conn) { c.forget(a, nil) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.note(a, err) }),
	}
	if c.config.TLS != nil {
		all = append(all, nats.Secure(c.config.TLS.Clone()))
	}
	if c.config.InProcess != nil {
		all = append(all, nats.InProcessServer(c.config.InProcess))
	}
	if a.file == "" {
		return all, nil
	}
	if bytes.Contains(a.secret, []byte("-----BEGIN NATS USER JWT-----")) {
		return append(all, nats.UserCredentials(a.file)), nil
	}
	seed, err := nats.NkeyOptionFromSeed(a.file)
	if err != nil {
		return nil, fmt.Errorf("credentials_file %s holds neither an nkey seed nor NATS credentials; "+
			"enrol this host again: %w", a.file, err)
	}
	return append(all, seed), nil
}

// js returns the connection, which may be down, and its JetStream context. It waits like made.
func (c *Client) js(ctx context.Context) (*nats.Conn, jetstream.JetStream, error) {
	a, err := c.made(ctx)
	if err != nil {
		return nil, nil, err
	}
	js, err := a.js()
	return a.nc, js, err
}

// js returns the JetStream context of a connection that was made.
func (a *attempt) js() (jetstream.JetStream, error) {
	js, err := jetstream.New(a.nc, jetstream.WithPublishAsyncMaxPending(2*maxPending)) // more than send uses
	if err != nil {
		return nil, unreachable("no connection to the engine", err)
	}
	return js, nil
}

// made returns the connection, which may be down. It waits until the first attempt to connect has ended,
// or ctx. A credentials file that changed while the connection was down leads to a new connection.
func (c *Client) made(ctx context.Context) (*attempt, error) {
	a, err := c.attempt()
	if err != nil {
		return nil, err
	}
	select {
	case <-a.made:
	case <-ctx.Done():
		return nil, c.unconnected(ctx.Err())
	}
	if a.err != nil {
		return nil, unreachable("no connection to the engine", a.err)
	}
	return a, nil
}

// attempt returns the connection with the present credentials, which it begins to make if there is none.
func (c *Client) attempt() (*attempt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, unreachable("the connection to the engine is closed", nil)
	}
	if c.current != nil && c.status.Connected {
		return c.current, nil
	}
	file := c.config.CredentialsFile
	var secret []byte
	if file != "" {
		var err error
		if secret, err = os.ReadFile(file); err != nil {
			c.status.LastError = fmt.Errorf("credentials_file cannot be read: %w", err)
			return nil, unreachable("no connection to the engine", c.status.LastError)
		}
	}
	if c.current != nil && bytes.Equal(secret, c.current.secret) {
		return c.current, nil
	}
	old := c.current
	c.current = &attempt{file: file, secret: secret, tried: make(chan struct{}), made: make(chan struct{})}
	go c.make(c.current, old)
	return c.current, nil
}

// make connects, and closes the connection before.
func (c *Client) make(a, old *attempt) {
	defer close(a.made)
	options, err := c.options(a)
	if err == nil {
		a.nc, err = nats.Connect(strings.Join(c.config.URLs, ","), options...)
	}
	if a.err = err; err != nil {
		c.forget(a, err)
	} else {
		select { // the library reports in a goroutine of its own whether the engine was reached
		case <-a.tried:
		case <-c.ended.Done():
		}
		if c.ended.Err() != nil { // Close came first
			a.nc.Close()
		}
	}
	if old != nil {
		if <-old.made; old.nc != nil {
			old.nc.Close()
		}
	}
}

// forget drops an attempt that came to nothing, so the next use makes a new one.
func (c *Client) forget(a *attempt, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a != c.current || c.closed {
		return
	}
	if c.current = nil; err != nil {
		c.status.LastError = err
	}
}

// unconnected returns the error of an operation without a connection. why is what ended the wait for
// one; nil means that there was none.
func (c *Client) unconnected(why error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return unreachable("no connection to the engine", cmp.Or(c.status.LastError, why))
}

func (c *Client) connected(a *attempt, nc *nats.Conn) {
	server := nc.ConnectedUrlRedacted()
	callback := c.setConnected(a, server)
	a.result.Do(func() { close(a.tried) })
	if callback != nil {
		// A panic in a goroutine of the library would end the daemon.
		_ = safely.Do(c.config.Log, "connection to the engine", func() error { callback(); return nil })
	}
}

// setConnected records a connection, and returns the callback for it; nil means none.
func (c *Client) setConnected(a *attempt, server string) (callback func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a != c.current || c.closed {
		return nil
	}
	c.config.Log.Info("connected to the engine of the stream", "server", server)
	c.status = ClientStatus{Connected: true, Server: server, Since: time.Now()}
	close(c.back)
	c.back = make(chan struct{})
	return c.config.Connected
}

func (c *Client) disconnected(a *attempt, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a != c.current || c.closed {
		return
	}
	if c.status.Connected {
		c.config.Log.Warn("connection to the engine of the stream lost", "error", err)
	}
	c.status = ClientStatus{Since: time.Now(), LastError: advise(err)}
	close(c.lost)
	c.lost = make(chan struct{})
	if c.leaving {
		c.stop()
	}
}

// failed records why an attempt to connect failed.
func (c *Client) failed(a *attempt, err error) {
	c.note(a, err)
	a.result.Do(func() { close(a.tried) })
}

func (c *Client) note(a *attempt, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a == c.current {
		c.status.LastError = advise(err)
	}
}

// Leave ends the attempts to connect, so nothing waits for one. A connection that is up stays until Close,
// or until it is lost.
func (c *Client) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving = true; !c.status.Connected {
		c.stop()
	}
}

// closeTimeout limits how long the end of a connection waits for the engine.
const closeTimeout = 500 * time.Millisecond

// Close closes the connection.
func (c *Client) Close() {
	c.Leave()
	c.mu.Lock()
	a := c.current
	if !c.closed {
		close(c.lost)
	}
	c.closed = true
	c.status = ClientStatus{Since: time.Now(), LastError: c.status.LastError}
	c.mu.Unlock()
	defer c.stop()
	if a == nil {
		return
	}
	briefly(func() {
		if <-a.made; a.nc != nil {
			a.nc.Close()
		}
	})
}

// briefly calls do and waits for its end for closeTimeout at most. The library may be dialling under its
// lock, and cannot interrupt the lookup of a host name.
func briefly(do func()) {
	ended := make(chan struct{})
	go func() { do(); close(ended) }()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
}

// Status returns the present state.
func (c *Client) Status() ClientStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}
