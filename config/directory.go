package config

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"rcpt-milter/address"
)

// Directory configures one Active Directory domain to mirror.
type Directory struct {
	Name string // name: its name in logs, metrics and the store; required
	// urls: "ldaps://host:port", or "ldap://host:port" with StartTLS, in order of preference; required without Discover
	URLs     []string
	Discover string   // discover: DNS name of the Active Directory domain whose controllers DNS names, in place of urls
	Site     string   // site: the Active Directory site whose controllers are preferred; only with Discover
	Domains  []string // domains: canonical mail domains, or ".parent", that it may own; empty means all
	Bind     Bind     // bind; required without Stream
	Stream   *Stream  // stream: where a hub publishes the directory, in place of controllers; nil means controllers
	TLS      TLS      // tls
	Bases    []string // bases: DNs below which recipients live; empty means the whole domain
	Exclude  []string // exclude: DNs below which no object owns an address

	Poll   time.Duration // poll: from one incremental pass to the next; default 5s
	Full   time.Duration // full: from one full pass to the next; default 24h
	Notify bool          // notify: request change notifications, in addition to polling
	// replication_lag: for so long absence on another controller removes nothing; default 3h, zero: it does at once
	ReplicationLag time.Duration

	AddressAttributes    []string // address_attributes: as written; default proxyAddresses and mail
	RefuseInternalOnly   bool     // internal_only: refuse; outside senders may not write to restricted recipients
	OmitSystemMailboxes  bool     // system_mailboxes: omit
	OmitDisabledAccounts bool     // disabled_accounts: omit

	RemovalGuard Guard // removal_guard
}

// Bind is the account for the directory: a name with a password, or a Kerberos keytab.
type Bind struct {
	DN           string // dn: a distinguished name or user principal name; empty with Keytab
	PasswordFile string // password_file: absolute; empty with Keytab
	Keytab       string // keytab: absolute; empty with PasswordFile
	Principal    string // principal: name@REALM, as in the keytab; empty with PasswordFile
}

// Name returns the account name.
func (b Bind) Name() string { return b.DN + b.Principal }

// TLS configures how certificates of domain controllers are verified.
type TLS struct {
	CAFile     string // absolute, PEM; empty means the system roots
	ServerName string // expected in the certificate; empty means the host of the URL
}

// Guard configures when removals are held: if within Window they exceed Max, or both Count
// and Percent of the addresses of the directory, or Share percent of the addresses of the
// directory or of one judged domain.
type Guard struct {
	Percent float64       // from 0 to 100; default 5
	Count   int           // default 50
	Max     int           // default 500; zero disables the guard
	Share   float64       // from 0 to 100; default 30; zero means no limit
	Window  time.Duration // default 24h
}

// DefaultGuard returns the guard of a directory that configures none, or that is no longer
// in the file.
func DefaultGuard() Guard {
	return Guard{Percent: 5, Count: 50, Max: 500, Share: 30, Window: 24 * time.Hour}
}

func directories(target *[]Directory) field {
	return func(v value) {
		items("directories", func(v value) {
			d := defaultDirectory()
			d.fields()(v)
			v.requireBind()
			for i, other := range *target {
				if d.Name != "" && d.Name == other.Name {
					v.failAt(v.at[v.path+".name"], "%s.name: directories[%d] has the same name %q", v.path, i, d.Name)
				}
			}
			*target = append(*target, d)
		})(v)
	}
}

// requireBind records that a directory with controllers has no bind.
func (v value) requireBind() {
	_, bound := v.at[v.path+".bind"]
	_, follows := v.at[v.path+".stream"]
	if v.node.kind == mapping && !bound && !follows {
		v.failAt(v.node.position, "key %q is missing in %s", "bind", v.path)
	}
}

func defaultDirectory() Directory {
	return Directory{
		Poll:              5 * time.Second,
		Full:              24 * time.Hour,
		ReplicationLag:    3 * time.Hour,
		AddressAttributes: []string{"proxyAddresses", "mail"},
		RemovalGuard:      DefaultGuard(),
	}
}

func (d *Directory) fields() field {
	return keys(fields{
		"name":     scalar(&d.Name, parseName),
		"urls":     atLeastOne(&d.URLs, "LDAP URLs", parseURL),
		"discover": scalar(&d.Discover, orEmpty(parseDiscover)),
		"site":     scalar(&d.Site, orEmpty(parseSite)),
		"domains":  unique(&d.Domains, "domains", parseDomain),
		"stream":   streamOf(&d.Stream),
		"bind": keys(fields{
			"dn":            scalar(&d.Bind.DN, nonEmpty),
			"password_file": scalar(&d.Bind.PasswordFile, parsePath),
			"keytab":        scalar(&d.Bind.Keytab, parseOptionalPath),
			"principal":     scalar(&d.Bind.Principal, orEmpty(parsePrincipal)),
		}),
		"tls": keys(fields{
			"ca_file":     scalar(&d.TLS.CAFile, parseOptionalPath),
			"server_name": scalar(&d.TLS.ServerName, parseServerName),
		}),
		"bases":              bases(&d.Bases),
		"exclude":            bases(&d.Exclude),
		"poll":               duration(&d.Poll, false),
		"full":               duration(&d.Full, false),
		"notify":             onOff(&d.Notify),
		"replication_lag":    duration(&d.ReplicationLag, true),
		"address_attributes": attributes(&d.AddressAttributes),
		"internal_only":      wordFlag(&d.RefuseInternalOnly, "accept", "refuse"),
		"system_mailboxes":   wordFlag(&d.OmitSystemMailboxes, "accept", "omit"),
		"disabled_accounts":  wordFlag(&d.OmitDisabledAccounts, "accept", "omit"),
		"removal_guard": keys(fields{
			"percent": between(&d.RemovalGuard.Percent, 0, 100),
			"count":   integer(&d.RemovalGuard.Count, 0, 1_000_000_000),
			"max":     integer(&d.RemovalGuard.Max, 0, 1_000_000_000),
			"share":   between(&d.RemovalGuard.Share, 0, 100),
			"window":  duration(&d.RemovalGuard.Window, false),
		}),
	}, "name")
}

var nameSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// parseName reads the name of a directory. It is used in keys of the store, in labels of
// metrics and on command lines.
func parseName(text string) (string, error) {
	if !nameSyntax.MatchString(text) {
		return "", fmt.Errorf("expected a name of letters, digits, dots, dashes and underscores, 64 at most, got %s",
			quoted(text))
	}
	return text, nil
}

// parseURL reads the URL of one domain controller and adds the default port. Its errors do
// not contain a password in the URL.
func parseURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("expected a URL such as ldaps://dc1.corp.example; this one cannot be parsed")
	}
	if u.User != nil {
		return "", fmt.Errorf("user and password are not allowed in a URL; use bind")
	}
	ports := map[string]string{"ldaps": "636", "ldap": "389"}
	port, known := ports[u.Scheme]
	if !known || u.Opaque != "" {
		return "", fmt.Errorf("expected a URL such as ldaps://dc1.corp.example, or ldap:// for StartTLS, got %s",
			quoted(text))
	}
	host := u.Hostname()
	if host == "" || strings.ContainsAny(host, " \t%*") {
		return "", fmt.Errorf("expected a host after %s://, got %s", u.Scheme, quoted(text))
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return "", fmt.Errorf("expected nothing after the host and port, got %s; use bases for search bases",
			quoted(text))
	}
	if given := u.Port(); given != "" {
		if n, err := strconv.ParseUint(given, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("expected a port from 1 to 65535, got %s", quoted(given))
		}
		port = given
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(host), port), nil
}

// parseDiscover reads the DNS name of an Active Directory domain.
func parseDiscover(text string) (string, error) {
	domain, err := address.ParseDomain(text)
	if err != nil || strings.HasPrefix(domain, "[") || strings.ContainsAny(domain, "/*%") {
		return "", fmt.Errorf("expected the DNS name of an Active Directory domain such as corp.example, got %s",
			quoted(text))
	}
	return domain, nil
}

// principalSyntax is a rough check of a Kerberos principal.
var principalSyntax = regexp.MustCompile(`^[^@\s]+@[^@/\s]+$`)

func parsePrincipal(text string) (string, error) {
	if !principalSyntax.MatchString(text) {
		return "", fmt.Errorf("expected a Kerberos principal such as svc-mail@CORP.EXAMPLE, got %s", quoted(text))
	}
	return text, nil
}

// siteSyntax is one label of a DNS name, as the name of a site must be.
var siteSyntax = regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}$`)

func parseSite(text string) (string, error) {
	if !siteSyntax.MatchString(text) {
		return "", fmt.Errorf("expected the name of an Active Directory site such as Edge, got %s", quoted(text))
	}
	return text, nil
}

// orEmpty makes an empty text mean the same as a missing key.
func orEmpty(parse func(string) (string, error)) func(string) (string, error) {
	return func(text string) (string, error) {
		if text == "" {
			return "", nil
		}
		return parse(text)
	}
}

var hostSyntax = regexp.MustCompile(`^[A-Za-z0-9._:-]*$`)

// parseServerName reads the host name or IP address expected in a certificate.
func parseServerName(text string) (string, error) {
	if !hostSyntax.MatchString(text) {
		return "", fmt.Errorf("expected a host name such as dc1.corp.example, got %s", quoted(text))
	}
	return strings.ToLower(text), nil
}

// attributeSyntax is RFC 4512 section 2.5, short names only.
var attributeSyntax = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)

// attributes reads names of LDAP attributes, which are case-insensitive.
func attributes(target *[]string) field {
	return func(v value) {
		var folded []string
		atLeastOne(&folded, "attributes", func(text string) (string, error) {
			if !attributeSyntax.MatchString(text) {
				return "", fmt.Errorf("expected the name of an attribute such as proxyAddresses, got %s", quoted(text))
			}
			return strings.ToLower(text), nil
		})(v)
		*target = nil
		for _, n := range v.node.items {
			*target = append(*target, n.source)
		}
	}
}

// baseSyntax is a rough check of a distinguished name (RFC 4514).
var baseSyntax = regexp.MustCompile(`(?i)^(\s*[a-z0-9.-]+\s*=([^,\\]|\\.)+(,|$))+$`)

// splitAtCommas records an unquoted distinguished name that YAML split into items at its commas, and
// reports whether there was one.
func (v value) splitAtCommas() bool {
	items := v.node.items
	for i := 1; i < len(items); i++ {
		if rdn.MatchString(items[i-1].source) && rdn.MatchString(items[i].source) {
			v.failAt(items[i-1].position, "%s: %s and %s are two items; put quotes around a whole distinguished "+
				"name, as in [\"OU=Staff,DC=corp,DC=example\"]", v.path, quoted(items[i-1].source),
				quoted(items[i].source))
			return true
		}
	}
	return false
}

// bases reads distinguished names without duplicates, ignoring case.
func bases(target *[]string) field {
	return func(v value) {
		if v.splitAtCommas() {
			return
		}
		var folded []string
		unique(&folded, "distinguished names", func(text string) (string, error) {
			if !baseSyntax.MatchString(text) || strings.HasSuffix(text, ",") {
				return "", fmt.Errorf("expected a distinguished name such as OU=Staff,DC=corp,DC=example, got %s",
					quoted(text))
			}
			return strings.ToLower(text), nil
		})(v)
		*target = nil
		for _, n := range v.node.items {
			*target = append(*target, n.source)
		}
	}
}
