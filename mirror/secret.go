package mirror

import (
	"errors"

	"rcpt-milter/directory"
)

// awaitsSecret reports whether an error stays the same until the password file or the keytab
// changes: the directory refused the secret, or there is none that a bind could be tried with.
// No other domain controller helps, and trying on may lock the account.
func needsNewSecret(err error) bool {
	return errors.Is(err, directory.ErrCredentials) || errors.Is(err, directory.ErrSecret)
}
