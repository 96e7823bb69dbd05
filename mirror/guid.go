package mirror

import (
	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// The same GUID has a type in directory, which reads it, and one in store, which keeps it: the
// two packages know nothing of each other. Only these functions convert.

func storeGUID(guid directory.GUID) store.GUID { return store.GUID(guid) }

// GUIDText returns the identity of a stored object as Windows tools print it.
func GUIDText(guid store.GUID) string { return directory.GUID(guid).String() }
