package directory

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// rootAttributes are read of rootDSE (MS-ADTS 3.1.1.3.2); the first four are required.
var rootAttributes = []string{
	"highestCommittedUSN", "dsServiceName", "dnsHostName", "defaultNamingContext",
	"configurationNamingContext", "currentTime", "supportedControl", "isSynchronized",
}

// Root reads rootDSE, the invocationId of the controller's database, and whether this account
// may see deleted objects. It comes before every Read, on the same connection. Errors: as Read.
func (c *Conn) Root(ctx context.Context) (Root, error) {
	root, service, err := c.rootDSE(ctx)
	if err != nil {
		return Root{}, c.operationError("reading rootDSE", err)
	}
	if root.InvocationID, err = c.invocationID(ctx, service); err != nil {
		return Root{}, c.operationError("reading invocationId of "+strconv.Quote(service), err)
	}
	if root.DeletedVisible, err = c.deletedVisible(ctx, root.DefaultNamingContext); err != nil {
		return Root{}, c.operationError("looking for CN=Deleted Objects", err)
	}
	c.root = root
	return root, nil
}

// rootDSE reads rootDSE. It also returns the DN of the controller's NTDS Settings object.
func (c *Conn) rootDSE(ctx context.Context) (root Root, service string, err error) {
	entry, err := c.lookup(ctx, "", rootAttributes)
	if err != nil {
		return Root{}, "", err
	}
	return c.parseRoot(entry)
}

// parseRoot converts rootDSE.
func (c *Conn) parseRoot(entry *ldap.Entry) (root Root, service string, err error) {
	get := entry.GetEqualFoldAttributeValue
	for _, name := range rootAttributes[:4] {
		if get(name) == "" {
			return Root{}, "", newError(ErrProtocol, "%s is missing; the server is not a domain controller of Active "+
				"Directory, or hides it", name)
		}
	}
	root = Root{
		DNSHostName:          strings.ToLower(get("dnsHostName")),
		DefaultNamingContext: get("defaultNamingContext"),
		ConfigNamingContext:  get("configurationNamingContext"),
		GlobalCatalog:        c.at.globalCatalog(),
		Account:              cmp.Or(c.config.BindDN, c.config.Principal),
		SupportedControls:    entry.GetEqualFoldAttributeValues("supportedControl"),
		Unsynchronized:       strings.EqualFold(get("isSynchronized"), "FALSE"),
	}
	if root.HighestCommittedUSN, err = parseUSN(get("highestCommittedUSN")); err != nil {
		return Root{}, "", newError(ErrProtocol, "highestCommittedUSN: %w", err)
	}
	root.Now, _ = parseTime(get("currentTime"))
	return root, get("dsServiceName"), nil
}

// invocationID reads the identity of the controller's database from the nTDSDSA object (MS-ADTS
// 6.1.1.2.2.1.2.1.1). Without it, a restored database would look like the one read before.
func (c *Conn) invocationID(ctx context.Context, service string) (GUID, error) {
	entry, err := c.lookup(ctx, service, []string{"invocationId"})
	if err != nil {
		return GUID{}, err
	}
	guid, err := parseGUID(entry.GetEqualFoldRawAttributeValue("invocationId"))
	if err != nil {
		return GUID{}, newError(ErrProtocol, "it cannot be read; give this account the right to read the controller's "+
			"NTDS Settings object (%w)", err)
	}
	return guid, nil
}

// deletedVisible reads the container of deleted objects. An account without the right to list it
// gets searches without tombstones and no error (MS-ADTS 3.1.1.4.5 and 3.1.1.5.5). Such an
// account still finds the container itself, but sees no attribute of it. The rights to list and
// to read it are granted together (dsacls: LCRP); the former cannot be checked alone.
func (c *Conn) deletedVisible(ctx context.Context, root string) (bool, error) {
	entry, err := c.lookup(ctx, deletedObjects+","+root, []string{"objectClass"}, critical(oidShowDeleted))
	result, answered := fromServer(err)
	switch {
	case err == nil:
		return entry.GetEqualFoldAttributeValue("objectClass") != "", nil
	case answered && (result.ResultCode == ldap.LDAPResultNoSuchObject ||
		result.ResultCode == ldap.LDAPResultInsufficientAccessRights):
		return false, nil
	}
	return false, err
}

// parseUSN parses a USN, which is never 0 or negative.
func parseUSN(text string) (uint64, error) {
	usn, err := strconv.ParseUint(text, 10, 63)
	if err == nil && usn == 0 {
		err = strconv.ErrRange
	}
	return usn, err
}

// parseTime parses a generalized time (RFC 4517 section 3.3.13) in the form that Active
// Directory prints, for example 20260131235959.0Z.
func parseTime(text string) (time.Time, error) { return time.Parse("20060102150405Z0700", text) }
