package mirror

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// meanwhile is what a full pass knows of the changes that happen while it reads.
type meanwhile struct {
	reached  uint64                    // USN up to which changes were read
	readAt   time.Time                 // when they were
	took     time.Duration             // how long that took
	changing bool                      // they are being read
	restless map[directory.GUID]string // objects below which all must be read again, and their names
}

// begin is the state at the beginning of a full pass. One that continues reads the changes
// since the cursor, any other those since it began.
func (r *reading) begin(before cursor) meanwhile {
	w := meanwhile{reached: r.root.HighestCommittedUSN, readAt: r.m.config.Now(), restless: map[directory.GUID]string{}}
	if r.continues {
		w.reached = before.USN
	}
	return w
}

// pages judges and applies a page, and reads what has changed meanwhile if it is time for
// that: an addition takes effect about as soon as it would without the full pass.
func (r *reading) pages(ctx context.Context) func([]directory.Object) error {
	return func(read []directory.Object) error {
		if err := r.page(read); err != nil || !r.late() {
			return err
		}
		return r.update(ctx)
	}
}

// late reports whether it is time to read what has changed: after poll, or when the
// controller says that something did, but not most of the time.
func (r *reading) late() bool {
	age := r.m.config.Now().Sub(r.readAt).Abs()
	if age < r.took {
		return false
	}
	if age >= r.m.config.Poll {
		return true
	}
	if age < r.m.debounce {
		return false
	}
	select {
	case <-r.m.changed:
		return true
	default:
		return false
	}
}

// update reads what has changed since it was last read, between two pages of the full read
// on the same connection. All of that counts as unsettled: additions are in effect at
// once, and losses are left to the next pass.
func (r *reading) update(ctx context.Context) error {
	m, began := r.m, r.m.config.Now()
	root, err := m.source.Root(ctx)
	if err != nil {
		return err
	}
	if root.InvocationID != r.root.InvocationID || root.HighestCommittedUSN < r.reached {
		return fmt.Errorf("%w: the database of %s was exchanged while it was read", directory.ErrProtocol, root.DNSHostName)
	}
	r.changing = true
	defer func() { r.changing = false }()
	if err := m.source.Read(ctx, r.reached, r.page); err != nil {
		return err
	}
	r.reached, r.readAt, r.took = root.HighestCommittedUSN, m.config.Now(), m.config.Now().Sub(began).Abs()
	m.update(func(s *Status) { s.HighestUSN = root.HighestCommittedUSN })
	if r.continues {
		m.covered.Store(&began)
	}
	return nil
}

// maxMoves is how often a full pass reads again what is below containers that moved
// meanwhile, because others moved while it did.
const maxMoves = 3

// settle reads what has changed to the end of a full pass. A controller may go through its
// objects in an order in which their names count. If a container moves from one side of its
// position to the other, the objects below it are not read, or were read under another
// name, and their uSNChanged does not move. They are read again where they are.
func (r *reading) settle(ctx context.Context) error {
	for round := 0; ; round++ {
		if err := r.update(ctx); err != nil {
			return err
		}
		if len(r.restless) == 0 {
			return nil
		}
		if round == maxMoves {
			return errRestless
		}
		if err := r.again(ctx); err != nil {
			return err
		}
	}
}

// again reads what is below restless objects, the outermost of them.
func (r *reading) again(ctx context.Context) error {
	tops := make([]directory.GUID, 0, len(r.restless))
	names := r.restless
	for guid := range names {
		tops = append(tops, guid)
	}
	slices.SortFunc(tops, func(a, b directory.GUID) int {
		return cmp.Or(len(names[a])-len(names[b]), bytes.Compare(a[:], b[:]))
	})
	r.restless = map[directory.GUID]string{}
	var done []string
	for _, top := range tops {
		if len(done) > 0 && inBases(names[top], done) {
			continue
		}
		done = append(done, names[top])
		r.m.config.Log.Info("what is below it may have moved, and is read again", "container", names[top])
		if err := r.m.source.ReadBelow(ctx, top, r.pages(ctx)); err != nil {
			return err
		}
	}
	return haveBases(ctx, r.m.source, r.m.config.Rules.Bases)
}

// noteMoves notes the objects of a page of a full pass below which all must be read again:
// those that have changed since it began and have another name than before, and containers
// that have, and are not known to be new. It runs before the page is applied, because the
// name before is the one that is stored, by this pass or an earlier one.
func (r *reading) noteMoves(read []directory.Object, objects []store.Object) error {
	rules := r.m.config.Rules
	for i, o := range objects {
		if o.Deleted || !o.Container && !o.Unsettled {
			continue
		}
		name, err := r.pass.StoredName(o.GUID)
		if err != nil {
			return storeError{err}
		}
		moved := name != "" && name != o.DN
		if r.continues && o.Container && moved && len(rules.borders()) > 0 &&
			crosses(store.Move{From: name, To: o.DN}, rules) {
			r.m.config.Log.Info("what is below it may have entered or left the bases", "moved", o.DN, "from", name)
			return errMoved
		}
		if o.Unsettled && (moved || o.Container && r.restlessAs(read[i], name)) {
			r.restless[read[i].GUID] = o.DN
		}
	}
	return nil
}

// restlessAs reports whether a container that has changed, and is stored under its name or
// not at all, may have moved all the same: it may have come back, or never have been read.
// What is below a new one is new itself, or has moved there by itself.
func (r *reading) restlessAs(o directory.Object, name string) bool {
	isNew := o.Created > r.root.HighestCommittedUSN
	return name == "" && !isNew || name != "" && r.changing
}
