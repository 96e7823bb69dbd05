package milter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"rcpt-milter/internal/logging"
	"rcpt-milter/internal/socket"
	"rcpt-milter/policy"
)

// Defaults of ServerConfig.
const (
	DefaultPacket = 20 * time.Second
	DefaultWrite  = 10 * time.Second
	DefaultDrain  = 30 * time.Second
)

// abortWait is how long Shutdown waits for sessions to end after it has closed their connections. They only
// need to finish a lookup in the index.
const abortWait = 5 * time.Second

// ErrServerClosed is the error of Serve after Shutdown.
var ErrServerClosed = errors.New("milter: server closed")

// ServerConfig configures a Server. SetPolicy and SetLimits change the settings of a running server.
type ServerConfig struct {
	// Policy is required. SetPolicy replaces it.
	Policy *policy.Policy
	// Observer receives every decision; nil means none.
	Observer Observer
	// Logger receives a line for every decision; nil means no log.
	Logger *slog.Logger
	// Connections limits the connections that are served at once, over all listeners. Further connections wait in
	// the backlogs of the sockets. Required.
	Connections int
	// Idle is the longest time between two packets. An MTA sends none while it receives a message, so this must
	// be hours; libmilter uses 7210 s. Required.
	Idle time.Duration
	// Packet is the longest time from the first byte of a packet to its last, and from the connection to the
	// first packet. Zero means DefaultPacket.
	Packet time.Duration
	// Write is the longest time for sending one reply. Zero means DefaultWrite.
	Write time.Duration
	// Drain is how long Run lets open sessions continue after its context ends. Zero means DefaultDrain.
	Drain time.Duration
}

// Server answers MTAs. Create it with NewServer. Its methods are safe for concurrent use.
type Server struct {
	cfg      ServerConfig
	log      *slog.Logger
	trouble  *logging.Limited // for events that peers can cause at any rate
	policy   atomic.Pointer[policy.Policy]
	counters *Counters

	// ctx is the context of all decisions. It is canceled when Shutdown stops waiting.
	ctx    context.Context
	cancel context.CancelFunc

	slots    *slots       // limits the connections
	idle     atomic.Int64 // ServerConfig.Idle
	atLimit  atomic.Int64 // connections that had to wait for a slot
	failures atomic.Int64 // failed calls of Accept
	redactor atomic.Pointer[redactor]
	stopping chan struct{} // closed when Shutdown starts

	mu        sync.Mutex // guards the fields below; not locked between RCPT and reply
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{} // accepted connections, including those that wait for a slot
	empty     chan struct{}      // closed when no listeners and connections are left
	stopped   bool
	cut       bool // connections are being closed, and new ones are rejected
}

// NewServer validates a configuration and returns a server that is not yet running.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Policy == nil {
		return nil, errors.New("milter: server without a policy")
	}
	if cfg.Connections <= 0 || cfg.Idle <= 0 {
		return nil, errors.New("milter: the limit of connections and the idle time must be positive")
	}
	if cfg.Packet < 0 || cfg.Write < 0 || cfg.Drain < 0 {
		return nil, errors.New("milter: a limit of the server is negative")
	}
	setDefault(&cfg.Packet, DefaultPacket)
	setDefault(&cfg.Write, DefaultWrite)
	setDefault(&cfg.Drain, DefaultDrain)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, trouble: logging.NewLimited(cfg.Logger),
		counters:  newCounters(),
		slots:     newSlots(cfg.Connections),
		stopping:  make(chan struct{}),
		empty:     make(chan struct{}),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.policy.Store(cfg.Policy)
	s.idle.Store(int64(cfg.Idle))
	s.SetRedaction(nil)
	return s, nil
}

func setDefault[T comparable](value *T, def T) {
	var zero T
	if *value == zero {
		*value = def
	}
}

// SetPolicy replaces the policy, also for running sessions. It must not be nil.
func (s *Server) SetPolicy(p *policy.Policy) { s.policy.Store(p) }

// SetLimits changes Connections and Idle; both must be positive. Open sessions continue, even above a lower
// limit. A new idle time applies from the next packet.
func (s *Server) SetLimits(connections int, idle time.Duration) {
	s.slots.setLimit(connections)
	s.idle.Store(int64(idle))
}

// Policy returns the policy in effect.
func (s *Server) Policy() *policy.Policy { return s.policy.Load() }

// Counters returns the counters of the server.
func (s *Server) Counters() *Counters { return s.counters }

// Sessions returns the number of connections that are being served.
func (s *Server) Sessions() int {
	sessions, _ := s.slots.use()
	return sessions
}

// Connections returns the number of open connections and their limit. It also returns how many connections had
// to wait because of the limit, and how many attempts to accept one failed, since the start.
func (s *Server) Connections() (open, limit int, waited, failures int64) {
	open, limit = s.slots.use()
	return open, limit, s.atLimit.Load(), s.failures.Load()
}

// Run serves the listeners until ctx ends or one of them fails. It lets open sessions continue for at most the
// drain time, and returns after everything is closed. It returns nil if ctx ended and all sessions ended by
// themselves.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- s.Serve(l) }()
	}
	waiting := len(listeners)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		waiting--
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	if stop := s.Shutdown(drain); err == nil {
		err = stop
	}
	for ; waiting > 0; waiting-- {
		<-failed
	}
	return err
}

// Serve accepts and answers connections, and blocks until the listener fails permanently or Shutdown is called.
// It closes the listener. After Shutdown, it returns ErrServerClosed while open sessions continue.
func (s *Server) Serve(listener net.Listener) error {
	if !s.addListener(listener) {
		listener.Close()
		return ErrServerClosed
	}
	defer s.removeListener(listener)
	defer listener.Close()
	err := s.accept(&acceptor{Listener: listener, server: s})
	select {
	case <-s.stopping:
		return ErrServerClosed
	default:
		return fmt.Errorf("milter: %s: %w", listener.Addr(), err)
	}
}

// accept answers each connection in its own goroutine until there are no more.
func (s *Server) accept(a *acceptor) error {
	for {
		c, err := a.Accept()
		if err != nil {
			return err
		}
		go newDialogue(c).run()
	}
}

// Shutdown stops accepting connections, waits until ctx ends for open sessions to end, and closes the rest. It
// returns nil if all sessions ended in time. For a closed session, the MTA applies its milter_default_action.
// Clients that are already connected are served; on an adopted socket, only those that are already accepted.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	defer s.cancel()
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	cut := s.abort() // before the searches end, because the index alone would answer then
	s.cancel()
	late := time.NewTimer(abortWait)
	defer late.Stop()
	select {
	case <-s.empty:
		return fmt.Errorf("milter: %d sessions cut: %w", cut, ctx.Err())
	case <-late.C:
		return fmt.Errorf("milter: %d sessions do not end", s.Sessions())
	}
}

// stop makes all listeners end as soon as their queues are empty. It removes their names first, because a
// client that connects after a queue was found empty would be lost.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	for l := range s.listeners {
		if own, ok := l.(*socket.Listener); ok {
			own.Withdraw()
		}
	}
	s.stopped = true
	close(s.stopping)
	for l := range s.listeners {
		if own, ok := l.(*socket.Listener); ok {
			own.Interrupt()
		} else {
			l.Close()
		}
	}
	s.checkEmpty()
}

// checkEmpty signals Shutdown when no listeners and connections are left. The caller holds the lock.
func (s *Server) checkEmpty() {
	if s.stopped && len(s.listeners) == 0 && len(s.conns) == 0 {
		select {
		case <-s.empty:
		default:
			close(s.empty)
		}
	}
}

// abort closes the connections of all sessions and returns their number.
func (s *Server) abort() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	for c := range s.conns {
		c.abort()
	}
	return len(s.conns)
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.listeners[l] = struct{}{}
	}
	return !s.stopped
}

func (s *Server) removeListener(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
	s.checkEmpty()
}

// addConn adds a connection. It reports false if connections are being closed.
func (s *Server) addConn(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cut {
		s.conns[c] = struct{}{}
	}
	return !s.cut
}

// removeConn removes a connection whose session has ended or never started.
func (s *Server) removeConn(c *conn) {
	if c.placed {
		s.slots.release()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.checkEmpty()
}
