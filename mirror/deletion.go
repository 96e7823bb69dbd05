package mirror

import (
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

const (
	// clockStep is the resolution of a controller's clock.
	clockStep = time.Second

	// clockSkew is the largest difference between the clocks of two controllers in a forest. Beyond the five
	// minutes of Kerberos (MS-KILE 3.3.1, clock skew), they do not replicate; twice that allows for a third
	// controller between them.
	clockSkew = 10 * time.Minute
)

// deletionTime returns where an object was deleted, and a time after which it was certainly deleted. It uses
// the metadata of isDeleted, which are equal on all controllers. It does not use whenChanged: on Windows, that
// is when the tombstone arrived at this controller, and later changes of the tombstone advance it.
func (r *passRun) deletionTime(o directory.Object) store.Deletion {
	if !o.Deleted || o.Deletion.Time.IsZero() {
		return store.Deletion{}
	}
	d := store.Deletion{Database: o.Deletion.Database.String(), USN: o.Deletion.USN}
	ahead := r.root.Now.Sub(r.started) // difference between the controller's clock and ours
	if r.root.Now.IsZero() || o.Deletion.Time.After(r.m.config.Now().Add(ahead+clockSkew)) {
		return d // in the future: one of the clocks was wrong
	}
	d.After = o.Deletion.Time.Add(-ahead - clockStep)
	if o.Deletion.Database != r.root.InvocationID {
		d.After = d.After.Add(-clockSkew)
	}
	return d
}
