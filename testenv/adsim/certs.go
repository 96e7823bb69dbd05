package adsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificate selects one of the certificates that a server can use.
type Certificate int

// The certificates: a good one, and one for each usual fault.
const (
	Good         Certificate = iota // for 127.0.0.1, ::1, localhost and the controller's DNS name
	Expiring                        // as Good, for another week
	Expired                         // as Good, until yesterday
	NotYetValid                     // as Good, from tomorrow
	OtherCA                         // as Good, from an authority that the client does not trust
	WrongName                       // for elsewhere.example only
	certificates int         = iota
)

// authority is a temporary certification authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(name string) (*authority, error) {
	a := &authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}

// issue issues a server certificate for a host and, if local, for this machine.
func (a *authority) issue(host string, local bool, from, to time.Time) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host},
		NotBefore: from, NotAfter: to, DNSNames: []string{host},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if local {
		template.DNSNames = append(template.DNSNames, "localhost")
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// identity holds all certificates of a server, and the authority that clients should trust.
type identity struct {
	ca    *authority
	chain [certificates]tls.Certificate
}

func newIdentity(host string) (*identity, error) {
	ca, err := newAuthority("adsim test authority")
	if err != nil {
		return nil, err
	}
	other, err := newAuthority("adsim other authority")
	if err != nil {
		return nil, err
	}
	id := &identity{ca: ca}
	now, day := time.Now(), 24*time.Hour
	for _, c := range []struct {
		which    Certificate
		by       *authority
		host     string
		local    bool
		from, to time.Time
	}{
		{Good, ca, host, true, now.Add(-day), now.Add(365 * day)},
		{Expiring, ca, host, true, now.Add(-day), now.Add(7 * day)},
		{Expired, ca, host, true, now.Add(-2 * day), now.Add(-day)},
		{NotYetValid, ca, host, true, now.Add(day), now.Add(2 * day)},
		{OtherCA, other, host, true, now.Add(-day), now.Add(day)},
		{WrongName, ca, "elsewhere.example", false, now.Add(-day), now.Add(day)},
	} {
		if id.chain[c.which], err = c.by.issue(c.host, c.local, c.from, c.to); err != nil {
			return nil, err
		}
	}
	return id, nil
}

// CA returns the certificate of the authority that clients should trust, as PEM.
func (s *Server) CA() []byte { return s.id.ca.pem }

// WriteCA writes [Server.CA] to a file in dir and returns its path.
func (s *Server) WriteCA(dir string) (string, error) {
	path := filepath.Join(dir, "adsim-ca.pem")
	if err := os.WriteFile(path, s.CA(), 0o644); err != nil {
		return "", fmt.Errorf("adsim: %w", err)
	}
	return path, nil
}

// SetCertificate selects the certificate for clients that connect from now on.
func (s *Server) SetCertificate(c Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certificate = c
}

// tlsConfig returns the server's TLS configuration with the current certificate.
func (s *Server) tlsConfig() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &tls.Config{Certificates: []tls.Certificate{s.id.chain[s.certificate]}}
}
