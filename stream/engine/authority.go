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

// Validity of the certificates of the engine's own authority. The engine renews its server certificate when
// less than renewBefore is left. For all other certificates, log and status warn when less than warnBefore is
// left.
const (
	authorityValid = 10 * 365 * 24 * time.Hour
	serverValid    = 2 * 365 * 24 * time.Hour
	renewBefore    = 90 * 24 * time.Hour
	warnBefore     = 30 * 24 * time.Hour
	warnInterval   = 24 * time.Hour
)

// authority holds the server certificate and the authority certificates that hubs and edges verify it with.
// Both come from the configured files, or from an authority that the engine creates.
type authority struct {
	config Config
	hosts  []string // hosts that the server certificate must have

	mu       sync.Mutex        // guards the fields below
	current  *tls.Certificate  // the server certificate
	read     fileTime          // modification times of the configured files
	bundle   []byte            // PEM of the authority certificates
	key      *ecdsa.PrivateKey // nil if the engine has no authority of its own, or only its certificate
	ca       *x509.Certificate
	replaced bool // bundle has changed since the last takeReplaced
	missing  bool // the engine has an authority of its own, and there is no file with its key
	warned   time.Time
}

// fileTime holds the modification times of the configured files, to detect changes.
type fileTime struct{ cert, key, ca time.Time }

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

// hostsOf returns the hosts in the URLs and routes.
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

// own returns the path of a file of the engine's own authority.
func (a *authority) own(name string) string { return filepath.Join(a.config.Dir, name) }

// openOwn loads the engine's own authority, or creates one. If only its key is missing, the engine continues
// without: a new authority would cut off all enrolled hosts.
func (a *authority) openOwn() error {
	keyPEM, err := os.ReadFile(a.own("ca.key"))
	lost := errors.Is(err, fs.ErrNotExist)
	if lost && (!exists(a.own("ca.crt")) || !exists(a.own("server.crt")) && !exists(a.own(membersFile))) {
		return a.createOwn() // the first start, or the first was interrupted
	}
	if err != nil && !lost {
		return fmt.Errorf("cannot read the key of the authority: %w", err)
	}
	bundle, err := os.ReadFile(a.own("ca.crt"))
	if err != nil {
		return fmt.Errorf("cannot read the certificate of the authority: %w; restore it", err)
	}
	if lost {
		ca, err := parseCertificate(bundle)
		if err != nil {
			return fmt.Errorf("the authority in %s is damaged: %w; restore ca.crt and ca.key", a.config.Dir, err)
		}
		a.setOwn(bundle, ca, nil)
		return nil
	}
	pair, err := tls.X509KeyPair(bundle, keyPEM)
	if err != nil {
		return fmt.Errorf("the authority in %s is damaged: %w; restore ca.crt and ca.key, or remove both and enrol "+
			"all hosts again", a.config.Dir, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("the key %s does not belong to the authority; restore ca.crt and ca.key", a.own("ca.key"))
	}
	a.setOwn(bundle, pair.Leaf, key)
	return nil
}

// setOwn sets the engine's own authority. Without its key, the engine can issue no certificate.
func (a *authority) setOwn(bundle []byte, ca *x509.Certificate, key *ecdsa.PrivateKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bundle, a.ca, a.key, a.missing = bundle, ca, key, key == nil
}

// watchKey notices that the file of the key is gone, or was restored.
func (a *authority) watchKey() error {
	missing := !exists(a.own("ca.key"))
	a.mu.Lock()
	load := !missing && a.key == nil
	a.missing = missing || load
	a.mu.Unlock()
	if !load {
		return nil
	}
	return a.openOwn()
}

// signer returns the certificate and the key of the engine's own authority. The key is nil if it is missing.
func (a *authority) signer() (*x509.Certificate, *ecdsa.PrivateKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ca, a.key
}

// isKeyMissing reports whether the engine has an authority of its own, and there is no file with its key.
func (a *authority) isKeyMissing() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.missing
}

// createOwn creates the engine's own authority.
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
	bundle := encodeCertificate(der)
	if err := errors.Join(writeFile(a.own("ca.crt"), bundle), writeFile(a.own("ca.key"), keyPEM)); err != nil {
		return fmt.Errorf("cannot write the authority of the engine: %w", err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	a.setOwn(bundle, ca, key)
	return nil
}

// errNoKey reports that the engine can issue no certificate.
var errNoKey = errors.New("ca.key is missing in the directory of the engine (nats.dir); restore ca.key, or remove " +
	"ca.crt too and enrol all hosts again")

// issue returns a new certificate and key for the hosts of the engine, in PEM.
func (a *authority) issue(name string) (cert, key []byte, err error) {
	ca, signing := a.signer()
	if signing == nil {
		return nil, nil, errNoKey
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := a.config.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: earlier(now.Add(serverValid), ca.NotAfter),
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
	der, err := x509.CreateCertificate(rand.Reader, template, ca, private.Public(), signing)
	if err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(private)
	return encodeCertificate(der), key, err
}

// renewOwn loads the server certificate. It issues a new one if the certificate expires soon or lacks a host.
// Without the key of the authority, it uses the certificate until it expires.
func (a *authority) renewOwn() error {
	certFile, keyFile := a.own("server.crt"), a.own("server.key")
	if pair, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil &&
		(a.serves(pair.Leaf) || a.isUsable(pair.Leaf)) {
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

// serves reports whether the engine's own authority issued a certificate, the certificate has all hosts, and it
// does not expire soon.
func (a *authority) serves(cert *x509.Certificate) bool {
	ca, _ := a.signer()
	if cert.CheckSignatureFrom(ca) != nil {
		return false
	}
	for _, host := range a.hosts {
		if cert.VerifyHostname(host) != nil {
			return false
		}
	}
	soon := earlier(a.config.Now().Add(renewBefore), ca.NotAfter.Add(-time.Minute))
	return cert.NotAfter.After(soon)
}

// isUsable reports whether the engine cannot replace a certificate that its own authority issued, and the
// certificate has not expired.
func (a *authority) isUsable(cert *x509.Certificate) bool {
	ca, key := a.signer()
	return key == nil && cert.CheckSignatureFrom(ca) == nil && a.config.Now().Before(cert.NotAfter)
}

// load reads the configured certificate and authorities if their files have changed.
func (a *authority) load() error {
	now := fileTime{modified(a.config.CertFile), modified(a.config.KeyFile), modified(a.config.CAFile)}
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
		return fmt.Errorf("nats.tls.ca_file %s has no certificate in PEM form", a.config.CAFile)
	}
	a.set(&pair)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replaced = a.replaced || a.bundle != nil && !bytes.Equal(a.bundle, bundle)
	a.bundle, a.read = bundle, now
	return nil
}

// takeReplaced reports whether the authority certificates were replaced since the last call.
func (a *authority) takeReplaced() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	replaced := a.replaced
	a.replaced = false
	return replaced
}

// renew renews or reloads the server certificate. It warns about expiry once a day.
func (a *authority) renew(log *slog.Logger) {
	var err error
	if a.config.CertFile != "" {
		err = a.load()
	} else if err = a.watchKey(); err == nil {
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

// pem returns the authority certificates.
func (a *authority) pem() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Clone(a.bundle)
}

// roots returns the authority certificates as a pool.
func (a *authority) roots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(a.pem()) {
		return nil, errors.New("the authority of the engine has no certificate in PEM form")
	}
	return pool, nil
}

// expires returns the earliest expiry among the server certificate and its authority.
func (a *authority) expires() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := a.current.Leaf.NotAfter
	if a.ca != nil {
		first = earlier(first, a.ca.NotAfter)
	}
	return first
}

// certificates returns the certificates in a PEM file, which may also contain keys.
func certificates(data []byte) []byte {
	var all []byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			all = append(all, pem.EncodeToMemory(block)...)
		}
	}
	return all
}

// parseCertificate returns the first certificate in a PEM file.
func parseCertificate(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(certificates(data))
	if block == nil {
		return nil, errors.New("no certificate in PEM form")
	}
	return x509.ParseCertificate(block.Bytes)
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

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
