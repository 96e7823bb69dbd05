package mirror

import (
	"errors"

	"rcpt-milter/directory"
)

// needsNewSecret reports whether an error persists until the password file or the keytab changes: the directory
// rejected the secret, or there is none to bind with. Another domain controller would not help, and further
// attempts may lock the account.
func needsNewSecret(err error) bool {
	return errors.Is(err, directory.ErrCredentials) || errors.Is(err, directory.ErrSecret)
}
