package directory

import (
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// bindCode explains one sub-code of LDAP result 49 (invalidCredentials): the number after "data" in
// the text of Active Directory, which is a Windows error in hexadecimal (MS-ERREF 2.2 and 2.1.1).
type bindCode struct {
	// account means that the reason is the account or its password. Every controller would
	// decide alike, and with a wrong password each attempt brings the account nearer to being
	// locked. Otherwise the reason is this connection or this controller. Such a bind does not
	// count as a failed logon: the password was right, or the controller did not check it.
	account bool
	name    string // of the error
	text    string
}

// bindCodes are the known sub-codes. docs/active-directory.md has the same table.
var bindCodes = map[string]bindCode{
	"525": {true, "ERROR_NO_SUCH_USER", "the account does not exist; correct bind.dn"},
	"52e": {true, "ERROR_LOGON_FAILURE",
		"the name or the password is wrong; correct bind.dn or the password file"},
	"52f": {true, "ERROR_ACCOUNT_RESTRICTION",
		"the account is restricted from logging on; check its settings in Active Directory"},
	"530": {true, "ERROR_INVALID_LOGON_HOURS", "the account may not log on at this hour; check its logon hours"},
	"532": {true, "ERROR_PASSWORD_EXPIRED",
		"the password has expired; set a new one that does not expire, and write it into the password file"},
	"533": {true, "ERROR_ACCOUNT_DISABLED", "the account is disabled; enable it"},
	"534": {true, "ERROR_NONE_MAPPED", "the name does not belong to any account; correct bind.dn"},
	"568": {true, "ERROR_TOO_MANY_CONTEXT_IDS", "the account is in too many groups to log on"},
	"701": {true, "ERROR_ACCOUNT_EXPIRED", "the account has expired; extend it"},
	"773": {true, "ERROR_PASSWORD_MUST_CHANGE",
		"the account must change its password first; clear \"must change password at next logon\""},
	"775": {true, "ERROR_ACCOUNT_LOCKED_OUT",
		"the account is locked out; unlock it, and look for a wrong password in use elsewhere"},

	"5": {false, "ERROR_ACCESS_DENIED", "the controller denies the logon; see its security log"},
	"57": {false, "ERROR_INVALID_PARAMETER", "the controller cannot use the ticket, usually because the channel " +
		"binding is not that of its TLS connection; check for a proxy that ends TLS"},
	"51f": {false, "ERROR_NO_LOGON_SERVERS",
		"the controller reaches no other one that can check the password; use a writable controller of the domain"},
	"531": {false, "ERROR_INVALID_WORKSTATION", "the account may not log on at this controller; add the controller " +
		"to its logon workstations"},
	"54b": {false, "ERROR_NO_SUCH_DOMAIN", "the controller cannot reach the domain of the account"},
	"54f": {false, "ERROR_INTERNAL_ERROR", "the controller has an internal error; see its event log"},
	"569": {false, "ERROR_LOGON_TYPE_NOT_GRANTED",
		"the account lacks the right to access this controller from the network; see its local security policy"},
	"6fd": {false, "ERROR_TRUSTED_RELATIONSHIP_FAILURE",
		"the trust between the controller and its domain has failed"},
	"80090302": {false, "SEC_E_NOT_SUPPORTED", "the controller does not support this kind of logon"},
	"80090304": {false, "SEC_E_INTERNAL_ERROR",
		"the security service of the controller does not work; see its event log"},
	"80090308": {false, "SEC_E_INVALID_TOKEN", "the controller cannot parse the ticket"},
	"80090311": {false, "SEC_E_NO_AUTHENTICATING_AUTHORITY",
		"the controller reaches no other one that can check the logon"},
	"80090322": {false, "SEC_E_WRONG_PRINCIPAL",
		"the ticket is for another controller; write the controller's own host name in the URL"},
	"80090324": {false, "SEC_E_TIME_SKEW", "the clock of the controller differs from that of the Kerberos server"},
	"80090346": {false, "SEC_E_BAD_BINDINGS",
		"the channel binding does not match the controller's TLS connection; check for a proxy that ends TLS"},
}

// subCode returns the sub-code in the text of a rejected bind; empty if there is none.
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

// bindError explains why a simple bind was rejected. An unknown sub-code counts as one about the
// account: a wrong guess delays the next attempt, the opposite one may lock the account.
func bindError(name string, err *ldap.Error) error {
	if err.ResultCode != ldap.LDAPResultInvalidCredentials {
		return fmt.Errorf("bind as %q: %w", name, resultError(err))
	}
	data := subCode(err.Err.Error())
	code, known := bindCodes[data]
	switch {
	case !known:
		return newError(ErrCredentials, "bind as %q rejected (LDAP 49 %s)", name, diagnostic(err))
	case !code.account:
		return newError(ErrRefused, "bind as %q failed at this controller: %s (LDAP 49, data %s)", name, code.text,
			data)
	}
	return newError(ErrCredentials, "bind as %q rejected: %s (LDAP 49, data %s)", name, code.text, data)
}

// ticketError explains why a bind with a Kerberos ticket was rejected. The Kerberos server has
// already accepted the key, so the bind is no failed logon. A controller that says otherwise cannot
// decrypt the ticket.
func ticketError(name string, err *ldap.Error) error {
	data := subCode(err.Err.Error())
	switch _, known := bindCodes[data]; {
	case err.ResultCode != ldap.LDAPResultInvalidCredentials:
	case data == "52e" || data == "525" || data == "534":
		return newError(ErrRefused, "bind as %q failed at this controller: it cannot decrypt the ticket; check that "+
			"the service name ldap/HOST of its host belongs to its own account only (LDAP 49, data %s)", name, data)
	case !known:
		return newError(ErrRefused, "bind as %q failed at this controller (LDAP 49 %s)", name, diagnostic(err))
	}
	return bindError(name, err)
}
