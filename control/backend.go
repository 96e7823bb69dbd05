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
//	GET  /v1/edges     list of Member
//	POST /v1/edges/add, /v1/edges/remove  MemberQuery; MemberFile, or {}
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

// Backend answers the requests of the control socket: a running daemon or a stopped store.
type Backend interface {
	// Status must be fast, because every scrape calls it.
	Status(ctx context.Context) (Status, error)
	// Lookup returns the reply to a RCPT with this address and the reason, now or with the
	// index as it was at q.At. It counts nothing and charges no limit.
	Lookup(ctx context.Context, q LookupQuery) (LookupAnswer, error)
	// Sync starts a pass of every directory. With q.Wait it returns when a pass that began
	// after the call has ended in each directory, with an error if one failed. It calls
	// progress meanwhile, one call at a time. The passes continue when ctx ends.
	Sync(ctx context.Context, q SyncQuery, progress func(SyncEvent)) error
	// Removals visits the held removals, directory by directory. It returns an error of visit.
	Removals(ctx context.Context, q RemovalsQuery, visit func(HeldRemoval) error) error
	// Approve applies held removals and reports every directory that had some. It waits for
	// a running pass, whose own removals are not approved.
	Approve(ctx context.Context, q RemovalsQuery, tell func(RemovalsDone)) error
	// Discard drops held removals in the same way.
	Discard(ctx context.Context, q RemovalsQuery, tell func(RemovalsDone)) error
	// Journal visits the changes of passes, oldest pass first. It returns an error of visit.
	Journal(ctx context.Context, q JournalQuery, visit func(JournalRow) error) error
	// Report returns what was rejected, or would have been.
	Report(ctx context.Context, q ReportQuery) (Report, error)
	// Compare reads the directories in full and reports the differences to the index,
	// directory by directory. It changes nothing. The error is that of directories that
	// could not be read, or of tell. The other directories are compared.
	Compare(ctx context.Context, q CompareQuery, tell func(CompareEvent) error) error
	// Reload reads the configuration file again and applies it if it is valid. An invalid
	// file is not an error. Reload may wait for a running pass.
	Reload(ctx context.Context) (Reloaded, error)
	// Export reports the accepted recipients: a head, then each recipient once, those of the
	// index in the order of their text. If no full pass of a directory has completed, it
	// fails unless it is forced. It returns an error of tell.
	Export(ctx context.Context, q ExportQuery, tell func(ExportEvent) error) error
	// Verify reads the whole store, checks its checksums and counts its records again.
	Verify(ctx context.Context) (Verified, error)
}

// Verified describes a store without errors.
type Verified struct {
	Addresses int64  `json:"addresses"`
	Objects   int64  `json:"objects"`
	Digest    string `json:"digest"`
}

// ErrNotSupported is the error of a request that a Backend does not support, such as a pass
// without a daemon.
var ErrNotSupported = errors.New("not possible here")

// ErrNotKept is the error of a request about a time before the oldest record.
var ErrNotKept = errors.New("no records are kept from that time")

// Version describes the program of the daemon.
type Version struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}
