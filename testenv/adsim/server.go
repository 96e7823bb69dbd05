package adsim

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ServerConfig configures a server. The zero value is usable.
type ServerConfig struct {
	BindDN      string // name that may bind, any case; default svc-mail@ the domain
	Password    string // default "correct horse battery"
	MaxPageSize int    // maximum entries of one answer; default 1000, as in Active Directory
	MaxValRange int    // maximum values of one attribute in one answer; default 1500

	// OnePagedSearch makes a paged search end the one before on the same connection, as on servers
	// that keep one position for each connection. Active Directory keeps ten.
	OnePagedSearch bool

	// Accept returns the server side of a SASL bind with the mechanism GSSAPI, once for each
	// connection. Nil means that the server does not support the mechanism.
	Accept func(certificate *x509.Certificate) Acceptor
}

// Acceptor is the server side of a SASL bind (RFC 4513 section 5.2). It gets the client's
// credentials step by step, and returns the answers; done ends the bind. An error rejects it.
type Acceptor func(credentials []byte) (answer []byte, done bool, err error)

// Server serves a Directory over LDAP on 127.0.0.1: LDAPS on one port, StartTLS on another, and
// LDAPS of a Global Catalog on a third. It rejects a password in clear.
type Server struct {
	dir    *Directory
	config ServerConfig
	id     *identity

	mu          sync.Mutex // guards the fields below
	password    string
	certificate Certificate
	faults      Faults
	loseCookies int
	stats       Stats
	accounts    map[string][]string // names that may bind, in lower case, and the DNs hidden from them
	addrs       [3]string           // of LDAPS, StartTLS, and LDAPS of the Global Catalog
	listeners   []net.Listener
	sessions    map[*session]bool
	running     sync.WaitGroup
}

// Start serves a directory until Close.
func Start(d *Directory, config ServerConfig) (*Server, error) {
	if config.BindDN == "" {
		config.BindDN = "svc-mail@" + d.config.Domain
	}
	if config.Password == "" {
		config.Password = "correct horse battery"
	}
	if config.MaxPageSize == 0 {
		config.MaxPageSize = 1000
	}
	if config.MaxValRange == 0 {
		config.MaxValRange = 1500
	}
	id, err := newIdentity(d.HostName())
	if err != nil {
		return nil, fmt.Errorf("adsim: cannot make certificates: %w", err)
	}
	s := &Server{
		dir: d, config: config, id: id, password: config.Password,
		addrs: [3]string{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"}, sessions: map[*session]bool{},
		accounts: map[string][]string{foldName(config.BindDN): nil},
	}
	return s, s.Up()
}

// StartTest is Start for a test: it fails the test on an error, and closes the server at its end.
func StartTest(t testing.TB, d *Directory, config ServerConfig) *Server {
	t.Helper()
	s, err := Start(d, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// URL returns the LDAPS URL.
func (s *Server) URL() string { return "ldaps://" + s.address(0) }

// StartTLSURL returns the LDAP URL, which requires StartTLS.
func (s *Server) StartTLSURL() string { return "ldap://" + s.address(1) }

func (s *Server) address(i int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addrs[i]
}

// BindDN returns the name that may bind.
func (s *Server) BindDN() string { return s.config.BindDN }

// Password returns its current password.
func (s *Server) Password() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.password
}

// SetPassword changes the password; bound connections stay bound.
func (s *Server) SetPassword(password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password = password
}

// Up makes a server that is down listen again on its previous ports.
func (s *Server) Up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.listeners) > 0 {
		return nil
	}
	for i, addr := range s.addrs {
		l, err := listen(addr)
		if err != nil {
			for _, open := range s.listeners {
				open.Close()
			}
			s.listeners = nil
			return fmt.Errorf("adsim: %w", err)
		}
		s.addrs[i] = l.Addr().String()
		s.listeners = append(s.listeners, l)
		s.running.Go(func() { s.accept(l, i != 1, i == 2) })
	}
	return nil
}

// portWait limits how long listen waits for a port in use.
const portWait = 10 * time.Second

// listen listens on an address. While a server is down another process may use its port, most
// often as the local port of a short connection, so listen tries again until the port is free.
func listen(addr string) (net.Listener, error) {
	for end := time.Now().Add(portWait); ; time.Sleep(20 * time.Millisecond) {
		l, err := net.Listen("tcp", addr)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return l, err
		}
	}
}

// Down stops listening and resets all connections, like a controller that loses power: a client
// sees a reset, and its next connection is refused.
func (s *Server) Down() {
	s.mu.Lock()
	for _, l := range s.listeners {
		l.Close()
	}
	s.listeners = nil
	s.mu.Unlock()
	s.CutConnections()
	s.running.Wait()
}

// CutConnections resets all connections and keeps listening.
func (s *Server) CutConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		c.abort()
	}
}

// Close stops the server and waits for its goroutines.
func (s *Server) Close() { s.Down() }

func (s *Server) accept(l net.Listener, ldaps, catalog bool) {
	for {
		raw, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		c := newSession(s, raw)
		c.view.catalog = catalog
		if !s.addSession(c, l) {
			c.abort()
			return
		}
		s.running.Go(func() {
			defer s.removeSession(c)
			if ldaps && !s.currentFaults().SilentAccept {
				c.switchToTLS(tls.Server(raw, s.tlsConfig()))
			}
			c.serve()
		})
	}
}

// addSession registers a connection unless the server went down meanwhile.
func (s *Server) addSession(c *session, l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, open := range s.listeners {
		if open == l {
			s.sessions[c] = true
			s.stats.Connections++
			return true
		}
	}
	return false
}

func (s *Server) removeSession(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c)
	c.abort()
}
