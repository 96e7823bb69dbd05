package directory

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// The controls of a search: see the package comment.
const (
	oidShowDeleted  = "1.2.840.113556.1.4.417"
	oidShowRecycled = "1.2.840.113556.1.4.2064"
	oidDomainScope  = "1.2.840.113556.1.4.1339"
)

const (
	// maxRestarts is how often a read begins again after the controller lost its place.
	maxRestarts = 3

	// maxEmptyPages is how many pages without an entry a controller may send one after
	// the other: it does where a page takes too long to fill. More is going in circles.
	maxEmptyPages = 100
)

// critical makes a control that a server must not ignore. The library's own Show
// Deleted cannot be made critical, and a server that ignores it shows no tombstones.
func critical(oid string) ldap.Control { return ldap.NewControlString(oid, true, "") }

// classes are the kinds of object that may own addresses, and those that hold them.
var classes = []string{
	"user", "group", "contact", "publicFolder", "msExchDynamicDistributionList",
	"organizationalUnit", "container",
}

// passFilter is the filter of a pass from a cursor; 0 is the full read. objectClass is
// on every object, so that the negation cannot be undefined.
func passFilter(since uint64) string {
	var b strings.Builder
	b.WriteString("(&")
	if since > 0 {
		b.WriteString("(uSNChanged>=" + strconv.FormatUint(since+1, 10) + ")")
	}
	b.WriteString("(|")
	for _, class := range classes {
		b.WriteString("(objectClass=" + class + ")")
	}
	b.WriteString(")(!(objectClass=computer)))")
	return b.String()
}

// query is one search in pages.
type query struct {
	container string // below the naming context; empty: all of it
	baseDN    string // in place of the naming context; empty: that
	filter    string
	deleted   bool // also deleted objects
}

func (q query) controls() []ldap.Control {
	if q.deleted {
		return []ldap.Control{critical(oidDomainScope), critical(oidShowDeleted), critical(oidShowRecycled)}
	}
	return []ldap.Control{critical(oidDomainScope)}
}

// Read reports objects to page, some at a time: with since 0 all that live, otherwise
// all, deleted ones included, whose uSNChanged is greater than since. It calls Root
// first where nobody did. The slice belongs to page only during the call.
//
// An object may be reported more than once, with the same content or a newer one: when
// the controller loses its place in the middle, the read begins again, a few times at
// most. Objects that hide uSNChanged (USN 0) are reported when all that live are read;
// later reads cannot find them. When all objects hide it, the read fails, because no
// change could be followed. An error of page ends the read and is returned as it is. Other errors:
// ErrUnreachable, ErrTimeout, ErrRefused, ErrProtocol; after any of them what was
// reported is true, but not the whole.
func (c *Conn) Read(ctx context.Context, since uint64, page func([]Object) error) error {
	q := query{filter: passFilter(since), deleted: since > 0}
	if since > 0 {
		return c.searchWithRestarts(ctx, q, page)
	}
	var seen, hidden int
	err := c.searchWithRestarts(ctx, q, func(objects []Object) error {
		for _, o := range objects {
			seen++
			if o.USN == 0 {
				hidden++
			}
		}
		if seen == hidden && seen >= maxHidden {
			return c.errAllHidden(seen)
		}
		return page(objects)
	})
	if err == nil && seen > 0 && seen == hidden {
		return c.errAllHidden(seen)
	}
	return err
}

// maxHidden is how many objects may hide uSNChanged before the first one that does not:
// then reading on is pointless.
const maxHidden = 5000

func (c *Conn) errAllHidden(n int) error {
	return c.operationError("reading objects", newError(ErrProtocol,
		"all of %d objects came without uSNChanged, so changes could not be followed; "+
			"give this account the right to read it", n))
}

// ReadDeleted reports the deleted objects that the controller still has, as Read does. It
// reports none, and no error, where this account may not see them.
func (c *Conn) ReadDeleted(ctx context.Context, page func([]Object) error) error {
	if err := c.ensureRoot(ctx); err != nil || !c.root.DeletedVisible {
		return err
	}
	return c.searchWithRestarts(ctx, query{container: deletedObjects + ",", filter: passFilter(0), deleted: true}, page)
}

// searchWithRestarts runs a search, from its beginning again where the controller loses its place.
func (c *Conn) searchWithRestarts(ctx context.Context, q query, page func([]Object) error) error {
	for restarts := 0; ; restarts++ {
		err := c.searchPages(ctx, q, page)
		if !errors.Is(err, errLostCookie) || restarts == maxRestarts {
			return err
		}
	}
}

// searchPages runs a search from its first page to its last.
func (c *Conn) searchPages(ctx context.Context, q query, page func([]Object) error) error {
	if err := c.ensureRoot(ctx); err != nil {
		return err
	}
	if err := c.checkGlobalCatalog(ctx); err != nil {
		return c.operationError("asking what the Global Catalog has", err)
	}
	var cookie []byte
	for empty := 0; empty <= maxEmptyPages; empty++ {
		entries, next, err := c.searchPage(ctx, q, cookie)
		if err != nil {
			return c.operationError("reading a page", err)
		}
		objects, err := c.parseEntries(ctx, q, entries)
		if err != nil {
			return c.operationError("reading objects", err)
		}
		if len(objects) > 0 {
			if err := page(objects); err != nil {
				return err
			}
			empty = 0
		}
		if len(next) == 0 {
			return nil
		}
		cookie = next
	}
	return c.operationError("reading a page", newError(ErrProtocol, "%d empty pages one after the other", maxEmptyPages))
}

// checkGlobalCatalog makes sure, once for each connection, that a port of the Global Catalog shows
// the address attributes: it has those that the schema says, and of the others no object
// shows any value, as if nobody had an address (MS-ADTS 3.1.1.2.3,
// isMemberOfPartialAttributeSet).
func (c *Conn) checkGlobalCatalog(ctx context.Context) error {
	if !c.at.globalCatalog() || c.gcChecked {
		return nil
	}
	for _, name := range c.config.AddressAttributes {
		schema, err := c.Schema(ctx, name)
		if err != nil {
			return err
		}
		if schema.Exists && !schema.GlobalCatalog {
			return newError(ErrProtocol, "the Global Catalog does not have %s, so that everybody would look as if without addresses; use port 636 or 389 in urls", name)
		}
	}
	c.gcChecked = true
	return nil
}

// searchPage reads one page, with a request and a control of its own: the library writes the
// cookie into those of the page before. It gives the cookie of the next page, empty
// after the last.
func (c *Conn) searchPage(ctx context.Context, q query, cookie []byte) ([]*ldap.Entry, []byte, error) {
	paging := ldap.NewControlPaging(uint32(c.config.PageSize))
	paging.SetCookie(cookie)
	base := cmp.Or(q.baseDN, q.container+c.root.DefaultNamingContext)
	found, err := c.search(ctx, c.config.Timeout, ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree,
		ldap.NeverDerefAliases, 0, 0, false, q.filter, c.attributes(q), append(q.controls(), paging)))
	result, ok := fromServer(err)
	if ok && len(cookie) > 0 && lostCookie(result) {
		return nil, nil, newError(ErrRefused, "%w (LDAP %d %s)", errLostCookie, result.ResultCode, diagnostic(result))
	}
	if ok && q.baseDN != "" && result.ResultCode == ldap.LDAPResultNoSuchObject {
		return nil, nil, errDeleted
	}
	if err != nil {
		return nil, nil, err
	}
	answer, ok := ldap.FindControl(found.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
	if !ok {
		return nil, nil, newError(ErrProtocol, "the answer lacks the paging control, so that it may not be the whole")
	}
	if len(answer.Cookie) > 0 && bytes.Equal(answer.Cookie, cookie) && len(found.Entries) == 0 {
		return nil, nil, newError(ErrProtocol, "the controller sends the same empty page again")
	}
	return found.Entries, answer.Cookie, nil
}

// lostCookie recognises ERROR_INVALID_PARAMETER (0x57, MS-ERREF 2.2) in the answer to
// a cookie: the controller has thrown away what it stood for.
func lostCookie(result *ldap.Error) bool {
	return result.ResultCode == ldap.LDAPResultUnwillingToPerform ||
		strings.HasPrefix(result.Err.Error(), "00000057")
}

// attributes are the attributes that a search asks for. Where there may be deleted objects, the
// metadata tell when they were deleted.
func (c *Conn) attributes(q query) []string {
	wanted := slices.Concat(objectAttributes, c.config.AddressAttributes)
	if q.deleted {
		wanted = append(wanted, metaDataAttribute)
	}
	return wanted
}

// parseEntries makes Objects of a page's entries, complete with all their values.
func (c *Conn) parseEntries(ctx context.Context, q query, entries []*ldap.Entry) ([]Object, error) {
	objects := make([]Object, 0, len(entries))
	for _, entry := range entries {
		o, err := c.parseEntry(entry)
		if err != nil {
			return nil, err
		}
		if len(o.pending) > 0 {
			whole, err := c.completeValues(ctx, q, o)
			if errors.Is(err, errDeleted) {
				continue
			}
			if err != nil {
				return nil, err
			}
			o.Object = whole
		}
		objects = append(objects, o.Object)
	}
	return objects, nil
}
