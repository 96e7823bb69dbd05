// Package adsim is a simulated Active Directory for tests: a model of one domain
// controller's database, and a server that shows it over real TCP with LDAP framing
// and TLS (RFC 4511, MS-ADTS).
//
// [Directory] is the model. Tests write to it by method calls, never over LDAP. Every
// write takes the next USN and sets uSNChanged and whenChanged of the one object it
// touches, so that moving an organizational unit changes the DN of everything below
// and the uSNChanged of nothing below, as in Active Directory. [Directory.Owners] is
// the truth that a mirror of it is compared with.
//
// [Directory.NewReplica] makes a second controller of the domain, with USNs and an
// invocationId of its own, and [Directory.ReplicateFrom] brings it what the first one
// learned since, when the test says so: in between it lags. Of the replication metadata it
// shows what an object has of isDeleted, in replPropertyMetaData; whenChanged of what was
// replicated is that of Windows or of Samba, see [DirectoryConfig].
//
// [Server] answers bind, StartTLS and search. It pages with cookies, cuts long values
// into ranges, hides tombstones from those who do not ask for them, notifies of changes
// (at once; the original takes a moment), and can be told to misbehave: see [Faults].
//
// What differs from the original is on the strict side. An assertion about an
// attribute that an object lacks is Undefined here, not False, so that a filter which
// negates one loses the object: whoever reads Active Directory cannot tell an absent
// attribute from an unreadable one and must not depend on either. There are no
// access rights but [Directory.Hide], [Directory.HideOf] and [Directory.WithholdDeleted].
//
// Everything is safe for concurrent use. The package imports nothing of this project.
package adsim
