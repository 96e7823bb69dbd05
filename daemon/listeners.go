package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"rcpt-milter/config"
	"rcpt-milter/internal/socket"
)

// openMTAListeners opens the sockets for Postfix, or takes those that systemd passed.
func openMTAListeners(c *config.Config, log *slog.Logger) (listeners []*socket.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			listeners = nil
		}
	}()
	options := socket.Options{Mode: c.Socket.Mode, Allow: c.ListenAllow, AllowName: "listen_allow", Logger: log}
	gid, err := c.SocketGID()
	if err != nil {
		return nil, fmt.Errorf("socket.group: %w", err)
	}
	if gid >= 0 {
		options.GID = &gid
	}
	var passed socket.Passed
	for _, e := range c.Listen {
		if e.Network == "fd" {
			sockets, err := findPassed(&passed, e.Address, c.Listen)
			if err != nil {
				return listeners, fmt.Errorf("listen %q: %w", e, err)
			}
			for _, s := range sockets {
				l, err := socket.Adopt(s, options)
				if err != nil {
					return listeners, err
				}
				listeners = append(listeners, l)
			}
			continue
		}
		ensureSocketDir(e)
		l, err := socket.Prepare(e.String(), options)
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// findPassed returns the sockets that systemd passed for an entry of listen. The first call
// receives all of them.
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

// ensureSocketDir creates the directory of a unix socket unless its parent is missing too. A
// directory under /run is gone after each boot. Errors show when the socket is opened.
func ensureSocketDir(e config.Endpoint) {
	if e.Network == "unix" {
		os.Mkdir(filepath.Dir(e.Address), 0o755)
	}
}
