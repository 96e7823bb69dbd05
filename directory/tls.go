package directory

import (
	"crypto/tls"
	"crypto/x509"

	"rcpt-milter/internal/files"
)

// tlsConfig returns the client's TLS configuration and reads CAFile again. It skips unreadable
// certificates in CAFile unless there is no readable one.
func (c Config) tlsConfig() (*tls.Config, error) {
	out := &tls.Config{ServerName: c.ServerName, MinVersion: files.MinTLSVersion}
	if c.CAFile == "" {
		return out, nil
	}
	certificates, err := files.Certificates(c.CAFile)
	if len(certificates) == 0 {
		return nil, newError(ErrConfig, "tls.ca_file: %w", err)
	}
	out.RootCAs = x509.NewCertPool()
	for _, cert := range certificates {
		out.RootCAs.AddCert(cert)
	}
	return out, nil
}
