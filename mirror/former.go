package mirror

import (
	"fmt"
	"slices"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// An engine may be restored from a backup of an earlier generation of a stream. Nothing in the stream shows
// that it is old, except the age of what its hub had read. So a mirror remembers which streams it followed
// before, and how recent the directory was that they showed.

// ErrNotNewer means that a stream shows nothing newer than the index. The index stays as it is.
var ErrNotNewer = fmt.Errorf("%w: the stream is not newer than the index", directory.ErrProtocol)

var (
	errFormerStream = fmt.Errorf("%w: it was followed before the present one, and no hub has published in it since; "+
		"waiting for a hub, or for `rcpt-milter sync --full`", ErrNotNewer)
	errOlderStream = fmt.Errorf("%w: its hub had read the directory longer ago than what the index has; "+
		"waiting for a hub, or for `rcpt-milter sync --full`", ErrNotNewer)
)

// maxFormer limits the streams that are remembered.
const maxFormer = 16

// asOfSlack is how exactly two ages of a directory can be compared.
const asOfSlack = 10 * time.Second

// follows returns the cursor with what it remembers of streams after a pass that began at some time. before
// is the cursor of the pass before.
func (c cursor) follows(before cursor, began time.Time) cursor {
	c.AsOf = began.Add(-c.Age)
	switch {
	case before.InvocationID.IsZero():
	case before.InvocationID != c.InvocationID:
		c.Former = append(c.Former, before.InvocationID)
		for _, id := range before.Former {
			if id != c.InvocationID && len(c.Former) < maxFormer {
				c.Former = append(c.Former, id)
			}
		}
	default:
		c.Former = before.Former
		// Another hub may be behind the last one. What that one had published is in the stream.
		if before.AsOf.After(c.AsOf) && !before.AsOf.After(began) {
			c.AsOf = before.AsOf
		}
	}
	return c
}

// notNewer returns why a stream shows nothing newer than the index; nil if it may do so. moved means that
// a hub has published in it since it was first seen. The index has the time of the cursor if clock is true.
func notNewer(at cursor, root directory.Root, moved, clock bool, now time.Time) error {
	switch {
	case at.InvocationID.IsZero() || at.InvocationID == root.InvocationID:
		return nil
	case slices.Contains(at.Former, root.InvocationID) && !moved:
		return errFormerStream
	case clock && !at.AsOf.IsZero() && !at.AsOf.After(now) && now.Add(-root.Age).Before(at.AsOf.Add(-asOfSlack)):
		return errOlderStream
	}
	return nil
}

// checkNewer returns an error if the pass must not follow a stream. An operator may follow it all the same:
// requested means that a full pass was requested.
func (r *passRun) checkNewer(at cursor, stored store.Directory, requested bool) error {
	m := r.m
	if !m.config.Rules.Published {
		return nil
	}
	if m.firstSeen.id != r.root.InvocationID || r.root.HighestCommittedUSN < m.firstSeen.usn {
		m.firstSeen.id, m.firstSeen.usn = r.root.InvocationID, r.root.HighestCommittedUSN
	}
	if requested || stored.LastFull.Number == 0 || stored.Epoch != m.config.Store.Epoch() {
		return nil
	}
	_, clock := policy.Elapsed(stored.LastGood(), r.started)
	return notNewer(at, r.root, r.root.HighestCommittedUSN > m.firstSeen.usn, clock && !stored.LastGoodDoubted, r.started)
}
