package mirror

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// A mirror may follow the stream of a hub instead of a controller. This file has the differences: the objects
// are already classified (Rules.Published), a digest verifies a full read, and the content of the stream has an
// age.

// Digester is a Source that knows the digest which the index must have after a pass.
type Digester interface {
	Source
	// Digest returns the digest of everything that existed at the end of the last Read, and the USN of that
	// moment. ok is false if there was no Read.
	Digest() (digest store.Digest, usn uint64, ok bool)
}

// ErrSetBack means that a stream was restored from a backup. The hub notices that, and
// gives the stream a new generation after it has published what is missing.
var ErrSetBack = fmt.Errorf("%w: the stream was set back, as by a restored backup of the engine; "+
	"waiting for the hub to publish what is missing, or for `rcpt-milter sync --full`", directory.ErrProtocol)

// publishedWatchRetry is the longest delay between attempts to be notified by a stream.
const publishedWatchRetry = 10 * time.Second

// watchRetry returns the longest delay between attempts to be notified.
func (m *Mirror) watchRetry() time.Duration {
	if m.config.Rules.Published {
		return publishedWatchRetry
	}
	return watchRetry
}

// readPublished reads a whole stream. The source verifies that nothing is missing.
func (r *passRun) readPublished(ctx context.Context, stored store.Directory) error {
	if err := r.m.source.Read(ctx, 0, r.pageHandler(ctx)); err != nil {
		return err
	}
	if err := r.readConcurrentChanges(ctx, r.m.source, r.applyPage); err != nil {
		return err
	}
	return r.sweep(stored)
}

// addPublished adds the addresses of an object in a stream. Its values are canonical addresses.
func addPublished(out *store.Object, o *directory.Object) {
	for _, v := range o.Values {
		a, err := address.Parse(v.Raw)
		if err != nil {
			out.Unparsed++
			out.Unread = append(out.Unread, store.UnreadValue{Attribute: v.Attribute, Value: v.Raw,
				Reason: err.Error()})
			continue
		}
		out.Addresses = append(out.Addresses, store.Owned{Address: a, Attribute: v.Attribute,
			InternalOnly: v.InternalOnly})
	}
}

// readableOf returns the objects that were read. The others keep what the index has of them.
func (r *passRun) readableOf(read []directory.Object) []directory.Object {
	if !r.m.config.Rules.Published {
		return read
	}
	readable := read[:0:0]
	for _, o := range read {
		if o.Unreadable == "" {
			readable = append(readable, o)
			continue
		}
		r.unreadable = true
		r.pass.Keep(store.GUID(o.GUID))
		err := fmt.Errorf("object %s of the stream cannot be read and keeps its addresses: %s", o.GUID, o.Unreadable)
		if r.m.setWarning("unreadable object", err, r.m.config.Full) {
			r.m.config.Log.Warn("object of the stream cannot be read", "object", o.GUID, "error", o.Unreadable)
		}
	}
	return readable
}

// reasonNewTerm is the reason of a full pass while digests cannot be compared. If a hub and an engine were
// restored together, the stream may have passed the cursor again with messages other than those that were read.
const reasonNewTerm = "the hub began to publish anew while removals wait"

// isSetBack reports whether a stream is behind the cursor, or behind what a pass has begun to read. A pass
// commits at a state of the hub; one that does not end may have read messages after the newest state.
func isSetBack(at cursor, root directory.Root) bool {
	if at.InvocationID == root.InvocationID && root.HighestCommittedUSN < max(at.USN, at.Highest) {
		return true
	}
	return at.Begun.InvocationID == root.InvocationID && max(root.HighestCommittedUSN, root.LastUSN) < at.Begun.USN
}

// setBack ends a pass of a stream that was set back. After the stream has passed the cursor again, a full pass
// must follow, because an incremental pass would miss the content of the lost messages.
func (r *passRun) setBack(stored store.Directory) error {
	r.m.differs.Store(true)
	return cmp.Or(r.recordSetBack(stored), ErrSetBack)
}

// recordSetBack records that only a full pass may follow, because the next pass may not detect that the database was
// set back.
func (r *passRun) recordSetBack(stored store.Directory) error {
	if stored.FullPassPending != "" || stored.LastFull.Number == 0 {
		return nil
	}
	pass, err := r.m.config.Store.Begin(r.m.config.Name, store.Full, store.Origin{Started: r.started,
		Controller: r.root.DNSHostName, Database: decodeCursor(stored.Cursor).database(), Why: reasonSetBack,
		Rules: stored.Fingerprint, Lag: r.m.config.ReplicationLag, HandoverLag: r.m.handoverLag,
		RequireFullPass: true, ClockSet: r.clockSet(stored)})
	if err != nil {
		return storeError{err}
	}
	pass.Abort()
	return nil
}

// mayDiffer reports whether the index may differ from what the hub has published, for the next cursor. A pass
// that changed addresses is compared only after its commit, so the next pass stores the result.
func (r *passRun) mayDiffer() bool {
	return r.m.config.Rules.Published && (r.m.differs.Load() || r.unreadable || r.touched)
}

// compareDigests compares the index after a pass with what the hub has published. While they differ, the index
// does not prove addresses unknown, and full passes follow. The last result stays if the pass read more than
// its rootDSE covers, or if removals are pending or held. An object that could not be read always counts as a
// difference.
func (r *passRun) compareDigests(stored store.Directory) {
	source, ok := r.m.source.(Digester)
	if !ok {
		return
	}
	if r.unreadable {
		r.m.differs.Store(true)
	}
	want, usn, ok := source.Digest()
	if !ok || usn != r.root.HighestCommittedUSN || stored.Marked > 0 {
		return
	}
	got, err := r.m.config.Store.Digest(r.m.config.Name)
	if err == nil && got == want {
		r.m.setWarning("digest", nil, 0)
		r.m.differs.Store(false)
		return
	}
	if err == nil {
		err = fmt.Errorf("the index has %d objects with %d addresses, which are not the %d with %d that the hub has "+
			"published; a full pass follows", got.Objects, got.Addresses, want.Objects, want.Addresses)
	}
	r.m.differs.Store(true)
	if r.m.setWarning("digest", err, r.m.config.Full) {
		r.m.config.Log.Error("index differs from what the hub publishes", "error", err)
	}
}
