package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// certificateUntil returns a self-signed certificate for loopback, and a pool that trusts it.
func certificateUntil(t *testing.T, end time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.Add(-24 * time.Hour), NotAfter: end,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// TestExpiredCertificates checks that the status names an expired certificate, of the engine or of this host,
// as the reason for a missing connection.
func TestExpiredCertificates(t *testing.T) {
	good, goodPool := certificateUntil(t, time.Now().Add(time.Hour))
	expired, expiredPool := certificateUntil(t, time.Now().Add(-time.Hour))
	for _, tt := range []struct {
		name           string
		engine, client tls.Certificate
		pool           *x509.CertPool
		bad            bool
	}{
		{"good", good, good, goodPool, false},
		{"engine", expired, good, expiredPool, true},
		{"this host", good, expired, goodPool, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, func(o *server.Options) {
				clients := goodPool.Clone()
				clients.AddCert(expired.Leaf)
				o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{tt.engine}, ClientCAs: clients,
					ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
				o.TLSTimeout = 10
			})
			client := e.client("edge", func(c *Config) {
				c.URLs = []string{"tls://127.0.0.1:" + itoa(e.port)}
				// With TLS 1.3, the alert about this host's certificate may be lost after the handshake. The status has
				// an alarm about that certificate in any case.
				c.TLS = func() (*tls.Config, error) {
					return &tls.Config{RootCAs: tt.pool, Certificates: []tls.Certificate{tt.client},
						MaxVersion: tls.VersionTLS12}, nil
				}
			})
			eventually(t, "a result", func() bool {
				s := client.Status()
				return s.Connected && !tt.bad || tt.bad && errors.Is(s.LastError, errExpired)
			})
		})
	}
}

// TestAuthorityChanges checks that a client connects once the file of its authorities is replaced, and that it
// names the reason until then.
func TestAuthorityChanges(t *testing.T) {
	own, ownPool := certificateUntil(t, time.Now().Add(time.Hour))
	other, otherPool := certificateUntil(t, time.Now().Add(time.Hour))
	for _, tt := range []struct {
		name   string
		before tls.Certificate // of the engine
	}{
		{"at first wrong", other},
		{"connected before", own},
	} {
		t.Run(tt.name, func(t *testing.T) {
			engineHas := tt.before
			e := newEngine(t, func(o *server.Options) {
				o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{engineHas}, MinVersion: tls.VersionTLS12}
				o.TLSTimeout = 10
			})
			var pool atomic.Pointer[x509.CertPool]
			pool.Store(ownPool)
			client := e.client("edge", func(c *Config) {
				c.URLs = []string{"tls://127.0.0.1:" + itoa(e.port)}
				c.TLS = func() (*tls.Config, error) {
					return &tls.Config{RootCAs: pool.Load(), MinVersion: tls.VersionTLS12}, nil
				}
			})
			if tt.before.Leaf == own.Leaf {
				awaitSession(t, client)
				engineHas = other
				e.stop()
				e.start()
			}
			eventually(t, "the reason", func() bool {
				s := client.Status()
				return !s.Connected && s.LastError != nil && strings.Contains(s.LastError.Error(), "tls.ca_file")
			})
			pool.Store(otherPool)
			awaitSession(t, client)
		})
	}
}
