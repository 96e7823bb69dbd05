package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// commandTimeout is the command_timeout that the documentation has Postfix wait for us.
// What takes longer ends the milter for the rest of the SMTP session.
const commandTimeout = 10 * time.Second

// validate finds values that are right alone and wrong together. It runs over
// a file with errors as well, so it speaks only of values that are there.
func (r *reader) validate(c *Config) {
	if c.StaleAfter < c.LateAfter {
		r.failAt(r.first("stale_after", "late_after"), "stale_after (%s) is below late_after (%s)", formatDuration(c.StaleAfter), formatDuration(c.LateAfter))
	}
	if c.Confirm.Timeout >= commandTimeout {
		r.failAt(r.at["confirm.timeout"], "confirm.timeout: %s is not below %s, which is how long Postfix is told to wait for an answer (command_timeout)",
			formatDuration(c.Confirm.Timeout), formatDuration(commandTimeout))
	}
	for i, l := range c.Listen {
		if !l.Loopback() && len(c.ListenAllow) == 0 {
			r.failAt(r.first(fmt.Sprintf("listen[%d]", i), "listen"),
				"listen: %s can be reached from other hosts, so listen_allow has to name the networks that may connect", l)
		}
		if l == c.Control || l == c.Metrics {
			r.failAt(r.first(fmt.Sprintf("listen[%d]", i), "listen"), "listen: %s is used for something else as well", l)
		}
	}
	for i, d := range c.Directories {
		path := fmt.Sprintf("directories[%d]", i)
		if d.Full < d.Poll {
			r.failAt(r.first(path+".full", path+".poll"), "%s.full: full (%s) is below poll (%s)", path, formatDuration(d.Full), formatDuration(d.Poll))
		}
		r.checkPoll(c, path, d)
		r.checkCatalogPorts(path, d)
		r.checkControllers(path, d)
		r.checkPorts(path+".urls", d.URLs)
		r.checkBind(path+".bind", d.Bind)
		r.checkExcludes(path, d)
	}
	for i, a := range c.Canaries.Refuse {
		if slices.Contains(c.Canaries.Accept, a) {
			r.failAt(r.at[fmt.Sprintf("canaries.refuse[%d]", i)], "canaries.refuse[%d]: %s is in canaries.accept as well", i, quoted(a.String()))
		}
	}
	r.checkAliases(c)
	r.checkUnownedDomains(c)
	r.checkLists(c)
}

// checkPoll finds directories that are read so seldom that the index is late, or even stale,
// while all is well.
func (r *reader) checkPoll(c *Config, path string, d Directory) {
	at := r.first(path+".poll", "stale_after", "late_after")
	switch {
	case d.Poll >= c.StaleAfter:
		r.warnAt(at, "%s.poll: poll (%s) is not below stale_after (%s), so unknown recipients get 451 part of the time though "+
			"all is well; set stale_after above poll",
			path, formatDuration(d.Poll), formatDuration(c.StaleAfter))
	case d.Poll >= c.LateAfter:
		r.warnAt(at, "%s.poll: poll (%s) is not below late_after (%s), so status says late part of the time though "+
			"all is well; set late_after above poll",
			path, formatDuration(d.Poll), formatDuration(c.LateAfter))
	}
}

// checkCatalogPorts finds urls of both kinds. A Global Catalog shows the whole forest and the other
// ports one domain, which says nothing about the recipients of the others.
func (r *reader) checkCatalogPorts(path string, d Directory) {
	catalog := func(at string) bool {
		u, err := url.Parse(at)
		return err == nil && (u.Port() == "3268" || u.Port() == "3269")
	}
	for i, at := range d.URLs {
		if other := d.URLs[0]; catalog(at) != catalog(other) {
			if catalog(other) {
				at, other = other, at
			}
			r.warnAt(r.at[fmt.Sprintf("%s.urls[%d]", path, i)],
				"%s.urls[%d]: %s leads to a Global Catalog and %s does not, so unknown recipients get 451 while "+
					"the latter is read; use ports of one kind, or two directories",
				path, i, quoted(at), quoted(other))
			return
		}
	}
}

// checkControllers finds whether a directory says in one way, and only one, where its domain
// controllers are.
func (r *reader) checkControllers(path string, d Directory) {
	_, listed := r.at[path+".urls"]
	at, named := r.at[path+".discover"]
	switch {
	case listed && d.Discover != "":
		r.failAt(at, "%s.discover: the domain controllers are listed in urls already; leave out one of the two", path)
	case !listed && d.Discover == "" && !(named && r.hasErrorAt(at)):
		r.failAt(r.at[path], "key \"urls\" is missing in %s; list the domain controllers in it, or name the domain to find them in DNS in \"discover\"", path)
	}
	if d.Site != "" && d.Discover == "" && !(named && r.hasErrorAt(at)) {
		r.failAt(r.at[path+".site"], "%s.site: a site is of use only together with discover", path)
	}
}

// checkPorts warns of URLs whose scheme is that of another port. It may be right where something
// in front of the controller translates.
func (r *reader) checkPorts(path string, urls []string) {
	for i, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			continue
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		switch port := u.Port(); {
		case u.Scheme == "ldaps" && (port == "389" || port == "3268"):
			r.warnAt(r.at[at], "%s: domain controllers speak LDAP without TLS on port %s; "+
				"write ldap:// for StartTLS there, or leave out the port", at, port)
		case u.Scheme == "ldap" && (port == "636" || port == "3269"):
			r.warnAt(r.at[at], "%s: domain controllers speak TLS from the beginning on port %s; "+
				"write ldaps:// instead of ldap://", at, port)
		}
	}
}

// checkBind finds whether there is all that one way to bind takes, and nothing of another.
func (r *reader) checkBind(path string, b Bind) {
	if at, there := r.at[path]; !there || r.hasErrorAt(at) {
		return
	}
	given := func(key, value string) bool {
		at, named := r.at[path+"."+key]
		return named && (value != "" || r.hasErrorAt(at))
	}
	missing := func(key string) { r.failAt(r.at[path], "key %q is missing%s", key, inside(path)) }
	password := []bool{given("dn", b.DN), given("password_file", b.PasswordFile)}
	kerberos := []bool{given("keytab", b.Keytab), given("principal", b.Principal)}
	switch {
	case (password[0] || password[1]) && (kerberos[0] || kerberos[1]):
		r.failAt(r.first(path+".keytab", path+".principal"), "%s: expected dn and password_file, or keytab and principal, got some of both", path)
	case kerberos[0] && !kerberos[1]:
		missing("principal")
	case !kerberos[0] && kerberos[1]:
		missing("keytab")
	case !kerberos[0]:
		if !password[0] {
			missing("dn")
		}
		if !password[1] {
			missing("password_file")
		}
	}
}

// hasErrorAt reports whether something is wrong with the value at a place.
func (r *reader) hasErrorAt(at position) bool {
	line, column := at.line, at.column
	return slices.ContainsFunc(r.errs, func(e *Error) bool { return e.Line == line && e.Column == column })
}

// checkUnownedDomains finds domains of which no directory knows anything: every recipient in
// them would be refused. The recipients of an alias may be known under its target.
func (r *reader) checkUnownedDomains(c *Config) {
	for domain, mode := range c.Domains {
		forms, _ := c.AliasTargets(domain)
		forms = append(forms, domain)
		owned := func(d Directory) bool { return slices.ContainsFunc(forms, d.MayOwn) }
		if mode == Pass || len(c.Directories) == 0 || slices.ContainsFunc(c.Directories, owned) {
			continue
		}
		r.failAt(r.at[fmt.Sprintf("domains[%q]", domain)],
			"domains: no directory owns %q, so every recipient in it would be refused; add it to the domains of a directory, or set it to pass", domain)
	}
}

// MayOwn reports whether addresses in the canonical domain may be this directory's:
// its domains name it, or a parent of it with a dot in front, or are empty. A domain
// with a dot in front stands for all of its sub-domains, any of which will do.
func (d *Directory) MayOwn(domain string) bool {
	return len(d.Domains) == 0 || slices.ContainsFunc(d.Domains, func(own string) bool {
		return own == domain ||
			strings.HasPrefix(own, ".") && strings.HasSuffix(domain, own) ||
			strings.HasPrefix(domain, ".") && strings.HasSuffix(own, domain)
	})
}

// first is the place of the first of the paths that stands in the file.
func (r *reader) first(paths ...string) position {
	for _, path := range paths {
		if p, ok := r.at[path]; ok {
			return p
		}
	}
	return position{}
}
