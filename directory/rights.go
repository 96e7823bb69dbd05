package directory

import (
	"fmt"
	"strings"
)

// Grantee returns the bind name in the form that dsacls accepts; empty if it has another form.
func Grantee(bindName string) string {
	if strings.Contains(bindName, "=") || !strings.ContainsAny(bindName, `@\`) {
		return ""
	}
	return bindName
}

// deletedObjects is the container of deleted objects at the root of a naming context (MS-ADTS
// 6.1.1.4.2).
const deletedObjects = "CN=Deleted Objects"

// GrantDeletedObjects returns the commands, in order, with which a domain administrator lets the
// bind account list deleted objects (Microsoft KB 892806). account is DOMAIN\name or
// name@domain; ACCOUNT stands for an unknown one. Without that right a search for tombstones
// finds none and reports no error.
func GrantDeletedObjects(namingContext, account string) []string {
	if account == "" {
		account = "ACCOUNT"
	}
	dn := deletedObjects + "," + namingContext
	return []string{
		fmt.Sprintf(`dsacls "%s" /takeownership`, dn),
		fmt.Sprintf(`dsacls "%s" /G "%s:LCRP"`, dn, account),
	}
}
