package adsim

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	_ "crypto/sha1" // for signatures that clients must reject
	_ "crypto/sha256"
)

// Unsafe is one way in which a server prevents a safe connection. The server answers LDAPS and
// StartTLS on the same port, unless the fault names one of them.
type Unsafe string

// The faults of the certificate, the protocol, or the port.
const (
	SHA1Signature    Unsafe = "certificate signed with SHA-1"
	SHA1Intermediate Unsafe = "certificate of an intermediate authority signed with SHA-1"
	NegativeSerial   Unsafe = "negative serial number"
	NoAltNames       Unsafe = "a common name and no alternative names"
	ClientUseOnly    Unsafe = "certificate for clients"
	SelfSigned       Unsafe = "self-signed certificate"
	NoIntermediate   Unsafe = "certificate of an intermediate authority that is not shown"
	RenewedAuthority Unsafe = "authority of the right name with another key"
	ExpiredAuthority Unsafe = "expired authority"
	ExpiredLeaf      Unsafe = "expired certificate"
	NoCertSign       Unsafe = "authority whose key usage does not allow it to sign certificates"
	NoAuthority      Unsafe = "authority whose basic constraints say that it is none"

	RSAKeyExchange    Unsafe = "RSA key exchange only"
	OldTLS            Unsafe = "TLS 1.1 at most"
	ClientCertificate Unsafe = "client certificate wanted"
	HangsUp           Unsafe = "hangs up at the first message"
	DropsLargeHello   Unsafe = "behind a firewall that drops a ClientHello in two packets"
	ResetsLargeHello  Unsafe = "behind a firewall that hangs up at a ClientHello in two packets"

	LDAPNotice Unsafe = "LDAP only, other messages get a notice of disconnection"
	LDAPCloses Unsafe = "LDAP only, other messages end the connection"
	LDAPSilent Unsafe = "LDAP only, waits for more of other messages"
	TLSAlert   Unsafe = "TLS only, other messages get an alert"
	TLSCloses  Unsafe = "TLS only, other messages end the connection"
	TLSSilent  Unsafe = "TLS only, waits for more of other messages"

	NestedAnswer Unsafe = "answers StartTLS with a message nested a thousand levels deep"
	LongAnswer   Unsafe = "answers StartTLS with a message that never ends"
)

// UnsafeServer is a port that no client can bind at. StartTLS is all the LDAP that it supports.
type UnsafeServer struct {
	how      Unsafe
	listener net.Listener
	config   *tls.Config
	ca       []byte // PEM

	mu       sync.Mutex
	received bytes.Buffer // after a handshake
}

// StartUnsafe serves until the end of the test.
func StartUnsafe(t testing.TB, how Unsafe) *UnsafeServer {
	t.Helper()
	s := &UnsafeServer{how: how}
	var err error
	if s.config, s.ca, err = unsafeTLS(how); err == nil {
		s.listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); s.serve() }()
	t.Cleanup(func() { s.listener.Close(); <-ended })
	return s
}

// Address returns host and port, "127.0.0.1:1234".
func (s *UnsafeServer) Address() string { return s.listener.Addr().String() }

// WriteCA writes the certificate of the authority that clients should trust to a file in dir.
func (s *UnsafeServer) WriteCA(dir string) (string, error) {
	path := filepath.Join(dir, "unsafe-ca.pem")
	return path, os.WriteFile(path, s.ca, 0o644)
}

// Received returns the bytes that clients sent over encrypted connections.
func (s *UnsafeServer) Received() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.received.Bytes())
}

func (s *UnsafeServer) serve() {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		running.Go(func() {
			defer conn.Close()
			s.handle(&peekedConn{conn, bufio.NewReader(conn)})
		})
	}
}

// Messages of both protocols.
var (
	startTLSDone = []byte("\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")
	notice       = []byte("\x30\x24\x02\x01\x00\x78\x1f\x0a\x01\x02\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20036")
	alert        = []byte("\x15\x03\x01\x00\x02\x02\x0a") // fatal, unexpected_message
)

// nestedLevels is a little less than the levels that the BER library decodes by default.
const nestedLevels = 990

// NestedSize is the size of the innermost value of Nested, in bytes.
const NestedSize = 64 << 10

// Nested returns an element of NestedSize bytes within as many sequences as the BER library
// decodes by default. The library copies the content once for each level.
var Nested = sync.OnceValue(func() []byte {
	const header = 6
	var out []byte
	for level := nestedLevels; level > 0; level-- {
		n := uint32(NestedSize + header*level)
		out = binary.BigEndian.AppendUint32(append(out, tagSequence, 0x84), n)
	}
	return append(out, tlv(tagOctetString, make([]byte, NestedSize))...)
})

// endless writes the start of an answer that declares 2 GiB, and then zeros until the client
// leaves.
func endless(conn net.Conn) {
	conn.Write([]byte("\x30\x84\x7f\xff\xff\xff\x02\x01\x01\x78\x84\x7f\xff\xff\xf0\x04\x84\x7f\xff\xff\xe0"))
	for zeros := make([]byte, 1<<16); ; {
		if _, err := conn.Write(zeros); err != nil {
			return
		}
	}
}

// onePacket is about the size of a record that fits into one packet of Ethernet, in bytes.
const onePacket = 1400

// handle handles one connection.
func (s *UnsafeServer) handle(conn *peekedConn) {
	first, err := conn.from.Peek(1)
	if err != nil || s.how == HangsUp {
		return
	}
	ldap := first[0] == 0x30
	switch {
	case s.how == LDAPNotice && !ldap:
		conn.Write(notice)
		return
	case s.how == TLSAlert && ldap:
		conn.Write(alert)
		return
	case s.how == LDAPCloses && !ldap, s.how == TLSCloses && ldap:
		return
	case s.how == LDAPSilent && !ldap, s.how == TLSSilent && ldap:
		io.Copy(io.Discard, conn)
		return
	}
	if ldap {
		request := make([]byte, 2)
		io.ReadFull(conn.from, request)
		io.CopyN(io.Discard, conn.from, int64(request[1]))
		switch s.how {
		case NestedAnswer:
			conn.Write(Nested())
			return
		case LongAnswer:
			endless(conn)
			return
		}
		conn.Write(startTLSDone)
	}
	switch s.how {
	case DropsLargeHello, ResetsLargeHello:
		header, err := conn.from.Peek(5) // of a TLS record
		if err != nil || binary.BigEndian.Uint16(header[3:]) <= onePacket {
			break
		}
		if s.how == DropsLargeHello {
			io.Copy(io.Discard, conn)
		}
		return
	}
	secured := tls.Server(conn, s.config)
	if secured.Handshake() != nil {
		return
	}
	data, _ := io.ReadAll(io.LimitReader(secured, 1<<16))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received.Write(data)
}

// peekedConn is a connection with a buffered first byte.
type peekedConn struct {
	net.Conn
	from *bufio.Reader
}

func (p *peekedConn) Read(b []byte) (int, error) { return p.from.Read(b) }

// rsaKeys are two RSA keys, which are slow to generate: for authorities and for servers.
var rsaKeys = sync.OnceValues(func() (pair [2]*rsa.PrivateKey, err error) {
	for i := range pair {
		if pair[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return pair, err
		}
	}
	return pair, nil
})

// marker is a serial number that can be found in the encoded certificate.
var marker = bytes.Repeat([]byte{0x55}, 12)

// unsafeTLS returns the server's TLS configuration, and the authority that clients should trust.
func unsafeTLS(how Unsafe) (*tls.Config, []byte, error) {
	keys, err := rsaKeys()
	if err != nil {
		return nil, nil, err
	}
	chain, trusted, err := unsafeChain(how, keys[0], keys[1])
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: keys[1]}}}
	switch how {
	case RSAKeyExchange:
		config.MaxVersion = tls.VersionTLS12
		config.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384}
	case OldTLS:
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	case ClientCertificate:
		config.ClientAuth = tls.RequireAnyClientCert
	}
	return config, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: trusted}), err
}

// unsafeChain returns the server's chain, in DER, and the trusted authority.
func unsafeChain(how Unsafe, authority, server *rsa.PrivateKey) (chain [][]byte, trusted []byte, err error) {
	m := &certMaker{}
	now, day := time.Now(), 24*time.Hour
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "adsim root"}, NotBefore: now.Add(-48 * time.Hour),
		NotAfter: now.Add(day),
		IsCA:     true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	between, leaf := *root, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(marker), Subject: pkix.Name{CommonName: "dc1.corp.example"},
		NotBefore: now.Add(-day), NotAfter: now.Add(day), DNSNames: []string{"dc1.corp.example", "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	between.Subject.CommonName = "adsim issuing authority"
	switch how {
	case NoAltNames:
		leaf.DNSNames, leaf.IPAddresses = nil, nil
	case ClientUseOnly:
		leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case ExpiredAuthority:
		root.NotAfter = now.Add(-time.Hour)
	case ExpiredLeaf:
		leaf.NotAfter = now.Add(-time.Hour)
	case NoCertSign:
		root.KeyUsage = x509.KeyUsageDigitalSignature
	case NoAuthority:
		root.IsCA, root.KeyUsage = false, 0
	}
	trusted = m.create(root, root, authority, authority)
	switch how {
	case SHA1Signature:
		return [][]byte{m.resign(m.create(leaf, root, server, authority), authority, toSHA1)}, trusted, m.err
	case NegativeSerial:
		return [][]byte{m.resign(m.create(leaf, root, server, authority), authority, toNegative)}, trusted, m.err
	case SHA1Intermediate:
		return [][]byte{m.create(leaf, &between, server, authority),
			m.resign(m.create(&between, root, authority, authority),
				authority, toSHA1)}, trusted, m.err
	case NoIntermediate:
		return [][]byte{m.create(leaf, &between, server, authority)}, trusted, m.err
	case SelfSigned:
		return [][]byte{m.create(leaf, leaf, server, server)}, trusted, m.err
	case RenewedAuthority:
		return [][]byte{m.create(leaf, root, server, authority)}, m.create(root, root, server, server), m.err
	}
	return [][]byte{m.create(leaf, root, server, authority)}, trusted, m.err
}

// certMaker creates certificates until one fails.
type certMaker struct{ err error }

func (m *certMaker) create(template, parent *x509.Certificate, of, by *rsa.PrivateKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &of.PublicKey, by)
	if m.err == nil {
		m.err = err
	}
	return der
}

// certificateASN1 is a certificate (RFC 5280 section 4.1).
type certificateASN1 struct {
	Content   asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

// resign changes a certificate in a way that Go does not support, and signs it again.
func (m *certMaker) resign(der []byte, by *rsa.PrivateKey, change func(*certificateASN1) crypto.Hash) []byte {
	var c certificateASN1
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		m.err = err
		return nil
	}
	hash := change(&c)
	digest := hash.New()
	digest.Write(c.Content.FullBytes)
	signature, err := rsa.SignPKCS1v15(rand.Reader, by, hash, digest.Sum(nil))
	if err != nil {
		m.err = err
		return nil
	}
	c.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	out, err := asn1.Marshal(c)
	if err != nil {
		m.err = fmt.Errorf("adsim: %w", err)
	}
	return out
}

// toSHA1 replaces sha256WithRSAEncryption by sha1WithRSAEncryption (RFC 8017 appendix C).
func toSHA1(c *certificateASN1) crypto.Hash {
	rsaWith := []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x01")
	c.Content.FullBytes = bytes.Replace(c.Content.FullBytes, append(bytes.Clone(rsaWith), 0x0b),
		append(bytes.Clone(rsaWith), 0x05), 1)
	c.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}
	return crypto.SHA1
}

func toNegative(c *certificateASN1) crypto.Hash {
	c.Content.FullBytes = bytes.Replace(c.Content.FullBytes, marker, bytes.Repeat([]byte{0xaa}, len(marker)), 1)
	return crypto.SHA256
}
