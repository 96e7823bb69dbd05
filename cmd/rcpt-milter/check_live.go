package main

import (
	"context"
	"fmt"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/directory"
)

// liveTimeout bounds the check of one domain controller.
const liveTimeout = 60 * time.Second

// checkDirectory tries every domain controller of a directory.
func (r *findings) checkDirectory(ctx context.Context, d config.Directory) {
	for _, url := range d.URLs {
		if err := r.checkController(ctx, d, url); err != nil {
			r.problem(fmt.Errorf("directory %s: %w", d.Name, err))
		}
	}
}

// checkController connects, verifies the certificate, binds, and reads what a pass
// reads first.
func (r *findings) checkController(ctx context.Context, d config.Directory, url string) error {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	conn, err := directory.Dial(ctx, controllerConfig(d, url))
	if err != nil {
		return err
	}
	defer conn.Close()
	root, err := conn.Root(ctx)
	if err != nil {
		return err
	}
	where := fmt.Sprintf("directory %s: %s", d.Name, url)
	r.good("%s: %s of %s, invocationId %s, USN %d", where, root.DNSHostName, root.DefaultNamingContext, root.InvocationID, root.HighestCommittedUSN)
	if root.GlobalCatalog {
		r.warning("%s: this is a port of the Global Catalog, where objects may lack address attributes; use port 636 or 389", where)
	}
	if !root.DeletedVisible {
		r.problem(fmt.Errorf("%s: %s may not list deleted objects, so removals are noticed by full passes only; "+
			"let a domain administrator run: %s", where, d.Bind.DN, directory.GrantDeletedObjects(root.DefaultNamingContext)))
	}
	return nil
}
