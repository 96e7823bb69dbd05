package engine

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Validity of certificates of the engine's own authority. A certificate of a server is renewed by
// itself when less than renewBefore is left. warnBefore is when the log and status warn of others.
const (
	authorityValid = 10 * 365 * 24 * time.Hour
	serverValid    = 2 * 365 * 24 * time.Hour
	renewBefore    = 90 * 24 * time.Hour
	warnBefore     = 30 * 24 * time.Hour
	warnInterval   = 24 * time.Hour
)

// authority has the certificate of the server, and the authority that hubs and edges verify it with:
// that of the configuration, or one of the engine.
type authority struct {
	config Config
	hosts  []string // of the certificate of the server

	mu      sync.Mutex       // guards the fields below
	current *tls.Certificate // of the server
	read    fileTime         // of the files of current
	bundle  []byte           // PEM of the authority
	key     *ecdsa.PrivateKey
	ca      *x509.Certificate
	warned  time.Time
}

// fileTime shows whether a pair of files has changed.
type fileTime struct{ cert, key time.Time }

func openAuthority(c Config) (*authority, error) {
	a := &authority{config: c, hosts: hostsOf(c)}
	if c.CertFile != "" {
		return a, a.load()
	}
	if err := a.openOwn(); err != nil {
		return nil, err
	}
	return a, a.renewOwn()
}

// hostsOf returns the hosts of the URLs and routes.
func hostsOf(c Config) []string {
	urls := slices.Clone(c.URLs)
	if c.Cluster != nil {
		urls = append(urls, c.Cluster.Routes...)
	}
	var hosts []string
	for _, text := range urls {
		if u, err := url.Parse(text); err == nil && u.Hostname() != "" && !slices.Contains(hosts, u.Hostname()) {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// own returns the path of a file of the own authority.
func (a *authority) own(name string) string { return filepath.Join(a.config.Dir, name) }

// openOwn reads the own authority, or creates it.
func (a *authority) openOwn() error {
	keyPEM, err := os.ReadFile(a.own("ca.key"))
	if errors.Is(err, fs.ErrNotExist) {
		return a.createOwn()
	}
	if err != nil {
		return fmt.Errorf("cannot read the key of the authority: %w", err)
	}
	if a.bundle, err = os.ReadFile(a.own("ca.crt")); err != nil {
		return fmt.Errorf("cannot read the certificate of the authority: %w; restore it", err)
	}
	pair, err := tls.X509KeyPair(a.bundle, keyPEM)
	if err != nil {
		return fmt.Errorf("the authority in %s is damaged: %w; restore ca.crt and ca.key, or remove both and enrol all "+
			"hosts again", a.config.Dir, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("the key %s is not of the engine; restore ca.crt and ca.key", a.own("ca.key"))
	}
	a.ca, a.key = pair.Leaf, key
	return nil
}

// createOwn creates the own authority.
func (a *authority) createOwn() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := a.config.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "rcpt-milter engine authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(authorityValid),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	a.bundle = encodeCertificate(der)
	if err := errors.Join(writeFile(a.own("ca.crt"), a.bundle), writeFile(a.own("ca.key"), keyPEM)); err != nil {
		return fmt.Errorf("cannot write the authority of the engine: %w", err)
	}
	a.key = key
	a.ca, err = x509.ParseCertificate(der)
	return err
}

// issue returns a certificate and key for the hosts of the engine, in PEM.
func (a *authority) issue(name string) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := a.config.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: earlier(now.Add(serverValid), a.ca.NotAfter),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range a.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.ca, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(private)
	return encodeCertificate(der), key, err
}

// renewOwn loads the certificate of the server, and issues a new one if it expires soon or lacks a
// host.
func (a *authority) renewOwn() error {
	certFile, keyFile := a.own("server.crt"), a.own("server.key")
	if pair, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil && a.serves(pair.Leaf) {
		a.set(&pair)
		return nil
	}
	cert, key, err := a.issue(clusterName)
	if err != nil {
		return fmt.Errorf("cannot issue the certificate of the engine: %w", err)
	}
	if err := errors.Join(writeFile(certFile, cert), writeFile(keyFile, key)); err != nil {
		return fmt.Errorf("cannot write the certificate of the engine: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	a.set(&pair)
	return nil
}

// serves reports whether a certificate is of the own authority, has all hosts, and does not expire
// soon.
func (a *authority) serves(cert *x509.Certificate) bool {
	if cert.CheckSignatureFrom(a.ca) != nil {
		return false
	}
	for _, host := range a.hosts {
		if cert.VerifyHostname(host) != nil {
			return false
		}
	}
	soon := earlier(a.config.Now().Add(renewBefore), a.ca.NotAfter.Add(-time.Minute))
	return cert.NotAfter.After(soon)
}

// load reads the certificate of the configuration if its files have changed.
func (a *authority) load() error {
	now := fileTime{modified(a.config.CertFile), modified(a.config.KeyFile)}
	a.mu.Lock()
	same := a.current != nil && now == a.read
	a.mu.Unlock()
	if same {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(a.config.CertFile, a.config.KeyFile)
	if err != nil {
		return fmt.Errorf("cannot use the certificate of the engine (nats.tls): %w", err)
	}
	bundle, err := os.ReadFile(a.config.CAFile)
	if err != nil {
		return fmt.Errorf("cannot read nats.tls.ca_file: %w", err)
	}
	if bundle = certificates(bundle); len(bundle) == 0 {
		return fmt.Errorf("%s of nats.tls.ca_file has no certificate in PEM form", a.config.CAFile)
	}
	a.set(&pair)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bundle, a.read = bundle, now
	return nil
}

// renew renews or reloads the certificate of the server, and warns of expiry once a day.
func (a *authority) renew(log *slog.Logger) {
	var err error
	if a.config.CertFile != "" {
		err = a.load()
	} else {
		err = a.renewOwn()
	}
	if err != nil {
		log.Warn("cannot renew the certificate of the engine", "error", err)
	}
	now, expires := a.config.Now(), a.expires()
	a.mu.Lock()
	due := expires.Sub(now) < warnBefore && now.Sub(a.warned) >= warnInterval
	if due {
		a.warned = now
	}
	a.mu.Unlock()
	if due {
		log.Warn("certificate of the engine expires soon", "expires", expires.UTC().Format(time.RFC3339))
	}
}

func (a *authority) set(pair *tls.Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current = pair
}

func (a *authority) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current, nil
}

func (a *authority) clientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return a.certificate(nil)
}

// pem returns the certificates of the authority.
func (a *authority) pem() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Clone(a.bundle)
}

// roots returns the authority as a pool.
func (a *authority) roots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(a.pem()) {
		return nil, errors.New("the authority of the engine has no certificate in PEM form")
	}
	return pool, nil
}

// expires returns the first expiry of the server's certificate and its authority.
func (a *authority) expires() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := a.current.Leaf.NotAfter
	if a.ca != nil {
		first = earlier(first, a.ca.NotAfter)
	}
	return first
}

// certificates returns the certificates of a PEM file that may hold keys as well.
func certificates(data []byte) []byte {
	var all []byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			all = append(all, pem.EncodeToMemory(block)...)
		}
	}
	return all
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// serial returns a random serial number of 127 bits (RFC 5280 section 4.1.2.2).
func serial() *big.Int {
	raw := make([]byte, 16)
	rand.Read(raw)
	raw[0] &= 0x7f
	return new(big.Int).SetBytes(raw)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
