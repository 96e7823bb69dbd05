package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/store"
)

var (
	// ErrCompareRunning reports that a comparison of this directory is already running.
	ErrCompareRunning = errors.New("a comparison of this directory is already running")
	// ErrNoFullPass reports that there is no index yet to compare a directory with.
	ErrNoFullPass = errors.New("the directory has not been read in full yet")
)

// errContainersMoved explains why a comparison within bases may be wrong.
var errContainersMoved = errors.New("an organizational unit or container changed during the comparison, " +
	"so objects below it may have been read under their old names; compare again")

const (
	// maxSuspects limits the differing objects that are kept in memory. Further ones are only counted.
	maxSuspects = 100_000

	// maxRechecks limits how often differences are checked again.
	maxRechecks = 5

	// maxRereads limits how often everything is read again because a container moved.
	maxRereads = 2
)

// Comparison is the result of comparing the index with a directory.
type Comparison struct {
	Controller string // the controller that was read
	Followed   bool   // the mirror follows this controller; any other one may be behind it or ahead of it
	USN        uint64 // highest USN of this controller
	Objects    int    // objects in the directory that own addresses
	Addresses  int    // addresses of these objects, counted once per object
	Differs    int    // objects that differ between index and directory
	Unlisted   int    // objects among Differs that were only counted, because there are too many
	Unsettled  error  // why differences could not be checked again after a pass; nil if they were
}

// Compare reads the directory in full over its own connection, and reports each address
// that only the index or only the directory has. It changes nothing. Because the directory
// changes during the comparison, it checks differences again after another pass of the
// mirror; Run must be running. It calls progress with the number of objects read so far.
func (m *Mirror) Compare(
	ctx context.Context, progress func(objects int), report func(Difference) error,
) (Comparison, error) {
	if !m.comparing.TryLock() {
		return Comparison{}, ErrCompareRunning
	}
	defer m.comparing.Unlock()
	if m.config.Store.Directory(m.config.Name).LastFull.Number == 0 {
		return Comparison{}, ErrNoFullPass
	}
	c := &comparison{m: m, progress: progress}
	if err := c.connect(ctx); err != nil {
		return Comparison{}, err
	}
	defer c.source.Close()
	if err := c.readAll(ctx); err != nil {
		return c.result, err
	}
	if err := c.recheckUntilStable(ctx); err != nil {
		return c.result, err
	}
	return c.result, c.report(report)
}

// comparison is the state of a running comparison.
type comparison struct {
	m        *Mirror
	source   Source
	root     directory.Root
	progress func(int)
	result   Comparison

	objectsRead     int
	owners          map[store.GUID]int32 // addresses per object that owns any
	suspects        map[store.GUID]*suspect
	unlisted        map[store.GUID]bool   // suspects beyond maxSuspects
	containerNames  map[store.GUID]string // by GUID of the container
	startUSN        uint64                // highest USN of the controller before the first read
	containersMoved bool                  // a container changed during the read
}

// connect connects to the domain controller that the mirror follows, or to another one that answers.
func (c *comparison) connect(ctx context.Context) error {
	candidates, err := runBetweenPasses(ctx, c.m, func() ([]Candidate, error) {
		if len(c.m.controllers.list) == 0 {
			return nil, errors.New("no domain controller is known yet")
		}
		list := []Candidate{c.m.current()}
		for i, other := range c.m.controllers.list {
			if i != c.m.controllers.current {
				list = append(list, other)
			}
		}
		return list, nil
	})
	if err != nil {
		return err
	}
	var failed []error
	for _, candidate := range candidates {
		source, err := c.m.openSecondary(ctx, candidate)
		if err == nil {
			if err = c.checkSource(ctx, source); err == nil {
				c.source = source
				c.result.Controller, c.result.USN = c.root.DNSHostName, c.root.HighestCommittedUSN
				c.result.Followed = c.root.InvocationID == c.m.Status().InvocationID
				return nil
			}
			source.Close()
		}
		failed = append(failed, err)
		if ctx.Err() != nil || needsNewSecret(err) { // another attempt may lock the account
			break
		}
	}
	return errors.Join(failed...)
}

// checkSource reads the rootDSE of a connection. It fails if the connection shows another part of the directory
// than the index has.
func (c *comparison) checkSource(ctx context.Context, source Source) (err error) {
	if c.root, err = source.Root(ctx); err != nil {
		return err
	}
	at := decodeCursor(c.m.config.Store.Directory(c.m.config.Name).Cursor)
	if why := at.viewMismatch(at.next(c.m.withAccount(c.root), store.Full)); why != "" {
		return fmt.Errorf("%s does not show what the index holds: %s", c.root.DNSHostName, why)
	}
	return nil
}

// readAll reads all live objects, then the changes since, and then the objects that only the index has. If a
// container moved during the read, objects below it may have been read under their old DNs, so readAll reads
// everything again.
func (c *comparison) readAll(ctx context.Context) error {
	if err := checkBases(ctx, c.source, c.m.config.Rules.Bases); err != nil {
		return err
	}
	for rereads := 0; ; rereads++ {
		c.owners, c.suspects, c.unlisted = map[store.GUID]int32{}, map[store.GUID]*suspect{}, map[store.GUID]bool{}
		c.objectsRead = 0
		c.containerNames, c.startUSN = map[store.GUID]string{}, c.root.HighestCommittedUSN
		if err := c.source.Read(ctx, 0, c.page); err != nil {
			return err
		}
		c.containersMoved = false
		if err := c.catchUp(ctx); err != nil {
			return err
		}
		if !c.containersMoved || rereads == maxRereads {
			break
		}
	}
	if c.containersMoved {
		c.result.Unsettled = errContainersMoved
	}
	c.result.Objects, c.result.Addresses = len(c.owners), 0
	for _, n := range c.owners {
		c.result.Addresses += int(n)
	}
	return c.sweep(ctx)
}

// catchUp reads the changes since the last rootDSE, and a new rootDSE.
func (c *comparison) catchUp(ctx context.Context) error {
	since := c.root.HighestCommittedUSN
	root, err := c.source.Root(ctx)
	if err != nil {
		return err
	}
	c.root = root
	return c.source.Read(ctx, since, c.page)
}

// page compares one page with the store.
func (c *comparison) page(objects []directory.Object) error {
	for _, o := range objects {
		read := classify(o, c.m.config.Rules)
		if read.Container {
			c.containersMoved = c.containersMoved || c.moved(read, o.Created > c.startUSN)
			c.containerNames[read.GUID] = read.DN
		}
		delete(c.owners, read.GUID)
		if len(read.Addresses) > 0 {
			c.owners[read.GUID] = int32(countDistinct(read.Addresses))
		}
		if err := c.examine(&suspect{read: read}); err != nil {
			return err
		}
	}
	c.objectsRead += len(objects)
	c.progress(c.objectsRead)
	return nil
}

// moved reports whether objects below a container may have been read under their old DNs, or not at all.
func (c *comparison) moved(o store.Object, isNew bool) bool {
	name, known := c.containerNames[o.GUID]
	return len(c.m.config.Rules.scopeBorders()) > 0 || known && name != o.DN || !known && !isNew
}

// sweep finds objects that only the index has.
func (c *comparison) sweep(ctx context.Context) error {
	visited := 0
	return c.m.config.Store.Owners(c.m.config.Name, func(a address.Address, guid store.GUID, recorded bool) error {
		if visited++; visited%1000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		_, owns := c.owners[guid]
		if owns && recorded {
			return nil // the object was examined when it was read
		}
		s := c.suspects[guid]
		if s == nil {
			s = &suspect{read: store.Object{GUID: guid}}
		}
		if owns { // its addresses were not kept, because they equal its record
			stored, err := c.m.config.Store.Stored(c.m.config.Name, guid)
			if err != nil {
				return err
			}
			for _, o := range stored.Addresses {
				s.read.Addresses = append(s.read.Addresses,
					store.Owned{Address: o.Address, InternalOnly: o.InternalOnly})
			}
		}
		if !recorded {
			s.extraAddresses = append(s.extraAddresses, a)
		}
		return c.examine(s)
	})
}

// suspect is an object that differs between index and directory.
type suspect struct {
	read           store.Object      // as in the directory; without addresses if it is missing or owns nothing
	extraAddresses []address.Address // lookups attribute them to the object, but its record lacks them
	differences    []Difference      // as of the last check
	stable         bool              // unchanged between two checks with a pass between them
}

// examine keeps an object if it differs, and otherwise drops it.
func (c *comparison) examine(s *suspect) error {
	before := c.suspects[s.read.GUID]
	if before != nil {
		s.extraAddresses = before.extraAddresses
	}
	var err error
	if s.differences, err = c.compareStored(s); err != nil {
		return err
	}
	switch {
	case len(s.differences) == 0:
		delete(c.suspects, s.read.GUID)
	case before == nil && len(c.suspects) >= maxSuspects:
		c.unlisted[s.read.GUID] = true
	default:
		c.suspects[s.read.GUID] = s
	}
	return nil
}

// compareStored compares an object with its current record in the store.
func (c *comparison) compareStored(s *suspect) ([]Difference, error) {
	name := c.m.config.Name
	stored, err := c.m.config.Store.Stored(name, s.read.GUID, s.extraAddresses...)
	if err != nil {
		return nil, err
	}
	return compareObject(s.read, stored, c.m.config.Store.Directory(name), c.m.config.Now()), nil
}

// recheckUntilStable checks the differences again until they no longer change. Before each check, it waits for
// a pass of the mirror and reads the changes.
func (c *comparison) recheckUntilStable(ctx context.Context) error {
	c.containersMoved = false
	for range maxRechecks {
		if len(c.suspects) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-c.m.Sync(false):
			if r.Err != nil {
				c.result.Unsettled = fmt.Errorf(
					"the pass failed, so differences may be changes that it has not read yet: %w", r.Err)
				return nil
			}
		}
		if err := c.catchUp(ctx); err != nil {
			return err
		}
		if settled, err := c.recheck(); err != nil || settled {
			return err
		}
	}
	return nil
}

// recheck checks all suspects again. It reports whether none has changed.
func (c *comparison) recheck() (settled bool, err error) {
	settled = true
	for guid, s := range c.suspects {
		now, err := c.compareStored(s)
		if err != nil {
			return false, err
		}
		if len(now) == 0 {
			delete(c.suspects, guid)
			continue
		}
		s.stable = slices.Equal(now, s.differences)
		settled = settled && s.stable
		s.differences = now
	}
	return settled, nil
}

// report calls a function with each difference, ordered by address.
func (c *comparison) report(report func(Difference) error) error {
	if c.containersMoved && c.result.Unsettled == nil {
		c.result.Unsettled = errContainersMoved
	}
	var all []Difference
	for _, s := range c.suspects {
		for _, d := range s.differences {
			if !s.stable && d.Cause == "" && c.result.Unsettled == nil {
				d.Cause = CauseChanging
			}
			all = append(all, d)
		}
	}
	c.result.Unlisted = len(c.unlisted)
	c.result.Differs = len(c.suspects) + len(c.unlisted)
	slices.SortFunc(all, func(x, y Difference) int {
		return cmp.Or(cmp.Compare(x.Address.String(), y.Address.String()), bytes.Compare(x.GUID[:], y.GUID[:]))
	})
	for _, d := range all {
		if err := report(d); err != nil {
			return err
		}
	}
	return nil
}
