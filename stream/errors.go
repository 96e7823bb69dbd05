package stream

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"rcpt-milter/directory"
)

// errExpired reports an expired certificate of the engine, of its authority or of this host.
var errExpired = errors.New("a certificate has expired")

func isExpired(err error) bool {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) {
		return invalid.Reason == x509.Expired
	}
	return err != nil && strings.Contains(err.Error(), "tls: expired certificate") // the error that the engine sends
}

// advise adds a remedy to a connection error.
func advise(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoServers):
		return fmt.Errorf("no engine accepts connections at the urls; check the daemon there and the firewall: %w", err)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired),
		errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("the engine rejected the credentials; enrol this host again with `rcpt-milter edge add` "+
			"and `edge join`: %w", err)
	case isExpired(err):
		return fmt.Errorf("%w; renew it at the engine, or get a new enrolment file: %w", errExpired, err)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return fmt.Errorf("no authority in tls.ca_file has issued the certificate of the engine; if the engine has "+
			"another authority now, replace the file, or enrol this host again: %w", err)
	case errors.Is(err, nats.ErrPermissionViolation):
		return fmt.Errorf("the engine denied an operation; check the role and the directories of this host: %w", err)
	}
	return err
}

// kindError is an error of a kind that package directory declares.
type kindError struct {
	kind error
	text string
	err  error
}

func (e *kindError) Error() string {
	if e.err == nil {
		return e.text
	}
	return e.text + ": " + e.err.Error()
}

func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

func unreachable(text string, err error) error {
	return &kindError{directory.ErrUnreachable, text, err}
}

func unusable(text string, err error) error { return &kindError{directory.ErrProtocol, text, err} }
