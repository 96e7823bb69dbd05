package stream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/internal/safely"
)

// Config configures a connection to an engine, which is a NATS server with JetStream.
type Config struct {
	URLs            []string // tls://host:port or nats://host:port; empty if InProcess is set
	CredentialsFile string   // nkey seed or NATS credentials, read at each connection; empty means none
	// TLS returns the TLS configuration. It is called for each attempt to connect, because files that it reads may
	// have changed. Nil means no TLS, for an engine in this process or on loopback.
	TLS       func() (*tls.Config, error)
	InProcess nats.InProcessConnProvider // connects to an engine in this process; nil means to dial URLs
	Name      string                     // name of this host, as passed to Permissions and shown at the hub
	// NameOf returns the name of this host in the content of CredentialsFile, which may have been replaced by that of
	// another name. An empty name means Name, and so does a nil function.
	NameOf func(credentials []byte) string
	Log    *slog.Logger // required
	// Connected is called after each connection, in a goroutine of the NATS library. It must return quickly. Nil
	// means no callback.
	Connected func()
}

// Delays between attempts to reconnect. The jitter spreads the reconnections of many edges.
const (
	reconnectWait   = time.Second
	reconnectJitter = time.Second
	connectTimeout  = 4 * time.Second
)

// Client is a connection to an engine. It reconnects by itself. All methods are safe for concurrent use. The
// NATS library dials with its lock held, so a Client never calls the library while it holds its own lock.
type Client struct {
	config Config
	stop   context.CancelFunc // stops dialing
	ended  context.Context    // done after stop

	mu      sync.Mutex // guards the fields below
	current *attempt   // nil if there was no attempt yet, or if the last one failed
	closed  bool
	leaving bool // do not reconnect after the next loss of the connection
	status  ClientStatus
	hubs    map[string]Hub // by directory
	lost    chan struct{}  // closed and replaced when the connection is lost
	back    chan struct{}  // closed and replaced when there is a connection

	reports map[string]reported // last reports of this edge, by subject
}

// attempt is a connection of the NATS library, which reconnects by itself.
type attempt struct {
	file   string        // CredentialsFile
	secret []byte        // content of file
	name   string        // of this host
	tls    *tls.Config   // nil means no TLS
	result sync.Once     // guards the close of tried
	tried  chan struct{} // closed after the first attempt to reach the engine, successful or not
	made   chan struct{} // closed once nc and err are set

	nc  *nats.Conn
	err error // invalid options; failing to reach the engine is not an error here
}

// ClientStatus is the current state of a Client.
type ClientStatus struct {
	Connected bool
	Server    string    // URL of the connected server; empty if disconnected
	Since     time.Time // time of the connection, or of its loss
	LastError error     // why there is no connection, or the last error of the connection; nil means no error
}

// Connect returns a client that connects and reconnects in the background until Close. It does not wait for the
// engine. Unreadable credentials are not an error; the client reads them again later.
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

// options returns the options of the NATS library for an attempt.
func (c *Client) options(a *attempt) ([]nats.Option, error) {
	all := []nats.Option{
		nats.Name("rcpt-milter " + a.name), nats.CustomInboxPrefix(inboxPrefix(a.name)),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(func(int) time.Duration { return c.beforeReconnect(a) }),
		nats.Timeout(connectTimeout), nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(maxPings),
		nats.SetCustomDialer(dialer{c.ended}), nats.ReconnectBufSize(-1),
		nats.ConnectHandler(func(nc *nats.Conn) { c.connected(a, nc) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { c.connected(a, nc) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.disconnected(a, err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.failed(a, err) }),
		nats.ClosedHandler(func(*nats.Conn) { c.forget(a, nil) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.note(a, err) }),
	}
	if a.tls != nil {
		all = append(all, nats.Secure(a.tls))
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

// js returns the connection and its JetStream context. The connection may be down. Like made, js waits for the
// first attempt to connect.
func (c *Client) js(ctx context.Context) (*nats.Conn, jetstream.JetStream, error) {
	a, err := c.connection(ctx)
	if err != nil {
		return nil, nil, err
	}
	js, err := a.js()
	return a.nc, js, err
}

// js returns the JetStream context of an attempt. The attempt must have succeeded.
func (a *attempt) js() (jetstream.JetStream, error) {
	js, err := jetstream.New(a.nc, jetstream.WithPublishAsyncMaxPending(2*maxPending)) // more than send uses
	if err != nil {
		return nil, unreachable("no connection to the engine", err)
	}
	return js, nil
}

// connection returns the connection, which may be down. It waits for the first attempt to connect, or until ctx
// ends. If the credentials or the authorities changed while the connection was down, it starts a new connection.
func (c *Client) connection(ctx context.Context) (*attempt, error) {
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

// attempt returns the connection that uses the current credentials and authorities. If there is none, it starts
// one.
func (c *Client) attempt() (*attempt, error) {
	if a, err := c.usable(); a != nil || err != nil {
		return a, err
	}
	next, err := c.read() // without the lock, because files may be slow to read
	if a, closed := c.usable(); a != nil || closed != nil {
		return a, closed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed { // meanwhile
		return nil, errClosed
	}
	if err != nil {
		c.status.LastError = err
		return nil, unreachable("no connection to the engine", err)
	}
	if c.current != nil && c.current.same(next) {
		return c.current, nil
	}
	old := c.current
	c.current = next
	go c.dial(next, old)
	return next, nil
}

// errClosed reports that the client was closed.
var errClosed = unreachable("the connection to the engine is closed", nil)

// usable returns the connection if it is up. It returns an error if the client is closed.
func (c *Client) usable() (*attempt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.current != nil && c.status.Connected {
		return c.current, nil
	}
	return nil, nil
}

// read returns an attempt, not made yet, with the current content of the files.
func (c *Client) read() (a *attempt, err error) {
	c.mu.Lock()
	file := c.config.CredentialsFile // tests change it
	c.mu.Unlock()
	a = &attempt{file: file, name: c.config.Name, tried: make(chan struct{}), made: make(chan struct{})}
	if a.file != "" {
		if a.secret, err = os.ReadFile(a.file); err != nil {
			return nil, fmt.Errorf("credentials_file cannot be read: %w", err)
		}
		if c.config.NameOf != nil {
			a.name = cmp.Or(c.config.NameOf(a.secret), a.name)
		}
	}
	if c.config.TLS != nil {
		if a.tls, err = c.config.TLS(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Name returns the name of this host, as of the last attempt to connect.
func (c *Client) Name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name()
}

// name is Name. The caller holds the lock.
func (c *Client) name() string {
	if c.current == nil {
		return c.config.Name
	}
	return c.current.name
}

// same reports whether two attempts have the same credentials and authorities.
func (a *attempt) same(o *attempt) bool {
	return bytes.Equal(a.secret, o.secret) && (a.tls == nil || a.tls.RootCAs.Equal(o.tls.RootCAs))
}

// dial connects, and then closes the previous connection.
func (c *Client) dial(a, old *attempt) {
	defer close(a.made)
	options, err := c.options(a)
	if err == nil {
		a.nc, err = nats.Connect(strings.Join(c.config.URLs, ","), options...)
	}
	if a.err = err; err != nil {
		c.forget(a, err)
	} else {
		select { // the library reports the result from a goroutine of its own
		case <-a.tried:
		case <-c.ended.Done():
		}
		if c.ended.Err() != nil { // Close was called meanwhile
			a.nc.Close()
		}
	}
	if old != nil {
		if <-old.made; old.nc != nil {
			old.nc.Close()
		}
	}
}

// forget drops a failed attempt; the next use starts a new one.
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

// unconnected returns the error of an operation that had no connection. why is the error that ended the wait
// for a connection; nil means that there was no wait.
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
		// Recover here: a panic in a goroutine of the library would end the daemon.
		_ = safely.Do(c.config.Log, "connection to the engine", func() error { callback(); return nil })
	}
}

// setConnected records a connection and returns the callback to run for it. Nil means no callback.
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

// beforeReconnect returns the delay before the next attempt to reconnect. It records why the last attempt failed
// if that was within the handshake, such as an unknown authority: the library calls no handler then.
func (c *Client) beforeReconnect(a *attempt) time.Duration {
	select {
	case <-a.made:
		if err := a.nc.LastError(); err != nil {
			c.note(a, err)
		}
	default:
	}
	return reconnectWait + mathrand.N(reconnectJitter)
}

func (c *Client) note(a *attempt, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a == c.current {
		c.status.LastError = advise(err)
	}
}

// Leave stops connecting, so no operation waits for a connection. An established connection stays until
// Close or until it is lost.
func (c *Client) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving = true; !c.status.Connected {
		c.stop()
	}
}

// closeTimeout limits how long closing a connection waits for the engine.
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

// briefly runs do and waits at most closeTimeout for it to return. The library may be dialing with its lock
// held, and it cannot interrupt a DNS lookup.
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

// Status returns the current state.
func (c *Client) Status() ClientStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}
