package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/control"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// Compare compares one directory after the other, because each is read at full speed. After an error in one
// directory it continues with the next.
func (b backend) Compare(ctx context.Context, q control.CompareQuery, tell func(control.CompareEvent) error) error {
	syncers, err := b.syncs.syncersNamed(q.Directory)
	if err != nil {
		return err
	}
	var failed []error
	for _, k := range syncers {
		c := directoryComparison{backend: b, name: k.Name(), tell: tell}
		began := b.now()
		if m, ok := k.(*mirror.Mirror); ok {
			err = c.compareMirror(ctx, m)
		} else {
			err = c.compareRetired(ctx)
		}
		if c.sendErr != nil { // the client disconnected
			return c.sendErr
		}
		c.done.Name, c.done.Seconds = c.name, b.now().Sub(began).Seconds()
		if err != nil {
			c.done.Error = err.Error()
			failed = append(failed, fmt.Errorf("directory %s: %w", c.name, err))
		}
		if err := tell(control.CompareEvent{Directory: &c.done}); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// directoryComparison compares one directory for a client of the control socket.
type directoryComparison struct {
	backend
	name     string
	tell     func(control.CompareEvent) error
	done     control.ComparedDirectory
	sendErr  error     // error of tell
	reported time.Time // time of the last progress event
}

// compareMirror compares a configured directory.
func (c *directoryComparison) compareMirror(ctx context.Context, m *mirror.Mirror) error {
	result, err := m.Compare(ctx, c.progress, c.difference)
	c.done.DomainController, _ = c.fleet.controllerName(c.name, result.Controller)
	c.done.Followed, c.done.USN = result.Followed, result.USN
	c.done.Objects, c.done.Addresses, c.done.Unlisted = int64(result.Objects), int64(result.Addresses),
		int64(result.Unlisted)
	if result.Unsettled != nil {
		c.done.Unsettled = result.Unsettled.Error()
	}
	return err
}

// compareRetired reports all addresses of a retired directory that are still in the index.
func (c *directoryComparison) compareRetired(ctx context.Context) error {
	return c.store.Owners(c.name, func(a address.Address, guid store.GUID, _ bool) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		stored, err := c.store.Stored(c.name, guid)
		if err != nil {
			return err
		}
		return c.send(control.Difference{Address: a.String(), GUID: mirror.GUIDText(guid), DN: stored.DN,
			Class:   stored.Class,
			InIndex: true, Cause: control.CauseRetired})
	})
}

func (c *directoryComparison) difference(d mirror.Difference) error {
	return c.send(control.Difference{Address: d.Address.String(), GUID: mirror.GUIDText(d.GUID), DN: d.DN,
		Class:   d.Class,
		InIndex: d.InIndex, InDirectory: d.InDirectory, Cause: string(d.Cause),
		NotBefore: control.Time{Time: d.NotBefore}})
}

func (c *directoryComparison) send(d control.Difference) error {
	c.done.Differences++
	d.Directory = c.name
	c.sendErr = c.tell(control.CompareEvent{Difference: &d})
	return c.sendErr
}

// progress sends a progress event if the last one is old enough. It ignores errors, because ctx ends when the
// client disconnects.
func (c *directoryComparison) progress(objects int) {
	if now := c.now(); now.Sub(c.reported) >= progressInterval {
		c.reported = now
		c.tell(control.CompareEvent{Progress: &control.CompareProgress{Directory: c.name, Objects: int64(objects)}})
	}
}
