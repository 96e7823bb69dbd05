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
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// certificateUntil returns a certificate for loopback that is its own authority, and its pool.
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

// TestExpiredCertificates: status names an expired certificate, of the engine or of this host, as the
// reason why there is no connection.
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
				// With TLS 1.3 the alert about the certificate of this host may be lost after the handshake; status
				// has an alarm about that certificate in any case.
				c.TLS = &tls.Config{RootCAs: tt.pool, Certificates: []tls.Certificate{tt.client}, MaxVersion: tls.VersionTLS12}
			})
			eventually(t, "a result", func() bool {
				s := client.Status()
				return s.Connected && !tt.bad || tt.bad && errors.Is(s.LastError, errExpired)
			})
		})
	}
}
