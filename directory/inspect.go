package directory

import (
	"context"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// The functions below inspect a controller and an account: they show whether a directory can be
// read, and what will fail soon. No pass needs them.

// inspectLimit is the controller's time limit for each search of an inspection, in seconds. A
// search that finds nothing may have to scan the whole directory.
const inspectLimit = 20

// Certificates returns the controller's certificate chain up to a trusted authority, the
// controller's own certificate first.
func (c *Conn) Certificates() []*x509.Certificate {
	state := c.tls.ConnectionState()
	if len(state.VerifiedChains) > 0 {
		return state.VerifiedChains[0]
	}
	return state.PeerCertificates
}

// Account is the account that the connection is bound as. A zero time means never, or not
// readable.
type Account struct {
	DN              string // empty: the account is not in this domain, and all other fields are zero
	Name            string // sAMAccountName
	PasswordExpires time.Time
	Expires         time.Time // the account itself
	Locked          bool
	BadPasswords    int // since the last good one, on this controller
	Lockout         int // bad passwords that lock an account; 0: no limit, or not readable
}

// accountAttributes are read of the account. The controller computes the expiry (MS-ADTS
// 3.1.1.4.5.15) and the flags (3.1.1.4.5.17) from all its policies.
var accountAttributes = []string{
	"sAMAccountName", "msDS-UserPasswordExpiryTimeComputed", "msDS-User-Account-Control-Computed", "accountExpires",
	"badPwdCount",
}

// lockedOut is ADS_UF_LOCKOUT (MS-ADTS 2.2.16).
const lockedOut = 0x10

// Account reads the account of this connection. Errors: as Read.
func (c *Conn) Account(ctx context.Context) (Account, error) {
	dn, err := c.accountDN(ctx)
	if err != nil || dn == "" {
		return Account{}, c.operationError("looking for the account", err)
	}
	if err := c.ensureRoot(ctx); err != nil {
		return Account{}, err
	}
	entry, err := c.lookup(ctx, dn, accountAttributes)
	if err != nil {
		return Account{}, c.operationError("reading "+strconv.Quote(dn), err)
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(entry.GetEqualFoldAttributeValue(name), 10, 64)
		return n
	}
	a := Account{
		DN: entry.DN, Name: entry.GetEqualFoldAttributeValue("sAMAccountName"),
		PasswordExpires: fileTime(number("msDS-UserPasswordExpiryTimeComputed")),
		Expires:         fileTime(number("accountExpires")),
		Locked:          number("msDS-User-Account-Control-Computed")&lockedOut != 0,
		BadPasswords:    int(number("badPwdCount")),
	}
	if domain, err := c.lookup(ctx, c.root.DefaultNamingContext, []string{"lockoutThreshold"}); err == nil {
		a.Lockout, _ = strconv.Atoi(domain.GetEqualFoldAttributeValue("lockoutThreshold"))
	}
	return a, nil
}

// accountDN returns the DN of the account, in whichever form it is configured. It is empty if
// the account belongs to another domain.
func (c *Conn) accountDN(ctx context.Context) (string, error) {
	name := c.config.BindDN
	if name == "" {
		name = c.config.Principal
	}
	if _, err := ldap.ParseDN(name); err == nil {
		return name, nil
	}
	short, _, _ := strings.Cut(name, "@")
	if _, after, ok := strings.Cut(name, `\`); ok {
		short = after
	}
	filter := fmt.Sprintf("(&(objectClass=user)(|(userPrincipalName=%s)(sAMAccountName=%s)))",
		ldap.EscapeFilter(name), ldap.EscapeFilter(short))
	found, err := c.searchFirst(ctx, "", filter, 2, "userPrincipalName", "distinguishedName")
	if err != nil || len(found) == 0 {
		return "", err
	}
	for _, e := range found { // prefer the full name to the short one
		if strings.EqualFold(e.GetEqualFoldAttributeValue("userPrincipalName"), name) {
			return e.DN, nil
		}
	}
	return found[0].DN, nil
}

// fileTime converts an interval since 1601 in units of 100 ns (MS-DTYP 2.3.3). Zero and the
// largest number mean never.
func fileTime(n int64) time.Time {
	const unixEpoch = 116444736000000000
	if n <= 0 || n == 1<<63-1 {
		return time.Time{}
	}
	return time.Unix((n-unixEpoch)/1e7, (n-unixEpoch)%1e7*100).UTC()
}

// Shown reports whether any object that may be a recipient shows the attribute to this account.
// An attribute that is hidden looks like one that no object has.
func (c *Conn) Shown(ctx context.Context, attribute string) (bool, error) {
	filter := "(&" + passFilter(0) + "(" + ldap.EscapeFilter(attribute) + "=*))"
	found, err := c.searchFirst(ctx, "", filter, 1, attribute)
	if err != nil {
		return false, c.operationError("looking for an object with "+attribute, err)
	}
	return len(found) > 0 && found[0].GetEqualFoldRawAttributeValue(attribute) != nil, nil
}

// AddressUnder returns an address of any recipient in a sub-domain of domain, from
// proxyAddresses; empty if there is none.
func (c *Conn) AddressUnder(ctx context.Context, domain string) (string, error) {
	suffix := "." + domain
	found, err := c.searchFirst(ctx, "", "(proxyAddresses=smtp:*"+ldap.EscapeFilter(suffix)+")", 1, "proxyAddresses")
	if err != nil || len(found) == 0 {
		return "", c.operationError("looking for addresses of "+domain, err)
	}
	for _, value := range found[0].GetEqualFoldAttributeValues("proxyAddresses") {
		scheme, address, ok := strings.Cut(value, ":")
		if ok && strings.EqualFold(scheme, "smtp") && strings.HasSuffix(strings.ToLower(address), suffix) {
			return address, nil
		}
	}
	return "", nil
}

// searchFirst returns at most limit entries of a search by requesting a single page. An empty
// base means the root of the domain.
func (c *Conn) searchFirst(
	ctx context.Context, base, filter string, limit uint32, attributes ...string,
) ([]*ldap.Entry, error) {
	if err := c.ensureRoot(ctx); err != nil {
		return nil, err
	}
	if base == "" {
		base = c.root.DefaultNamingContext
	}
	controls := []ldap.Control{critical(oidDomainScope), ldap.NewControlPaging(limit)}
	found, err := c.search(ctx, c.config.Lookup, int(limit), ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree,
		ldap.NeverDerefAliases, 0, inspectLimit, false, filter, attributes, controls))
	if err != nil {
		return nil, err
	}
	return found.Entries, nil
}

// ensureRoot calls Root unless it was called before.
func (c *Conn) ensureRoot(ctx context.Context) error {
	if c.root.DefaultNamingContext != "" {
		return nil
	}
	_, err := c.Root(ctx)
	return err
}
