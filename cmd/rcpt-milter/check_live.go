package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/directory"
)

// liveTimeout bounds the check of one domain controller.
const liveTimeout = 60 * time.Second

// checkDirectory tries every domain controller of a directory.
func (r *findings) checkDirectory(ctx context.Context, d config.Directory) {
	for _, url := range r.controllerURLs(ctx, d) {
		if err := r.checkController(ctx, d, url); err != nil {
			r.problem(fmt.Errorf("directory %s: %w", d.Name, err))
		}
	}
}

// controllerURLs are the domain controllers that are listed, or that DNS knows.
func (r *findings) controllerURLs(ctx context.Context, d config.Directory) []string {
	if d.Discover == "" {
		return d.URLs
	}
	urls, err := directory.Discover(ctx, net.DefaultResolver, d.Discover, d.Site)
	switch {
	case len(urls) == 0:
		r.problem(fmt.Errorf("directory %s: %w", d.Name, err))
		return nil
	case err != nil:
		r.warning("directory %s: %v", d.Name, err)
	}
	r.good("directory %s: DNS names %s of %s, in this order: %s", d.Name,
		counted(len(urls), "domain controller", "domain controllers"), d.Discover, strings.Join(urls, " "))
	return urls
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
			"let a domain administrator run: %s", where, d.Bind.Name(), directory.GrantDeletedObjects(root.DefaultNamingContext)))
	}
	return nil
}
