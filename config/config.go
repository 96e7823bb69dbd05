// Package config reads the YAML file of rcpt-milter into an immutable snapshot.
//
// The reader is strict. Unknown keys, duplicate keys, wrong types, invalid values and
// contradictions between values are errors. Each error has the file, the line, the column
// and what was expected. All errors are reported at once.
//
// [Parse] is pure. [Load] also reads the file. [Config.CheckFiles] checks the files and the
// group that the configuration names. Commands that only talk to the daemon do not call it,
// because their user may not be allowed to read the password.
//
// A [Config] does not change after Load or Parse has returned it and may be read
// concurrently. It contains the names of the files with secrets, not the secrets.
package config

import (
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/policy"
)

// DefaultPath is the default path of the file.
const DefaultPath = "/etc/rcpt-milter/config.yaml"

// maxFile limits the size of the file in bytes. It is far above any real file and rejects
// a wrong path, such as a log or a device.
const maxFile = 512 << 10

// Config is a valid configuration. The comment of each field has its key and its default.
type Config struct {
	Listen      []Endpoint     // listen: where Postfix connects; default the unix socket in Postfix's queue directory
	ListenAllow []netip.Prefix // listen_allow: networks that may connect over TCP; empty means loopback only
	Socket      Socket         // socket: permissions of the unix sockets of listen and listen_socketmap
	Control     Endpoint       // control: the unix socket for the commands; default unix:/run/rcpt-milter/control.sock
	Metrics     Endpoint       // metrics: TCP; default inet:127.0.0.1:9417; zero means off
	Page        Page           // page

	ListenSocketmap []Endpoint // listen_socketmap: where Postfix looks recipients up; default none

	Store Store // store

	Domains     map[string]Mode // domains: canonical domain, or ".parent" for all its sub-domains; never empty
	Directories []Directory     // directories: names are unique; empty only with accept files

	Publish *Publish // publish: nil means that this daemon is no hub
	NATS    *NATS    // nats: nil means that this daemon has no engine

	Accept             []string          // accept: canonical addresses, and "@example.com" for all of a domain
	AcceptFiles        []string          // accept_files: paths of tables in Postfix's source format
	AcceptFilesMaxAge  time.Duration     // accept_files_max_age: age from which a file is stale; default 0: never
	AcceptPatterns     []string          // accept_patterns: RE2 that matches whole canonical addresses, in any case
	Refuse             []address.Address // refuse
	DomainAliases      map[string]string // domain_aliases: canonical domains, alias to target; default none
	Inside             Inside            // inside: default no networks
	RecipientDelimiter string            // recipient_delimiter: characters that begin an extension; default none
	StripPrefixes      []string          // strip_prefixes: in lower case, with the "=" at the end; default none
	Exempt             Exempt            // exempt: default none
	NAT64              []netip.Prefix    // nat64: prefixes of translators; default 64:ff9b::/96; empty: none

	AlwaysAccept []string      // always_accept: canonical local parts; default postmaster and abuse
	RemovalGrace time.Duration // removal_grace: how long a removed address gets 450; default 1h, zero: 550 at once
	LateAfter    time.Duration // late_after: age of the last good pass; default 5m
	StaleAfter   time.Duration // stale_after: the same, not below late_after; default 30m
	WhenStale    Fallback      // when_stale: Tempfail (default), Accept or Refuse
	WhenNotReady Fallback      // when_not_ready: Tempfail (default) or Accept

	Canaries Canaries // canaries

	Export Export // export

	Confirm Confirm // confirm
	Harvest Harvest // harvest

	Limits  Limits  // limits
	Journal Journal // journal
	Log     Log     // log

	warnings []error             // see Warnings
	file     string              // as given to Load or Parse
	at       map[string]position // where each key stands, by its path such as "directories[0].urls"
}

// Socket configures the permissions of the unix sockets of listen.
type Socket struct {
	Group string      // default postfix; empty means that of the process
	Mode  fs.FileMode // default 0660
}

// Page is the status page.
type Page struct {
	Listen Endpoint  // unix or TCP; default page.sock beside the socket of control; zero means off
	Serve  PageServe // default Loopback
	Tokens string    // absolute path of a file with tokens; empty (default) means none; required with TCP
	Hosts  []string  // allowed host names, in addition to localhost and the name of this host; for metrics too
}

// PageServe selects when the status page is served.
type PageServe string

// The values of page.serve.
const (
	Loopback PageServe = "loopback" // on a unix socket or on loopback only
	Always   PageServe = "always"
	Never    PageServe = "never"
)

// ShowsPage reports whether the status page is served.
func (c *Config) ShowsPage() bool {
	switch c.Page.Serve {
	case Always:
		return !c.Page.Listen.IsZero()
	case Loopback:
		return !c.Page.Listen.IsZero() && c.Page.Listen.Loopback()
	}
	return false
}

// pageSocket is the name of the socket of the page, beside that of control.
const pageSocket = "page.sock"

// pageBeside returns the default of page.listen. A path that is too long means that the page is
// off.
func pageBeside(control Endpoint) Endpoint {
	path := filepath.Join(filepath.Dir(control.Address), pageSocket)
	if len(path) > maxSocketPath {
		return Endpoint{}
	}
	return Endpoint{Network: "unix", Address: path}
}

// Export is the file with the list of recipients that the daemon keeps current.
type Export struct {
	File    string        // absolute; empty (default) means none
	Format  string        // postmap (default), text or json
	Command []string      // runs after each change of the file, without a shell; default none
	Every   time.Duration // between two looks for changes; default 5m
	Timeout time.Duration // of the command; default 1m
}

// Store configures the index on disk.
type Store struct {
	Dir     string // absolute; default /var/lib/rcpt-milter
	MinFree uint64 // bytes that must stay free on its file system; default 256 MiB
	KeyFile string // encryption_key_file: absolute; empty (default) means no encryption
	Rebuild StoreRebuild
}

// StoreRebuild says what happens to a damaged store.
type StoreRebuild string

const (
	RebuildAuto  StoreRebuild = "auto"  // it is set aside, and a full pass builds a new one; default
	RebuildNever StoreRebuild = "never" // it stays where it is
)

// Canaries are addresses that reveal a faulty pass.
type Canaries struct {
	Accept []address.Address // must never be removed: the loss of one holds removals back
	Refuse []address.Address // must never be known: a known one raises an alarm
}

// Confirm configures the search in the directory before a recipient is rejected as unknown.
type Confirm struct {
	Enabled   bool          // default true
	Timeout   time.Duration // per recipient; default 300ms, below 10s
	PerSecond float64       // searches per second; default 5
}

// Harvest limits clients that guess addresses, by network.
type Harvest struct {
	Mode     Mode          // Enforce or Report; default Report without the key harvest, Enforce with it
	Unknown  int           // distinct rejected addresses within Window; default 20; zero means no limit
	Ratio    float64       // of these to all distinct recipients, from 0 to 1; default 0.8
	Window   time.Duration // default 1h
	Penalty  time.Duration // how long the network is deferred; default 1h
	IPv4     int           // networks.ipv4: length of the prefix of a network, 8 to 32; default 24
	IPv6     int           // networks.ipv6: 16 to 128; default 64
	IPv6Site int           // networks.ipv6_site: of a site, which has a budget too; default 48; zero means none
	Tempfail bool          // reply: tempfail, 450; default hangup, 421
	All      bool          // scope: all; known recipients are deferred as well; default unknown
}

// Limits bounds the connections of Postfix.
type Limits struct {
	Connections int           // concurrent milter connections; default 2000
	Idle        time.Duration // idle connections are closed after this time; default 2h
}

// Journal configures the journal of changes.
type Journal struct {
	Keep time.Duration // default 720h, written 30d
}

// Log configures the log of the daemon.
type Log struct {
	Format string // text (default) or json
	Level  string // debug, info (default), warn or error

	Syslog        string // syslog facility; empty (default) means standard error
	HashAddresses bool   // addresses: hash; log a keyed hash instead of the local part
}

// Mode says what happens to the recipients in a domain.
type Mode = policy.Mode

// The modes of a domain.
const (
	Enforce = policy.ModeEnforce
	Report  = policy.ModeReport
	Pass    = policy.ModePass
)

// Fallback is the reply if the index cannot be trusted.
type Fallback = policy.Fallback

// The values of when_stale and when_not_ready.
const (
	Tempfail = policy.FallbackTempfail
	Accept   = policy.FallbackAccept
	Refuse   = policy.FallbackRefuse
)

// Load reads and checks the file. The error is one or several *Error, joined, or the error
// of reading the file.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse checks the text of a configuration file. Errors are *Error, joined, with this name
// of the file.
func Parse(name string, data []byte) (*Config, error) {
	r := &reader{file: name, at: map[string]position{}, written: map[string]string{}}
	root := r.parse(data)
	if root == nil {
		return nil, r.err()
	}
	c := defaults()
	c.file, c.at = name, r.at
	c.fields()(value{reader: r, node: root})
	if _, set := r.at["page.listen"]; !set {
		c.Page.Listen = pageBeside(c.Control)
	}
	r.validate(c)
	if err := r.err(); err != nil {
		return nil, err
	}
	c.warnings = r.warnings
	return c, nil
}

// Has reports whether the file has a key at the top, perhaps with the default as its value.
func (c *Config) Has(key string) bool {
	_, ok := c.at[key]
	return ok
}

// Warnings returns suspicious but valid configuration, each as an *Error.
func (c *Config) Warnings() []error { return c.warnings }

// defaults returns the defaults of all keys. Domains and directories have none, so it is not
// a valid configuration.
func defaults() *Config {
	return &Config{
		Listen:  []Endpoint{{Network: "unix", Address: "/var/spool/postfix/rcpt-milter/milter.sock"}},
		Socket:  Socket{Group: "postfix", Mode: 0o660},
		Control: Endpoint{Network: "unix", Address: "/run/rcpt-milter/control.sock"},
		Metrics: Endpoint{Network: "tcp", Address: "127.0.0.1:9417"},
		Page: Page{Serve: Loopback,
			Listen: Endpoint{Network: "unix", Address: "/run/rcpt-milter/" + pageSocket}},
		Store:        Store{Dir: "/var/lib/rcpt-milter", MinFree: 256 << 20, Rebuild: RebuildAuto},
		Domains:      map[string]Mode{},
		AlwaysAccept: []string{"postmaster", "abuse"},
		RemovalGrace: time.Hour,
		LateAfter:    5 * time.Minute,
		StaleAfter:   30 * time.Minute,
		WhenStale:    Tempfail,
		WhenNotReady: Tempfail,
		Export:       Export{Format: "postmap", Every: 5 * time.Minute, Timeout: time.Minute},
		Confirm:      Confirm{Enabled: true, Timeout: 300 * time.Millisecond, PerSecond: 5},
		NAT64:        []netip.Prefix{policy.WellKnownNAT64},
		Harvest: Harvest{Mode: Report, Unknown: 20, Ratio: 0.8, Window: time.Hour, Penalty: time.Hour, IPv4: 24,
			IPv6: 64, IPv6Site: 48},
		Limits:  Limits{Connections: 2000, Idle: 2 * time.Hour},
		Journal: Journal{Keep: 30 * 24 * time.Hour},
		Log:     Log{Format: "text", Level: "info"},
	}
}
