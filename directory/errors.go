package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/go-ldap/ldap/v3"
)

// What a caller may branch on. Every error of this package wraps one of these, but for
// the error of a callback, which is passed on as it is, and the end of the caller's
// context, which wraps context.Canceled. Texts say what happened and what to do about
// it, name keys of the configuration file, and hold no secret.
var (
	// ErrConfig: the configuration or a file it names cannot be used. Nothing was sent.
	ErrConfig = errors.New("directory configuration")

	// ErrSecret: the file of the password or of the keys holds nothing that a bind could be
	// tried with, so none was. Every ErrSecret is an ErrConfig.
	ErrSecret = fmt.Errorf("%w: no usable secret", ErrConfig)

	// ErrUnreachable: no connection could be made, or the one there was is lost.
	ErrUnreachable = errors.New("domain controller not reachable")

	// ErrTimeout: an operation took longer than its limit. The connection is closed.
	ErrTimeout = errors.New("domain controller too slow")

	// ErrTLS: the connection cannot be made safe, so nothing was sent over it.
	ErrTLS = errors.New("no safe connection")

	// ErrCredentials: the controller refused name or password (LDAP result 49). Trying
	// again soon locks the account.
	ErrCredentials = errors.New("bind refused")

	// ErrRefused: the controller answered an operation with an error of its own.
	ErrRefused = errors.New("operation refused")

	// ErrProtocol: an answer that must not be trusted, because it lacks something or is
	// not what was asked for. What was read must not be taken for the whole.
	ErrProtocol = errors.New("answer not usable")
)

// kindError is one sentence about what went wrong, of one kind.
type kindError struct {
	kind  error
	cause error // says the same thing in full
}

func (f *kindError) Error() string   { return f.cause.Error() }
func (f *kindError) Unwrap() []error { return []error{f.kind, f.cause} }

// newError makes an error of a kind.
func newError(kind error, format string, args ...any) error {
	return &kindError{kind, fmt.Errorf(format, args...)}
}

// contextError words the end of an operation by its context.
func contextError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return newError(ErrTimeout, "the controller did not answer in time: %w", ctx.Err())
	}
	return fmt.Errorf("given up: %w", ctx.Err())
}

// errLostCookie marks an answer that says that the controller forgot where we were.
var errLostCookie = errors.New("the controller lost the paging cookie")

// resultTexts words result codes of RFC 4511 appendix A that an administrator may meet.
var resultTexts = map[uint16]string{
	ldap.LDAPResultTimeLimitExceeded:            "the controller's own time limit for a search was reached",
	ldap.LDAPResultSizeLimitExceeded:            "the controller's own limit of entries was reached",
	ldap.LDAPResultAdminLimitExceeded:           "a limit of the controller's LDAP policy was reached",
	ldap.LDAPResultStrongAuthRequired:           "the controller wants a stronger kind of bind, or refuses a password on this connection",
	ldap.LDAPResultConfidentialityRequired:      "the controller wants a stronger encryption",
	ldap.LDAPResultReferral:                     "the controller sends us to another one, which is not followed; is it a controller of this domain?",
	ldap.LDAPResultUnavailableCriticalExtension: "the server lacks a control that Active Directory has; is it a domain controller?",
	ldap.LDAPResultNoSuchObject:                 "the controller knows no such object, or hides it from this account",
	ldap.LDAPResultInvalidDNSyntax:              "the controller cannot read the name that was asked for",
	ldap.LDAPResultInsufficientAccessRights:     "this account lacks the right to read",
	ldap.LDAPResultBusy:                         "the controller is busy",
	ldap.LDAPResultUnavailable:                  "the controller is not available now",
	ldap.LDAPResultUnwillingToPerform:           "the controller is unwilling to do this",
	ldap.LDAPResultOperationsError:              "the controller could not do this now; is the connection still bound?",
	ldap.LDAPResultInappropriateAuthentication:  "the controller refuses this kind of bind",
	ldap.LDAPResultAuthMethodNotSupported:       "the controller refuses this way to bind",
}

// resultError words a result code other than success.
func resultError(err *ldap.Error) error {
	words, ok := resultTexts[err.ResultCode]
	if !ok {
		words = "the controller answered with an error"
	}
	return newError(ErrRefused, "%s (LDAP %d %s)", words, err.ResultCode, diagnostic(err))
}

// fromServer picks the result code out of an error of the LDAP library; its own
// errors have codes from 200 up.
func fromServer(err error) (*ldap.Error, bool) {
	var result *ldap.Error
	ok := errors.As(err, &result) && result.ResultCode < ldap.ErrorNetwork && result.ResultCode != 0
	return result, ok
}

// diagnostic gives the server's own text, made fit for a log line: Active Directory
// ends it with a zero octet.
func diagnostic(err *ldap.Error) string {
	if err.Err == nil {
		return quote("")
	}
	return quote(err.Err.Error())
}

// quote quotes what came from the other side, in one line of a moderate length.
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

// bindSubCodes explains why Active Directory refused a bind: the number after "data" in
// its text is a Windows error in hexadecimal (MS-ERREF 2.2).
var bindSubCodes = map[string]string{
	"525":      "there is no such account; correct bind.dn",
	"52e":      "the name or the password is wrong; correct bind.dn or the password file",
	"52f":      "the account is restricted from logging on; see its settings in Active Directory",
	"530":      "the account may not log on at this hour; see its logon hours",
	"531":      "the account may not log on from this computer; see its logon workstations",
	"532":      "the password has expired; set a new one that does not expire, and put it into the password file",
	"533":      "the account is disabled; enable it",
	"534":      "the account lacks the right to log on to the controller over the network",
	"568":      "the account is in too many groups to log on",
	"701":      "the account has expired; extend it",
	"773":      "the account must change its password first; clear \"must change password at next logon\"",
	"80090346": "the controller insists on channel binding, and ours does not fit the TLS connection that it sees; is there something in between that ends TLS?",

	"775": "the account is locked out; unlock it, and look for a wrong password in use elsewhere",
}

// subCode finds the sub-code in the text of a refused bind; empty: there is none.
func subCode(text string) string {
	_, rest, ok := strings.Cut(text, "data ")
	if !ok {
		return ""
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) })
	if end < 0 {
		end = len(rest)
	}
	return strings.ToLower(rest[:end])
}

// bindError words the refusal of a bind.
func bindError(name string, err *ldap.Error) error {
	if err.ResultCode != ldap.LDAPResultInvalidCredentials {
		return fmt.Errorf("bind as %q: %w", name, resultError(err))
	}
	code := subCode(err.Err.Error())
	words, ok := bindSubCodes[code]
	if !ok {
		return newError(ErrCredentials, "bind as %q is refused (LDAP 49 %s)", name, diagnostic(err))
	}
	return newError(ErrCredentials, "bind as %q is refused: %s (LDAP 49, data %s)", name, words, code)
}
