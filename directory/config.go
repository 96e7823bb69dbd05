package directory

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"rcpt-milter/internal/files"
)

// Defaults of [Config].
const (
	DefaultPageSize    = 1000
	DefaultTimeout     = 130 * time.Second // a little more than Active Directory takes for a page at most, so that its own answer comes first
	DefaultLookup      = 30 * time.Second  // what a controller takes milliseconds for: one that is silent for so long hangs
	DefaultDialTimeout = 15 * time.Second
	DefaultKeepAlive   = 4 * time.Minute
)

// Config describes one domain controller and how to read it.
type Config struct {
	// URL is ldaps://host[:636], or ldap://host[:389], where StartTLS is mandatory. On
	// the ports 3268 and 3269 the controller answers as a Global Catalog. Required.
	URL string

	// BindDN is the name to bind with: a DN, user@domain, or DOMAIN\user. Required, or
	// Keytab: Active Directory shows nothing to the nameless.
	BindDN string

	// Password gives the password. It is called for every bind, so that a changed file
	// is noticed; see PasswordFile. Required with BindDN; an empty password is refused,
	// because LDAP takes a bind without one as anonymous (RFC 4513 section 5.1.2).
	Password func() ([]byte, error)

	// Keytab, in place of BindDN and Password, names a file of Kerberos keys, which is
	// read for every bind. The controller, on port 88 of the same host, is asked for a
	// ticket; no krb5.conf is read. AES keys only.
	Keytab string

	// Principal is whose key of Keytab to use: name@REALM, in any case. Required with
	// Keytab. It has to be of the domain that the controller serves.
	Principal string

	// CAFile holds the certificates, in PEM, of the authorities that may sign the
	// controller's. It is read at every Dial. Empty: those the system trusts.
	CAFile string

	// ServerName is the name that the controller's certificate must bear. Empty: the
	// host of URL. Verification cannot be switched off.
	ServerName string

	// AddressAttributes are the attributes whose values Object.Values holds. Default:
	// proxyAddresses and mail.
	AddressAttributes []string

	// PageSize is how many entries to ask for at a time; the controller may give fewer.
	// Default 1000, which is also the most that Active Directory gives by default.
	PageSize int

	// Timeout limits each page, from sending the request to receiving the last entry.
	// Default 130 s.
	Timeout time.Duration

	// Lookup limits each search for one object, such as rootDSE, in the same way. It is
	// what tells a controller that hangs from one that has much to read. Default 30 s,
	// and never more than Timeout.
	Lookup time.Duration

	// DialTimeout limits connecting, TLS and bind together. Default 15 s.
	DialTimeout time.Duration

	// KeepAlive is how often a connection that only waits for changes is used. Default 4
	// minutes: controllers close idle ones after 15, some firewalls after 5.
	KeepAlive time.Duration

	// Dialer opens the TCP connection. Nil: net.Dialer.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
}

// attributeName is what an attribute description may look like here: a name or an OID,
// no options (RFC 4512 section 2.5).
var attributeName = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9-]*|[0-9]+(\.[0-9]+)+)$`)

// endpoint is where a URL leads.
type endpoint struct {
	host, port string
	startTLS   bool
}

func (e endpoint) String() string { return net.JoinHostPort(e.host, e.port) }

// globalCatalog reports whether the port is one of the Global Catalog (MS-ADTS
// 3.1.1.3.1.10); no rootDSE attribute tells.
func (e endpoint) globalCatalog() bool { return e.port == "3268" || e.port == "3269" }

// withDefaults checks the configuration and fills in the defaults.
func (c Config) withDefaults() (Config, endpoint, error) {
	at, err := parseURL(c.URL)
	if err != nil {
		return c, at, err
	}
	if err := c.checkBind(); err != nil {
		return c, at, err
	}
	if len(c.AddressAttributes) == 0 {
		c.AddressAttributes = []string{"proxyAddresses", "mail"}
	}
	c.AddressAttributes = slices.Clone(c.AddressAttributes)
	for _, name := range c.AddressAttributes {
		if !attributeName.MatchString(name) {
			return c, at, newError(ErrConfig, "address_attributes: %q is not the name of an attribute", name)
		}
	}
	if c.PageSize < 0 || c.Timeout < 0 || c.Lookup < 0 || c.DialTimeout < 0 || c.KeepAlive < 0 {
		return c, at, newError(ErrConfig, "page size and time limits must not be negative")
	}
	c.PageSize = cmp.Or(c.PageSize, DefaultPageSize)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Lookup = min(cmp.Or(c.Lookup, DefaultLookup), c.Timeout)
	c.DialTimeout = cmp.Or(c.DialTimeout, DefaultDialTimeout)
	c.KeepAlive = cmp.Or(c.KeepAlive, DefaultKeepAlive)
	c.ServerName = cmp.Or(c.ServerName, at.host)
	if c.Dialer == nil {
		c.Dialer = new(net.Dialer).DialContext
	}
	return c, at, nil
}

// checkBind finds whether there is one way to bind, and only one.
func (c Config) checkBind() error {
	name, realm := splitPrincipal(c.Principal)
	switch {
	case c.Keytab == "" && c.Principal == "" && (c.BindDN == "" || c.Password == nil):
		return newError(ErrConfig, "no name or no password to bind with; set bind.dn and bind.password_file, or bind.keytab and bind.principal")
	case c.Keytab == "" && c.Principal == "":
		return nil
	case c.BindDN != "" || c.Password != nil:
		return newError(ErrConfig, "a password and a keytab to bind with; set one of them")
	case c.Keytab == "" || name == "" || realm == "":
		return newError(ErrConfig, "bind.keytab and bind.principal belong together; a principal is name@REALM")
	}
	return nil
}

// parseURL reads ldaps://host[:port] and ldap://host[:port].
func parseURL(text string) (endpoint, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		return endpoint{}, newError(ErrConfig, "%q is not the URL of a domain controller; write ldaps://host or ldap://host, with :port if it is not the usual one", text)
	}
	at := endpoint{host: u.Hostname(), port: u.Port()}
	switch u.Scheme {
	case "ldaps":
		at.port = cmp.Or(at.port, "636")
	case "ldap":
		at.port, at.startTLS = cmp.Or(at.port, "389"), true
	default:
		return endpoint{}, newError(ErrConfig, "%q: the URL of a domain controller begins with ldaps:// or ldap://", text)
	}
	return at, nil
}

// tlsConfig builds the client's side of TLS, reading CAFile anew. Certificates in it that
// cannot be read are left out, unless there is no other.
func (c Config) tlsConfig() (*tls.Config, error) {
	out := &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12}
	if c.CAFile == "" {
		return out, nil
	}
	certificates, err := files.Certificates(c.CAFile)
	if len(certificates) == 0 {
		return nil, newError(ErrConfig, "tls.ca_file: %w", err)
	}
	out.RootCAs = x509.NewCertPool()
	for _, cert := range certificates {
		out.RootCAs.AddCert(cert)
	}
	return out, nil
}

// maxPassword is far above the 256 characters that Active Directory allows.
const maxPassword = files.MaxPassword

// PasswordFile returns a function that reads a password from a file, anew at each call; see
// package files for what counts as one. Its errors name the file and never what is in it.
func PasswordFile(path string) func() ([]byte, error) {
	return func() ([]byte, error) { return files.Password(path) }
}

// password reads the password. What cannot be one is ErrSecret.
func (c Config) password() ([]byte, error) {
	secret, err := c.Password()
	if err != nil {
		return nil, newError(ErrSecret, "bind.password_file: %w", err)
	}
	if len(secret) == 0 {
		return nil, newError(ErrSecret, "bind.password_file: the password is empty")
	}
	return secret, nil
}

// checkSecret finds whether there is a secret that a bind could be tried with. A wrong one
// costs a failed logon, and a few of these lock the account.
func (c Config) checkSecret() (err error) {
	if c.Keytab != "" {
		_, err = readKeys(c.Keytab, c.Principal)
	} else {
		_, err = c.password()
	}
	return err
}
