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
	DefaultConnections = 2000
	DefaultIdle        = 2 * time.Hour
	DefaultPacket      = 20 * time.Second
	DefaultWrite       = 10 * time.Second
	DefaultDrain       = 30 * time.Second
)

// abortWait is how long Shutdown waits for sessions to end after it closed their connections.
// They only have to finish a lookup in the index.
const abortWait = 5 * time.Second

// ErrServerClosed is the error of Serve after Shutdown.
var ErrServerClosed = errors.New("milter: server closed")

// ServerConfig configures a Server. A number or duration of 0 means the default. SetPolicy and
// SetLimits change settings of a running server.
type ServerConfig struct {
	// Policy is required. SetPolicy replaces it.
	Policy *policy.Policy
	// Observer gets every decision; nil means none.
	Observer Observer
	// Logger gets a line for every decision; nil means no log.
	Logger *slog.Logger
	// Connections is the number of connections served at once, over all listeners. More wait
	// in the backlog of the socket.
	Connections int
	// Idle is the longest time between two packets. An MTA sends none while it receives a
	// message, so this must be hours: libmilter has 7210 s.
	Idle time.Duration
	// Packet is the longest time from the first byte of a packet to its last, and from the
	// connection to the first packet.
	Packet time.Duration
	// Write is the longest time for sending one reply.
	Write time.Duration
	// Drain is how long Run lets open sessions continue after its context ends.
	Drain time.Duration
}

// Server answers MTAs. Make it with NewServer. Its methods may be called concurrently.
type Server struct {
	cfg      ServerConfig
	log      *slog.Logger
	trouble  *logging.Limited // for what peers can cause at will
	policy   atomic.Pointer[policy.Policy]
	counters *Counters

	// ctx is that of all decisions. It ends when Shutdown stops waiting.
	ctx    context.Context
	cancel context.CancelFunc

	slots    *slots       // one for each connection
	idle     atomic.Int64 // ServerConfig.Idle
	atLimit  atomic.Int64 // connections that had to wait for a slot
	failures atomic.Int64 // of Accept
	redactor atomic.Pointer[redactor]
	stopping chan struct{} // closed when Shutdown begins

	mu        sync.Mutex // guards all below; not taken between RCPT and reply
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{} // that were accepted, those that wait for a slot included
	empty     chan struct{}      // closed when nothing of that is left, and nothing can come
	stopped   bool
	cut       bool // what is left is cut off, and nothing more is let in
}

// NewServer validates the configuration and returns a server that is not yet running.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Policy == nil {
		return nil, errors.New("milter: server without a policy")
	}
	if cfg.Connections < 0 || cfg.Idle < 0 || cfg.Packet < 0 || cfg.Write < 0 || cfg.Drain < 0 {
		return nil, errors.New("milter: a limit of the server is negative")
	}
	setDefault(&cfg.Connections, DefaultConnections)
	setDefault(&cfg.Idle, DefaultIdle)
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

// SetPolicy replaces the policy, in running sessions too. It must not be nil.
func (s *Server) SetPolicy(p *policy.Policy) { s.policy.Store(p) }

// SetLimits changes Connections and Idle; both must be positive. Open sessions continue, also
// those above a lower limit. The new idle time applies from the next packet.
func (s *Server) SetLimits(connections int, idle time.Duration) {
	s.slots.setLimit(connections)
	s.idle.Store(int64(idle))
}

// Policy returns the policy in effect.
func (s *Server) Policy() *policy.Policy { return s.policy.Load() }

// Counters returns the counters of the server.
func (s *Server) Counters() *Counters { return s.counters }

// Sessions returns the number of connections that are served.
func (s *Server) Sessions() int {
	sessions, _ := s.slots.use()
	return sessions
}

// Connections returns the number of open connections, their limit, how many had to wait because of
// it, and how many attempts to accept one failed; the last two since the start.
func (s *Server) Connections() (open, limit int, waited, failures int64) {
	open, limit = s.slots.use()
	return open, limit, s.atLimit.Load(), s.failures.Load()
}

// Run serves the listeners until ctx ends or one of them fails. It lets open sessions continue
// for at most the drain time, and returns after everything is closed. It returns nil if ctx
// ended and every session ended by itself.
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

// Serve accepts connections and answers them. It blocks until the listener fails permanently or
// Shutdown is called. After Shutdown it returns ErrServerClosed; open sessions continue. It
// closes the listener.
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

// accept answers each connection in a goroutine of its own until there are no more.
func (s *Server) accept(a *acceptor) error {
	for {
		c, err := a.Accept()
		if err != nil {
			return err
		}
		go newDialogue(c).run()
	}
}

// Shutdown stops accepting, waits until ctx ends for open sessions to end, and closes the rest.
// It returns nil if there was no rest. An MTA whose session is closed uses its
// milter_default_action. Clients that are connected already are served; on an adopted socket,
// those that are accepted already.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	defer s.cancel()
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	cut := s.abort() // before the end of searches, which would let the index answer alone
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

// stop has all listeners end as soon as their queues are empty. Names go first: a client
// that connects to a socket after its queue was found empty would be lost.
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

// checkEmpty signals Shutdown when nothing is left. The caller holds the lock.
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

// removeConn removes a connection whose session has ended or never began.
func (s *Server) removeConn(c *conn) {
	if c.placed {
		s.slots.release()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.checkEmpty()
}
