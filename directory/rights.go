package directory

import "fmt"

// GrantDeletedObjects is what a domain administrator runs to let the bind account list
// deleted objects (Microsoft KB 892806); ACCOUNT stands for it. Without that right a
// search for tombstones finds none and reports no error.
func GrantDeletedObjects(namingContext string) string {
	dn := "CN=Deleted Objects," + namingContext
	return fmt.Sprintf(`dsacls "%s" /takeownership; dsacls "%s" /G ACCOUNT:LCRP`, dn, dn)
}
