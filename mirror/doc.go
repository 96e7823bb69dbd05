// Package mirror keeps a store equal to its directories.
//
// # Passes
//
// A pass reads the rootDSE of the domain controller. It then reads all objects, or those that changed since the
// cursor, and commits. Additions take effect page by page. Removals and the new cursor take effect only after
// everything was read, and after the removal guard. An error ends the pass: the cursor and the known addresses
// stay, and the next pass repeats the work.
//
// Pure functions make the decisions. mustFull decides whether a pass must be full, dueFull whether a full pass
// follows an incremental one, and classify which addresses an object owns. [Guard] decides which removals are
// held.
//
// # Choice of the domain controller
//
// A [Mirror] stays with the first candidate that answers, as long as it answers, even across restarts. The
// cursor belongs to the database of one controller (MS-ADTS 3.1.1.1.9). Each change of the controller,
// including a change back, therefore requires a full pass. Addresses that another controller showed recently
// stay for the replication lag.
//
// Candidates are a fixed list or come from DNS. The rootDSE identifies the controller that answered, so a name
// that leads to several controllers is detected.
//
// # Concurrency
//
// Pass and Run of a Mirror belong to one goroutine. All other methods may be called concurrently.
// Run starts a second goroutine that waits for change notifications and wakes the first one. A
// [Group] runs several mirrors and adds or removes them while it runs. Constructors start no
// goroutine.
//
// # Reading order
//
//  1. mirror.go, run.go: what a mirror is made of, and its loop.
//  2. pass.go, why_full.go, commit.go: one pass, its kind, its end.
//  3. classify.go, values.go: which addresses an object owns.
//  4. guard.go: which removals are held.
//  5. failover.go, candidates.go, bind_gate.go: which controller is read, and when not to bind.
//  6. state.go: how far the index can be trusted.
//  7. container_moves.go, concurrent_changes.go, deletion.go: what changes while a pass reads.
//  8. confirm.go, compare.go, retired.go, published.go: searches, comparison, removed directories, streams.
package mirror
