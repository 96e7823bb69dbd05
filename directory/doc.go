// Package directory reads one domain controller of Active Directory over LDAP and
// yields plain [Object] values. It judges nothing: what a recipient is, which part of
// the tree counts and when a removal takes effect is decided by its caller.
//
// A [Conn] is one connection, made by [Dial], bound with a simple bind, and encrypted
// and verified from the first octet that matters: nothing but the StartTLS request
// itself is ever sent in clear. It serves one goroutine at a time; only Close may be
// called from another. After any error that is not ErrRefused the caller should close
// it and dial again.
//
// A pass over the directory is [Conn.Root], then [Conn.Read]:
//
//   - Root comes first, on the same connection. Its HighestCommittedUSN is the next
//     cursor: what changes during the read has a higher USN and is found again.
//   - Read with cursor 0 is the full read. It needs no sight of deleted objects.
//   - Read with a cursor finds whatever changed since: changed, moved and deleted
//     objects, containers and organizational units included.
//   - Read either reports everything or fails: an answer that may be incomplete is
//     ErrProtocol, never a shorter list.
//
// The filter names only object classes and uSNChanged. Whatever else one might add to
// it would lose objects: objectCategory is gone from tombstones, proxyAddresses from
// an object that just lost its last address, and the negation of an attribute that is
// absent or unreadable is neither true nor false.
//
// Searches go to the root of the default naming context, whole subtree, paged; the
// controls are
//
//	1.2.840.113556.1.4.319   paged results                          RFC 2696
//	1.2.840.113556.1.4.1339  domain scope: no continuation          MS-ADTS 3.1.1.3.4.1.4
//	1.2.840.113556.1.4.417   show deleted, incremental only         MS-ADTS 3.1.1.3.4.1.14
//	1.2.840.113556.1.4.2064  show recycled, incremental only        MS-ADTS 3.1.1.3.4.1.26
//
// The last three are critical, so that a server which lacks them says so. References to
// other servers are never followed.
//
// The LDAP library decodes messages of up to 2 GiB by default. The first Dial of the
// process lowers that limit, which is a variable of the package asn1-ber and so holds
// for everything in the process that uses it, to 16 MiB: a message is one entry, and
// the largest real one is a few hundred kilobytes.
package directory
