package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/socket"
)

// mtaListener is a listener for Postfix.
type mtaListener struct {
	*socket.Listener
	state *listenerState
}

// openMTAListeners opens the sockets for Postfix, or uses those that systemd passed. It returns the sockets of
// the milter and those of the socketmap.
func openMTAListeners(c *config.Config, log *slog.Logger) (milter, socketmap []mtaListener, err error) {
	defer func() {
		if err != nil {
			for _, l := range slices.Concat(milter, socketmap) {
				l.Close()
			}
			milter, socketmap = nil, nil
		}
	}()
	var passed socket.Passed
	if milter, err = openListeners(c, "listen", control.ListenerMilter, c.Listen, &passed, log); err != nil {
		return milter, nil, err
	}
	socketmap, err = openListeners(c, "listen_socketmap", control.ListenerSocketmap, c.ListenSocketmap, &passed, log)
	return milter, socketmap, err
}

// openListeners opens the sockets of one configuration key. passed has the sockets that systemd passed, once
// they have been received.
func openListeners(c *config.Config, key, name string, endpoints []config.Endpoint, passed *socket.Passed,
	log *slog.Logger) (listeners []mtaListener, err error) {
	options := socket.Options{Mode: c.Socket.Mode, Allow: c.ListenAllow, AllowName: "listen_allow", Logger: log}
	gid, err := c.SocketGID()
	if err != nil {
		return nil, fmt.Errorf("socket.group: %w", err)
	}
	if gid >= 0 {
		options.GID = &gid
	}
	add := func(l *socket.Listener, e config.Endpoint) {
		listeners = append(listeners, mtaListener{l, newListenerState(name, e, log)})
	}
	for _, e := range endpoints {
		if e.Network == "fd" {
			sockets, err := findPassed(passed, e.Address, slices.Concat(c.Listen, c.ListenSocketmap))
			if err != nil {
				return listeners, fmt.Errorf("%s %q: %w", key, e, err)
			}
			for _, s := range sockets {
				l, err := socket.Adopt(s, options)
				if err != nil {
					return listeners, err
				}
				add(l, e)
			}
			continue
		}
		ensureSocketDir(e)
		l, err := socket.Prepare(e.String(), options)
		if err != nil {
			return listeners, err
		}
		add(l, e)
	}
	return listeners, nil
}

// findPassed returns the sockets that systemd passed for one of the entries. The first call receives all
// sockets from systemd.
func findPassed(passed *socket.Passed, name string, entries []config.Endpoint) ([]net.Listener, error) {
	if *passed == nil {
		var err error
		if *passed, err = socket.ReceivePassed(); err != nil {
			return nil, err
		}
	}
	var named []string
	for _, e := range entries {
		if e.Network == "fd" {
			named = append(named, e.Address)
		}
	}
	return passed.Find(name, named)
}

// ensureSocketDir creates the directory of a unix socket if its parent exists. It ignores errors, because
// opening the socket reports them.
func ensureSocketDir(e config.Endpoint) {
	if e.Network == "unix" {
		_ = socket.MakeDir(filepath.Dir(e.Address))
	}
}
