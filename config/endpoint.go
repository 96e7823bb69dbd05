package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"rcpt-milter/address"
)

// maxSocketPath is the limit of package internal/socket for a path, in bytes. A test of the daemon
// compares the two.
const maxSocketPath = 102

// Endpoint is an address to listen on or to connect to. The zero value means none.
type Endpoint struct {
	Network string // "unix" or "tcp", as in package net; "fd" for a socket passed by systemd
	Address string // an absolute path or host:port; for "fd" the name of the socket, empty for all
}

// String returns the endpoint in the syntax of the file: unix:/path, inet:host:port or fd:name.
func (e Endpoint) String() string {
	switch e.Network {
	case "":
		return ""
	case "tcp":
		return "inet:" + e.Address
	default:
		return e.Network + ":" + e.Address
	}
}

// IsZero reports whether the endpoint is none.
func (e Endpoint) IsZero() bool { return e == Endpoint{} }

// Loopback reports whether only this host can reach the endpoint. Sockets passed by systemd
// count as loopback here and are checked at the start.
func (e Endpoint) Loopback() bool {
	if e.Network != "tcp" {
		return true
	}
	host, _, _ := net.SplitHostPort(e.Address)
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// parseListener reads an endpoint for Postfix.
func parseListener(text string) (Endpoint, error) {
	switch scheme, rest, _ := strings.Cut(text, ":"); scheme {
	case "unix":
		return parseUnix(text)
	case "inet":
		return parseInet(rest)
	case "fd":
		if !fdNameSyntax.MatchString(rest) {
			return Endpoint{}, fmt.Errorf("expected fd: or fd:name, the FileDescriptorName= of a socket unit, got %s",
				quoted(text))
		}
		return Endpoint{"fd", rest}, nil
	default:
		return Endpoint{}, fmt.Errorf("expected unix:/path, inet:host:port or fd:, got %s", quoted(text))
	}
}

// fdNameSyntax is the syntax of names in sd_listen_fds_with_names(3).
var fdNameSyntax = regexp.MustCompile(`^[!-9;-~]{0,255}$`)

// parseUnix reads unix:/path.
func parseUnix(text string) (Endpoint, error) {
	path, ok := strings.CutPrefix(text, "unix:")
	if !ok {
		return Endpoint{}, fmt.Errorf("expected unix:/path, got %s", quoted(text))
	}
	path, err := parsePath(path)
	if err != nil {
		return Endpoint{}, err
	}
	if len(path) > maxSocketPath {
		return Endpoint{}, fmt.Errorf("the path of a socket has a limit of %d bytes, this one has %d", maxSocketPath,
			len(path))
	}
	return Endpoint{"unix", path}, nil
}

// parseMetrics reads inet:host:port, or an empty text for none.
func parseMetrics(text string) (Endpoint, error) {
	if text == "" {
		return Endpoint{}, nil
	}
	rest, ok := strings.CutPrefix(text, "inet:")
	if !ok {
		return Endpoint{}, fmt.Errorf("expected inet:host:port, or \"\" for none, got %s", quoted(text))
	}
	return parseInet(rest)
}

// parsePage reads unix:/path or inet:host:port, or an empty text for none.
func parsePage(text string) (Endpoint, error) {
	switch scheme, rest, _ := strings.Cut(text, ":"); {
	case text == "":
		return Endpoint{}, nil
	case scheme == "unix":
		return parseUnix(text)
	case scheme == "inet":
		return parseInet(rest)
	}
	return Endpoint{}, fmt.Errorf("expected unix:/path or inet:host:port, or \"\" for none, got %s", quoted(text))
}

// parseInet reads host:port; the host may be a name, or an IPv6 address in brackets.
func parseInet(text string) (Endpoint, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || strings.ContainsAny(host, " /@") {
		return Endpoint{}, fmt.Errorf("expected inet:host:port, got %s", quoted("inet:"+text))
	}
	if host == "" || host == "*" {
		return Endpoint{}, fmt.Errorf("expected a host before the port, got %s; use 0.0.0.0 or [::] for all addresses",
			quoted("inet:"+text))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Endpoint{}, fmt.Errorf("expected a port from 1 to 65535, got %s", quoted(port))
	}
	return Endpoint{"tcp", net.JoinHostPort(host, port)}, nil
}

// parseHostName reads the Host of an HTTP request, without a port.
func parseHostName(text string) (string, error) {
	domain, err := address.ParseDomain(text)
	if err != nil || strings.HasPrefix(domain, "[") {
		return "", fmt.Errorf("expected a host name such as relay.example.com, got %s", quoted(text))
	}
	return domain, nil
}

// parsePath reads an absolute path.
func parsePath(text string) (string, error) {
	if !filepath.IsAbs(text) {
		return "", fmt.Errorf("expected an absolute path, got %s", quoted(text))
	}
	return filepath.Clean(text), nil
}

// parseOptionalPath reads an absolute path or an empty text.
func parseOptionalPath(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	return parsePath(text)
}

// parseNetwork reads 192.0.2.0/24 or a single address.
func parseNetwork(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("expected a network such as 192.0.2.0/24 or an address, got %s", quoted(text))
	}
	if masked := prefix.Masked(); masked != prefix {
		return netip.Prefix{}, fmt.Errorf("%s has host bits set; the network is %s", quoted(text), masked)
	}
	if prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%s is IPv4-mapped; write it as IPv4", quoted(text))
	}
	return prefix, nil
}
