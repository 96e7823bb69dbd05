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
	// ErrComparing says that a comparison of this directory is under way already.
	ErrComparing = errors.New("a comparison of this directory is under way already")
	// ErrNeverRead says that there is nothing yet to compare a directory with.
	ErrNeverRead = errors.New("the directory has not been read in full yet")
)

// errMoving says why a comparison within bases may be wrong.
var errMoving = errors.New("an organizational unit or container changed meanwhile, so that what is below it may have been read under its old name; compare again")

const (
	// maxSuspects is how many objects that differ are kept in memory; the rest is counted.
	maxSuspects = 100_000

	// maxRounds is how often what differs is looked at again.
	maxRounds = 5

	// maxRereads is how often everything is read again because a container moved.
	maxRereads = 2
)

// Comparison is what came out of comparing the index with a directory.
type Comparison struct {
	Controller string // that was read
	Followed   bool   // it is the one that the mirror follows; another may lag behind it, or be ahead
	USN        uint64 // how far it was
	Objects    int    // that own an address there
	Addresses  int    // of these objects, each object's counted
	Differs    int    // objects about which the index and the directory do not agree
	Unlisted   int    // of these, not looked at more closely: too many
	Unsettled  error  // why what differs could not be looked at again after a pass; nil: it was
}

// Compare reads the directory in full over a connection of its own, and reports every
// address that the index has and the directory has not, or the reverse. It changes
// nothing. What differs is looked at again after another pass of the mirror, because
// the directory changes meanwhile; Run must be under way. Progress is told how many
// objects were read.
func (m *Mirror) Compare(ctx context.Context, progress func(objects int), report func(Difference) error) (Comparison, error) {
	if !m.comparing.TryLock() {
		return Comparison{}, ErrComparing
	}
	defer m.comparing.Unlock()
	if m.config.Store.Directory(m.config.Name).LastFull.Number == 0 {
		return Comparison{}, ErrNeverRead
	}
	c := &comparison{m: m, progress: progress}
	if err := c.connect(ctx); err != nil {
		return Comparison{}, err
	}
	defer c.source.Close()
	if err := c.everything(ctx); err != nil {
		return c.result, err
	}
	if err := c.settle(ctx); err != nil {
		return c.result, err
	}
	return c.result, c.report(report)
}

// comparison is one comparison under way.
type comparison struct {
	m        *Mirror
	source   Source
	root     directory.Root
	progress func(int)
	result   Comparison

	read     int                  // objects
	owners   map[store.GUID]int32 // objects that own addresses, and how many
	suspects map[store.GUID]*suspect
	unlisted map[store.GUID]bool   // more of them
	names    map[store.GUID]string // of containers
	began    uint64                // how far the controller was when it began to read all
	moving   bool                  // a container changed while the rest was read
}

// connect takes the domain controller that the mirror follows, or one that answers.
func (c *comparison) connect(ctx context.Context) error {
	candidates, err := between(ctx, c.m, func() ([]Candidate, error) {
		if len(c.m.roster.list) == 0 {
			return nil, errors.New("no domain controller is known yet")
		}
		list := []Candidate{c.m.current()}
		for i, other := range c.m.roster.list {
			if i != c.m.roster.at {
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
		source, err := c.m.openAside(ctx, candidate)
		if err == nil {
			if err = c.ask(ctx, source); err == nil {
				c.source = source
				c.result.Controller, c.result.USN = c.root.DNSHostName, c.root.HighestCommittedUSN
				c.result.Followed = c.root.InvocationID == c.m.Status().InvocationID
				return nil
			}
			source.Close()
		}
		failed = append(failed, err)
		if ctx.Err() != nil || awaitsSecret(err) { // trying on may lock the account
			break
		}
	}
	return errors.Join(failed...)
}

// ask finds out which controller a connection leads to, and whether it shows what the
// index holds.
func (c *comparison) ask(ctx context.Context, source Source) (err error) {
	if c.root, err = source.Root(ctx); err != nil {
		return err
	}
	at := decodeCursor(c.m.config.Store.Directory(c.m.config.Name).Cursor)
	if why := at.otherView(at.next(c.m.identify(c.root), store.Full)); why != "" {
		return fmt.Errorf("%s does not show what the index holds: %s", c.root.DNSHostName, why)
	}
	return nil
}

// everything reads all that lives, what changed meanwhile, and then what only the index
// has. Where a container moved meanwhile, what is below it may have been read under its
// old name, so that all is read again.
func (c *comparison) everything(ctx context.Context) error {
	if err := haveBases(ctx, c.source, c.m.config.Rules.Bases); err != nil {
		return err
	}
	for again := 0; ; again++ {
		c.owners, c.suspects, c.unlisted, c.read = map[store.GUID]int32{}, map[store.GUID]*suspect{}, map[store.GUID]bool{}, 0
		c.names, c.began = map[store.GUID]string{}, c.root.HighestCommittedUSN
		if err := c.source.Read(ctx, 0, c.page); err != nil {
			return err
		}
		c.moving = false
		if err := c.catchUp(ctx); err != nil {
			return err
		}
		if !c.moving || again == maxRereads {
			break
		}
	}
	if c.moving {
		c.result.Unsettled = errMoving
	}
	c.result.Objects, c.result.Addresses = len(c.owners), 0
	for _, n := range c.owners {
		c.result.Addresses += int(n)
	}
	return c.sweep(ctx)
}

// catchUp reads what changed since the root was last asked for, and asks for it anew.
func (c *comparison) catchUp(ctx context.Context) error {
	since := c.root.HighestCommittedUSN
	root, err := c.source.Root(ctx)
	if err != nil {
		return err
	}
	c.root = root
	return c.source.Read(ctx, since, c.page)
}

// page compares one page with what is stored.
func (c *comparison) page(objects []directory.Object) error {
	for _, o := range objects {
		read := classify(o, c.m.config.Rules)
		if read.Container {
			c.moving = c.moving || c.moved(read, o.Created > c.began)
			c.names[read.GUID] = read.DN
		}
		delete(c.owners, read.GUID)
		if len(read.Addresses) > 0 {
			c.owners[read.GUID] = int32(distinct(read.Addresses))
		}
		if err := c.examine(&suspect{read: read}); err != nil {
			return err
		}
	}
	c.read += len(objects)
	c.progress(c.read)
	return nil
}

// moved reports whether what is below a container may have been read under its old name,
// or not at all.
func (c *comparison) moved(o store.Object, isNew bool) bool {
	name, known := c.names[o.GUID]
	return len(c.m.config.Rules.borders()) > 0 || known && name != o.DN || !known && !isNew
}

// sweep finds what only the index has.
func (c *comparison) sweep(ctx context.Context) error {
	visited := 0
	return c.m.config.Store.Owners(c.m.config.Name, func(a address.Address, guid store.GUID, recorded bool) error {
		if visited++; visited%1000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		_, owns := c.owners[guid]
		if owns && recorded {
			return nil // the object was looked at when it was read
		}
		s := c.suspects[guid]
		if s == nil {
			s = &suspect{read: store.Object{GUID: guid}}
		}
		if owns { // what was read of it is not kept, and was the same as its record
			stored, err := c.m.config.Store.Stored(c.m.config.Name, guid)
			if err != nil {
				return err
			}
			for _, o := range stored.Addresses {
				s.read.Addresses = append(s.read.Addresses, store.Owned{Address: o.Address, InternalOnly: o.InternalOnly})
			}
		}
		if !recorded {
			s.besides = append(s.besides, a)
		}
		return c.examine(s)
	})
}

// suspect is an object about which the index and the directory do not agree.
type suspect struct {
	read    store.Object      // as the directory has it; without addresses: it does not have it, or it owns nothing
	besides []address.Address // that look-ups found to be its own, and its record did not have
	last    []Difference      // when it was last looked at
	settled bool              // it was looked at twice with a pass between, and nothing had changed
}

// examine keeps an object if it differs, and forgets it if it does not.
func (c *comparison) examine(s *suspect) error {
	before := c.suspects[s.read.GUID]
	if before != nil {
		s.besides = before.besides
	}
	var err error
	if s.last, err = c.look(s); err != nil {
		return err
	}
	switch {
	case len(s.last) == 0:
		delete(c.suspects, s.read.GUID)
	case before == nil && len(c.suspects) >= maxSuspects:
		c.unlisted[s.read.GUID] = true
	default:
		c.suspects[s.read.GUID] = s
	}
	return nil
}

// look compares an object with what is stored of it now.
func (c *comparison) look(s *suspect) ([]Difference, error) {
	name := c.m.config.Name
	stored, err := c.m.config.Store.Stored(name, s.read.GUID, s.besides...)
	if err != nil {
		return nil, err
	}
	return disagree(s.read, stored, c.m.config.Store.Directory(name), c.m.config.Now()), nil
}

// settle looks again at what differs, after a pass of the mirror and after reading what
// changed meanwhile, until nothing moves any more.
func (c *comparison) settle(ctx context.Context) error {
	c.moving = false
	for range maxRounds {
		if len(c.suspects) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-c.m.Sync(false):
			if r.Err != nil {
				c.result.Unsettled = fmt.Errorf("what differs may only not have been read yet, because the pass failed: %w", r.Err)
				return nil
			}
		}
		if err := c.catchUp(ctx); err != nil {
			return err
		}
		if settled, err := c.again(); err != nil || settled {
			return err
		}
	}
	return nil
}

// again looks at all suspects, and reports whether none of them moved.
func (c *comparison) again() (settled bool, err error) {
	settled = true
	for guid, s := range c.suspects {
		now, err := c.look(s)
		if err != nil {
			return false, err
		}
		if len(now) == 0 {
			delete(c.suspects, guid)
			continue
		}
		s.settled = slices.Equal(now, s.last)
		settled = settled && s.settled
		s.last = now
	}
	return settled, nil
}

// report gives what differs in the order of addresses.
func (c *comparison) report(report func(Difference) error) error {
	if c.moving && c.result.Unsettled == nil {
		c.result.Unsettled = errMoving
	}
	var all []Difference
	for _, s := range c.suspects {
		for _, d := range s.last {
			if !s.settled && d.Cause == "" && c.result.Unsettled == nil {
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
