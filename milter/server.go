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

	gomilter "github.com/emersion/go-milter"

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

// abortWait is how long Shutdown waits for sessions to notice that their connection
// was closed. They only have to finish a look into the index.
const abortWait = 5 * time.Second

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = errors.New("milter: server closed")

// ServerConfig says how a server serves. Where a number or duration is 0, the
// default applies. SetPolicy and SetLimits change what they name while it serves.
type ServerConfig struct {
	// Policy is required. SetPolicy replaces it.
	Policy *policy.Policy
	// Observer gets every decision; nil means none.
	Observer Observer
	// Logger gets a line for every decision; nil: nothing is logged.
	Logger *slog.Logger
	// Connections is how many are served at once, over all listeners. More wait in
	// the backlog of the socket until one ends.
	Connections int
	// Idle bounds the silence between two packets. While a message is uploaded an MTA
	// has nothing to tell us, so this must be hours: libmilter has 7210 s.
	Idle time.Duration
	// Packet bounds the time from the first octet of a packet to its last, and from
	// the connection to the first packet.
	Packet time.Duration
	// Write bounds the time of sending one reply.
	Write time.Duration
	// Drain is how long Run lets open sessions go on once it is told to stop.
	Drain time.Duration
}

// Server answers MTAs. Make it with NewServer; all its methods may be called
// concurrently.
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
	redactor atomic.Pointer[redactor]
	stopping chan struct{} // closed when Shutdown begins

	mu        sync.Mutex // guards all below; not taken between RCPT and reply
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{} // that were accepted, those that wait for a slot included
	empty     chan struct{}      // closed when nothing of that is left, and nothing can come
	stopped   bool
	cut       bool // what is left is cut off, and nothing more is let in
}

// NewServer checks the configuration. It starts nothing.
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

// SetLimits changes how many connections are served at once and how long one may be
// silent; both must be positive. Open sessions stay: of fewer connections the surplus
// goes by itself, and the new idle time counts from the next packet on.
func (s *Server) SetLimits(connections int, idle time.Duration) {
	s.slots.setLimit(connections)
	s.idle.Store(int64(idle))
}

// Policy returns the policy in effect.
func (s *Server) Policy() *policy.Policy { return s.policy.Load() }

// Counters returns the counters of the server.
func (s *Server) Counters() *Counters { return s.counters }

// Sessions returns the number of connections that are served.
func (s *Server) Sessions() int { return s.slots.inUse() }

// Run serves the listeners until ctx ends or one of them fails, lets open sessions
// go on for at most the configured drain time, and returns when all is closed. It
// returns nil where ctx ended and every session ended by itself.
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

// Serve accepts connections and answers them. It blocks until the listener fails for
// good or Shutdown is called, when it returns ErrServerClosed; open sessions go on.
// It closes the listener.
func (s *Server) Serve(listener net.Listener) error {
	if !s.addListener(listener) {
		listener.Close()
		return ErrServerClosed
	}
	defer s.removeListener(listener)
	// One for each listener: the library's own bookkeeping is not safe to share.
	library := gomilter.Server{
		NewMilter: func() gomilter.Milter { return &session{server: s} },
		Actions:   gomilter.OptSetSymList,
		Protocol:  suppressed,
		SymList:   map[gomilter.Stage][]string{gomilter.StageRcptTo: rcptMacros()},
	}
	err := library.Serve(&acceptor{Listener: listener, server: s})
	select {
	case <-s.stopping:
		return ErrServerClosed
	default:
		return fmt.Errorf("milter: %s: %w", listener.Addr(), err)
	}
}

// Shutdown stops accepting, waits for open sessions to end by themselves until ctx
// ends, and closes those that are left. It returns nil if none was. An MTA whose
// session is cut falls back to its milter_default_action. Whoever has connected by now is
// served; on a socket that was adopted, whoever has been accepted.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	defer s.cancel()
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	cut := s.abort()
	late := time.NewTimer(abortWait)
	defer late.Stop()
	select {
	case <-s.empty:
		return fmt.Errorf("milter: %d sessions cut: %w", cut, ctx.Err())
	case <-late.C:
		return fmt.Errorf("milter: %d sessions do not end", s.Sessions())
	}
}

// stop has all listeners end as soon as their queues are empty. Names go first: whoever
// connects to a socket after its queue was found empty would be lost.
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

// checkEmpty tells Shutdown when all is over; the caller has the lock.
func (s *Server) checkEmpty() {
	if s.stopped && len(s.listeners) == 0 && len(s.conns) == 0 {
		select {
		case <-s.empty:
		default:
			close(s.empty)
		}
	}
}

// abort takes the connection away from every session, and says from how many.
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

// addConn counts a connection in, unless what is left is being cut off.
func (s *Server) addConn(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cut {
		s.conns[c] = struct{}{}
	}
	return !s.cut
}

// removeConn counts a connection out, whose session has ended or never began.
func (s *Server) removeConn(c *conn) {
	if c.placed {
		s.slots.release()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.checkEmpty()
}
