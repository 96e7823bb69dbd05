// Package mirror keeps a store equal to its directories.
//
// # Passes
//
// A pass reads the rootDSE of the domain controller, then all objects or those that changed since
// the cursor, and commits. Additions take effect page by page. Removals and the new cursor take
// effect only after everything was read, and after the removal guard. An error ends the pass: the
// cursor and the known addresses stay, and the next pass repeats the work.
//
// Pure functions decide: mustFull, whether a pass has to be full; dueFull, whether a full pass
// follows an incremental one; classify, which addresses an object owns. [Guard] decides which
// removals are held.
//
// # Choice of the domain controller
//
// A [Mirror] keeps the first candidate that answers, as long as it answers, over restarts too. The
// cursor belongs to the database of one controller (MS-ADTS 3.1.1.1.9). Each change of controller,
// also back, is therefore a full pass. Addresses that another controller showed recently stay for
// the replication lag.
//
// Candidates are a fixed list or come from DNS. The rootDSE identifies the controller that
// answered, so a name that leads to several controllers is detected.
//
// # Concurrency
//
// Pass and Run of a Mirror belong to one goroutine. All other methods may be called concurrently.
// Run starts a second goroutine that waits for change notifications and wakes the first one. A
// [Group] runs several mirrors and adds or removes them while it runs. Constructors start no
// goroutine.
package mirror
