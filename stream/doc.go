// Package stream carries the addresses of a directory from a hub to its edges, over NATS JetStream.
//
// A hub follows Active Directory and publishes what its store answers. An edge follows the stream: a
// [Source] shows it to package mirror as if it were a domain controller. Guard, grace, journal and
// staleness therefore work at the edge as they do at the hub.
//
// The stream of a directory holds one message for each object: the addresses that it owns, or none
// if it lost them all. A state message ends each pass of the hub. The sequence number of a state
// takes the place of highestCommittedUSN, and the generation that a state names takes the place of
// the invocationId.
package stream
