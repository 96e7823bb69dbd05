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

// Types of a record of TLS (RFC 8446 section 5.1), and what begins a message of LDAP.
const (
	recordAlert     = 0x15
	recordHandshake = 0x16
	ldapMessage     = 0x30
)

// errTLSOnly is the error of StartTLS on a port that speaks TLS from the beginning.
var errTLSOnly = newError(ErrTLS, "the port speaks TLS from the beginning, so it takes no StartTLS; write "+
	"ldaps:// in its URL")

// portAdvice returns advice about a URL whose scheme does not fit the port; empty: it does.
func (e endpoint) portAdvice() string {
	switch {
	case !e.startTLS && (e.port == "389" || e.port == "3268"):
		return fmt.Sprintf("domain controllers speak LDAP without TLS on port %s: write ldap:// for StartTLS there, or "+
			"ldaps:// with port %s",
			e.port, map[string]string{"389": "636", "3268": "3269"}[e.port])
	case e.startTLS && (e.port == "636" || e.port == "3269"):
		return fmt.Sprintf("domain controllers speak TLS from the beginning on port %s: write ldaps:// "+
			"instead of ldap://", e.port)
	}
	return ""
}

// startTLSError words an error before the handshake.
func (c *Conn) startTLSError(ctx context.Context, err error) error {
	if errors.Is(err, errTLSOnly) || errors.Is(ctx.Err(), context.Canceled) {
		return c.cancelledOrErr(ctx, err)
	}
	err = c.connError(ctx, err)
	switch advice := c.at.portAdvice(); {
	case advice != "":
		return fmt.Errorf("%w; %s", err, advice)
	case isHangUp(err):
		return fmt.Errorf("the controller hung up at StartTLS; if the port speaks TLS from the beginning, write ldaps:// "+
			"in its URL (%w)", err)
	case errors.Is(err, ErrTimeout):
		return fmt.Errorf("no answer to StartTLS; if the port speaks TLS from the beginning, as 636 does, write ldaps:// "+
			"in its URL (%w)", err)
	}
	return err
}

// cancelledOrErr prefers the end of the caller's context to an error.
func (c *Conn) cancelledOrErr(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return contextError(ctx)
	}
	return err
}

// handshakeError words why there is no safe connection, and what to do.
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
		return newError(ErrTLS, "the port speaks LDAP without TLS; write ldap:// for StartTLS there, or ldaps:// with a "+
			"port that speaks TLS (%w)", err)
	case errors.As(err, &record):
		return newError(ErrTLS, "the port does not speak TLS; write ldap:// for StartTLS on port 389, ldaps:// for "+
			"port 636 (%w)", err)
	case refused:
		return newError(ErrTLS, "%s (%w)", alertText(alert, c.config.ServerName), err)
	case isHangUp(err) && advice != "":
		return newError(ErrTLS, "the controller hung up in the TLS handshake; %s (%w)", advice, err)
	case isHangUp(err):
		return newError(ErrTLS, "the controller hung up in the TLS handshake; has it a certificate with a private key, "+
			"does it allow TLS 1.2 with ECDHE, and does the port speak TLS? LDAP without TLS, as on port 389, is ldap:// "+
			"with StartTLS (%w)", err)
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		return c.handshakeTimeout(ctx, advice)
	}
	if words := handshakeText(err.Error()); words != "" {
		return newError(ErrTLS, "%s (%w)", words, err)
	}
	return c.connError(ctx, newError(ErrTLS, "the TLS handshake failed: %w", err))
}

// handshakeTimeout words a handshake that was not answered.
func (c *Conn) handshakeTimeout(ctx context.Context, advice string) error {
	err := c.connError(ctx, newError(ErrTimeout, "the controller did not answer in time"))
	if advice == "" {
		advice = "does the port speak TLS? LDAP without TLS, as on port 389, is ldap:// with StartTLS"
	}
	return fmt.Errorf("no answer to the TLS handshake; %s (%w)", advice, err)
}

// isHangUp reports whether the other side ended the connection.
func isHangUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// remoteAlert returns the name of an alert that the other side sent. Go gives alerts no type.
func remoteAlert(err error) (name string, ok bool) {
	var sent *net.OpError
	if !errors.As(err, &sent) || sent.Op != "remote error" {
		return "", false
	}
	return strings.TrimPrefix(sent.Err.Error(), "tls: "), true
}

// Alerts of a controller that wants to know its client by a certificate.
const (
	certificateRequired = "certificate required"
	badCertificate      = "bad certificate"
)

func isClientCertAlert(alert string) bool {
	return alert == certificateRequired || alert == badCertificate
}

// allowECDHE is what to do where RSA key exchange is all that a controller offers.
const allowECDHE = "allow TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 or another suite with ECDHE and AES-GCM on it; RSA " +
	"key exchange is not offered, because it is not safe"

// allowTLS12 is what to do where a controller is too old for TLS 1.2, or is set so.
const allowTLS12 = "enable TLS 1.2 on it; older versions are not safe"

// alertText words an alert of the controller (RFC 8446 section 6.2), by its name in Go.
func alertText(alert, name string) string {
	switch alert {
	case "handshake failure", "insufficient security level":
		return "the controller and this program have no cipher suite in common, as when it allows RSA key " +
			"exchange only; " + allowECDHE
	case "protocol version not supported":
		return "the controller refuses TLS 1.2 and 1.3; " + allowTLS12
	case "unrecognized name":
		return fmt.Sprintf("the controller, or what stands in front of it, does not know the name %q; write a name it "+
			"knows in the URL or as tls.server_name", name)
	case certificateRequired, badCertificate:
		return "the controller wants a certificate of its client, and there is none; let it take clients without, or " +
			"connect past what stands in front of it"
	case "internal error":
		return "the controller failed in the TLS handshake; can it use the private key of its certificate?"
	}
	return "the controller refused the TLS handshake; its log says why"
}

// handshakeTexts of the handshake that Go gives no type, by a part of their texts.
var handshakeTexts = []struct{ text, words string }{
	{"negative serial number", "the certificate of the controller has a negative serial number, which RFC 5280 " +
		"forbids (section 4.1.2.2); issue it again, by an authority whose serial numbers are positive"},
	{"failed to parse certificate", "the certificate of the controller cannot be read; issue it again"},
	{"unsupported protocol version", "the controller speaks TLS 1.1 at most; " + allowTLS12},
	{"unconfigured cipher suite", "the controller chose a cipher suite that was not offered, as one that knows RSA " +
		"key exchange only does; " + allowECDHE},
	{"invalid signature algorithm", "the controller signs the handshake with SHA-1, which is not safe; allow " +
		"SHA-256 on it"},
	{"unsupported signature algorithm", "the controller signs the handshake with SHA-1, which is not safe; allow " +
		"SHA-256 on it"},
	{"keys are insecure", "the RSA key of the controller's certificate is too short; issue it again with a key " +
		"of 2048 bits"},
	{"RSA key larger than", "the RSA key of the controller's certificate is too long; issue it again with a key of " +
		"2048 to 8192 bits"},
}

func handshakeText(text string) string {
	for _, f := range handshakeTexts {
		if strings.Contains(text, f.text) {
			return f.words
		}
	}
	return ""
}

// verificationError words which part of the verification failed. The chain is what the controller
// showed, its own certificate first.
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
			"Authentication, by the template \"Kerberos Authentication\" for one (%w)", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.NotAuthorizedToSign:
		return newError(ErrTLS, "the certificate of %q is not that of an authority, and signed the controller's; issue "+
			"that one again, by an authority (%w)", certificateLabel(invalid.Cert), err)
	}
	return newError(ErrTLS, "the certificate of the controller cannot be verified; issue it again (%w)", err)
}

// unknownAuthorityText says why no trusted authority vouches for a chain, and what to do.
func (c *Conn) unknownAuthorityText(chain []*x509.Certificate) string {
	if at := slices.IndexFunc(chain, hasWeakHash); at >= 0 {
		return fmt.Sprintf("the certificate of %q is signed with %s, which is not safe; have its authority, %q, sign "+
			"with SHA-256 and issue it again",
			certificateLabel(chain[at]), weakHash(chain[at]), chain[at].Issuer)
	}
	last := chain[len(chain)-1]
	if len(chain) == 1 && selfSigned(last) {
		return fmt.Sprintf("the certificate of %q is self-signed; put it into tls.ca_file, or issue one by an authority "+
			"that is trusted", certificateLabel(last))
	}
	text := fmt.Sprintf("the certificate is signed by an authority that is not trusted; set tls.ca_file to the "+
		"certificate of the authority that issued it, %q", last.Issuer)
	if c.config.CAFile == "" {
		return text
	}
	trusted, unreadable := files.Certificates(c.config.CAFile)
	var names []string
	for _, cert := range trusted {
		if cert.Subject.String() == last.Issuer.String() {
			return fmt.Sprintf("the certificate is signed by another key than that of the authority %q in tls.ca_file; "+
				"that authority was renewed, or another one bears its name: put the certificate that it has now into "+
				"tls.ca_file", last.Issuer)
		}
		names = append(names, fmt.Sprintf("%q", cert.Subject))
	}
	text += "; it holds " + joinNames(names)
	if unreadable != nil {
		text += ", and " + unreadable.Error()
	}
	return text
}

// hasWeakHash reports whether a signature by another key is by a hash that Go does not accept.
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

// certificateLabel names a certificate: by its subject, or the first host where that is empty.
func certificateLabel(cert *x509.Certificate) string {
	switch {
	case cert == nil:
		return "unknown"
	case len(cert.Subject.Names) == 0 && len(cert.DNSNames) > 0:
		return cert.DNSNames[0]
	}
	return cert.Subject.String()
}

// wrongNameText words a certificate that is for other hosts.
func wrongNameText(host string, cert *x509.Certificate) string {
	if cert != nil && len(cert.DNSNames)+len(cert.IPAddresses) == 0 {
		return fmt.Sprintf("the certificate is not for %q: it names no host as subject alternative name, and its common "+
			"name %q does not count; issue one that does",
			host, cert.Subject.CommonName)
	}
	return fmt.Sprintf("the certificate is not for %q; use a name it is for (%s) in the URL or as "+
		"tls.server_name", host, certificateNames(cert))
}

// validityError words a certificate that is not valid now.
func (c *Conn) validityError(invalid x509.CertificateInvalidError, err error) error {
	cert := invalid.Cert
	switch {
	case cert != nil && time.Now().Before(cert.NotBefore):
		return newError(ErrTLS, "the certificate of %q is valid only from %s; is the clock of this machine "+
			"right? (%w)", certificateLabel(cert), cert.NotBefore.Format(time.RFC3339), err)
	case cert != nil && cert.IsCA:
		return newError(ErrTLS, "the certificate of the authority %q has expired; renew it, and put the new one into "+
			"tls.ca_file (%w)", certificateLabel(cert), err)
	}
	return newError(ErrTLS, "the certificate has expired; renew it on the controller (%w)", err)
}

// certificateNames lists what a certificate is for.
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
