package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Conn is one bound connection to one domain controller. It serves one goroutine at a time;
// any goroutine may call Close. Dial returns one.
type Conn struct {
	config Config // with defaults
	at     endpoint
	raw    *rawConn
	tls    *tlsConn   // over raw
	ldap   *ldap.Conn // over tls
	root   Root       // result of the last Root; zero: not read yet

	gcChecked bool // the Global Catalog holds the address attributes
}

// Close ends the connection at once; an operation under way fails. It may be called more
// than once and always returns nil.
func (c *Conn) Close() error {
	c.raw.abort()
	if c.ldap != nil {
		c.ldap.Close() // cannot block: the connection beneath is closed
	}
	return nil
}

// do runs one operation of the LDAP library within a time limit. If the limit or the context
// ends the operation, its outcome is unknown, so do closes the connection. It returns a result
// code of the server unchanged, see fromServer, and wraps any other error.
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

// wrapError explains why an operation returned no result.
func (c *Conn) wrapError(ctx context.Context, err error) error {
	if lost := c.connError(ctx, nil); lost != nil {
		return lost
	}
	if ldap.IsErrorWithCode(err, ldap.ErrorNetwork) && c.ldap.IsClosing() {
		return newError(ErrUnreachable, "the connection is closed; dial again")
	}
	return newError(ErrProtocol, "cannot read the answer: %w", withoutPacket(err))
}

// withoutPacket returns the text of an error of the LDAP library without the packet it carries.
func withoutPacket(err error) error {
	var packaged *ldap.Error
	if errors.As(err, &packaged) && packaged.Err != nil {
		return packaged.Err
	}
	return err
}

// search runs one search within a time limit. It returns all entries, at most a given number, or
// an error. The LDAP library collects the entries, so their size is limited while they arrive.
func (c *Conn) search(
	ctx context.Context, limit time.Duration, entries int, request *ldap.SearchRequest,
) (*ldap.SearchResult, error) {
	c.tls.frames.budget.set(entries)
	defer c.tls.frames.budget.lift()
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

// lookup reads one object by its DN. It returns a result code of the server unchanged.
func (c *Conn) lookup(
	ctx context.Context, dn string, attributes []string, controls ...ldap.Control,
) (*ldap.Entry, error) {
	found, err := c.search(ctx, c.config.Lookup, 1, oneObject(dn, attributes, controls...))
	if err != nil {
		return nil, err
	}
	if len(found.Entries) != 1 {
		return nil, newError(ErrProtocol, "search for one object returned %d entries", len(found.Entries))
	}
	return found.Entries[0], nil
}

// oneObject returns a search for one object.
func oneObject(dn string, attributes []string, controls ...ldap.Control) *ldap.SearchRequest {
	return ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)",
		attributes, controls)
}

// ping reads rootDSE and keeps nothing of the answer. It does not count entries, because
// notifications may arrive on the same connection.
func (c *Conn) ping(ctx context.Context) error {
	return c.do(ctx, c.config.Lookup, func() error {
		answer := c.ldap.SearchAsync(ctx, oneObject("", []string{"highestCommittedUSN"}), 0)
		entries := 0
		for answer.Next() {
			entries++
		}
		if answer.Err() == nil && entries == 0 {
			return newError(ErrProtocol, "rootDSE is empty")
		}
		return answer.Err()
	})
}

// operationError adds the controller and the operation to an error, and explains a result code
// of the server.
func (c *Conn) operationError(operation string, err error) error {
	if err == nil {
		return nil
	}
	if result, ok := fromServer(err); ok {
		err = resultError(result)
	}
	return fmt.Errorf("%s: %s: %w", c.at, operation, err)
}
