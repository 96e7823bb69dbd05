package mirror

import (
	"fmt"
	"slices"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/internal/clock"
	"rcpt-milter/store"
)

// An engine may be restored from a backup of an earlier generation of a stream. Nothing in the stream shows
// that it is old, except the age of what its hub had read. So a mirror remembers which streams it followed
// before, and how recent the directory was that they showed. A stream counts from the first change that a
// pass has written, because that change stays even if the pass does not end.

// ErrNotNewer reports that a stream shows nothing newer than the index. The index stays unchanged.
var ErrNotNewer = fmt.Errorf("%w: the stream is not newer than the index", directory.ErrProtocol)

var (
	errFormerStream = fmt.Errorf("%w: it was followed before the present one, and no hub has published in it since; "+
		"waiting for a hub, or for `rcpt-milter sync --full`", ErrNotNewer)
	errOlderStream = fmt.Errorf("%w: its hub had read the directory longer ago than what the index has; "+
		"waiting for a hub, or for `rcpt-milter sync --full`", ErrNotNewer)
)

// maxFormer limits the streams that are remembered.
const maxFormer = 16

// asOfSlack is the precision to which two ages of a directory can be compared.
const asOfSlack = 10 * time.Second

// follows returns the cursor after a pass that started at began, with the streams that were followed. before is
// the cursor of the previous pass.
func (c cursor) follows(before cursor, began time.Time) cursor {
	c.AsOf = began.Add(-c.Age)
	c.Former = before.Former
	for _, id := range []directory.GUID{before.InvocationID, before.Begun.InvocationID} {
		c.Former = remember(c.Former, id)
	}
	c.Former = slices.DeleteFunc(c.Former, func(id directory.GUID) bool { return id == c.InvocationID })
	c.Former = c.Former[:min(len(c.Former), maxFormer)]
	if len(c.Former) == 0 {
		c.Former = nil
	}
	// Another hub may be behind the last one. What that one had published is in the stream.
	keep := func(id directory.GUID, asOf time.Time) {
		if id == c.InvocationID && asOf.After(c.AsOf) && !asOf.After(began) {
			c.AsOf = asOf
		}
	}
	keep(before.InvocationID, before.AsOf)
	keep(before.Begun.InvocationID, before.Begun.AsOf)
	return c
}

// remember returns a new list that begins with a stream; zero means none.
func remember(former []directory.GUID, id directory.GUID) []directory.GUID {
	if id.IsZero() {
		return slices.Clone(former)
	}
	others := slices.DeleteFunc(slices.Clone(former), func(f directory.GUID) bool { return f == id })
	return slices.Insert(others, 0, id)
}

// begins returns the cursor with a note of a pass that reads up to a sequence and would end with next. The
// additions of that pass stay if it does not end, so an older stream would take them away again.
func (c cursor) begins(next cursor, usn uint64) cursor {
	if c.Begun.InvocationID != next.InvocationID {
		c.Former = remember(c.Former, c.Begun.InvocationID)
		c.Former = c.Former[:min(len(c.Former), maxFormer)]
	}
	c.Begun = beginning{InvocationID: next.InvocationID, USN: max(next.USN, usn), AsOf: next.AsOf}
	return c
}

// noteBegun stores with the next change from which part of the stream it comes. A page may be newer than
// the rootDSE.
func (r *passRun) noteBegun(read []directory.Object) error {
	if !r.m.config.Rules.Published {
		return nil
	}
	newest := r.root.HighestCommittedUSN
	for _, o := range read {
		newest = max(newest, o.USN)
	}
	if newest <= r.begunUSN {
		return nil
	}
	encoded, err := r.before.begins(r.next, newest).encode()
	if err != nil {
		return storeError{fmt.Errorf("cursor: %w", err)}
	}
	r.begunUSN = newest
	r.pass.Begun(encoded)
	return nil
}

// notNewer returns why a stream shows nothing newer than the index; nil if it may do so. moved means that
// a hub has published in it since it was first seen. The index has the time of the cursor if timed is true.
func notNewer(at cursor, root directory.Root, moved, timed bool, now time.Time) error {
	last, asOf := at.InvocationID, at.AsOf
	if begun := at.Begun; !begun.InvocationID.IsZero() {
		last = begun.InvocationID
		if begun.AsOf.After(asOf) && !begun.AsOf.After(now) { // the clock was ahead during that pass
			asOf = begun.AsOf
		}
	}
	former := root.InvocationID == at.InvocationID || slices.Contains(at.Former, root.InvocationID)
	switch {
	case last.IsZero() || last == root.InvocationID:
		return nil
	case former && !moved:
		return errFormerStream
	case timed && !asOf.IsZero() && !asOf.After(now) && now.Add(-root.Age).Before(asOf.Add(-asOfSlack)):
		return errOlderStream
	}
	return nil
}

// checkNewer returns an error if the pass must not follow a stream. requested means that an operator has
// requested a full pass, which overrides the check.
func (r *passRun) checkNewer(at cursor, stored store.Directory, requested bool) error {
	m := r.m
	if !m.config.Rules.Published {
		return nil
	}
	if m.firstSeen.id != r.root.InvocationID || r.root.HighestCommittedUSN < m.firstSeen.usn {
		m.firstSeen.id, m.firstSeen.usn = r.root.InvocationID, r.root.HighestCommittedUSN
	}
	if requested || stored.Epoch != m.config.Store.Epoch() {
		return nil
	}
	_, timed := clock.Elapsed(stored.LastGood(), r.started)
	return notNewer(at, r.root, r.root.HighestCommittedUSN > m.firstSeen.usn, timed && !stored.LastGoodDoubted,
		r.started)
}
