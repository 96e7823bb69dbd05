// Package adsim is a simulated Active Directory for tests: a model of one domain controller's
// database, and a server that shows it over real TCP with LDAP framing and TLS (RFC 4511,
// MS-ADTS).
//
// [Directory] is the model. Tests write to it with method calls, never over LDAP. Every write
// takes the next USN and sets uSNChanged and whenChanged of the one object it touches. Moving an
// organizational unit therefore changes the DN of its subtree but not the uSNChanged of the
// objects in it, as in Active Directory. [Directory.Owners] returns the addresses that a mirror
// must have.
//
// [Directory.NewReplica] makes a second controller of the domain, with its own USNs and
// invocationId. [Directory.ReplicateFrom] replicates to it when the test calls it; in between it
// lags. Of the replication metadata the server shows only isDeleted, in replPropertyMetaData.
// whenChanged of a replicated object follows Windows or Samba, see [DirectoryConfig].
//
// [Server] answers bind, StartTLS and search. It pages with cookies, splits long values into
// ranges, shows tombstones only on request, and sends change notifications (at once; Active
// Directory takes a moment). It can also misbehave: see [Faults].
//
// Where it differs from Active Directory, it is stricter. An assertion about an absent attribute
// is Undefined here, not False, so a filter that negates one loses the object. A client of Active
// Directory cannot distinguish an absent attribute from an unreadable one and must not depend on
// either. There are no access rights but [Directory.Hide], [Directory.HideOf] and
// [Directory.WithholdDeleted].
//
// Everything is safe for concurrent use. The package imports nothing of this project.
package adsim
