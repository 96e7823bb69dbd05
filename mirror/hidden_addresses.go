package mirror

import (
	"context"
	"errors"
	"slices"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// An account that loses the right to read an address attribute sees objects without addresses, and no error. Objects
// change all the time, for example at each logon, so their addresses would go a few at a time, which the guard
// permits. An object that did not change cannot have lost an address. Before an incremental pass removes any, it
// therefore looks at some of them.

// reasonAddressesHidden is the reason of the full pass that follows. It sees all losses, so the guard can judge them.
const reasonAddressesHidden = "recipients that did not change no longer show their addresses"

// holdAddressesHidden is why removals wait for that full pass.
const holdAddressesHidden = "recipients that did not change no longer show their addresses, or that could not be " +
	"checked; check the rights of the bind account. A full pass follows and evaluates the removals"

// awaitsFullPass reports whether removals wait for that full pass, as far as the store shows it: they are held like
// those of a full pass that saw no address, and the last full pass held nothing.
func awaitsFullPass(stored store.Directory) bool {
	return stored.HoldEmpty && (stored.LastFull.Hold == "" || stored.Hold == holdAddressesHidden)
}

// noAddressesSince returns when full passes began to see no address at all. Zero means that they see some, or that the
// index has none. As long as the account sees none, passes learn of no new recipient, so the index ages.
func (r *passRun) noAddressesSince() time.Time {
	switch {
	case r.kind == store.Full && r.owners > 0, r.m.config.Store.Directory(r.m.config.Name).Owned == 0:
		return time.Time{}
	case r.kind == store.Full && r.before.NoAddressesSince.IsZero():
		return r.started
	}
	return r.before.NoAddressesSince
}

// checkedOwners is the number of recipients that a check looks at.
const checkedOwners = 20

// errEnough ends the search for recipients to check.
var errEnough = errors.New("enough objects")

// checkAddressesShown records whether recipients that did not change since the cursor lack addresses that the index
// has of them. It does so only if the pass is going to remove addresses, and the guard may hold them. Removals that
// an operator discarded look the same until the next full pass marks them again.
func (r *passRun) checkAddressesShown(ctx context.Context, since uint64) error {
	if r.goneAddresses == 0 || r.m.config.Rules.Published || r.m.config.Guard.Max == 0 || r.m.discarded {
		return nil
	}
	some, err := r.m.someOwners()
	if err != nil {
		return storeError{err}
	}
	err = r.m.source.ReadObjects(ctx, some, func(read []directory.Object) error {
		for _, o := range read {
			if o.USN == 0 || o.USN > since || r.addressesHidden {
				continue
			}
			if r.addressesHidden, err = r.lacksAddresses(o); err != nil {
				return storeError{err}
			}
			if r.addressesHidden {
				r.m.config.Log.Warn("an object that did not change no longer shows its addresses; "+
					"check the rights of the bind account. Removals wait for a full pass", "dn", o.DN)
			}
		}
		return nil
	})
	if err == nil || endsPass(ctx, err) {
		return err
	}
	r.m.config.Log.Warn("cannot check that recipients still show their addresses; removals wait for a full pass",
		"error", err)
	r.addressesHidden = true
	return nil
}

// lacksAddresses reports whether the index has an address of an object that was read without it, and no mark on it.
func (r *passRun) lacksAddresses(o directory.Object) (bool, error) {
	m := r.m
	stored, err := m.config.Store.Stored(m.config.Name, storeGUID(o.GUID))
	if err != nil {
		return false, err
	}
	at := m.config.Store.Directory(m.config.Name)
	for _, d := range compareObject(classify(o, m.config.Rules), stored, at, m.config.Now()) {
		if d.InIndex && !d.InDirectory && d.Cause == "" {
			return true, nil
		}
	}
	return false, nil
}

// endsPass reports whether an error of a check is one that the pass itself would have met.
func endsPass(ctx context.Context, err error) bool {
	return ctx.Err() != nil || isLocalError(err) || errors.Is(err, directory.ErrUnreachable) ||
		errors.Is(err, directory.ErrTimeout)
}

// someOwners returns some objects that own addresses.
func (m *Mirror) someOwners() (some []directory.GUID, err error) {
	err = m.config.Store.Owners(m.config.Name, func(_ address.Address, guid store.GUID, _ bool) error {
		if owner := directory.GUID(guid); !slices.Contains(some, owner) {
			some = append(some, owner)
		}
		if len(some) == checkedOwners {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return some, err
}
