// Package simulated has tests that change simulated directories at random while mirrors follow them: the
// operations of years in minutes, on domain controllers that fail in every way that the simulator
// knows.
//
// All random values come from a seed, also the simulated time, so the same seed repeats a failure.
// docs/testing.md has the commands of the long runs. The default is a short form.
//
// The tests check these properties of the index:
//
//   - At every quiet point, when nothing has changed for long enough, it equals a model
//     that has the rules but not the program, address by address, with its owners and
//     whether they accept mail from outside.
//   - At every other moment, an address is known if an object on the followed domain controller
//     has owned it since before the last good pass. An address that another controller showed
//     is not removed before the replication lag is over.
//   - The policy rejects none of these permanently, under any name that a domain alias gives
//     them. It also rejects no recipient that every controller has shown for longer than
//     stale_after, nor one that only new rules show before a pass has read by them.
//   - An address that another directory may have stays known for the replication lag after
//     this one lost it, unless its object was deleted.
//   - The guard releases no more removals than configured, for the directory and for each
//     domain.
//   - A pass without changes writes nothing.
package simulated
