package directory

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// The controls of a search: see the package comment.
const (
	oidShowDeleted  = "1.2.840.113556.1.4.417"
	oidShowRecycled = "1.2.840.113556.1.4.2064"
	oidDomainScope  = "1.2.840.113556.1.4.1339"
)

const (
	// maxRestarts limits how often a read restarts after the controller lost its place.
	maxRestarts = 3

	// maxEmptyPages limits the consecutive pages without an entry. A controller sends one if a
	// page takes too long to fill; more of them are a loop.
	maxEmptyPages = 100
)

// critical returns a control that a server must not ignore. The library's own Show Deleted
// cannot be made critical, and a server that ignores it shows no tombstones.
func critical(oid string) ldap.Control { return ldap.NewControlString(oid, true, "") }

// passFilter returns the filter of a pass from a cursor; 0 means the full read. Every object has
// objectClass, so the negation cannot be undefined.
func passFilter(since uint64) string {
	var b strings.Builder
	b.WriteString("(&")
	if since > 0 {
		b.WriteString("(uSNChanged>=" + strconv.FormatUint(since+1, 10) + ")")
	}
	b.WriteString("(|")
	for _, class := range slices.Concat(RecipientClasses(), ContainerClasses()) {
		b.WriteString("(objectClass=" + class + ")")
	}
	b.WriteString(")(!(objectClass=" + classComputer + ")))")
	return b.String()
}

// query is one paged search.
type query struct {
	container  string // prefix of the naming context; empty: all of it
	baseDN     string // instead of the naming context; empty: that
	filter     string
	deleted    bool // includes deleted objects
	identities bool // requests identityAttributes only
}

func (q query) controls() []ldap.Control {
	if q.deleted {
		return []ldap.Control{critical(oidDomainScope), critical(oidShowDeleted), critical(oidShowRecycled)}
	}
	return []ldap.Control{critical(oidDomainScope)}
}

// Read reports objects to page, some at a time. With since 0 it reports all live objects,
// otherwise all objects, deleted ones included, whose uSNChanged is greater than since. It
// calls Root first unless the caller did. The slice belongs to page only during the call.
//
// Read may report an object more than once, with the same or newer content: if the controller
// loses its place, the read restarts, at most a few times. Read with since 0 also reports
// objects that hide uSNChanged (USN 0); later reads cannot find them. If all objects hide it,
// the read fails with ErrChangesHidden, because later reads would miss every change. An error of page ends the read
// and is returned unchanged. Other errors: ErrUnreachable, ErrTimeout, ErrRefused,
// ErrProtocol; after any of them, the objects reported so far are true but not complete.
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

// maxHidden limits how many objects may hide uSNChanged before the first one that shows it.
// Beyond that, reading on is pointless.
const maxHidden = 5000

func (c *Conn) errAllHidden(n int) error {
	return c.operationError("reading objects", newError(ErrChangesHidden,
		"all of %d objects came without uSNChanged, so changes cannot be found; "+
			"give this account the right to read it", n))
}

// ReadDeleted reports the deleted objects that the controller still has, as Read does. If this
// account may not see them, it reports none and returns nil.
func (c *Conn) ReadDeleted(ctx context.Context, page func([]Object) error) error {
	if err := c.ensureRoot(ctx); err != nil || !c.root.DeletedVisible {
		return err
	}
	return c.searchWithRestarts(ctx, query{container: deletedObjects + ",", filter: passFilter(0), deleted: true}, page)
}

// searchWithRestarts runs a search and restarts it if the controller loses its place.
func (c *Conn) searchWithRestarts(ctx context.Context, q query, page func([]Object) error) error {
	for restarts := 0; ; restarts++ {
		err := c.searchPages(ctx, q, page)
		if !errors.Is(err, ErrLostCookie) || restarts == maxRestarts {
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
		return c.operationError("checking the attributes of the Global Catalog", err)
	}
	var cookie []byte
	var p progress
	for empty := 0; empty <= maxEmptyPages; empty++ {
		asked := time.Now()
		entries, next, err := c.searchPage(ctx, q, cookie)
		if err != nil {
			return c.operationError("reading a page", err)
		}
		objects, err := c.parseEntries(ctx, q, entries)
		if err != nil {
			return c.operationError("reading objects", err)
		}
		if err := p.note(objects, time.Since(asked)); err != nil {
			return c.operationError("reading a page", err)
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
	return c.operationError("reading a page", newError(ErrProtocol, "%d empty pages in a row", maxEmptyPages))
}

// checkGlobalCatalog checks, once per connection, that a Global Catalog port shows the address
// attributes. It holds only the attributes that the schema marks (MS-ADTS 3.1.1.2.3,
// isMemberOfPartialAttributeSet). The others have no value on any object, as if no object had
// an address.
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
			return newError(ErrProtocol, "the Global Catalog does not hold %s, so all objects would appear to have no "+
				"address; use port 636 or 389 in urls", name)
		}
	}
	c.gcChecked = true
	return nil
}

// searchPage reads one page, with its own request and control: the library writes the cookie
// into those of the previous page. It returns the cookie of the next page, empty after the last.
func (c *Conn) searchPage(ctx context.Context, q query, cookie []byte) ([]*ldap.Entry, []byte, error) {
	paging := ldap.NewControlPaging(uint32(c.config.PageSize))
	paging.SetCookie(cookie)
	base := cmp.Or(q.baseDN, q.container+c.root.DefaultNamingContext)
	found, err := c.search(ctx, c.config.Timeout, c.config.PageSize, ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree,
		ldap.NeverDerefAliases, 0, 0, false, q.filter, c.attributes(q), append(q.controls(), paging)))
	result, ok := fromServer(err)
	if ok && len(cookie) > 0 && lostCookie(result) {
		return nil, nil, newError(ErrRefused, "%w (LDAP %d %s)", ErrLostCookie, result.ResultCode, diagnostic(result))
	}
	if ok && q.baseDN != "" && result.ResultCode == ldap.LDAPResultNoSuchObject {
		return nil, nil, errDeleted
	}
	if err != nil {
		return nil, nil, err
	}
	answer, ok := ldap.FindControl(found.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
	if !ok {
		return nil, nil, newError(ErrProtocol, "the answer lacks the paging control, so it may be incomplete")
	}
	if len(answer.Cookie) > 0 && bytes.Equal(answer.Cookie, cookie) && len(found.Entries) == 0 {
		return nil, nil, newError(ErrProtocol, "the controller returned the same empty page twice")
	}
	return found.Entries, answer.Cookie, nil
}

// lostCookie recognizes ERROR_INVALID_PARAMETER (0x57, MS-ERREF 2.2) in the answer to a cookie:
// the controller has dropped the search.
func lostCookie(result *ldap.Error) bool {
	return result.ResultCode == ldap.LDAPResultUnwillingToPerform ||
		strings.HasPrefix(result.Err.Error(), "00000057")
}

// attributes returns the attributes that a search requests. If it includes deleted objects, the
// metadata hold the time of their deletion.
func (c *Conn) attributes(q query) []string {
	if q.identities {
		return identityAttributes
	}
	wanted := slices.Concat(objectAttributes, c.config.AddressAttributes)
	if q.deleted {
		wanted = append(wanted, metaDataAttribute)
	}
	return wanted
}

// parseEntries converts the entries of a page to Objects with all their values.
func (c *Conn) parseEntries(ctx context.Context, q query, entries []*ldap.Entry) ([]Object, error) {
	objects := make([]Object, 0, len(entries))
	size := 0
	for _, entry := range entries {
		o, err := c.parseEntry(entry)
		if err != nil {
			return nil, err
		}
		if len(o.pending) > 0 {
			complete, err := c.completeValues(ctx, q, o)
			if errors.Is(err, errDeleted) {
				continue
			}
			if err != nil {
				return nil, err
			}
			o = complete
		}
		if size += o.size; size > maxPage {
			return nil, newError(ErrProtocol, "the objects of one page have more than %d MiB of values", maxPage>>20)
		}
		objects = append(objects, o.Object)
	}
	return objects, nil
}
