package directory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"rcpt-milter/internal/files"
)

// Record types of TLS (RFC 8446 section 5.1), and the first byte of an LDAP message.
const (
	recordAlert     = 0x15
	recordHandshake = 0x16
	ldapMessage     = 0x30
)

// errTLSOnly is the error of StartTLS on a port that speaks TLS from the first byte.
var errTLSOnly = newError(ErrTLS, "the port speaks TLS from the first byte, so StartTLS is not possible; write "+
	"ldaps:// in its URL")

// portAdvice returns advice about a URL whose scheme does not match its port; empty if it does.
func (e endpoint) portAdvice() string {
	switch {
	case !e.startTLS && (e.port == "389" || e.port == "3268"):
		return fmt.Sprintf("domain controllers speak LDAP without TLS on port %s: write ldap:// for StartTLS, or "+
			"ldaps:// with port %s",
			e.port, map[string]string{"389": "636", "3268": "3269"}[e.port])
	case e.startTLS && (e.port == "636" || e.port == "3269"):
		return fmt.Sprintf("domain controllers speak TLS from the first byte on port %s: write ldaps:// "+
			"instead of ldap://", e.port)
	}
	return ""
}

// startTLSError explains an error before the handshake.
func (c *Conn) startTLSError(ctx context.Context, err error) error {
	if errors.Is(err, errTLSOnly) || errors.Is(ctx.Err(), context.Canceled) {
		return c.cancelledOrErr(ctx, err)
	}
	err = c.connError(ctx, err)
	switch advice := c.at.portAdvice(); {
	case advice != "":
		return fmt.Errorf("%w; %s", err, advice)
	case isHangUp(err):
		return fmt.Errorf("the controller closed the connection at StartTLS; if the port speaks TLS from the first "+
			"byte, write ldaps:// in its URL (%w)", err)
	case errors.Is(err, ErrTimeout):
		return fmt.Errorf("no answer to StartTLS; if the port speaks TLS from the first byte, as 636 does, write "+
			"ldaps:// in its URL (%w)", err)
	}
	return err
}

// cancelledOrErr prefers the cancellation of the caller's context to an error.
func (c *Conn) cancelledOrErr(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return contextError(ctx)
	}
	return err
}

// handshakeError explains why the connection cannot be secured, and how to fix it.
func (c *Conn) handshakeError(ctx context.Context, err error) error {
	var record tls.RecordHeaderError
	var unverified *tls.CertificateVerificationError
	alert, refused := remoteAlert(err)
	advice := c.at.portAdvice()
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return contextError(ctx)
	case errors.As(err, &unverified):
		return c.verificationError(unverified.UnverifiedCertificates, err)
	case errors.As(err, &record) && record.RecordHeader[0] == ldapMessage:
		return newError(ErrTLS, "the port speaks LDAP without TLS; write ldap:// for StartTLS, or ldaps:// with a "+
			"port that speaks TLS (%w)", err)
	case errors.As(err, &record):
		return newError(ErrTLS, "the port does not speak TLS; write ldap:// for StartTLS on port 389, or ldaps:// for "+
			"port 636 (%w)", err)
	case refused:
		return newError(ErrTLS, "%s (%w)", alertText(alert, c.config.ServerName), err)
	case isHangUp(err) && advice != "":
		return newError(ErrTLS, "the controller closed the connection in the TLS handshake; %s (%w)", advice, err)
	case isHangUp(err):
		return newError(ErrTLS, "the controller closed the connection in the TLS handshake; check that it has a "+
			"certificate with a private key, that it allows TLS 1.2 with ECDHE, and that the port speaks TLS; for "+
			"LDAP "+
			"without TLS, as on port 389, write ldap://; "+smallHello+" (%w)", err)
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		return c.handshakeTimeout(ctx, advice)
	}
	if words := handshakeText(err.Error()); words != "" {
		return newError(ErrTLS, "%s (%w)", words, err)
	}
	return c.connError(ctx, newError(ErrTLS, "the TLS handshake failed: %w", err))
}

// handshakeTimeout explains a handshake without an answer.
func (c *Conn) handshakeTimeout(ctx context.Context, advice string) error {
	err := c.connError(ctx, newError(ErrTimeout, "the controller did not answer in time"))
	if advice == "" {
		advice = "check that the port speaks TLS; for LDAP without TLS, as on port 389, write ldap://; " + smallHello
	}
	return fmt.Errorf("no answer to the TLS handshake; %s (%w)", advice, err)
}

// isHangUp reports whether the other side closed the connection.
func isHangUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// remoteAlert returns the name of an alert from the other side. Go has no type for alerts.
func remoteAlert(err error) (name string, ok bool) {
	var sent *net.OpError
	if !errors.As(err, &sent) || sent.Op != "remote error" {
		return "", false
	}
	return strings.TrimPrefix(sent.Err.Error(), "tls: "), true
}

// Alerts of a controller that requires a client certificate.
const (
	certificateRequired = "certificate required"
	badCertificate      = "bad certificate"
)

func isClientCertAlert(alert string) bool {
	return alert == certificateRequired || alert == badCertificate
}

// allowECDHE is the remedy if a controller offers only RSA key exchange.
const allowECDHE = "allow TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 or another suite with ECDHE and AES-GCM on it; RSA " +
	"key exchange is not offered, because it is not safe"

// allowTLS12 is the remedy if a controller does not support TLS 1.2, or has it disabled.
const allowTLS12 = "enable TLS 1.2 on it; older versions are not safe"

// smallHello is the remedy if a device between loses the first message of the handshake. With the
// keys of ML-KEM it has more than 1,400 bytes, and so takes two packets.
const smallHello = "if only the first message is lost, a firewall or proxy between drops a ClientHello in two " +
	"packets: update it, or start this program with GODEBUG=tlsmlkem=0, for a smaller one"

// alertText explains an alert of the controller (RFC 8446 section 6.2) by its name in Go.
func alertText(alert, name string) string {
	switch alert {
	case "handshake failure", "insufficient security level":
		return "the controller and this program share no cipher suite, for example because the controller allows " +
			"only RSA key exchange; " + allowECDHE
	case "protocol version not supported":
		return "the controller rejects TLS 1.2 and 1.3; " + allowTLS12
	case "unrecognized name":
		return fmt.Sprintf("the controller, or a proxy in front of it, does not know the name %q; write a name "+
			"that it "+
			"knows in the URL or in tls.server_name", name)
	case certificateRequired, badCertificate:
		return "the controller requires a client certificate, and this program has none; allow clients without a " +
			"certificate, or connect past the proxy in front of it"
	case "internal error":
		return "the controller failed in the TLS handshake; check that it can use the private key of its certificate"
	}
	return "the controller rejected the TLS handshake; see its log for the reason"
}

// handshakeTexts explains handshake errors without a type in Go, by a part of their text.
var handshakeTexts = []struct{ text, words string }{
	{"negative serial number", "the certificate of the controller has a negative serial number, which RFC 5280 " +
		"forbids (section 4.1.2.2); issue it again from an authority whose serial numbers are positive"},
	{"failed to parse certificate", "cannot parse the certificate of the controller; issue it again"},
	{"unsupported protocol version", "the controller speaks TLS 1.1 at most; " + allowTLS12},
	{"unconfigured cipher suite", "the controller chose a cipher suite that was not offered, probably because it " +
		"supports only RSA key exchange; " + allowECDHE},
	{"invalid signature algorithm", "the controller signs the handshake with SHA-1, which is not safe; allow " +
		"SHA-256 on it"},
	{"unsupported signature algorithm", "the controller signs the handshake with SHA-1, which is not safe; allow " +
		"SHA-256 on it"},
	{"keys are insecure", "the RSA key of the controller's certificate is too short; issue it again with a key " +
		"of 2048 bits"},
	{"RSA key larger than", "the RSA key of the controller's certificate is too long; issue it again with a key of " +
		"2048 to 8192 bits"},
}

// handshakeText returns the explanation of an error text; empty if it has none.
func handshakeText(text string) string {
	for _, f := range handshakeTexts {
		if strings.Contains(text, f.text) {
			return f.words
		}
	}
	return ""
}

// verificationError explains which part of the verification failed. The chain holds the
// certificates that the controller sent, its own first.
func (c *Conn) verificationError(chain []*x509.Certificate, err error) error {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return newError(ErrTLS, "%s (%w)", c.unknownAuthorityText(chain), err)
	case errors.As(err, &name):
		return newError(ErrTLS, "%s (%w)", wrongNameText(name.Host, name.Certificate), err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return c.validityError(invalid, err)
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return newError(ErrTLS, "the certificate is not for servers; issue one with the extended key usage Server "+
			"Authentication, for example from the template \"Kerberos Authentication\" (%w)", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.NotAuthorizedToSign:
		return newError(ErrTLS, "the certificate of %q signed the controller's but does not belong to an authority; "+
			"issue the controller's again from an authority (%w)", certificateLabel(invalid.Cert), err)
	}
	return newError(ErrTLS, "the certificate of the controller cannot be verified; issue it again (%w)", err)
}

// unknownAuthorityText explains why no trusted authority signed a chain, and how to fix it.
func (c *Conn) unknownAuthorityText(chain []*x509.Certificate) string {
	if at := slices.IndexFunc(chain, hasWeakHash); at >= 0 {
		return fmt.Sprintf("the certificate of %q is signed with %s, which is not safe; issue it again with a SHA-256 "+
			"signature of its authority, %q",
			certificateLabel(chain[at]), weakHash(chain[at]), chain[at].Issuer)
	}
	last := chain[len(chain)-1]
	if len(chain) == 1 && selfSigned(last) {
		return fmt.Sprintf("the certificate of %q is self-signed; add it to tls.ca_file, or issue one from a trusted "+
			"authority", certificateLabel(last))
	}
	text := fmt.Sprintf("the certificate is signed by an untrusted authority; set tls.ca_file to the certificate of "+
		"the authority that issued it, %q", last.Issuer)
	if c.config.CAFile == "" {
		return text
	}
	trusted, unreadable := files.Certificates(c.config.CAFile)
	var names []string
	for _, cert := range trusted {
		if cert.Subject.String() == last.Issuer.String() {
			if errors.As(last.CheckSignatureFrom(cert), new(x509.ConstraintViolationError)) {
				return fmt.Sprintf("the certificate of %q in tls.ca_file may not sign certificates: it is not that "+
					"of an authority (basic constraints), or its key usage lacks keyCertSign; issue it again as "+
					"that of an authority, and replace it in tls.ca_file", last.Issuer)
			}
			return fmt.Sprintf("the certificate is not signed by the key of the authority %q in tls.ca_file; that "+
				"authority was renewed, or another one has the same name: add its current certificate to tls.ca_file",
				last.Issuer)
		}
		names = append(names, fmt.Sprintf("%q", cert.Subject))
	}
	text += "; tls.ca_file holds " + joinNames(names)
	if unreadable != nil {
		text += ", and " + unreadable.Error()
	}
	return text
}

// hasWeakHash reports whether another key signed the certificate with a hash that Go rejects.
func hasWeakHash(cert *x509.Certificate) bool { return weakHash(cert) != "" && !selfSigned(cert) }

func weakHash(cert *x509.Certificate) string {
	switch cert.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return "SHA-1"
	case x509.MD5WithRSA, x509.MD2WithRSA:
		return "MD5"
	}
	return ""
}

func selfSigned(cert *x509.Certificate) bool {
	return slices.Equal(cert.RawSubject, cert.RawIssuer)
}

// certificateLabel names a certificate by its subject, or by its first host if that is empty.
func certificateLabel(cert *x509.Certificate) string {
	switch {
	case cert == nil:
		return "unknown"
	case len(cert.Subject.Names) == 0 && len(cert.DNSNames) > 0:
		return cert.DNSNames[0]
	}
	return cert.Subject.String()
}

// wrongNameText explains a certificate that is valid for other hosts only.
func wrongNameText(host string, cert *x509.Certificate) string {
	if cert != nil && len(cert.DNSNames)+len(cert.IPAddresses) == 0 {
		return fmt.Sprintf("the certificate is not for %q: it has no host as subject alternative name, and its common "+
			"name %q does not count; issue one with subject alternative names",
			host, cert.Subject.CommonName)
	}
	return fmt.Sprintf("the certificate is not for %q; use one of its names (%s) in the URL or as "+
		"tls.server_name", host, certificateNames(cert))
}

// validityError explains a certificate that is not valid now.
func (c *Conn) validityError(invalid x509.CertificateInvalidError, err error) error {
	cert := invalid.Cert
	switch {
	case cert != nil && time.Now().Before(cert.NotBefore):
		return newError(ErrTLS, "the certificate of %q is not valid before %s; check the clock of this "+
			"machine (%w)", certificateLabel(cert), cert.NotBefore.Format(time.RFC3339), err)
	case cert != nil && cert.IsCA:
		return newError(ErrTLS, "the certificate of the authority %q has expired; renew it, and add the new one to "+
			"tls.ca_file (%w)", certificateLabel(cert), err)
	}
	return newError(ErrTLS, "the certificate has expired; renew it on the controller (%w)", err)
}

// certificateNames returns the names that a certificate is valid for.
func certificateNames(cert *x509.Certificate) string {
	if cert == nil {
		return "none"
	}
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
