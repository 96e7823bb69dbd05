package milter

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
)

// listenInet listens on TCP: on loopback for all, elsewhere for the networks allowed.
func listenInet(hostPort string, o ListenOptions) (*Listener, error) {
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
	return &Listener{kernel: l, allow: allow}, nil
}

// allowList says who may connect over TCP. Nil: everybody.
type allowList struct {
	networks []netip.Prefix
	trouble  *limitedLog
}

// newAllowList is for a listener at an address: nil on loopback.
func newAllowList(addr *net.TCPAddr, o ListenOptions) (*allowList, error) {
	if addr.IP.IsLoopback() {
		return nil, nil
	}
	if len(o.Allow) == 0 {
		return nil, errors.New("this is not a loopback address, and whoever reaches it could ask: name the networks of the MTAs in listen_allow")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &allowList{networks: o.Allow, trouble: newLimitedLog(o.Logger)}, nil
}

// permits reports whether a connection comes from where it may.
func (l *allowList) permits(c net.Conn) bool {
	if l == nil || l.contains(c.RemoteAddr()) {
		return true
	}
	l.trouble.warn("connection from a network that is not in listen_allow closed", "peer", c.RemoteAddr().String())
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
