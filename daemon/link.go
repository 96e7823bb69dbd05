package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/files"
	"rcpt-milter/stream"
	"rcpt-milter/stream/engine"
)

// inProcess connects to the engine in this process.
type inProcess interface {
	InProcessConn() (net.Conn, error)
}

// link is a connection to one engine, shared by all directories that use it. It connects on first use.
type link struct {
	config config.Stream
	inside inProcess // for a stream without URLs
	log    *slog.Logger
	// connected is called after each connection.
	connected func(*link)

	mu     sync.Mutex
	client *stream.Client
	err    error     // error of the last attempt to create a client
	since  time.Time // when the first of these attempts failed; zero if the last one did not
	closed bool
}

// errLinkClosed is the error of a link that was closed by a reload or at shutdown.
var errLinkClosed = errors.New("the connection to the engine is closed after a reload or shutdown")

// connect returns the client, which may not be connected yet. It returns an error only if the configuration is
// unusable, for example if the CA file is unreadable.
func (l *link) connect() (*stream.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errLinkClosed
	}
	if l.client == nil {
		if l.client, l.err = l.open(); l.err == nil {
			l.since = time.Time{}
		} else if l.since.IsZero() {
			l.since = time.Now()
		}
	}
	return l.client, l.err
}

func (l *link) open() (*stream.Client, error) {
	at, err := linkConfig(l.config, l.inside, l.log)
	if err != nil {
		return nil, err
	}
	at.Connected = func() { l.connected(l) }
	return stream.Connect(at)
}

// current returns the client if there is one, and otherwise the reason why not.
func (l *link) current() (*stream.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client, l.err
}

func (l *link) close() {
	l.mu.Lock()
	client := l.client
	l.closed, l.client = true, nil
	l.mu.Unlock()
	if client != nil {
		client.Close()
	}
}

// leave stops the attempts to connect.
func (l *link) leave() {
	if client, _ := l.current(); client != nil {
		client.Leave()
	}
}

// failingSince returns since when no client can be created; zero if that did not fail.
func (l *link) failingSince() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.since
}

// status returns the state of the connection.
func (l *link) status() control.LinkStatus {
	client, err := l.current()
	expires := control.Time{Time: streamExpiry(l.config)}
	if client == nil {
		return control.LinkStatus{Since: control.Time{Time: l.failingSince()}, LastError: errorText(err),
			CertificateExpires: expires}
	}
	s := client.Status()
	return control.LinkStatus{Connected: s.Connected, Server: s.Server, Since: control.Time{Time: s.Since},
		LastError: errorText(s.LastError), CertificateExpires: expires}
}

// streamExpiry returns when the certificates in the files of a stream expire. That is the expiry of the client
// certificate or the last expiry among the authority certificates, whichever is earlier. The last one counts
// because a renewed authority certificate may be in the file with the old one. Zero means that the files have
// no readable certificates; other checks report errors.
func streamExpiry(c config.Stream) time.Time {
	var found expiries
	if c.TLS.CAFile != "" {
		authorities, _ := files.Certificates(c.TLS.CAFile)
		found.certificate = lastExpiry(authorities)
	}
	if c.TLS.CertFile != "" {
		if own, _ := files.Certificates(c.TLS.CertFile); len(own) > 0 {
			found = found.first(expiries{certificate: own[0].NotAfter})
		}
	}
	return found.certificate
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// linkConfig returns the configuration of a connection to the engine of a stream.
func linkConfig(c config.Stream, inside inProcess, log *slog.Logger) (stream.Config, error) {
	name, err := os.Hostname()
	if err != nil {
		return stream.Config{}, fmt.Errorf("stream: the name of this host: %w", err)
	}
	at := stream.Config{Name: name, NameOf: enrolledName, CredentialsFile: c.CredentialsFile, Log: log}
	if c.Embedded() {
		at.InProcess = inside
		return at, nil
	}
	at.URLs = c.URLs
	t, err := linkTLS(c)
	if t != nil {
		at.TLS = func() (*tls.Config, error) { return linkTLS(c) }
	}
	return at, err
}

// enrolledName returns the name in an enrolment file; the engine permits only the subjects of this name. It returns an
// empty string for other credentials.
func enrolledName(file []byte) string {
	enrolled, err := engine.ParseEnrolment(file)
	if err != nil {
		return ""
	}
	return enrolled.Name
}

// linkTLS returns the TLS configuration for an engine. It returns nil if no URL uses TLS, which is permitted
// only on loopback.
func linkTLS(c config.Stream) (*tls.Config, error) {
	if !slices.ContainsFunc(c.URLs, func(at string) bool { return strings.HasPrefix(at, "tls:") }) {
		return nil, nil
	}
	t := &tls.Config{MinVersion: files.MinTLSVersion, ServerName: c.TLS.ServerName}
	if c.TLS.CAFile != "" {
		certificates, err := files.Certificates(c.TLS.CAFile)
		if len(certificates) == 0 {
			return nil, fmt.Errorf("stream: tls.ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		for _, certificate := range certificates {
			t.RootCAs.AddCert(certificate)
		}
	}
	if c.TLS.CertFile != "" { // read at each connection, because it may have been renewed
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair(c.TLS.CertFile, c.TLS.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("stream: tls.cert_file: %w", err)
			}
			return &certificate, nil
		}
	}
	return t, nil
}

// links are the connections of one configuration.
type links []*link

// of returns the connection of a stream, or nil if there is none.
func (all links) of(c config.Stream) *link {
	at := slices.IndexFunc(all, func(l *link) bool { return reflect.DeepEqual(l.config, c) })
	if at < 0 {
		return nil
	}
	return all[at]
}

// leave stops the attempts to connect, so parts that stop do not wait for one.
func (all links) leave() {
	for _, l := range all {
		l.leave()
	}
}

// linksOf returns the connections that a configuration needs. It reuses those in before that have not changed.
// connected is called after each connection.
func linksOf(c *config.Config, before links, inside inProcess, connected func(*link), log *slog.Logger) links {
	var next links
	need := func(s config.Stream) {
		if next.of(s) != nil {
			return
		}
		l := before.of(s)
		if l == nil {
			l = &link{config: s, inside: inside, connected: connected, log: log.With("stream", streamText(s))}
		}
		next = append(next, l)
	}
	for _, d := range c.Directories {
		if d.Stream != nil {
			need(*d.Stream)
		}
	}
	if c.Publish != nil {
		need(c.Publish.Stream)
	}
	return next
}

// streamText returns the name of a stream's engine for messages.
func streamText(s config.Stream) string {
	if s.Embedded() {
		return "embedded"
	}
	hosts := make([]string, 0, len(s.URLs))
	for _, at := range s.URLs {
		if u, err := url.Parse(at); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	return strings.Join(hosts, ",")
}

// lastExpiry returns the latest expiry among certificates. It returns zero if there are none.
func lastExpiry(all []*x509.Certificate) (last time.Time) {
	for _, one := range all {
		if one.NotAfter.After(last) {
			last = one.NotAfter
		}
	}
	return last
}
