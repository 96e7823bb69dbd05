package directory

import (
	"math"
	"sync/atomic"
)

// Limits of what a controller may send after TLS. The decoder of the LDAP library allocates
// about 300 bytes for each element and copies the content of an element once for each level
// above it. The limits hold before it sees a byte. docs/active-directory.md derives the numbers.
const (
	maxMessage  = 4 << 20  // bytes of one message: one object
	maxDepth    = 16       // levels of one message; a search entry has 6
	maxElements = 64 << 10 // elements of one message; a value is one
	maxNonEntry = 64 << 10 // bytes of an operation other than an entry, and of all controls

	maxPage         = 256 << 20 // bytes of the answer to one search
	maxPageElements = 8 << 20   // elements of the answer to one search
)

// Parts of the first byte of an element (X.690 section 8.1.2).
const (
	constructed = 0x20
	numberMask  = 0x1f // this number means a tag of several bytes, which LDAP does not have
)

// tagSearchEntry is the tag of a search entry (RFC 4511 section 4.5.2). The LDAP library compares
// only its number.
const tagSearchEntry = 0x64

var errNotLDAP = newError(ErrProtocol, "the controller sent a message that is not LDAP")

// frames checks the framing of the messages of a controller while they arrive: one goroutine
// calls check with the bytes in order. Other goroutines may change the budget.
type frames struct {
	header   [2 + maxLengthBytes]byte
	got      int           // bytes of header
	skip     int           // bytes of a primitive value still to arrive
	left     [maxDepth]int // bytes of the open constructed elements without those below
	depth    int           // open constructed elements
	elements int           // of the current message
	budget   budget
}

// budget is what the answer to one search may still have.
type budget struct {
	entries, bytes, elements atomic.Int64
}

// set sets the budget of one search for a number of entries.
func (b *budget) set(entries int) {
	b.entries.Store(int64(entries))
	b.bytes.Store(min(int64(entries)*maxMessage, maxPage) + maxNonEntry)
	b.elements.Store(min(int64(entries)*maxElements, maxPageElements) + maxElements)
}

// lift removes the limits. No limit is needed while no search collects entries: the LDAP library
// drops unexpected messages, and delivers notifications one by one.
func (b *budget) lift() {
	b.entries.Store(math.MaxInt64)
	b.bytes.Store(math.MaxInt64)
	b.elements.Store(math.MaxInt64)
}

// check returns an error if the bytes violate a limit. The caller must not use them then.
func (f *frames) check(b []byte) error {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(b))
			f.skip -= n
			b = b[n:]
		} else {
			f.header[f.got] = b[0]
			f.got++
			b = b[1:]
			complete, err := f.headerComplete()
			if complete {
				err = f.open()
			}
			if err != nil {
				return err
			}
			if !complete {
				continue
			}
		}
		for f.skip == 0 && f.depth > 0 && f.left[f.depth-1] == 0 {
			f.depth--
		}
	}
	return nil
}

// headerComplete reports whether the header of an element has all its bytes.
func (f *frames) headerComplete() (bool, error) {
	if f.header[0]&numberMask == numberMask {
		return false, errNotLDAP
	}
	if f.got < 2 {
		return false, nil
	}
	more := lengthBytes(f.header[1])
	if more > maxLengthBytes {
		return false, errNotLDAP
	}
	return f.got == 2+more, nil
}

// open begins the element whose header is complete.
func (f *frames) open() error {
	header := f.header[:f.got]
	f.got = 0
	tag, n := header[0], contentLength(header)
	if err := f.account(tag, len(header), n); err != nil {
		return err
	}
	if tag&constructed == 0 {
		f.skip = n
		return nil
	}
	f.left[f.depth] = n
	f.depth++
	return nil
}

// account checks an element of header and content against the element around it, and the limits of
// the message and of the search.
func (f *frames) account(tag byte, header, n int) error {
	size := header + n
	switch f.depth {
	case 0:
		f.elements = 0
		switch {
		case tag != ldapMessage:
			return errNotLDAP
		case size > maxMessage:
			return newError(ErrProtocol, "the controller sent a message of %d bytes, and %d are allowed", size,
				maxMessage)
		case f.budget.bytes.Add(-int64(size)) < 0:
			return newError(ErrProtocol, "the answer to one search is too long; it may have %d MiB for a page and "+
				"%d MiB for an object", maxPage>>20, maxMessage>>20)
		}
	case maxDepth:
		return newError(ErrProtocol, "the controller sent a message that is nested more than %d levels deep", maxDepth)
	default:
		if size > f.left[f.depth-1] {
			return errNotLDAP
		}
		f.left[f.depth-1] -= size
	}
	if f.elements++; f.elements > maxElements {
		return newError(ErrProtocol, "the controller sent a message with more than %d elements", maxElements)
	}
	switch {
	case f.budget.elements.Add(-1) < 0:
		return newError(ErrProtocol, "the answer to one search has too many values")
	case f.depth == 1 && tag&numberMask == tagSearchEntry&numberMask && f.budget.entries.Add(-1) < 0:
		return newError(ErrProtocol, "the answer to one search has more entries than were requested")
	case f.depth == 1 && tag != tagSearchEntry && size > maxNonEntry:
		return newError(ErrProtocol, "the controller sent a message of %d bytes that is not an entry, and %d are "+
			"allowed", size, maxNonEntry)
	}
	return nil
}
