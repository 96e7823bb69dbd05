package config

import (
	"fmt"
	"slices"
)

// hubKeys are the keys of a directory that concern reading Active Directory. A directory with a
// stream leaves them to its hub.
var hubKeys = []string{"urls", "discover", "site", "bind", "tls", "bases", "exclude", "notify", "address_attributes",
	"internal_only", "system_mailboxes", "disabled_accounts"}

// checkFollower requires that a directory with a stream has no key of a directory with controllers.
func (r *reader) checkFollower(c *Config, path string, d Directory) {
	for _, key := range hubKeys {
		if at, set := r.at[path+"."+key]; set {
			r.failAt(at, "%s.%s: %s and stream are mutually exclusive; set %s at the hub", path, key, key, key)
		}
	}
	r.checkStream(c, path+".stream", *d.Stream)
}

// checkStream requires a way to an engine.
func (r *reader) checkStream(c *Config, path string, s Stream) {
	at := r.first(path)
	if r.hasErrorAt(at) {
		return
	}
	if _, named := r.at[path+".urls"]; s.Embedded() && !named && c.NATS == nil {
		r.failAt(at, "key \"urls\" is missing in %s; list the NATS servers, or set nats for an engine of this daemon",
			path)
	}
	r.checkPair(path+".tls", s.TLS.CertFile, s.TLS.KeyFile)
}

// checkPair requires a key for a certificate, and a certificate for a key.
func (r *reader) checkPair(path, cert, key string) {
	if (cert == "") != (key == "") {
		r.failAt(r.first(path), "%s: cert_file and key_file require each other; set both, or none", path)
	}
}

// checkFleet checks publish, nats, and a daemon without directories.
func (r *reader) checkFleet(c *Config) {
	if c.Publish != nil {
		if _, set := r.at["publish.stream"]; set {
			r.checkStream(c, "publish.stream", c.Publish.Stream)
		} else if c.NATS == nil {
			r.failAt(r.first("publish"), "key \"stream\" is missing in publish; set it, or nats for an engine of "+
				"this daemon")
		}
		r.checkPublished(c)
	}
	if n := c.NATS; n != nil {
		r.checkPair("nats.tls", n.TLS.CertFile, n.TLS.KeyFile)
		if n.TLS.CertFile != "" && n.TLS.CAFile == "" {
			r.failAt(r.first("nats.tls"), "nats.tls: cert_file requires ca_file, which hubs and edges verify it with")
		}
		if !n.Monitor.IsZero() && !n.Monitor.Loopback() {
			r.failAt(r.first("nats.monitor"), "nats.monitor: %s is reachable from other hosts, and has no access "+
				"control; use loopback", n.Monitor)
		}
		if n.Cluster != nil && len(n.Cluster.Routes) == 1 {
			r.failAt(r.first("nats.cluster.routes"), "nats.cluster.routes: expected all nodes, got one; a cluster "+
				"has three")
		}
	}
	r.checkWithoutDirectory(c)
}

// checkWithoutDirectory checks a daemon without directories: it needs accept files for the domains
// that it judges, or only runs an engine.
func (r *reader) checkWithoutDirectory(c *Config) {
	if at, set := r.at["accept_files_max_age"]; set && c.AcceptFilesMaxAge > 0 && len(c.AcceptFiles) == 0 {
		r.warnAt(at, "accept_files_max_age: has no effect without accept_files")
	}
	at, listed := r.at["directories"]
	if len(c.Directories) > 0 || !listed || r.hasErrorAt(at) {
		return
	}
	if c.Publish != nil {
		r.failAt(r.first("publish"), "publish: there is no directory to publish")
	}
	if _, given := r.at["accept_files[0]"]; given { // maybe with an error of its own
		return
	}
	if c.NATS == nil {
		r.failAt(at, "directories: expected at least one directory, or accept_files for a host without one")
		return
	}
	for domain, mode := range c.Domains {
		if mode != Pass {
			r.failAt(r.at[fmt.Sprintf("domains[%q]", domain)], "domains: neither a directory nor accept_files has the "+
				"recipients of %q; add one of them, or set it to pass", domain)
		}
	}
}

// checkPublished requires that the published directories are read from Active Directory here.
func (r *reader) checkPublished(c *Config) {
	for i, name := range c.Publish.Directories {
		own := slices.ContainsFunc(c.Directories, func(d Directory) bool { return d.Name == name && d.Stream == nil })
		if !own {
			path := fmt.Sprintf("publish.directories[%d]", i)
			r.failAt(r.at[path], "%s: %s is not a directory with controllers in this file", path, quoted(name))
		}
	}
}
