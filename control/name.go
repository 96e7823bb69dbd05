package control

import "cmp"

// ObjectName returns the name of an object for people, not escaped. An edge knows no distinguished
// names, unless the hub publishes them.
func ObjectName(dn, guid string) string { return cmp.Or(dn, "object "+guid) }
