package directory

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"time"
)

// Resolver looks up SRV records and gives them in the order to try them in (RFC 2782):
// priority, and at random by weight within it. *net.Resolver is one.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, records []*net.SRV, err error)
}

// discoverTimeout bounds all the questions of one Discover.
const discoverTimeout = 15 * time.Second

// Discover asks DNS for the domain controllers of an Active Directory domain, and gives
// their URLs in order of preference: those of the site first, where one is named, the
// others behind them (MS-ADTS 6.3.2.3).
//
// The records name port 389, where a client would have to begin in clear; the URLs are
// for LDAPS on port 636 instead, which every controller with a certificate serves. The
// host in a URL is the target of a record, which the controller's certificate must bear.
// Because an answer of DNS is not to be trusted with a password, targets outside of the
// domain are left out: among them could be a host for which somebody else has a valid
// certificate.
//
// An error and URLs together mean that one of two questions failed: there are more
// controllers than these, or better ones. Errors: ErrUnreachable when DNS does not
// answer, ErrConfig when it knows no controller. A nil resolver is the system's.
func Discover(ctx context.Context, resolver Resolver, domain, site string) ([]string, error) {
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	ctx, cancel := context.WithTimeout(ctx, discoverTimeout)
	defer cancel()
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	f := &discovery{resolver: resolver, domain: domain}
	if site != "" {
		f.query(ctx, site+"._sites.dc._msdcs."+domain+".")
	}
	f.query(ctx, "dc._msdcs."+domain+".")
	if len(f.urls) > 0 || f.err != nil {
		return f.urls, f.err
	}
	if len(f.outside) > 0 {
		return nil, newError(ErrConfig, "DNS names %s as controllers of %s, which are not hosts of that domain; if they are right, list them in urls instead of using discover",
			strings.Join(f.outside, ", "), domain)
	}
	return nil, newError(ErrConfig, "DNS knows no controllers of %s (_ldap._tcp.dc._msdcs.%s); correct discover, or let this host ask a name server of that domain", domain, domain)
}

// discovery collects what the questions yield.
type discovery struct {
	resolver Resolver
	domain   string
	urls     []string
	outside  []string // targets outside of the domain
	err      error    // the first question without an answer
}

// query adds the controllers that one name has records of. That it has none is an answer
// too: a site without controllers, or without a subnet.
func (f *discovery) query(ctx context.Context, name string) {
	_, records, err := f.resolver.LookupSRV(ctx, "ldap", "tcp", name)
	var dns *net.DNSError
	if err != nil && len(records) == 0 && !(errors.As(err, &dns) && dns.IsNotFound) {
		f.err = cmp.Or(f.err, newError(ErrUnreachable, "DNS does not say who the controllers of %s are: %w", f.domain, err))
	}
	for _, record := range records {
		host := strings.ToLower(strings.TrimSuffix(record.Target, "."))
		switch {
		case host == "": // "." is how a name says that it offers no such service
		case host != f.domain && !strings.HasSuffix(host, "."+f.domain):
			f.outside = appendUnique(f.outside, host)
		default:
			f.urls = appendUnique(f.urls, "ldaps://"+net.JoinHostPort(host, "636"))
		}
	}
}

func appendUnique(list []string, one string) []string {
	for _, known := range list {
		if known == one {
			return list
		}
	}
	return append(list, one)
}
