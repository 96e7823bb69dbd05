package directory

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-ldap/ldap/v3"
)

// maxRereads limits how often an object is read again from the beginning because it changed
// while its values were read in ranges.
const maxRereads = 5

// errChanged means that the object changed between two ranges.
var errChanged = errors.New("the object changed while it was read")

// errDeleted means that the object was deleted during a full read. The read leaves it out, as
// if it had been deleted just before; the next incremental read reports its tombstone.
var errDeleted = errors.New("the object was deleted while it was read")

// completeValues reads the values that did not fit into an entry. All ranges must come from
// the same state of the object: otherwise a value that moves between two ranges would be
// lost, and the address with it.
func (c *Conn) completeValues(ctx context.Context, q query, o partialObject) (partialObject, error) {
	for range maxRereads {
		err := c.readRanges(ctx, q, &o)
		if !errors.Is(err, errChanged) {
			return o, err
		}
		entry, err := c.readByGUID(ctx, q, o.GUID, c.attributes(q))
		if err != nil {
			return o, err
		}
		if o, err = c.parseEntry(entry); err != nil {
			return o, err
		}
	}
	return o, newError(ErrProtocol, "%q changes faster than its values can be read", o.DN)
}

// readRanges reads the remaining ranges of every incomplete attribute.
func (c *Conn) readRanges(ctx context.Context, q query, o *partialObject) error {
	for _, r := range o.pending {
		for r.next > 0 {
			entry, err := c.readByGUID(ctx, q, o.GUID, []string{"uSNChanged", rangeFrom(r.attribute, r.next)})
			if err != nil {
				return err
			}
			values, next, err := rangeValues(entry, o, r)
			if err != nil {
				return err
			}
			o.addValues(r.attribute, values)
			if err := o.checkSize(); err != nil {
				return err
			}
			r.next = next
		}
	}
	return nil
}

// Limits of the values of one object that arrive in ranges. An object in one message can have as
// many values.
const (
	maxValues = maxElements
	maxObject = 32 << 20 // bytes
)

// checkSize returns an error if the object is beyond a limit: a controller may announce more values
// without end.
func (o *partialObject) checkSize() error {
	switch {
	case len(o.Values) > maxValues:
		return newError(ErrProtocol, "%q has more than %d values", o.DN, maxValues)
	case o.size > maxObject:
		return newError(ErrProtocol, "%q has more than %d MiB of values", o.DN, maxObject>>20)
	}
	return nil
}

// rangeValues returns the values in an answer to a ranged search, and the index of the next
// range. Zero means that there is none.
func rangeValues(entry *ldap.Entry, o *partialObject, r pendingRange) (values []string, next int, err error) {
	shown := entry.GetEqualFoldAttributeValue("uSNChanged")
	if usn, err := parseUSN(shown); (err != nil || usn != o.USN) && (shown != "" || o.USN != 0) {
		return nil, 0, errChanged
	}
	for _, a := range entry.Attributes {
		name, span, ok := parseDescription(a.Name)
		if !ok || name != r.attribute || !span.partial {
			continue
		}
		if span.low != r.next || len(a.Values) == 0 || span.high >= 0 && len(a.Values) != span.high-span.low+1 {
			return nil, 0, newError(ErrProtocol, "%q: asked for values of %s from %d, got %q with %d",
				o.DN, r.attribute, r.next, a.Name, len(a.Values))
		}
		return a.Values, span.next(), nil
	}
	return nil, 0, newError(ErrProtocol, "%q: no values of %s from %d", o.DN, r.attribute, r.next)
}

// readByGUID reads one object by its GUID, wherever it is now (MS-ADTS 3.1.1.3.1.2.4).
func (c *Conn) readByGUID(ctx context.Context, q query, guid GUID, attributes []string) (*ldap.Entry, error) {
	entry, err := c.lookup(ctx, fmt.Sprintf("<GUID=%x>", guid[:]), attributes, q.controls()...)
	if result, ok := fromServer(err); ok && result.ResultCode == ldap.LDAPResultNoSuchObject && !q.deleted {
		return nil, errDeleted
	}
	return entry, err
}
