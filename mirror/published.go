package mirror

import (
	"context"
	"fmt"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// A mirror may follow the stream of a hub in place of a controller. What differs is in this file: the
// objects are classified already (Rules.Published), a full read proves itself by a digest, and what
// the stream shows has an age.

// Digester is a Source that knows what the index must equal after a pass.
type Digester interface {
	Source
	// Digest returns the digest of everything that existed at the end of the last Read, and the
	// USN of that moment. It reports false if there was none.
	Digest() (digest store.Digest, usn uint64, ok bool)
}

// errStreamSetBack ends a pass of a stream that was restored from a backup. The hub notices that, and
// gives the stream a new generation after it has published what is missing.
var errStreamSetBack = fmt.Errorf("%w: the stream was set back, as by a restored backup of the engine; "+
	"waiting for the hub to publish what is missing", directory.ErrProtocol)

// publishedWatchRetry is the longest delay between two attempts to be notified by a stream.
const publishedWatchRetry = 10 * time.Second

// watchRetry returns the longest delay between two attempts to be notified.
func (m *Mirror) watchRetry() time.Duration {
	if m.config.Rules.Published {
		return publishedWatchRetry
	}
	return watchRetry
}

// readPublished reads everything of a stream. The source verifies that nothing is missing.
func (r *passRun) readPublished(ctx context.Context, stored store.Directory) error {
	if err := r.m.source.Read(ctx, 0, r.pageHandler(ctx)); err != nil {
		return err
	}
	if err := r.readConcurrentChanges(ctx, r.m.source, r.applyPage); err != nil {
		return err
	}
	return r.sweep(stored)
}

// addPublished adds the addresses of an object of a stream. Its values are canonical addresses.
func addPublished(out *store.Object, o *directory.Object) {
	for _, v := range o.Values {
		a, err := address.Parse(v.Raw)
		if err != nil {
			out.Unparsed++
			out.Unread = append(out.Unread, store.UnreadValue{Attribute: v.Attribute, Value: v.Raw, Reason: err.Error()})
			continue
		}
		out.Addresses = append(out.Addresses, store.Owned{Address: a, Attribute: v.Attribute, InternalOnly: v.InternalOnly})
	}
}

// keepUnreadable returns the objects that were read. The others keep what the index has of them.
func (r *passRun) keepUnreadable(read []directory.Object) []directory.Object {
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

// reasonNewTerm is the reason of a full pass while digests cannot be compared. A hub and an engine that
// were restored together may have passed the cursor again, with other messages than were read.
const reasonNewTerm = "the hub began to publish anew while removals wait"

// isSetBack reports whether a stream is behind what was read of it.
func isSetBack(at cursor, root directory.Root) bool {
	return at.InvocationID == root.InvocationID && root.HighestCommittedUSN < max(at.USN, at.Highest)
}

// setBack ends a pass of a stream that was set back. Once the stream has passed the cursor again, a full
// pass has to follow: an incremental one would miss what the lost messages had said.
func (r *passRun) setBack(stored store.Directory) error {
	r.m.differs.Store(true)
	if stored.FullPassPending != "" {
		return errStreamSetBack
	}
	pass, err := r.m.config.Store.Begin(r.m.config.Name, store.Full, store.Origin{Started: r.started,
		Controller: r.root.DNSHostName, Database: decodeCursor(stored.Cursor).database(), Why: reasonSetBack,
		Rules: stored.Fingerprint, HandoverLag: r.m.handoverLag, RequireFullPass: true})
	if err != nil {
		return storeError{err}
	}
	pass.Abort()
	return errStreamSetBack
}

// mayDiffer reports whether the index may differ from what the hub has published, as the cursor stores
// it. A pass that changed addresses is compared after its commit only, so the next one stores the result.
func (r *passRun) mayDiffer() bool {
	return r.m.config.Rules.Published && (r.m.differs.Load() || r.unreadable || r.touched)
}

// compareDigests compares the index after a pass with what the hub has published. While they differ,
// the index does not prove that an address is unknown, and full passes follow. A pass that read more
// than its rootDSE, and removals that wait or are held, leave the last result. An object that could not
// be read is a difference in any case.
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
