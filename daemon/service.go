package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/socket"
)

// retryInterval is the interval between attempts of a service to listen.
const retryInterval = time.Second

// service is a listener for people and tools. Postfix does not need it. If it cannot listen, it keeps trying
// while the daemon answers.
type service struct {
	state  *listenerState
	listen func() (net.Listener, error)
	wanted func() bool // whether the configuration in effect enables it
	budget int         // maximum number of connections

	mu   sync.Mutex
	open *control.Limited // nil if it is not listening
	past control.Connections
}

// start listens, unless the service is already listening or not wanted.
func (s *service) start() error {
	if !s.wanted() || s.listener() != nil {
		return nil
	}
	l, err := s.listen()
	s.state.set(err)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = control.Limit(l, s.budget)
	return nil
}

// run serves until ctx ends.
func (s *service) run(ctx context.Context, serve func(context.Context, net.Listener) error) error {
	for ctx.Err() == nil {
		_ = s.start() // the error is recorded in the state
		if l := s.listener(); l != nil {
			if err := serve(ctx, l); ctx.Err() == nil {
				s.state.set(err)
			}
			s.close()
		}
		timer := time.NewTimer(retryInterval)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

func (s *service) listener() *control.Limited {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// unixListener returns the unix socket of the service, or nil if it has none.
func (s *service) unixListener() *socket.Listener {
	if l := s.listener(); l != nil {
		if own, ok := l.Listener.(*socket.Listener); ok {
			return own
		}
	}
	return nil
}

// connections returns the connection counts since the start of the daemon.
func (s *service) connections() control.Connections {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := control.Connections{Limit: s.budget}
	if s.open != nil {
		c = s.open.Connections()
	}
	c.AtLimit += s.past.AtLimit
	c.AcceptErrors += s.past.AcceptErrors
	return c
}

// close stops listening.
func (s *service) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return
	}
	s.open.Close()
	last := s.open.Connections()
	s.past.AtLimit += last.AtLimit
	s.past.AcceptErrors += last.AcceptErrors
	s.open = nil
}

// services returns the listeners for people and tools that exist. A stopped daemon has none.
func (d *daemon) services() (all []*service) {
	for _, s := range []*service{d.control, d.page, d.telemetry} {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// newServices creates the listeners for people and tools. They do not listen yet.
func (d *daemon) newServices(c *config.Config) {
	descriptors := countDescriptors().Limit
	create := func(name string, e config.Endpoint, most int, wanted func() bool) *service {
		return &service{state: newListenerState(name, e, d.log), wanted: wanted,
			budget: listenerBudget(most, descriptors), listen: func() (net.Listener, error) { return listenOn(e) }}
	}
	d.control = create(control.ListenerControl, c.Control, controlConnections, func() bool { return true })
	d.page = create(control.ListenerPage, c.Page.Listen, pageConnections,
		func() bool { return d.config.Load().ShowsPage() })
	d.telemetry = create(control.ListenerMetrics, c.Metrics, metricsConnections,
		func() bool { return !c.Metrics.IsZero() })
}

// listenOn listens for people and tools. Members of the daemon's group can connect to a unix socket.
func listenOn(e config.Endpoint) (net.Listener, error) {
	if e.Network != "unix" {
		l, err := net.Listen(e.Network, e.Address)
		if err != nil {
			return nil, fmt.Errorf("%w; choose another address, or \"\" to do without", err)
		}
		return l, nil
	}
	ensureSocketDir(e)
	l, err := socket.Listen(e.String(), socket.Options{Mode: 0o660})
	if err != nil {
		return nil, err // do not return a nil *Listener as a non-nil net.Listener
	}
	return l, nil
}

// serving returns the component that serves a handler.
func (s *service) serving(handler http.Handler, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		return s.run(ctx, func(ctx context.Context, l net.Listener) error {
			return control.Serve(ctx, l, handler, log)
		})
	}
}
