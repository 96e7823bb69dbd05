package directory

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"time"
)

// Resolver looks up SRV records and returns them in the order to try them (RFC 2782): by
// priority, then at random by weight. *net.Resolver is one.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, records []*net.SRV, err error)
}

// discoverTimeout limits all queries of one Discover.
const discoverTimeout = 15 * time.Second

// Discover queries DNS for the domain controllers of an Active Directory domain. It returns
// their URLs in order of preference: controllers of the site first, if a site is given, then
// all others (MS-ADTS 6.3.2.3).
//
// The records name port 389, where a client would begin in clear. The URLs use LDAPS on port
// 636 instead, which every controller with a certificate serves. The host in a URL is the
// target of a record, and the controller's certificate must match it. A DNS answer must not
// decide where the password goes, so Discover ignores targets outside the domain: an attacker
// could name a host there for which he holds a valid certificate.
//
// An error together with URLs means that one of two queries failed: there may be more
// controllers, or better ones. The error is ErrUnreachable if DNS does not answer, and
// ErrConfig if it has no controller. A nil resolver means the system's.
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
		return nil, newError(ErrConfig, "DNS names %s as controllers of %s, but these hosts are outside that domain; "+
			"if they are right, list them in urls instead of using discover",
			strings.Join(f.outside, ", "), domain)
	}
	return nil, newError(ErrConfig, "DNS has no controllers of %s (_ldap._tcp.dc._msdcs.%s); correct discover, "+
		"or use a name server of that domain", domain, domain)
}

// discovery collects the results of the queries.
type discovery struct {
	resolver Resolver
	domain   string
	urls     []string
	outside  []string // targets outside the domain
	err      error    // of the first query without an answer
}

// query adds the controllers in the SRV records of one name. A name without records is an
// answer too: a site may have no controllers or no subnet.
func (f *discovery) query(ctx context.Context, name string) {
	_, records, err := f.resolver.LookupSRV(ctx, "ldap", "tcp", name)
	var dns *net.DNSError
	if err != nil && len(records) == 0 && !(errors.As(err, &dns) && dns.IsNotFound) {
		f.err = cmp.Or(f.err, newError(ErrUnreachable, "cannot look up the controllers of %s in DNS: %w", f.domain,
			err))
	}
	for _, record := range records {
		host := strings.ToLower(strings.TrimSuffix(record.Target, "."))
		switch {
		case host == "": // "." means that the name offers no such service
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
