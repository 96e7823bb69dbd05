package socket

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"

	"rcpt-milter/internal/logging"
)

// listenInet listens on TCP: on loopback for every client, elsewhere for the allowed networks.
func listenInet(hostPort string, o Options) (*Listener, error) {
	if _, _, err := net.SplitHostPort(hostPort); err != nil {
		return nil, fmt.Errorf("expected inet:host:port: %w", err)
	}
	addr, err := net.ResolveTCPAddr("tcp", hostPort)
	if err != nil {
		return nil, err
	}
	allow, err := newAllowList(addr, o)
	if err != nil {
		return nil, err
	}
	l, err := net.ListenTCP("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, err
	}
	return &Listener{sockets: []kernel{l}, allow: allow, options: o}, nil
}

// allowList holds the networks that may connect over TCP. Nil allows every peer.
type allowList struct {
	networks []netip.Prefix
	name     string // in messages
	log      *logging.Limited
}

// newAllowList returns the list for a listener at an address; nil on loopback.
func newAllowList(addr *net.TCPAddr, o Options) (*allowList, error) {
	if addr.IP.IsLoopback() {
		return nil, nil
	}
	if len(o.Allow) == 0 {
		return nil, fmt.Errorf("the address is not loopback and the protocol has no authentication; "+
			"set %s to the networks of the clients", o.AllowName)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &allowList{networks: o.Allow, name: o.AllowName, log: logging.NewLimited(o.Logger)}, nil
}

// permits reports whether a connection comes from an allowed network.
func (l *allowList) permits(c net.Conn) bool {
	if l == nil || l.contains(c.RemoteAddr()) {
		return true
	}
	l.log.Warn("rejected a connection from a network that is not allowed", "peer", c.RemoteAddr().String(),
		"setting", l.name)
	return false
}

func (l *allowList) contains(peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, network := range l.networks {
		if network.Contains(ip) {
			return true
		}
	}
	return false
}
