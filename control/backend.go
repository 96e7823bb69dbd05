// Package control is how people and tools inspect and control a running daemon.
//
// # The control socket
//
// A [Server] serves HTTP with JSON over a unix socket. Every account that may open the
// socket may do everything, so the permissions of the socket are the access control. A
// [Client] is the other end. Both use the plain types of this package, whose JSON names
// are a contract: fields are added, never renamed. Times are RFC 3339 in UTC or null.
// Durations are numbers of seconds.
//
//	GET  /v1/status    Status
//	GET  /v1/lookup    ?address= &client= &authenticated= &at=  LookupAnswer
//	GET  /v1/version   Version
//	POST /v1/sync      SyncQuery; lines of SyncEvent
//	GET  /v1/removals  ?directory=  lines of HeldRemoval
//	POST /v1/removals/approve, /v1/removals/discard  RemovalsQuery; lines of RemovalsDone
//	GET  /v1/journal   ?since= &pass=  lines of JournalRow
//	GET  /v1/report    ?since= &limit=  Report
//	POST /v1/compare   CompareQuery; lines of CompareEvent
//	POST /v1/export    ExportQuery; lines of ExportEvent
//	POST /v1/verify    one line of Verified
//	POST /v1/reload    one line of Reloaded
//
// Lines of an event are {"event": ...}; the last line is {"end": {"error": ""}}.
// An error is {"error": "one sentence"} with a status of 400 or above.
//
// # Concurrency
//
// All functions and methods may be called concurrently. The package keeps no state. The
// Backend is called by several requests at once.
package control

import (
	"context"
	"errors"
)

// Backend is what stands behind the socket: a daemon, or a store that nobody runs.
type Backend interface {
	// Status must be quick: it is called at every scrape.
	Status(ctx context.Context) (Status, error)
	// Lookup answers what a RCPT with this address would be told now, or would have been
	// told with the index as it was at q.At, and why. It counts and charges nothing.
	Lookup(ctx context.Context, q LookupQuery) (LookupAnswer, error)
	// Sync starts a pass of every directory now. With q.Wait it returns when a pass
	// that began after the call has ended in each of them, with an error if one of
	// them failed, and calls progress meanwhile, one call at a time. The passes go on
	// when ctx ends.
	Sync(ctx context.Context, q SyncQuery, progress func(SyncEvent)) error
	// Removals visits the removals that wait, directory by directory. An error of visit
	// ends it and is returned.
	Removals(ctx context.Context, q RemovalsQuery, visit func(HeldRemoval) error) error
	// Approve applies the removals that the removal guard holds back, and tells of every
	// directory that had some. It waits for a pass under way, whose own are not among them.
	Approve(ctx context.Context, q RemovalsQuery, tell func(RemovalsDone)) error
	// Discard forgets them in the same way.
	Discard(ctx context.Context, q RemovalsQuery, tell func(RemovalsDone)) error
	// Journal visits what passes changed, oldest pass first. An error of visit ends it
	// and is returned.
	Journal(ctx context.Context, q JournalQuery, visit func(JournalRow) error) error
	// Report tells what was refused, or would have been.
	Report(ctx context.Context, q ReportQuery) (Report, error)
	// Compare reads the directories in full and tells what the index has and they have
	// not, or the reverse, directory by directory. It changes nothing. The error is
	// that of directories that could not be read; the others are compared. An error of
	// tell ends it and is returned.
	Compare(ctx context.Context, q CompareQuery, tell func(CompareEvent) error) error
	// Reload reads the configuration file again, and puts it into force where it is good.
	// That it is not is no error, but an answer. It may have to wait for a pass under way.
	Reload(ctx context.Context) (Reloaded, error)
	// Export tells who is accepted, to outside senders in mode enforce: a head, and then
	// recipients, each once, those of the index in the order of their text. Where a
	// directory was never read in full it fails, unless it is forced. An error of tell
	// ends it and is returned.
	Export(ctx context.Context, q ExportQuery, tell func(ExportEvent) error) error
	// Verify reads the whole store, checks it against its checksums and counts it again.
	// The error says what is wrong.
	Verify(ctx context.Context) (Verified, error)
}

// Verified is what a store holds that was found good.
type Verified struct {
	Addresses int64  `json:"addresses"`
	Objects   int64  `json:"objects"`
	Digest    string `json:"digest"`
}

// ErrNotSupported is what a Backend answers that cannot do what is asked: passes
// without a daemon, for example.
var ErrNotSupported = errors.New("not possible here")

// ErrNotKept is what a Backend answers that is asked about a time of which nobody can
// tell any more.
var ErrNotKept = errors.New("that is before what is kept")

// Version says which program answers.
type Version struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}
