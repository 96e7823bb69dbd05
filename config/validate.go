package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// commandTimeout is the command_timeout that the documentation sets in Postfix. If an answer
// takes longer, Postfix gives up on the milter for the rest of the SMTP session.
const commandTimeout = 10 * time.Second

// validate finds values that contradict each other. It also runs over files with errors, so
// it checks only values that are present.
func (r *reader) validate(c *Config) {
	if c.StaleAfter < c.LateAfter {
		r.failAt(r.first("stale_after", "late_after"), "stale_after (%s) is below late_after (%s)",
			formatDuration(c.StaleAfter), formatDuration(c.LateAfter))
	}
	if c.Confirm.Timeout >= commandTimeout {
		r.failAt(r.at["confirm.timeout"],
			"confirm.timeout: %s is not below %s, the command_timeout of the milter in Postfix",
			formatDuration(c.Confirm.Timeout), formatDuration(commandTimeout))
	}
	r.checkSearches(c)
	if c.Limits.Idle < shortIdle {
		r.warnAt(r.at["limits.idle"], "limits.idle: Postfix sends nothing while it receives a message, so messages "+
			"that take longer than %s are deferred; set it to some hours", formatDuration(c.Limits.Idle))
	}
	r.checkListeners(c, "listen", c.Listen)
	r.checkListeners(c, "listen_socketmap", c.ListenSocketmap)
	for i, l := range c.ListenSocketmap {
		if slices.Contains(c.Listen, l) {
			r.failAt(r.first(fmt.Sprintf("listen_socketmap[%d]", i), "listen_socketmap"),
				"listen_socketmap: %s is also in listen; the two protocols need sockets of their own", l)
		}
	}
	r.checkPage(c)
	r.checkExport(c)
	for i, d := range c.Directories {
		path := fmt.Sprintf("directories[%d]", i)
		if d.Full < d.Poll {
			r.failAt(r.first(path+".full", path+".poll"), "%s.full: full (%s) is below poll (%s)", path,
				formatDuration(d.Full), formatDuration(d.Poll))
		}
		r.checkPoll(c, path, d)
		r.checkCatalogPorts(path, d)
		if _, follows := r.at[path+".stream"]; follows {
			r.checkFollower(c, path, d)
			continue
		}
		r.checkControllers(path, d)
		r.checkPorts(path+".urls", d.URLs)
		r.checkBind(path+".bind", d.Bind)
		r.checkExcludes(path, d)
	}
	for i, a := range c.Canaries.Refuse {
		if slices.Contains(c.Canaries.Accept, a) {
			r.failAt(r.at[fmt.Sprintf("canaries.refuse[%d]", i)],
				"canaries.refuse[%d]: %s is in canaries.accept as well", i, quoted(a.String()))
		}
	}
	r.checkFleet(c)
	r.checkAliases(c)
	r.checkUnownedDomains(c)
	r.checkLists(c)
}

// shortIdle is an idle time of connections that a large message from a slow client may exceed.
const shortIdle = 30 * time.Minute

// checkSearches warns if the searches for one recipient may take too long together. There is one for each form of
// the recipient: with and without its extension and its tag, as written and at each target of a domain alias.
func (r *reader) checkSearches(c *Config) {
	searches := 1
	for alias := range c.DomainAliases {
		targets, _ := c.AliasTargets(alias)
		searches = max(searches, 1+len(targets))
	}
	if c.RecipientDelimiter != "" {
		searches *= 2
	}
	if len(c.StripPrefixes) > 0 {
		searches *= 2
	}
	all := time.Duration(searches) * c.Confirm.Timeout
	if c.Confirm.Enabled && searches > 1 && all >= commandTimeout && c.Confirm.Timeout < commandTimeout {
		r.warnAt(r.first("confirm.timeout", "confirm"), "confirm.timeout: a recipient may take %d searches of %s "+
			"each, because of its extension, its tag or a domain alias. Together that is not below %s, the "+
			"command_timeout of the milter in Postfix; set a shorter timeout",
			searches, formatDuration(c.Confirm.Timeout), formatDuration(commandTimeout))
	}
}

// checkListeners checks the listeners for Postfix of one key.
func (r *reader) checkListeners(c *Config, key string, listeners []Endpoint) {
	for i, l := range listeners {
		at := r.first(fmt.Sprintf("%s[%d]", key, i), key)
		if !l.Loopback() && len(c.ListenAllow) == 0 {
			r.failAt(at, "%s: %s is reachable from other hosts; set listen_allow to the networks that may connect", key,
				l)
		}
		if l == c.Control || l == c.Metrics {
			r.failAt(at, "%s: %s is also the address of control or metrics", key, l)
		}
		if l == c.Page.Listen {
			r.failAt(r.first("page.listen", key), "page.listen: %s is also the address of %s", l, key)
		}
	}
}

// checkExport finds a list that would become its own source: an address in it would never leave.
func (r *reader) checkExport(c *Config) {
	at := r.first("export.file", "export")
	switch file := c.Export.File; {
	case file == "":
	case slices.Contains(c.AcceptFiles, file):
		r.failAt(at, "export.file: %s is also in accept_files, so no recipient would ever leave it; use another file",
			quoted(file))
	case file == c.file:
		r.failAt(at, "export.file: %s is the configuration file; use another file", quoted(file))
	}
}

// checkPage requires that not every account of this host can read the page: over TCP only with a
// token.
func (r *reader) checkPage(c *Config) {
	listen := c.Page.Listen
	at := r.first("page.listen", "page")
	switch {
	case listen.IsZero():
		return
	case listen == c.Control || listen == c.Metrics:
		r.failAt(at, "page.listen: %s is also the address of control or metrics", listen)
	case listen.Network == "unix" && c.Page.Serve == Always:
		r.warnAt(r.first("page.serve"), "page.serve: the page is not on the listener of metrics, but on page.listen "+
			"(%s); to serve it over TCP, set page.listen to inet:host:port, and page.tokens", listen)
	case listen.Network == "unix":
		return
	case c.Page.Tokens == "":
		r.failAt(at, "page.listen: every account of this host can connect to %s; set page.tokens to a file with a "+
			"token, or use a unix socket", listen)
	case !listen.Loopback() && c.Page.Serve == Loopback:
		r.failAt(at, "page.listen: %s is reachable from other hosts; set page.serve to always if that is intended",
			listen)
	}
}

// checkPoll finds directories whose poll interval makes the index late or stale between
// good passes.
func (r *reader) checkPoll(c *Config, path string, d Directory) {
	at := r.first(path+".poll", "stale_after", "late_after")
	switch {
	case d.Poll >= c.StaleAfter:
		r.warnAt(at, "%s.poll: poll (%s) is not below stale_after (%s), so unknown recipients get 451 between passes; "+
			"set stale_after above poll",
			path, formatDuration(d.Poll), formatDuration(c.StaleAfter))
	case d.Poll >= c.LateAfter:
		r.warnAt(at, "%s.poll: poll (%s) is not below late_after (%s), so the directory is late between passes; "+
			"set late_after above poll",
			path, formatDuration(d.Poll), formatDuration(c.LateAfter))
	}
}

// checkCatalogPorts finds urls that mix Global Catalog ports with other ports. A Global
// Catalog returns the whole forest, the other ports one domain.
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
				"%s.urls[%d]: %s is a Global Catalog and %s is not, so unknown recipients get 451 while "+
					"the latter is read; use ports of one kind, or two directories",
				path, i, quoted(at), quoted(other))
			return
		}
	}
}

// checkControllers requires either urls or discover.
func (r *reader) checkControllers(path string, d Directory) {
	_, listed := r.at[path+".urls"]
	at, named := r.at[path+".discover"]
	switch {
	case listed && d.Discover != "":
		r.failAt(at, "%s.discover: urls and discover are mutually exclusive; remove one of them", path)
	case !listed && d.Discover == "" && !(named && r.hasErrorAt(at)):
		r.failAt(r.at[path], "key \"urls\" is missing in %s; list the domain controllers in urls, or set discover to "+
			"the domain to find them in DNS", path)
	}
	if d.Site != "" && d.Discover == "" && !(named && r.hasErrorAt(at)) {
		r.failAt(r.at[path+".site"], "%s.site: site requires discover", path)
	}
}

// checkPorts warns of URLs whose scheme does not match the port. A proxy in front of the
// controller may need such a URL, so it is no error.
func (r *reader) checkPorts(path string, urls []string) {
	for i, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			continue
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		switch port := u.Port(); {
		case u.Scheme == "ldaps" && (port == "389" || port == "3268"):
			r.warnAt(r.at[at], "%s: port %s of a domain controller is LDAP without TLS; "+
				"use ldap:// for StartTLS, or remove the port", at, port)
		case u.Scheme == "ldap" && (port == "636" || port == "3269"):
			r.warnAt(r.at[at], "%s: port %s of a domain controller is LDAP over TLS; "+
				"use ldaps:// instead of ldap://", at, port)
		}
	}
}

// checkBind requires all keys of one bind method and none of the other.
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
		r.failAt(r.first(path+".keytab", path+".principal"), "%s: dn and password_file exclude keytab and principal; "+
			"remove one pair", path)
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

// hasErrorAt reports whether an error was recorded at a position.
func (r *reader) hasErrorAt(at position) bool {
	line, column := at.line, at.column
	return slices.ContainsFunc(r.errs, func(e *Error) bool { return e.Line == line && e.Column == column })
}

// checkUnownedDomains finds domains that no directory may own: all of their recipients would
// be rejected. The recipients of an alias may be known under its target.
func (r *reader) checkUnownedDomains(c *Config) {
	for domain, mode := range c.Domains {
		forms, _ := c.AliasTargets(domain)
		forms = append(forms, domain)
		owned := func(d Directory) bool { return slices.ContainsFunc(forms, d.MayOwn) }
		if mode == Pass || len(c.Directories) == 0 || slices.ContainsFunc(c.Directories, owned) {
			continue
		}
		r.failAt(r.at[fmt.Sprintf("domains[%q]", domain)],
			"domains: no directory owns %q, so all of its recipients would be rejected; "+
				"add it to the domains of a directory, or set it to pass", domain)
	}
}

// MayOwn reports whether the directory may own addresses of a canonical domain: its domains
// name the domain or a parent (".example.org"), or are empty. For ".example.org" it reports
// whether the directory may own addresses of any sub-domain.
func (d *Directory) MayOwn(domain string) bool {
	return len(d.Domains) == 0 || slices.ContainsFunc(d.Domains, func(own string) bool {
		return own == domain ||
			strings.HasPrefix(own, ".") && strings.HasSuffix(domain, own) ||
			strings.HasPrefix(domain, ".") && strings.HasSuffix(own, domain)
	})
}

// first returns the position of the first of the paths that is in the file.
func (r *reader) first(paths ...string) position {
	for _, path := range paths {
		if p, ok := r.at[path]; ok {
			return p
		}
	}
	return position{}
}
