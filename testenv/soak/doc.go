// Package soak lets directories live random lives and follows them: the operations of
// years in minutes, on simulated domain controllers that fail in every way they know,
// and some on a real one. It holds tests only.
//
// Everything random comes from a seed, simulated time included, so that a failure comes
// out the same again. docs/testing.md has the commands of the long runs; the tests as
// they are run by default are a short form of them.
//
// What is asked of the index:
//
//   - At every quiet point, when nothing has changed for long enough, it equals a model
//     that knows the rules but not the program: address by address, its owners and
//     whether they take mail from outside.
//   - At every moment in between an address that some object has owned on the followed
//     domain controller since before the last good pass is known, and one that another
//     controller taught is not given up before the replication lag is over.
//   - The guard lets no more removals through than it is set to.
//   - What did not change is not written.
package soak
