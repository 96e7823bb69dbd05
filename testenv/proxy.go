package testenv

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy is a TCP path that can fail. It forwards connections to a target. It can refuse new
// connections, cut open ones, delay and limit the bytes, or stall: bytes stop in both directions and
// nothing is closed, as when a firewall forgets a connection. Its methods may be used concurrently
// with traffic.
type Proxy struct {
	listener *net.TCPListener

	mu      sync.Mutex // guards the fields below
	target  string
	refuse  bool
	delay   time.Duration // of each read
	rate    int           // bytes a second in each direction of a connection; 0 means no limit
	gate    chan struct{} // closed: bytes flow
	stalled bool
	open    map[net.Conn]struct{}
	total   int
}

// NewProxy listens on its own loopback port for connections to a target. Run starts forwarding.
// Without Run, Close frees the port.
func NewProxy(target string) (*Proxy, error) { return NewProxyOn("127.0.0.1", target) }

// NewProxyOn is NewProxy on another address of this machine.
func NewProxyOn(ip, target string) (*Proxy, error) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		return nil, err
	}
	flowing := make(chan struct{})
	close(flowing)
	return &Proxy{listener: listener, target: target, gate: flowing, open: make(map[net.Conn]struct{})}, nil
}

// Addr is the address to connect to instead of the target.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Run forwards until the context ends, and returns when every connection is closed.
func (p *Proxy) Run(ctx context.Context) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer p.Resume()
	defer p.Cut()
	stop := context.AfterFunc(ctx, func() { p.listener.Close() })
	defer stop()
	for {
		conn, err := p.listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		sessions.Go(func() { p.forward(ctx, conn.(*net.TCPConn)) })
	}
}

// Close ends listening.
func (p *Proxy) Close() error { return p.listener.Close() }

// SetTarget sets the target of new connections.
func (p *Proxy) SetTarget(target string) { p.locked(func() { p.target = target }) }

// Slow delays the bytes in each direction by a time, and limits them to a rate in bytes a second. Zero
// means no delay and no limit.
func (p *Proxy) Slow(delay time.Duration, rate int) {
	p.locked(func() { p.delay, p.rate = delay, rate })
}

// Refuse makes the proxy reset new connections, the closest a listening port comes to a refusal.
// Open connections continue.
func (p *Proxy) Refuse() { p.locked(func() { p.refuse = true }) }

// Cut resets every open connection.
func (p *Proxy) Cut() {
	p.locked(func() {
		for conn := range p.open {
			reset(conn)
		}
	})
}

// Stall stops all bytes, including those of new connections, and closes nothing.
func (p *Proxy) Stall() {
	p.locked(func() {
		if !p.stalled {
			p.stalled, p.gate = true, make(chan struct{})
		}
	})
}

// Resume ends Refuse, Slow and Stall; held bytes arrive.
func (p *Proxy) Resume() {
	p.locked(func() {
		p.refuse, p.delay, p.rate = false, 0, 0
		if p.stalled {
			p.stalled = false
			close(p.gate)
		}
	})
}

// Connections returns the number of open connections and of all connections so far.
func (p *Proxy) Connections() (open, total int) {
	p.locked(func() { open, total = len(p.open)/2, p.total })
	return open, total
}

func (p *Proxy) locked(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// forward forwards one connection in both directions.
func (p *Proxy) forward(ctx context.Context, client *net.TCPConn) {
	var refuse bool
	var target string
	p.locked(func() { refuse, target = p.refuse, p.target; p.total++ })
	if refuse {
		reset(client)
		return
	}
	upstream, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", target)
	if err != nil {
		reset(client)
		return
	}
	server := upstream.(*net.TCPConn)
	defer client.Close()
	defer server.Close()
	p.locked(func() { p.open[client], p.open[server] = struct{}{}, struct{}{} })
	defer p.locked(func() { delete(p.open, client); delete(p.open, server) })
	if ctx.Err() != nil { // Cut at the end of Run may have missed this connection
		reset(client)
		reset(server)
	}
	var directions sync.WaitGroup
	directions.Go(func() { p.copyBytes(ctx, server, client) })
	directions.Go(func() { p.copyBytes(ctx, client, server) })
	directions.Wait()
}

// copyBytes copies one direction and holds bytes while the proxy is stalled. It passes on an
// orderly end; anything else resets both sides.
func (p *Proxy) copyBytes(ctx context.Context, to, from *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.waitFlow(ctx)
		if n > 0 {
			if werr := p.write(ctx, to, buffer[:n]); werr != nil {
				err = werr
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			to.CloseWrite()
			return
		default:
			reset(to)
			reset(from)
			return
		}
	}
}

// slowPart is the number of bytes that a limited path forwards at once.
const slowPart = 1 << 10

// write writes bytes with the delay and at the rate of the path.
func (p *Proxy) write(ctx context.Context, to io.Writer, bytes []byte) error {
	var delay time.Duration
	var rate int
	p.locked(func() { delay, rate = p.delay, p.rate })
	pause(ctx, delay)
	for len(bytes) > 0 {
		n := len(bytes)
		if rate > 0 {
			n = min(n, slowPart)
			pause(ctx, time.Duration(n)*time.Second/time.Duration(rate))
		}
		if _, err := to.Write(bytes[:n]); err != nil {
			return err
		}
		bytes = bytes[n:]
		p.locked(func() { rate = p.rate }) // Resume ends the limit
	}
	return nil
}

// pause waits for some time or until the context ends.
func pause(ctx context.Context, length time.Duration) {
	if length <= 0 {
		return
	}
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// waitFlow waits while the proxy is stalled.
func (p *Proxy) waitFlow(ctx context.Context) {
	var gate chan struct{}
	p.locked(func() { gate = p.gate })
	select {
	case <-gate:
	case <-ctx.Done():
	}
}

// reset closes a connection in a way that its peer sees as a reset, not as an end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}
