// Package fleet has a test that runs a whole fleet on one machine and injects faults at random. The
// fleet has two simulated domain controllers, three engines as a cluster, two hubs, and two edges. All daemons are
// processes of the real program. A proxy stands between each pair that has a connection.
//
// While faults come and go, the directory changes all the time, and a prober asks each edge over its
// milter. The test checks these properties:
//
//   - An edge never permanently rejects a recipient that all domain controllers have shown for longer
//     than stale_after. It never permanently rejects a recipient that it has accepted and that no
//     controller has lost since it first appeared.
//   - An edge never accepts an address that never existed.
//   - After each fault, the edges learn of a new address. At the end all indexes have the same digest,
//     and each edge gives the right answer for each address.
//
// The seed determines the changes and the faults, but not their effect: processes and the network have
// times of their own. docs/testing.md has the commands of the long runs. The default is a short form.
package fleet
