package directory

import (
	"context"
	"errors"
	"fmt"
)

// ReadBelow reports one object and all that live below it, wherever it is by now, as Read
// does with since 0. It reports nothing, and no error, if there is no such object. It may
// be called from within the page function of another read: a controller keeps several
// searches in pages for a connection (MaxResultSetsPerConn of Active Directory and the
// limit of Samba are 10), and the oldest one is lost beyond that.
func (c *Conn) ReadBelow(ctx context.Context, top GUID, page func([]Object) error) error {
	err := c.searchWithRestarts(ctx, query{baseDN: fmt.Sprintf("<GUID=%x>", top[:]), filter: passFilter(0)}, page)
	if errors.Is(err, errDeleted) {
		return nil
	}
	return err
}
