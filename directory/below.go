package directory

import (
	"context"
	"errors"
	"fmt"
)

// ReadBelow reports one object and its subtree, wherever the object is now, as Read does
// with since 0. If the object does not exist, ReadBelow reports nothing and returns nil.
// The page function of another read may call it: a controller keeps several paged searches
// open for a connection, and drops the oldest one beyond 10 (MaxResultSetsPerConn of Active
// Directory; Samba has the same limit).
func (c *Conn) ReadBelow(ctx context.Context, top GUID, page func([]Object) error) error {
	err := c.searchWithRestarts(ctx, query{baseDN: fmt.Sprintf("<GUID=%x>", top[:]), filter: passFilter(0)}, page)
	if errors.Is(err, errDeleted) {
		return nil
	}
	return err
}
