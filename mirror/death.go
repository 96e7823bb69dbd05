package mirror

import (
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

const (
	// clockStep is how finely a controller tells the time.
	clockStep = time.Second

	// clockSkew is how far the clocks of two controllers of a forest may be apart at most. With
	// more than the five minutes of Kerberos (MS-KILE 3.3.1, clock skew) they do not replicate;
	// twice that allows for a third one between them.
	clockSkew = 10 * time.Minute
)

// death says when an object was deleted for certain. It goes by the metadata of isDeleted,
// which are the same on every controller. Not by whenChanged: on Windows it is when the
// tombstone arrived at this controller, and any later change of it counts as well.
func (r *reading) death(o directory.Object) store.Deletion {
	if !o.Deleted || o.Deletion.Time.IsZero() {
		return store.Deletion{}
	}
	d := store.Deletion{Database: o.Deletion.Database.String(), USN: o.Deletion.USN}
	ahead := r.root.Now.Sub(r.started) // the controller's clock against ours
	if r.root.Now.IsZero() || o.Deletion.Time.After(r.m.config.Now().Add(ahead+clockSkew)) {
		return d // a time still to come: one of the clocks was wrong
	}
	d.After = o.Deletion.Time.Add(-ahead - clockStep)
	if o.Deletion.Database != r.root.InvocationID {
		d.After = d.After.Add(-clockSkew)
	}
	return d
}
