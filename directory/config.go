package directory

import (
	"cmp"
	"context"
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
	DefaultPageSize = 1000

	// DefaultTimeout is a little longer than Active Directory works on a page (MaxQueryDuration),
	// so its own error arrives first.
	DefaultTimeout = 130 * time.Second

	// DefaultLookup is far longer than a lookup takes: a controller answers in milliseconds, and
	// one that is silent for 30 seconds hangs.
	DefaultLookup = 30 * time.Second

	DefaultDialTimeout = 15 * time.Second
	DefaultKeepAlive   = 4 * time.Minute
)

// Config describes one domain controller and how to read it.
type Config struct {
	// URL is ldaps://host[:636], or ldap://host[:389] with mandatory StartTLS. On ports 3268
	// and 3269 the controller answers as a Global Catalog. Required.
	URL string

	// BindDN is the name to bind with: a DN, user@domain, or DOMAIN\user. Either BindDN or
	// Keytab is required, because Active Directory shows nothing to an anonymous client.
	BindDN string

	// Password returns the password. Every bind calls it, which picks up a changed file; see
	// PasswordFile. Required with BindDN. An empty password is an error, because LDAP takes a
	// bind without one as anonymous (RFC 4513 section 5.1.2).
	Password func() ([]byte, error)

	// Keytab, instead of BindDN and Password, names a file of Kerberos keys, which every bind
	// reads. The ticket comes from port 88 of the same host; no krb5.conf is read. Only AES
	// keys are used.
	Keytab string

	// Principal selects the key in Keytab: name@REALM, in any case. Required with Keytab. It
	// must belong to the domain that the controller serves.
	Principal string

	// CAFile names a PEM file with the certification authorities that may sign the
	// controller's certificate. Every Dial reads it. Empty means the system's authorities.
	CAFile string

	// ServerName is the name that the controller's certificate must match. Empty means the
	// host of URL. Verification cannot be disabled.
	ServerName string

	// AddressAttributes are the attributes whose values Object.Values holds. The default is
	// proxyAddresses and mail.
	AddressAttributes []string

	// PageSize is the number of entries to request at a time; the controller may return fewer.
	// The default, 1000, is also the default maximum of Active Directory.
	PageSize int

	// Timeout limits each page, from sending the request to receiving the last entry. The
	// default is 130 s.
	Timeout time.Duration

	// Lookup limits each search for one object, such as rootDSE, in the same way. It detects a
	// controller that hangs, while a large page may still take its time. The default is 30 s;
	// Lookup never exceeds Timeout.
	Lookup time.Duration

	// DialTimeout limits connecting, TLS and bind together. The default is 15 s.
	DialTimeout time.Duration

	// KeepAlive is the interval between requests on a connection that only waits for changes.
	// The default is 4 minutes: controllers close idle connections after 15, some firewalls
	// after 5.
	KeepAlive time.Duration

	// Dialer opens the TCP connection. Nil means net.Dialer.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
}

// attributeName matches the attribute descriptions that are allowed here: a name or an OID
// without options (RFC 4512 section 2.5).
var attributeName = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9-]*|[0-9]+(\.[0-9]+)+)$`)

// endpoint is a parsed URL.
type endpoint struct {
	host, port string
	startTLS   bool
}

func (e endpoint) String() string { return net.JoinHostPort(e.host, e.port) }

// globalCatalog reports whether the port is one of the Global Catalog (MS-ADTS
// 3.1.1.3.1.10). No rootDSE attribute shows it.
func (e endpoint) globalCatalog() bool { return e.port == "3268" || e.port == "3269" }

// DefaultAddressAttributes returns the attributes that hold addresses by default.
func DefaultAddressAttributes() []string { return []string{"proxyAddresses", "mail"} }

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
		c.AddressAttributes = DefaultAddressAttributes()
	}
	c.AddressAttributes = slices.Clone(c.AddressAttributes)
	for _, name := range c.AddressAttributes {
		if !attributeName.MatchString(name) {
			return c, at, newError(ErrConfig, "address_attributes: %q is not an attribute name", name)
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

// checkBind checks that exactly one way to bind is configured.
func (c Config) checkBind() error {
	name, realm := splitPrincipal(c.Principal)
	switch {
	case c.Keytab == "" && c.Principal == "" && (c.BindDN == "" || c.Password == nil):
		return newError(ErrConfig, "bind has no name or no password; set bind.dn and bind.password_file, "+
			"or bind.keytab and bind.principal")
	case c.Keytab == "" && c.Principal == "":
		return nil
	case c.BindDN != "" || c.Password != nil:
		return newError(ErrConfig, "bind has both a password and a keytab; set only one of them")
	case c.Keytab == "" || name == "" || realm == "":
		return newError(ErrConfig, "bind.keytab and bind.principal must be set together; a principal is name@REALM")
	}
	return nil
}

// parseURL parses ldaps://host[:port] and ldap://host[:port].
func parseURL(text string) (endpoint, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		return endpoint{}, newError(ErrConfig, "%q is not the URL of a domain controller; write ldaps://host or "+
			"ldap://host, with :port if it is not the default", text)
	}
	at := endpoint{host: u.Hostname(), port: u.Port()}
	switch u.Scheme {
	case "ldaps":
		at.port = cmp.Or(at.port, "636")
	case "ldap":
		at.port, at.startTLS = cmp.Or(at.port, "389"), true
	default:
		return endpoint{}, newError(ErrConfig, "%q is not the URL of a domain controller; it must begin with "+
			"ldaps:// or ldap://", text)
	}
	return at, nil
}

// maxPassword is far above the 256 characters that Active Directory allows.
const maxPassword = files.MaxPassword

// PasswordFile returns a function that reads a password from a file at each call. Package files
// defines a valid password. Errors name the file and never show its content.
func PasswordFile(path string) func() ([]byte, error) {
	return func() ([]byte, error) { return files.Password(path) }
}

// password returns the password. The error is ErrSecret if there is no valid one.
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

// checkSecret checks that there is a secret to bind with. A bind with a wrong secret costs a
// failed logon, and a few of them lock the account.
func (c Config) checkSecret() (err error) {
	if c.Keytab != "" {
		_, err = readKeys(c.Keytab, c.Principal)
	} else {
		_, err = c.password()
	}
	return err
}
