package store

import (
	"bytes"
	"fmt"
	"slices"
)

// FeedChanges returns at most limit objects of the outbox, all as of one commit. The caller
// publishes them in their order: those that gain addresses come before those that only lose some.
// An object that does both is returned with the addresses that it lost until FeedDone was called,
// then once more without them. No object means that everything was published.
func (s *Store) FeedChanges(name string, limit int) ([]FeedObject, error) {
	began, before := s.outboxStart(name)
	v, d, err := s.feedView(name)
	if err != nil {
		return nil, err
	}
	defer v.done()
	start, dir := s.outboxStart(name)
	if value, err := v.get(dirKey(prefixFeed, d.id)); err != nil {
		return nil, err
	} else if d.id == 0 || value == nil || dir == nil || dir != before {
		return nil, feedError(name, ErrFeedOff)
	}
	f, err := v.feedReader(d.id)
	if err != nil {
		return nil, err
	}
	var changes []FeedObject
	for _, class := range []outboxClass{outboxGains, outboxLosses} {
		if f.counts.outbox == 0 || len(changes) >= limit {
			break
		}
		first := lastGUID
		from := outboxKey(d.id, class, start.from[class])
		err := v.scanFrom(outboxPrefix(d.id, class), from, false, func(kv pair) error {
			if first = minGUID(first, guidOf(kv.key)); len(changes) >= limit {
				return errStopScan
			}
			o, err := f.change(class, kv)
			changes = append(changes, o)
			return err
		})
		if err := ignoreStop(err); err != nil {
			return nil, err
		}
		s.raiseOutboxStart(dir, class, first, began.writes)
	}
	return changes, nil
}

// outboxStart returns a directory and where its outbox begins. Nil means that the directory does
// not exist.
func (s *Store) outboxStart(name string) (outboxStart, *directory) {
	s.state.Lock()
	defer s.state.Unlock()
	d := s.state.dirs[name]
	if d == nil {
		return outboxStart{}, nil
	}
	return d.outbox, d
}

// raiseOutboxStart records the first entry of a class as of a view, unless an entry was written
// since there were so many writes, which was before the view.
func (s *Store) raiseOutboxStart(d *directory, class outboxClass, first GUID, writes uint64) {
	s.state.Lock()
	defer s.state.Unlock()
	if d.outbox.writes == writes {
		d.outbox.from[class] = first
	}
}

func minGUID(a, b GUID) GUID {
	if bytes.Compare(a[:], b[:]) < 0 {
		return a
	}
	return b
}

// FeedAll visits every object of a directory that has an address, as of one commit. It does not
// need the feed to be on. An object that it does not visit owns nothing, but only if FeedAll
// returns without an error: only then all objects were read. An error from visit stops it and is
// returned. Close waits for it.
func (s *Store) FeedAll(name string, visit func(FeedObject) error) error {
	v, d, err := s.feedView(name)
	if err != nil {
		return err
	}
	defer v.done()
	if d.full.Number == 0 {
		return feedError(name, ErrNotRead)
	}
	return v.feedObjects(d.id, visit)
}

// feedView returns a view of the store and the record of a directory, which is zero if there is
// none. It returns an error if the store may lack what it once had. The caller must call done of
// the view if there is no error.
func (s *Store) feedView(name string) (v reader, d directoryRecord, err error) {
	if v, err = s.view(); err != nil {
		return v, d, err
	}
	defer func() {
		if err != nil {
			v.done()
		}
	}()
	if err := s.damageOrNil(); err != nil {
		return v, d, err
	}
	if !s.certainAt(name, v.at) {
		return v, d, feedError(name, ErrNotRead)
	}
	d, err = v.directory(name)
	return v, d, err
}

// certainAt reports whether a directory is not in doubt as of a commit.
func (s *Store) certainAt(name string, commit uint64) bool {
	s.state.Lock()
	defer s.state.Unlock()
	d := s.state.dirs[name]
	_, doubted := s.state.doubts[name]
	return d == nil || !doubted && commit >= d.certainFrom
}

// A feedReader reads what lookups answer of the objects of a directory. The records of the objects
// have that, unless an earlier version wrote half an object.
type feedReader struct {
	reader
	dir    dirID
	counts dirCounts
	lost   map[GUID][]ownedRecord // addresses whose owners do not have them in their records
	found  dirCounts              // of the objects that object has returned
}

func (r reader) feedReader(dir dirID) (*feedReader, error) {
	f := &feedReader{reader: r, dir: dir}
	var err error
	if f.counts, err = r.dirCounts(dir); err != nil || f.counts.recordsMatch() {
		return f, err
	}
	f.lost, err = r.ownersWithoutRecord(dir)
	return f, err
}

// object returns what lookups answer of an object with a record.
func (f *feedReader) object(guid GUID, record *objectRecord) (FeedObject, error) {
	o := FeedObject{GUID: guid, Class: record.class, DN: record.dn, Change: f.s.epoch.Load()<<changeBits | f.at}
	add := func(a *ownedRecord, internalOnly bool) {
		f.found.ownerships++
		f.found.inLookups.add(sumOfOwnership(guid, a.address, internalOnly))
		parsed := parse(a.address)
		if parsed.String() == "" { // its canonical form has changed since, so no lookup finds it
			return
		}
		o.Addresses = append(o.Addresses, FeedAddress{parsed, a.attribute, internalOnly})
	}
	for i := range record.addresses {
		a := &record.addresses[i]
		if f.counts.recordsMatch() {
			add(a, a.internalOnly)
			continue
		}
		owners, err := f.addressRecord(a.address)
		if err != nil {
			return o, err
		}
		if flags, there := owners.owner(f.dir, guid); there {
			add(a, flags.internalOnly)
		}
	}
	lost := f.lost[guid]
	for i := range lost {
		add(&lost[i], lost[i].internalOnly)
	}
	return o, nil
}

// change returns an object of the outbox.
func (f *feedReader) change(class outboxClass, kv pair) (FeedObject, error) {
	entry, err := decodeOutbox(kv.value)
	if err != nil {
		return FeedObject{}, f.s.unreadable(fmt.Sprintf("%x", kv.key), err)
	}
	record, err := f.reader.object(f.dir, guidOf(kv.key))
	if err != nil {
		return FeedObject{}, err
	}
	o, err := f.object(guidOf(kv.key), &record)
	if err == nil && class == outboxGains {
		o.addLost(entry.lost)
	}
	return o, err
}

// addLost adds what an object has lost since it was published.
func (o *FeedObject) addLost(lost []lostAddress) {
	for _, a := range lost {
		parsed := parse(a.address)
		i := slices.IndexFunc(o.Addresses, func(f FeedAddress) bool { return f.Address == parsed })
		switch {
		case parsed.String() == "":
		case i < 0:
			o.Addresses = append(o.Addresses, FeedAddress{Address: parsed, InternalOnly: a.internalOnly})
		default:
			o.Addresses[i].InternalOnly = o.Addresses[i].InternalOnly && a.internalOnly
		}
	}
}

// feedObjects visits every object of a directory that has an address, then compares what was read
// with the digest of the directory.
func (r reader) feedObjects(dir dirID, visit func(FeedObject) error) error {
	f, err := r.feedReader(dir)
	if err != nil {
		return err
	}
	visitOwning := func(guid GUID, record *objectRecord) error {
		before := f.found.ownerships
		o, err := f.object(guid, record)
		delete(f.lost, guid)
		if err != nil || f.found.ownerships == before {
			return err
		}
		return visit(o)
	}
	err = r.records(dirKey(prefixObject, dir), func(_ dirID, guid GUID, record objectRecord) error {
		return visitOwning(guid, &record)
	})
	if err != nil {
		return err
	}
	for guid := range f.lost { // they have no record
		if err := visitOwning(guid, &objectRecord{}); err != nil {
			return err
		}
	}
	if f.found.ownerships != f.counts.ownerships || f.found.inLookups != f.counts.inLookups {
		return r.s.markSuspected(fmt.Errorf("%d of %d ownerships can be read, or some differ",
			f.found.ownerships, f.counts.ownerships))
	}
	return nil
}
