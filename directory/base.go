package directory

import (
	"context"

	"github.com/go-ldap/ldap/v3"
)

// Exists reports whether an object of this name can be seen. A name that no object can
// have, or that belongs to another directory, is one that does not exist here.
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
