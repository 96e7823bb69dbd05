package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/go-ldap/ldap/v3"
)

// The kinds of error that a caller can distinguish. Every error of this package wraps one of
// them, with two exceptions: an error of a callback is returned unchanged, and the end of the
// caller's context wraps context.Canceled. Messages state the fact and the remedy, name keys
// of the configuration file, and contain no secret.
var (
	// ErrConfig means that the configuration or a file it names cannot be used. Nothing was sent.
	ErrConfig = errors.New("directory configuration")

	// ErrSecret means that the password file or keytab has no secret to bind with, so no bind
	// was tried. Every ErrSecret is an ErrConfig.
	ErrSecret = fmt.Errorf("%w: no usable secret", ErrConfig)

	// ErrUnreachable means that no connection could be made, or that it was lost.
	ErrUnreachable = errors.New("domain controller not reachable")

	// ErrTimeout means that an operation exceeded its time limit. The connection is closed.
	ErrTimeout = errors.New("domain controller too slow")

	// ErrTLS means that the connection cannot be secured. Nothing was sent over it.
	ErrTLS = errors.New("no safe connection")

	// ErrCredentials means that the controller rejected the account, or its name or password.
	// Retrying soon, or at another controller, may lock the account.
	ErrCredentials = errors.New("bind refused")

	// ErrForgeable means that the rejection is a Kerberos error, which is neither encrypted nor
	// signed (RFC 4120 section 5.9.1): an attacker on the path can forge it. Every ErrForgeable is
	// an ErrCredentials.
	ErrForgeable = fmt.Errorf("%w: not authenticated", ErrCredentials)

	// ErrRefused means that the controller answered an operation with an error.
	ErrRefused = errors.New("operation refused")

	// ErrLostCookie means that the controller lost its place in a paged search, again and again.
	// Other searches on the same connection may be the reason. The connection stays usable. Every
	// ErrLostCookie is an ErrRefused.
	ErrLostCookie = errors.New("the controller lost the paging cookie")

	// ErrProtocol means that an answer is incomplete or does not match the request. The objects
	// read so far must not be taken for all objects.
	ErrProtocol = errors.New("answer not usable")

	// ErrChangesHidden means that no object shows uSNChanged, so a read of changes would find none.
	// Every ErrChangesHidden is an ErrProtocol.
	ErrChangesHidden = fmt.Errorf("%w: no object shows uSNChanged", ErrProtocol)
)

// kindError is an error message of one kind.
type kindError struct {
	kind  error
	cause error // the full message
}

func (f *kindError) Error() string   { return f.cause.Error() }
func (f *kindError) Unwrap() []error { return []error{f.kind, f.cause} }

// newError returns an error of a kind.
func newError(kind error, format string, args ...any) error {
	return &kindError{kind, fmt.Errorf(format, args...)}
}

// contextError explains the end of an operation by its context.
func contextError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return newError(ErrTimeout, "the controller did not answer in time: %w", ctx.Err())
	}
	return fmt.Errorf("canceled: %w", ctx.Err())
}

// resultTexts explains the result codes of RFC 4511 appendix A that an administrator may meet.
var resultTexts = map[uint16]string{
	ldap.LDAPResultTimeLimitExceeded:  "the controller reached its time limit for a search",
	ldap.LDAPResultSizeLimitExceeded:  "the controller reached its limit of entries",
	ldap.LDAPResultAdminLimitExceeded: "a limit of the controller's LDAP policy was reached",
	ldap.LDAPResultStrongAuthRequired: "the controller requires a stronger kind of bind, or rejects " +
		"passwords on this connection",
	ldap.LDAPResultConfidentialityRequired: "the controller requires stronger encryption",
	ldap.LDAPResultReferral: "the controller refers to another server, which is not followed; " +
		"check that it serves this domain",
	ldap.LDAPResultUnavailableCriticalExtension: "the server lacks a control of Active Directory; check that it is " +
		"a domain controller",
	ldap.LDAPResultNoSuchObject: "the object does not exist, or the controller hides it from this " +
		"account",
	ldap.LDAPResultInvalidDNSyntax:          "the controller cannot parse the name in the request",
	ldap.LDAPResultInsufficientAccessRights: "this account lacks the right to read",
	ldap.LDAPResultBusy:                     "the controller is busy",
	ldap.LDAPResultUnavailable:              "the controller is not available now",
	ldap.LDAPResultUnwillingToPerform:       "the controller is unwilling to perform the operation",
	ldap.LDAPResultOperationsError: "the controller cannot perform the operation now; check that the " +
		"connection is still bound",
	ldap.LDAPResultInappropriateAuthentication: "the controller does not allow this kind of bind",
	ldap.LDAPResultAuthMethodNotSupported:      "the controller does not support this authentication method",
}

// resultError explains a result code other than success.
func resultError(err *ldap.Error) error {
	words, ok := resultTexts[err.ResultCode]
	if !ok {
		words = "the controller answered with an error"
	}
	return newError(ErrRefused, "%s (LDAP %d %s)", words, err.ResultCode, diagnostic(err))
}

// fromServer returns the server's result code in an error of the LDAP library, if there is one.
// The library's own errors have codes from 200 up.
func fromServer(err error) (*ldap.Error, bool) {
	var result *ldap.Error
	ok := errors.As(err, &result) && result.ResultCode < ldap.ErrorNetwork && result.ResultCode != 0
	return result, ok
}

// diagnostic returns the server's own text in a form that fits a log line. Active Directory
// ends that text with a zero byte.
func diagnostic(err *ldap.Error) string {
	if err.Err == nil {
		return quote("")
	}
	return quote(err.Err.Error())
}

// quote quotes text from the network in one line of limited length.
func quote(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, text)
	const longest = 200
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return fmt.Sprintf("%q", text)
}
