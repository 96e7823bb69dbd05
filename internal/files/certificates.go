package files

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"rcpt-milter/internal/text"
)

// Certificates returns the certificates in a PEM file. With an error it may return some as well:
// the readable ones beside an unreadable one.
func Certificates(path string) (all []*x509.Certificate, err error) {
	data, err := Read(path, "CA", MaxCA)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(Line(data)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, bad := x509.ParseCertificate(block.Bytes)
		switch {
		case bad == nil:
			all = append(all, cert)
		case err == nil:
			err = fmt.Errorf("the CA file %s has a certificate that cannot be read: %v%s", path, bad,
				certificateRemedy(bad))
		}
	}
	if len(all) == 0 && err == nil {
		err = fmt.Errorf("the CA file %s %s", path, noCertificateText(data, path))
	}
	return all, err
}

// certificateRemedy returns the remedy for an unreadable certificate; empty if none is known.
func certificateRemedy(err error) string {
	if strings.Contains(err.Error(), "negative serial number") {
		return "; issue it again: its serial number must be positive (RFC 5280 section 4.1.2.2)"
	}
	return ""
}

// noCertificateText explains the content of a file without a certificate in PEM.
func noCertificateText(data []byte, path string) string {
	if encoding := Encoding(data); encoding != "" {
		return WrongEncoding(encoding, path)
	}
	if _, err := x509.ParseCertificate(data); err == nil {
		return fmt.Sprintf("is a certificate in DER form, and PEM is expected; convert it: openssl x509 -inform "+
			"der -in "+
			"%s -out NEW.pem, and name that file", text.ShellQuoted(path))
	}
	return "has no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
}
