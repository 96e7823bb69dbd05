package directory

import (
	"fmt"
	"strings"
)

// Grantee is the name under which we bind as dsacls takes it; empty: it does not take that.
func Grantee(bindName string) string {
	if strings.Contains(bindName, "=") || !strings.ContainsAny(bindName, `@\`) {
		return ""
	}
	return bindName
}

// deletedObjects is the container, at the root of a naming context, of what was deleted
// there (MS-ADTS 6.1.1.4.2).
const deletedObjects = "CN=Deleted Objects"

// GrantDeletedObjects are the commands that a domain administrator runs, one after the
// other, to let the bind account list deleted objects (Microsoft KB 892806): account is
// DOMAIN\name or name@domain, and ACCOUNT stands for one that is not known. Without that
// right a search for tombstones finds none and reports no error.
func GrantDeletedObjects(namingContext, account string) []string {
	if account == "" {
		account = "ACCOUNT"
	}
	dn := deletedObjects + "," + namingContext
	return []string{fmt.Sprintf(`dsacls "%s" /takeownership`, dn), fmt.Sprintf(`dsacls "%s" /G "%s:LCRP"`, dn, account)}
}
