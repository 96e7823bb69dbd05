package socketmap

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

// Defaults of Config.
const (
	DefaultIdle    = 2 * time.Minute
	DefaultRequest = 10 * time.Second
	DefaultWrite   = 10 * time.Second
	DefaultDrain   = 5 * time.Second
)

// lastCall is how long a stopping server waits for the first request of a new connection. For the same time it
// still accepts connections on TCP, where a socket has no name that could be removed first.
const lastCall = time.Second

// acceptPause is the pause after a failed attempt to accept a connection.
const acceptPause = 100 * time.Millisecond

// Config configures a Server. Zero durations select the defaults.
type Config struct {
	// Policy is required. SetPolicy replaces it.
	Policy *policy.Policy
	// Confirmed is called with the domain of a recipient that a directory has but the index does not. Nil means
	// no callback.
	Confirmed func(domain string)
	// Logger receives a line for each lookup; nil means no log.
	Logger *slog.Logger
	// Connections limits the open connections, over all listeners. Required.
	Connections int
	// Idle is the longest time between two requests. Postfix closes a connection after 10 s without a request,
	// and after 100 s in any case.
	Idle time.Duration
	// Request is the longest time from the first byte of a request to its last, and from the connection to the
	// first request.
	Request time.Duration
	// Write is the longest time for sending one reply.
	Write time.Duration
	// Drain is how long Run lets running requests continue after its context ends.
	Drain time.Duration
}

// Counts are the numbers of replies since the start.
type Counts struct{ Found, NotFound, Temporary, Permanent int64 }

// Server answers Postfix. Create it with NewServer. Its methods are safe for concurrent use.
type Server struct {
	cfg      Config
	log      *slog.Logger
	trouble  *logging.Limited // for events that peers can cause at any rate
	policy   atomic.Pointer[policy.Policy]
	redact   atomic.Pointer[func(string) string]
	answers  [kinds]atomic.Int64
	failures atomic.Int64 // failed calls of Accept
	pool     *pool
	began    time.Time

	// ctx is the context of all decisions. It is canceled when Run stops waiting.
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{} // closed when Run starts to stop
}

// NewServer validates a configuration and returns a server that is not yet running.
func NewServer(cfg Config) (*Server, error) {
	if cfg.Policy == nil {
		return nil, errors.New("socketmap: server without a policy")
	}
	if cfg.Connections <= 0 {
		return nil, errors.New("socketmap: the limit of connections must be positive")
	}
	if cfg.Idle < 0 || cfg.Request < 0 || cfg.Write < 0 || cfg.Drain < 0 {
		return nil, errors.New("socketmap: a limit of the server is negative")
	}
	setDefault(&cfg.Idle, DefaultIdle)
	setDefault(&cfg.Request, DefaultRequest)
	setDefault(&cfg.Write, DefaultWrite)
	setDefault(&cfg.Drain, DefaultDrain)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Logger, trouble: logging.NewLimited(cfg.Logger), pool: newPool(cfg.Connections),
		began: time.Now(), ended: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.policy.Store(cfg.Policy)
	s.SetRedaction(nil)
	return s, nil
}

func setDefault[T comparable](value *T, def T) {
	var zero T
	if *value == zero {
		*value = def
	}
}

// SetPolicy replaces the policy, also for open connections. It must not be nil.
func (s *Server) SetPolicy(p *policy.Policy) { s.policy.Store(p) }

// SetRedaction sets the function that hashes addresses for the log; nil logs them unchanged.
func (s *Server) SetRedaction(hash func(text string) string) {
	address := shown
	if hash != nil {
		address = func(text string) string { return shown(hash(text)) }
	}
	s.redact.Store(&address)
}

// Counts returns the numbers of replies since the start.
func (s *Server) Counts() Counts {
	return Counts{s.answers[found].Load(), s.answers[notFound].Load(), s.answers[temporary].Load(),
		s.answers[permanent].Load()}
}

// Connections returns the number of open connections and their limit. It also returns how many connections
// arrived when the limit was reached, and how many attempts to accept one failed, since the start.
func (s *Server) Connections() (open, limit int, atLimit, failures int64) {
	return s.pool.use(), s.pool.limit, s.pool.full.Load(), s.failures.Load()
}

// Run serves the listeners until ctx ends or one of them fails, and then closes them. It answers one more
// request of each connected client within the drain time. It may be called only once.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	defer s.cancel()
	var accepting, serving sync.WaitGroup
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		accepting.Go(func() {
			if err := s.accept(l, &serving); err != nil {
				failed <- fmt.Errorf("socketmap: %s: %w", l.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.stop(listeners)
	idle := make(chan struct{})
	go func() {
		accepting.Wait()
		s.pool.dropAllIdle(false)
		serving.Wait()
		close(idle)
	}()
	s.drain(idle)
	<-idle
	for _, l := range listeners {
		l.Close()
	}
	return err
}

// stop makes the listeners end as soon as their queues are empty. It removes their names first, because a
// client that connects after a queue was found empty would be lost.
func (s *Server) stop(listeners []net.Listener) {
	for _, l := range listeners {
		if own, ok := l.(*socket.Listener); ok {
			own.Withdraw()
		}
	}
	close(s.ended)
	for _, l := range listeners {
		if own, ok := l.(*socket.Listener); ok {
			own.Interrupt()
		} else {
			l.Close()
		}
	}
}

// drain waits until the server is idle. It closes connections without a request after lastCall, and all others
// after the drain time.
func (s *Server) drain(idle <-chan struct{}) {
	last, end := time.NewTimer(lastCall), time.NewTimer(s.cfg.Drain)
	defer last.Stop()
	defer end.Stop()
	for {
		select {
		case <-idle:
			return
		case <-last.C:
			s.pool.dropAllIdle(true)
		case <-end.C:
			s.pool.abort()
			s.cancel()
			return
		}
	}
}

func (s *Server) stopping() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// accept serves each connection of a listener in its own goroutine. It returns nil after the server has started
// to stop and the queue of the listener is empty.
func (s *Server) accept(l net.Listener, serving *sync.WaitGroup) error {
	var end time.Time // end of the last call
	for {
		if s.stopping() {
			if end.IsZero() {
				end = time.Now().Add(lastCall)
			}
			own, ok := l.(*socket.Listener)
			if !ok || !own.Withdrawable() && time.Now().After(end) || !own.Queued() {
				return nil
			}
		}
		raw, err := l.Accept()
		switch {
		case err == nil:
			c := newConn(raw, s)
			if !s.pool.admit(c) {
				raw.Close()
				return nil
			}
			serving.Go(c.serve)
		case s.stopping():
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			s.failures.Add(1)
			s.trouble.Warn("accepting a socketmap connection failed, trying again", "listen", l.Addr().String(),
				"error", err)
			s.pause()
		}
	}
}

// pause waits for acceptPause, or until the server starts to stop.
func (s *Server) pause() {
	timer := time.NewTimer(acceptPause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ended:
	}
}
