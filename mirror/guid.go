package mirror

import (
	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// GUIDs have one type in package directory, which reads them, and one in package store, which keeps them. The
// packages are independent of each other. Only these functions convert between the types.

func storeGUID(guid directory.GUID) store.GUID { return store.GUID(guid) }

// GUIDText formats the GUID of a stored object as Windows tools do.
func GUIDText(guid store.GUID) string { return directory.GUID(guid).String() }
