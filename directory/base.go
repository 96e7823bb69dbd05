package directory

import (
	"context"

	"github.com/go-ldap/ldap/v3"
)

// Exists reports whether the account can see an object with this DN. A DN that cannot
// name an object, or that belongs to another directory, does not exist here.
func (c *Conn) Exists(ctx context.Context, dn string) (bool, error) {
	_, err := c.lookup(ctx, dn, []string{"objectClass"})
	if result, ok := fromServer(err); ok {
		switch result.ResultCode {
		case ldap.LDAPResultNoSuchObject, ldap.LDAPResultReferral, ldap.LDAPResultInvalidDNSyntax:
			return false, nil
		}
	}
	return err == nil, c.operationError("looking for "+dn, err)
}
