package files

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
)

// Certificates returns the certificates that a file holds in PEM. With an error there may be
// some as well: those that can be read beside one that cannot.
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
			err = fmt.Errorf("the CA file %s has a certificate that cannot be read: %v%s", path, bad, remedy(bad))
		}
	}
	if len(all) == 0 && err == nil {
		err = fmt.Errorf("the CA file %s %s", path, noCertificate(data, path))
	}
	return all, err
}

// remedy says what to do about a certificate that cannot be read; empty: nothing is known.
func remedy(err error) string {
	if strings.Contains(err.Error(), "negative serial number") {
		return "; issue it again: its serial number must be positive (RFC 5280 section 4.1.2.2)"
	}
	return ""
}

// noCertificate says what is in a file that has no certificate in PEM.
func noCertificate(data []byte, path string) string {
	if encoding := Encoding(data); encoding != "" {
		return WrongEncoding(encoding, path)
	}
	if _, err := x509.ParseCertificate(data); err == nil {
		return fmt.Sprintf("is a certificate in DER form, and PEM is expected; convert it: openssl x509 -inform der -in "+
			"%s -out NEW.pem, and name that file", inShell(path))
	}
	return "has no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
}
