// Package soak lets directories live random lives and follows them: the operations of
// years in minutes, on simulated domain controllers that fail in every way they know,
// and some on a real one. It holds tests only.
//
// Everything random comes from a seed, simulated time included. A failure therefore comes
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
//   - The policy rejects none of these permanently, by no name that domain aliases give
//     them. It rejects no recipient either that every controller has shown for longer than
//     the index takes to become stale, or that only rules show which no pass has read by yet.
//   - An address that another directory may have stays known for the replication lag after
//     this one lost it, unless its object was deleted.
//   - The guard lets no more removals through than it is set to, for the directory and for
//     each domain.
//   - What did not change is not written.
package soak
