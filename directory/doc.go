// Package directory reads one domain controller of Active Directory over LDAP and returns
// plain [Object] values. It makes no decisions: its caller decides which objects are
// recipients, which part of the tree counts and when a removal takes effect.
//
// A [Conn] is one connection. [Dial] makes it, encrypts and verifies it, and binds with a
// password or a Kerberos keytab. Nothing but the StartTLS request itself is ever sent in
// clear. A Conn serves one goroutine at a time; only Close may be called from another. After
// any error other than ErrRefused the caller should close it and dial again.
//
// A pass over the directory calls [Conn.Root], then [Conn.Read]:
//
//   - Root comes first, on the same connection. Its HighestCommittedUSN is the next
//     cursor: changes during the read have a higher USN, and the next read finds them again.
//   - Read with cursor 0 is the full read. It does not need the right to see deleted objects.
//   - Read with a cursor finds all changes since: changed, moved and deleted objects,
//     containers and organizational units included.
//   - ReadObjects finds objects by their identity. A controller may page a full read by
//     position, and then skips objects whose container moves meanwhile.
//   - Read reports everything or fails: an answer that may be incomplete is ErrProtocol,
//     never a shorter list.
//
// The filter names only object classes, uSNChanged and objectGUID. Any other attribute would lose
// objects: tombstones have no objectCategory, an object that just lost its last address has
// no proxyAddresses, and the negation of an absent or unreadable attribute is neither true
// nor false.
//
// Searches start at the root of the default naming context with scope subtree, and are paged.
// The controls are
//
//	1.2.840.113556.1.4.319   paged results                          RFC 2696
//	1.2.840.113556.1.4.1339  domain scope: no continuation          MS-ADTS 3.1.1.3.4.1.4
//	1.2.840.113556.1.4.417   show deleted, incremental only         MS-ADTS 3.1.1.3.4.1.14
//	1.2.840.113556.1.4.2064  show recycled, incremental only        MS-ADTS 3.1.1.3.4.1.26
//
// The last three are critical: a server that lacks them returns an error. References to other
// servers are never followed.
//
// Memory is bounded whatever a controller, or an attacker in its place, sends. The answer to
// StartTLS is read without the LDAP library. After TLS, messages are checked while they arrive:
// their size, levels and elements, and the entries and bytes of each search. An answer beyond a
// limit is ErrProtocol. Importing this package also lowers the limits of package asn1-ber, for
// every user of that package in the process.
package directory
