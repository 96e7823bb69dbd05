package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/directory"
	"rcpt-milter/internal/text"
)

// liveTimeout limits the check of one domain controller.
const liveTimeout = 120 * time.Second

// liveCheck checks all directories over the network.
type liveCheck struct {
	*findings
	config        *config.Config
	now           func() time.Time
	forests       map[string]coveredForest // by configuration naming context
	aliases       []string                 // domains that the configuration or an accept file makes aliases
	unseenDomains []string                 // enforced domains without a known address so far
	complete      map[string]bool          // directories whose objects were all read

	coverage coverage
}

// coveredForest is a forest, and those of its domains that directories read.
type coveredForest struct {
	directory.Forest
	reportedBy string   // first directory in the forest
	covered    []string // naming contexts
}

// checkLive connects to every domain controller of every directory and checks the conditions for a pass.
func (f *findings) checkLive(ctx context.Context, c *config.Config, now func() time.Time) {
	nowhere := func(string) bool { return false }
	files := tablesOf(c)
	l := &liveCheck{findings: f, config: c, now: now, forests: map[string]coveredForest{}, complete: map[string]bool{},
		unseenDomains: domainsWithoutAddress(c, files, nowhere, nowhere), aliases: allAliases(c, files.Snapshot()),
		coverage: newCoverage(c)}
	for _, d := range c.Directories {
		if d.Stream != nil {
			continue
		}
		checked := false
		for _, at := range l.controllerURLs(ctx, d) {
			controller := &controllerCheck{liveCheck: l, d: d, url: at, where: fmt.Sprintf("directory %s: %s", d.Name,
				at)}
			err := controller.check(ctx, !checked)
			if err == nil {
				checked = true
				continue
			}
			rejected := errors.Is(err, directory.ErrCredentials)
			if err = fmt.Errorf("directory %s: %w", d.Name, err); rejected {
				err = fmt.Errorf("%w; no other domain controller is tried, because a few failed logons lock the "+
					"account", err)
			}
			l.problem("controller", err)
			if rejected || errors.Is(err, directory.ErrSecret) {
				break
			}
		}
	}
	l.checkStreams(ctx)
	l.checkForests()
	l.checkUnseenDomains()
	l.checkCoverage()
}

// controllerURLs returns the domain controllers of a directory, as listed or as discovered in DNS.
func (l *liveCheck) controllerURLs(ctx context.Context, d config.Directory) []string {
	if d.Discover == "" {
		return d.URLs
	}
	urls, err := directory.Discover(ctx, net.DefaultResolver, d.Discover, d.Site)
	switch {
	case len(urls) == 0:
		l.problem("discovery", fmt.Errorf("directory %s: %w", d.Name, err))
		return nil
	case err != nil:
		l.warning("discovery", "directory %s: %v", d.Name, err)
	}
	l.good("discovery", "directory %s: DNS names %s of %s, in this order: %s", d.Name,
		text.Count(len(urls), "domain controller", "domain controllers"), d.Discover, strings.Join(urls, " "))
	return urls
}

// controllerCheck checks one domain controller.
type controllerCheck struct {
	*liveCheck
	d     config.Directory
	url   string
	where string // prefix of each finding

	conn    *directory.Conn
	root    directory.Root
	account directory.Account
	forest  directory.Forest
}

// check connects, verifies the certificate, binds, and checks the conditions for a pass. If first is not set,
// it skips what all controllers of a domain have in common.
func (c *controllerCheck) check(whole context.Context, first bool) (err error) {
	ctx, cancel := context.WithTimeout(whole, liveTimeout)
	defer cancel()
	addresses := c.resolve(ctx)
	if c.conn, err = directory.Dial(ctx, controllerConfig(c.d, c.url)); err != nil {
		return err
	}
	defer c.conn.Close()
	if c.root, err = c.conn.Root(ctx); err != nil {
		return err
	}
	c.good("controller",
		"%s: %s of %s, invocationId %s, USN %d", c.where, c.root.DNSHostName, c.root.DefaultNamingContext,
		c.root.InvocationID, c.root.HighestCommittedUSN)
	c.checkName(addresses)
	c.checkClock()
	c.checkSynchronized()
	c.checkCertificates(c.conn.Certificates())
	if c.account, err = c.conn.Account(ctx); err != nil {
		return err
	}
	if c.forest, err = c.conn.Forest(ctx); err != nil {
		return err
	}
	c.checkAccount()
	c.checkDeletedObjects()
	if err := c.checkGlobalCatalog(ctx); err != nil {
		return err
	}
	if !first {
		return nil
	}
	before := c.problems
	if err := c.checkAttributes(ctx); err != nil {
		return err
	}
	readable := c.problems == before
	if err := c.checkBases(ctx); err != nil {
		return err
	}
	c.noteForest()
	if err := c.checkHybrid(ctx); err != nil || !readable {
		return err
	}
	return c.checkObjects(whole)
}

// resolve looks up the host. It ignores errors, because dialing reports them.
func (c *controllerCheck) resolve(ctx context.Context) []string {
	u, err := url.Parse(c.url)
	if err != nil {
		return nil
	}
	addresses, _ := net.DefaultResolver.LookupHost(ctx, u.Hostname())
	return addresses
}

// checkName warns about a name that may resolve to several controllers. Each change of the controller requires
// a full pass.
func (c *controllerCheck) checkName(addresses []string) {
	u, err := url.Parse(c.url)
	if err != nil || len(addresses) < 2 || strings.EqualFold(u.Hostname(), c.root.DNSHostName) ||
		net.ParseIP(u.Hostname()) != nil || u.Hostname() == "localhost" {
		return
	}
	c.warning("ambiguous-name",
		"%s: this name has %d addresses and led to %s now; if they are different controllers, each change from "+
			"one to another is a full pass: "+
			"list each by its own name in urls, or use discover to find them in DNS",
		c.where, len(addresses), c.root.DNSHostName)
}

// maxSkew is the clock skew that Kerberos tolerates (RFC 4120 section 1.6).
const maxSkew = 5 * time.Minute

func (c *controllerCheck) checkClock() {
	if c.root.Now.IsZero() {
		return
	}
	skew := c.now().Sub(c.root.Now)
	switch {
	case skew.Abs() > maxSkew && c.d.Bind.Keytab != "":
		c.problem("clock",
			fmt.Errorf("%s: its clock and ours differ by %s, and Kerberos tolerates at most 5 minutes; set both by "+
				"NTP", c.where, text.Duration(skew.Abs())))
	case skew.Abs() > time.Minute:
		c.warning("clock",
			"%s: its clock and ours differ by %s; set both by NTP, or times in the journal mislead", c.where,
			text.Duration(skew.Abs()))
	}
}

// checkSynchronized warns about a controller that may lack objects.
func (c *controllerCheck) checkSynchronized() {
	if c.root.Unsynchronized {
		c.warning("not-synchronized", "%s: the controller has not replicated from its partners since it was started, "+
			"promoted or restored (isSynchronized is FALSE), so only a daemon that has read this database last "+
			"reads it; check its replication", c.where)
	}
}
