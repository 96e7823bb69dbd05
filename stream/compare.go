package stream

import (
	"context"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
)

// extra holds the addresses of an object that are in the stream but not in the store. Another hub, which
// follows another controller, published them. They may be newer or older than the store, so they stay published
// until all controllers have replicated the changes of that time.
type extra struct {
	addresses []store.FeedAddress
	alone     store.Digest // of the object as in the store
	united    store.Digest // of the object as in the stream
}

// unite returns an object of the store with its withheld addresses added. It records the digest of the object
// with and without them.
func (t *term) unite(o store.FeedObject) store.FeedObject {
	x, ok := t.withheld[o.GUID]
	if !ok {
		return o
	}
	united, rest := merge(o, x.addresses)
	if len(rest) == 0 {
		delete(t.withheld, o.GUID)
		return o
	}
	x = extra{addresses: rest}
	x.alone.Add(o)
	x.united.Add(united)
	t.withheld[o.GUID] = x
	return united
}

// merge adds addresses to an object. It also returns the rest: those addresses that the object lacks, or that
// it has as internal-only although more does not.
func merge(o store.FeedObject, more []store.FeedAddress) (united store.FeedObject, rest []store.FeedAddress) {
	index := make(map[address.Address]int, len(o.Addresses))
	for i, a := range o.Addresses {
		index[a.Address] = i
	}
	united = o
	united.Addresses = append([]store.FeedAddress(nil), o.Addresses...)
	for _, a := range more {
		i, found := index[a.Address]
		switch {
		case !found:
			united.Addresses = append(united.Addresses, a)
		case united.Addresses[i].InternalOnly && !a.InternalOnly:
			united.Addresses[i].InternalOnly = false
		default:
			continue
		}
		rest = append(rest, a)
	}
	return united, rest
}

// withWithheld converts the digest of the store into the digest of the stream.
func (t *term) withWithheld(d store.Digest) store.Digest {
	for _, x := range t.withheld {
		d.Unmerge(x.alone)
		d.Merge(x.united)
	}
	return d
}

// published describes the contents of the stream.
type published struct {
	digests    map[store.GUID]store.Digest // of objects that own addresses
	unreadable map[store.GUID]bool
	misnamed   map[store.GUID]bool // has a DN although names are not published, or lacks one although they are
}

// compare makes the stream equal to the store. Addresses that only the stream has stay published for lag. If
// lag is 0, compare removes them after it has published everything that is missing.
func (t *term) compare(ctx context.Context, lag time.Duration) error {
	began := time.Now()
	found, err := t.readPublished(ctx)
	if err != nil {
		return err
	}
	differing, err := t.differing(found)
	if err != nil {
		return err
	}
	theirs, err := t.readObjects(ctx, differing)
	if err != nil {
		return err
	}
	t.withheld, t.until = map[store.GUID]extra{}, t.p.config.Now().Add(lag)
	var gains, losses []store.FeedObject
	for guid, ours := range differing {
		ours.GUID = guid
		_, rest := merge(ours, theirs[guid].Addresses)
		switch {
		case len(rest) == 0:
			gains = append(gains, ours)
		case lag == 0:
			losses = append(losses, ours)
		default:
			t.withheld[guid] = extra{addresses: rest}
			gains = append(gains, ours)
		}
	}
	gains = append(gains, t.forget(found.unreadable, lag)...)
	for _, list := range [][]store.FeedObject{gains, losses} {
		if err := t.inBatches(ctx, list); err != nil {
			return err
		}
	}
	t.comparedAt = time.Now()
	t.p.config.Log.Info("stream compared with the index", "published", len(gains)+len(losses), "removed", len(losses),
		"withheld", len(t.withheld), "took", time.Since(began))
	return nil
}

// forget handles unreadable messages of objects that the store does not have. If lag is 0, it returns
// tombstones for them; otherwise it withholds the objects.
func (t *term) forget(unreadable map[store.GUID]bool, lag time.Duration) (gone []store.FeedObject) {
	for guid := range unreadable {
		if lag == 0 {
			gone = append(gone, store.FeedObject{GUID: guid})
		} else {
			t.withheld[guid] = extra{}
		}
	}
	return gone
}

func (t *term) inBatches(ctx context.Context, list []store.FeedObject) error {
	for len(list) > 0 {
		n := min(len(list), batchSize)
		if err := t.objects(ctx, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// readPublished reads the digests of the objects in the stream.
func (t *term) readPublished(ctx context.Context) (published, error) {
	p := published{digests: map[store.GUID]store.Digest{}, unreadable: map[store.GUID]bool{},
		misnamed: map[store.GUID]bool{}}
	err := t.eachMessage(ctx, func(guid store.GUID, data []byte) {
		delete(p.digests, guid)
		delete(p.unreadable, guid)
		delete(p.misnamed, guid)
		o, err := decodeObject(t.p.config.Directory, guid, data)
		switch {
		case err != nil:
			p.unreadable[guid] = true
		case len(o.Addresses) > 0:
			var d store.Digest
			d.Add(o)
			p.digests[guid] = d
			if (o.DN != "") != t.p.config.Names {
				p.misnamed[guid] = true
			}
		}
	})
	return p, err
}

// differing returns the objects of the store that differ from the stream. Objects that only the stream has are
// returned without addresses. It deletes the objects of the store from found.unreadable.
func (t *term) differing(found published) (map[store.GUID]store.FeedObject, error) {
	differing := map[store.GUID]store.FeedObject{}
	err := t.p.config.Store.FeedAll(t.p.config.Directory, func(o store.FeedObject) error {
		var d store.Digest
		d.Add(o)
		if found.digests[o.GUID] != d || found.misnamed[o.GUID] && (o.DN != "" || !t.p.config.Names) {
			differing[o.GUID] = o
		}
		delete(found.digests, o.GUID)
		delete(found.unreadable, o.GUID)
		return nil
	})
	for guid := range found.digests {
		differing[guid] = store.FeedObject{GUID: guid}
	}
	return differing, err
}

// readObjects reads the wanted objects from the stream.
func (t *term) readObjects(
	ctx context.Context, wanted map[store.GUID]store.FeedObject,
) (map[store.GUID]store.FeedObject, error) {
	all := map[store.GUID]store.FeedObject{}
	if len(wanted) == 0 {
		return all, nil
	}
	return all, t.eachMessage(ctx, func(guid store.GUID, data []byte) {
		if _, ok := wanted[guid]; !ok {
			return
		}
		if o, err := decodeObject(t.p.config.Directory, guid, data); err == nil {
			all[guid] = o
		}
	})
}

// eachMessage visits the object messages of the stream up to its last message. No messages are added meanwhile,
// because this hub holds the lease.
func (t *term) eachMessage(ctx context.Context, visit func(store.GUID, []byte)) error {
	v, err := t.look(ctx)
	if err != nil || v.messages == 0 {
		return err
	}
	tail, err := openTail(ctx, t.js, streamName(t.p.config.Directory), "", 0)
	if err != nil {
		return err
	}
	defer tail.close()
	for {
		step, cancel := context.WithTimeout(ctx, defaultTimeout)
		m, meta, err := tail.next(step)
		cancel()
		if err != nil {
			return err
		}
		if guid, ok := guidOf(t.p.config.Directory, m.Subject()); ok {
			visit(guid, m.Data())
		}
		if meta.NumPending == 0 {
			return nil
		}
	}
}
