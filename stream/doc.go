// Package stream carries the addresses of a directory from a hub to its edges, over NATS JetStream.
//
// A hub follows Active Directory and publishes the addresses in its store. An edge follows the stream: a
// [Source] presents the stream to package mirror as if it were a domain controller. The removal guard, the
// grace period, the journal and staleness therefore work at an edge as they do at a hub.
//
// The stream of a directory has one message per object, which lists the addresses that the object owns. The
// list is empty if the object has lost all its addresses. The hub ends each pass with a state message. The
// sequence number of a state takes the place of highestCommittedUSN, and its generation takes the place of the
// invocationId.
package stream
