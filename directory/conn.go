package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Conn is one bound connection to one domain controller. It serves one goroutine at a
// time; Close may be called from any. Use Dial to make one.
type Conn struct {
	config Config // complete
	at     endpoint
	raw    *rawConn
	tls    *tlsConn   // TLS over wire
	ldap   *ldap.Conn // over tunnel
	root   Root       // what Root read last; zero: not yet

	gcChecked bool // the Global Catalog has the address attributes
}

// Close ends the connection at once; an operation under way fails. It may be called
// more than once and always returns nil.
func (c *Conn) Close() error {
	c.raw.abort()
	if c.ldap != nil {
		c.ldap.Close() // cannot block: there is nothing beneath it any more
	}
	return nil
}

// do runs one operation of the LDAP library within a limit of time. When the limit or
// the context ends it, nothing can tell what of it was done, so the connection is
// closed. An error that the server gave as a result is returned as it is, see
// fromServer; any other is worded.
func (c *Conn) do(ctx context.Context, limit time.Duration, operation func() error) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	deadline := time.Now().Add(limit)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	c.raw.setDeadline(deadline)
	stop := context.AfterFunc(ctx, c.raw.abort)
	err := operation()
	if !stop() {
		return contextError(ctx)
	}
	c.raw.setDeadline(time.Time{})
	if _, ok := fromServer(err); err == nil || ok {
		return err
	}
	err = c.wrapError(ctx, err)
	c.raw.abort()
	return err
}

// wrapError says why an operation got no result.
func (c *Conn) wrapError(ctx context.Context, err error) error {
	if lost := c.connError(ctx, nil); lost != nil {
		return lost
	}
	if ldap.IsErrorWithCode(err, ldap.ErrorNetwork) && c.ldap.IsClosing() {
		return newError(ErrUnreachable, "the connection is closed; dial again")
	}
	return newError(ErrProtocol, "the answer cannot be read: %w", withoutPacket(err))
}

// withoutPacket keeps the text of an error of the LDAP library and drops the packet it carries.
func withoutPacket(err error) error {
	var packaged *ldap.Error
	if errors.As(err, &packaged) && packaged.Err != nil {
		return packaged.Err
	}
	return err
}

// search runs one search within a limit; entries come whole or not at all.
func (c *Conn) search(ctx context.Context, limit time.Duration, request *ldap.SearchRequest) (*ldap.SearchResult, error) {
	var found *ldap.SearchResult
	err := c.do(ctx, limit, func() (err error) {
		found, err = c.ldap.Search(request)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// lookup reads one object by its name; an error of the server is returned as it is.
func (c *Conn) lookup(ctx context.Context, dn string, attributes []string, controls ...ldap.Control) (*ldap.Entry, error) {
	found, err := c.search(ctx, c.config.Lookup, ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases,
		0, 0, false, "(objectClass=*)", attributes, controls))
	if err != nil {
		return nil, err
	}
	if len(found.Entries) != 1 {
		return nil, newError(ErrProtocol, "%d entries in the answer to a search for one", len(found.Entries))
	}
	return found.Entries[0], nil
}

// operationError says where an error happened and words it if it is still the server's.
func (c *Conn) operationError(operation string, err error) error {
	if err == nil {
		return nil
	}
	if result, ok := fromServer(err); ok {
		err = resultError(result)
	}
	return fmt.Errorf("%s: %s: %w", c.at, operation, err)
}
