package daemon

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/internal/text"
)

// expiryWarning is how long before an expiry a check warns.
const expiryWarning = 30 * 24 * time.Hour

// until formats the day of t and the time left until then.
func (l *liveCheck) until(t time.Time) string {
	return fmt.Sprintf("%s (%s)", t.In(l.now().Location()).Format("2006-01-02"), text.Age(l.now(), t))
}

// checkCertificates warns about certificates that expire soon. Dialing has verified them.
func (c *controllerCheck) checkCertificates(chain []*x509.Certificate) {
	for i, cert := range chain {
		name, whose := cert.Subject.CommonName, "its certificate"
		if name == "" && len(cert.DNSNames) > 0 {
			name = cert.DNSNames[0]
		}
		advice := "renew it on the controller"
		if i > 0 {
			whose, advice = "the certificate of the authority",
				"have it renewed and add the new one to tls.ca_file, beside the old one"
		}
		switch {
		case cert.NotAfter.Sub(c.now()) < expiryWarning:
			c.warning("certificate", "%s: %s %q expires on %s; %s: without it nothing can be read", c.where, whose,
				name, c.until(cert.NotAfter), advice)
		case i == 0:
			c.good("certificate", "%s: %s %q is valid until %s", c.where, whose, name, c.until(cert.NotAfter))
		}
	}
}

// checkAccount warns about conditions that may prevent later binds.
func (c *controllerCheck) checkAccount() {
	a, name := c.account, c.d.Bind.Name()
	if a.DN == "" {
		c.warning("account-foreign",
			"%s: the account %s is not in this domain, so the check cannot see whether its password expires",
			c.where, name)
		return
	}
	if a.Locked {
		c.problem("account-locked",
			fmt.Errorf("%s: the account %s is locked out; unlock it, and look for a wrong password in use "+
				"elsewhere", c.where, a.DN))
	}
	if a.Lockout > 0 && a.BadPasswords > 0 {
		c.warning("wrong-passwords",
			"%s: %s for %s since its last logon here, and %d lock it; look for an old password in use elsewhere",
			c.where, text.Count(a.BadPasswords, "wrong password", "wrong passwords"), a.DN, a.Lockout)
	}
	if !a.Expires.IsZero() && a.Expires.Sub(c.now()) < expiryWarning {
		c.warning("account-expires",
			"%s: the account %s expires on %s; extend it: without it nothing can be read", c.where, a.DN,
			c.until(a.Expires))
	}
	advice := `set "password never expires", or put a new one into bind.password_file in time`
	if c.d.Bind.Keytab != "" {
		advice = `set "password never expires", or make a new keytab in time`
	}
	switch {
	case a.PasswordExpires.IsZero():
		c.good("password", "%s: account %s, its password does not expire", c.where, a.DN)
	case a.PasswordExpires.Sub(c.now()) < expiryWarning:
		c.warning("password",
			"%s: the password of %s expires on %s; %s", c.where, a.DN, c.until(a.PasswordExpires), advice)
	default:
		c.warning("password", "%s: the password of %s expires on %s, and a service cannot change it; %s", c.where, a.DN,
			c.until(a.PasswordExpires), advice)
	}
}

// checkDeletedObjects reports a missing permission to read deleted objects, with the commands that grant it.
func (c *controllerCheck) checkDeletedObjects() {
	if c.root.DeletedVisible {
		c.good("deleted-objects", "%s: %s may list deleted objects", c.where, c.d.Bind.Name())
		return
	}
	c.problem("deleted-objects",
		fmt.Errorf("%s: %s may not list deleted objects, so removals are noticed by full passes only; "+
			"let a domain administrator run: %s", c.where, c.d.Bind.Name(),
			strings.Join(directory.GrantDeletedObjects(c.root.DefaultNamingContext,
				cmp.Or(c.forest.Grantee(c.account, c.root.DefaultNamingContext), directory.Grantee(c.d.Bind.Name()))),
				", and then: ")))
}

// checkGlobalCatalog reports a controller URL with a Global Catalog port. It is a problem if the schema keeps
// an address attribute out of the Global Catalog.
func (c *controllerCheck) checkGlobalCatalog(ctx context.Context) error {
	if !c.root.GlobalCatalog {
		return nil
	}
	for _, name := range c.d.AddressAttributes {
		schema, err := c.conn.Schema(ctx, name)
		if err != nil {
			return err
		}
		if schema.Exists && !schema.GlobalCatalog {
			c.problem("global-catalog",
				fmt.Errorf("%s: this is a port of the Global Catalog, which lacks %s (isMemberOfPartialAttributeSet "+
					"is not set in the schema), "+
					"so every object looks as if it had no address there; use port 636 or 389", c.where, name))
			return nil
		}
	}
	c.warning("global-catalog",
		"%s: this is a port of the Global Catalog, which has only a part of what objects have; use port 636 or "+
			"389", c.where)
	return nil
}

// neededAttribute is an attribute that a feature needs.
type neededAttribute struct {
	name        string
	vital       bool   // nothing can be read without the attribute
	consequence string // what happens without the attribute
}

func (c *controllerCheck) needs() []neededAttribute {
	all := []neededAttribute{
		{"objectGUID", true, "objects cannot be identified"},
		{"uSNChanged", true, "changes cannot be followed"},
		{"whenChanged", false, "the time from a change to its effect cannot be measured"},
	}
	for _, name := range c.d.AddressAttributes {
		vital := strings.EqualFold(name, "proxyAddresses")
		all = append(all, neededAttribute{name, vital, "either no object has an address there, or this account may " +
			"not read it"})
	}
	if c.d.OmitDisabledAccounts {
		all = append(all, neededAttribute{"userAccountControl", false, "disabled_accounts: omit has no effect"})
	}
	if c.d.OmitSystemMailboxes {
		all = append(all, neededAttribute{"msExchRecipientTypeDetails", false, "system_mailboxes: omit has no effect"})
	}
	if c.d.RefuseInternalOnly {
		all = append(all, neededAttribute{"msExchRequireAuthToSendTo", false,
			"either no recipient is internal-only, or internal_only: refuse has no effect"})
	}
	return all
}

// checkAttributes reports attributes that the account cannot read. A hidden attribute looks like one without
// values.
func (c *controllerCheck) checkAttributes(ctx context.Context) error {
	seen, err := c.conn.Shown(ctx, "objectClass")
	if err != nil {
		return err
	}
	if !seen {
		c.problem("objects-hidden",
			fmt.Errorf("%s: %s sees no user, group or contact at all; give it the right to read the domain",
				c.where, c.d.Bind.Name()))
		return nil
	}
	var shown []string
	for _, n := range c.needs() {
		ok, err := c.conn.Shown(ctx, n.name)
		switch {
		case err != nil:
			return err
		case ok:
			shown = append(shown, n.name)
		case n.vital:
			c.problem("attribute-hidden",
				fmt.Errorf("%s: no object shows %s: %s; give %s the right to read it", c.where, n.name, n.consequence,
					c.d.Bind.Name()))
		default:
			c.warning("attribute-hidden", "%s: no object shows %s: %s", c.where, n.name, n.consequence)
		}
	}
	c.good("attributes", "%s: can be read: %s", c.where, strings.Join(shown, ", "))
	return nil
}

// checkBases reports entries in bases and exclude that do not exist.
func (c *controllerCheck) checkBases(ctx context.Context) error {
	for _, dn := range c.d.Bases {
		switch exists, err := c.conn.Exists(ctx, dn); {
		case err != nil:
			return err
		case !exists:
			c.problem("base-missing",
				fmt.Errorf("%s: there is no %s, or %s may not see it; correct bases", c.where, dn, c.d.Bind.Name()))
		}
	}
	for _, dn := range c.d.Exclude {
		switch exists, err := c.conn.Exists(ctx, dn); {
		case err != nil:
			return err
		case !exists:
			c.warning("exclude-missing",
				"%s: there is no %s, or %s may not see it, so it excludes nothing; correct exclude",
				c.where, dn, c.d.Bind.Name())
		}
	}
	return nil
}
