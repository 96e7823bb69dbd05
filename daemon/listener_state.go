package daemon

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/socket"
)

// listenerState is the state of one listener, as shown in status. Its methods are safe for concurrent use.
type listenerState struct {
	name     string // one of the control.Listener constants
	endpoint config.Endpoint
	log      *slog.Logger
	now      func() time.Time

	mu       sync.Mutex
	trouble  string
	since    time.Time
	restored int64
}

func newListenerState(name string, e config.Endpoint, log *slog.Logger) *listenerState {
	return &listenerState{name: name, endpoint: e, log: log, now: time.Now}
}

// set records whether clients can connect. It logs changes.
func (s *listenerState) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.trouble
	if s.trouble = ""; err != nil {
		s.trouble = err.Error()
	}
	switch {
	case s.trouble == before:
	case s.trouble == "":
		s.since = time.Time{}
		s.log.Info("clients can connect again", "listener", s.name, "listen", s.endpoint.String())
	default:
		if before == "" {
			s.since = s.now()
		}
		s.log.Error("clients cannot connect; trying again", "listener", s.name, "listen", s.endpoint.String(), "error",
			err)
	}
}

// check restores the socket file of a listener if it is missing or has lost permissions, and records the result.
func (s *listenerState) check(l *socket.Listener) {
	restored, err := l.Restore()
	if err != nil {
		ensureSocketDir(s.endpoint)
		restored, err = l.Restore()
	}
	if restored {
		s.mu.Lock()
		s.restored++
		s.mu.Unlock()
		s.log.Warn("socket file was gone; made it again", "listener", s.name, "listen", s.endpoint.String())
	}
	if err == nil {
		var repaired bool
		if repaired, err = l.RestoreAccess(); repaired {
			s.log.Warn("socket file had lost its permissions or its group; set them again", "listener", s.name,
				"listen", s.endpoint.String())
		}
	}
	s.set(err)
}

// status returns the state together with the connections of the listener.
func (s *listenerState) status(c control.Connections) control.ListenerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return control.ListenerStatus{Name: s.name, Address: s.endpoint.String(), Trouble: s.trouble,
		Since: control.Time{Time: s.since}, Restored: s.restored,
		Connections: c.Open, Limit: c.Limit, AtLimit: c.AtLimit, AcceptErrors: c.AcceptErrors}
}

// socketCheckInterval is the interval between checks of the socket files. Postfix cannot connect while its
// socket file is missing.
const socketCheckInterval = time.Second

// watchSockets checks the socket files until ctx ends.
func (d *daemon) watchSockets(ctx context.Context) error {
	ticker := time.NewTicker(socketCheckInterval)
	defer ticker.Stop()
	for {
		d.checkSockets()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// checkSockets checks all socket files once.
func (d *daemon) checkSockets() {
	for _, l := range slices.Concat(d.mtaListeners, d.mapListeners) {
		l.state.check(l.Listener)
	}
	for _, s := range d.services() {
		if l := s.unixListener(); l != nil {
			s.state.check(l)
		}
	}
}

// listenerStatus returns the state of all listeners.
func (d *daemon) listenerStatus() (all []control.ListenerStatus) {
	var c control.Connections
	c.Open, c.Limit, c.AtLimit, c.AcceptErrors = d.server.Connections()
	for _, l := range d.mtaListeners {
		all = append(all, l.state.status(c))
	}
	c.Open, c.Limit, c.AtLimit, c.AcceptErrors = d.socketmap.Connections()
	for _, l := range d.mapListeners {
		all = append(all, l.state.status(c))
	}
	for _, s := range d.services() {
		if s.wanted() {
			all = append(all, s.state.status(s.connections()))
		}
	}
	return all
}
