package directory

import (
	"context"
	"fmt"
	"strings"
)

// Grantee returns the account of the connection as DOMAIN\name, a form that dsacls accepts. Empty
// means that the directory does not show the account.
func (c *Conn) Grantee(ctx context.Context) string {
	account, err := c.Account(ctx)
	if err != nil || account.Name == "" {
		return ""
	}
	forest, err := c.Forest(ctx)
	if err != nil {
		return ""
	}
	return forest.Grantee(account, c.root.DefaultNamingContext)
}

// Grantee returns an account of a naming context as DOMAIN\name; empty if one of both is unknown.
func (f Forest) Grantee(account Account, namingContext string) string {
	for _, domain := range f.Domains {
		if account.Name != "" && domain.NetBIOS != "" && strings.EqualFold(domain.NamingContext, namingContext) {
			return domain.NetBIOS + `\` + account.Name
		}
	}
	return ""
}

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
