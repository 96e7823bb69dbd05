package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// maxIdentities limits the GUIDs in the filter of one search, because Active Directory limits the
// size of a filter.
const maxIdentities = 100

// ReadObjects reports the objects with these GUIDs that exist, wherever they are now, as Read does
// with since 0. A full read pages by position and may skip an object whose container moves; a
// search by GUID cannot.
func (c *Conn) ReadObjects(ctx context.Context, guids []GUID, page func([]Object) error) error {
	for some := range slices.Chunk(guids, min(maxIdentities, c.config.PageSize)) {
		if err := c.searchWithRestarts(ctx, query{filter: identityFilter(some)}, page); err != nil {
			return err
		}
	}
	return nil
}

// identityFilter matches some objects among those that Read reports.
func identityFilter(guids []GUID) string {
	var b strings.Builder
	b.WriteString("(&(|")
	for _, guid := range guids {
		b.WriteString("(objectGUID=")
		for _, value := range guid {
			fmt.Fprintf(&b, `\%02x`, value)
		}
		b.WriteString(")")
	}
	b.WriteString(")" + passFilter(0) + ")")
	return b.String()
}

// List reports the objects that Read reports with since 0, but only their GUID, DN and classes.
func (c *Conn) List(ctx context.Context, page func([]Object) error) error {
	return c.searchWithRestarts(ctx, query{filter: passFilter(0), identities: true}, page)
}
