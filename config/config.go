// Package config reads the one YAML file of rcpt-milter, strictly, into an immutable
// snapshot.
//
// Strictly means: an unknown or repeated key, a value of the wrong type, a value that
// makes no sense and two values that contradict each other are errors. Each names
// file, line, column and what was expected, and as many as can be found are reported
// at once. Nothing in the file is ignored.
//
// Parse is pure. Load adds reading the file. CheckFiles looks at the files and the
// group that the configuration names; the commands that only talk to the daemon leave
// it out, because whoever runs them need not be able to read the password.
//
// A Config is never changed after Load or Parse has returned it; all of it may be
// read concurrently. Secrets are not in it: it holds the names of their files.
package config

import (
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"rcpt-milter/address"
)

// DefaultPath is where the file is when nobody says otherwise.
const DefaultPath = "/etc/rcpt-milter/config.yaml"

// maxFile is the most octets of YAML that are read. It is far above any real file,
// and keeps a wrong path (a log, a device) from being taken for one.
const maxFile = 512 << 10

// Config is one valid configuration. Each field tells its key and its default.
type Config struct {
	Listen      []Endpoint     // listen: where Postfix connects; default the unix socket in Postfix's queue directory
	ListenAllow []netip.Prefix // listen_allow: who may connect over TCP; empty: loopback only
	Socket      Socket         // socket: who may connect to the unix sockets of listen
	Control     Endpoint       // control: the unix socket for the commands; default unix:/run/rcpt-milter/control.sock
	Metrics     Endpoint       // metrics: TCP; default inet:127.0.0.1:9417; zero: off
	Page        Page           // page
	Store       Store          // store

	Domains     map[string]Mode // domains: canonical domain, or ".parent" for all its sub-domains; never empty
	Directories []Directory     // directories: never empty, names are unique

	Accept             []string          // accept: canonical addresses, and "@example.com" for all of a domain
	AcceptFiles        []string          // accept_files: paths of tables in Postfix's source format
	AcceptPatterns     []string          // accept_patterns: RE2 that matches whole canonical addresses, in any case
	Refuse             []address.Address // refuse
	DomainAliases      map[string]string // domain_aliases: canonical domains, alias to target; default none
	Inside             Inside            // inside: default no networks
	RecipientDelimiter string            // recipient_delimiter: characters that begin an extension; default none
	Exempt             Exempt            // exempt: default nobody

	AlwaysAccept []string      // always_accept: canonical local parts; default postmaster and abuse
	RemovalGrace time.Duration // removal_grace: how long a removed address gets 450; default 1h, zero: 550 at once
	LateAfter    time.Duration // late_after: age of the last good pass; default 5m
	StaleAfter   time.Duration // stale_after: the same, not below late_after; default 30m
	WhenStale    Treatment     // when_stale: Tempfail (default), Accept or Refuse
	WhenNotReady Treatment     // when_not_ready: Tempfail (default) or Accept

	Canaries Canaries // canaries

	Confirm Confirm // confirm
	Harvest Harvest // harvest

	Limits  Limits  // limits
	Journal Journal // journal
	Log     Log     // log

	warnings []error             // see Warnings
	file     string              // as given to Load or Parse
	at       map[string]position // where each key stands, by its path such as "directories[0].urls"
}

// Socket says who may open the unix sockets of listen.
type Socket struct {
	Group string      // default postfix; empty: the group of the process
	Mode  fs.FileMode // default 0660
}

// Page is the status page on the listener of metrics.
type Page struct {
	Serve PageServe // default Loopback
	Hosts []string  // host names, beside localhost and that of this machine, by which browsers may ask for it
}

// PageServe says where the status page is served.
type PageServe string

// Where it is.
const (
	Loopback PageServe = "loopback" // where metrics listens on loopback only
	Always   PageServe = "always"
	Never    PageServe = "never"
)

// ShowsPage reports whether there is a status page.
func (c *Config) ShowsPage() bool {
	switch c.Page.Serve {
	case Always:
		return true
	case Loopback:
		return !c.Metrics.IsZero() && c.Metrics.Loopback()
	}
	return false
}

// Store is where the index is kept.
type Store struct {
	Dir     string // absolute; default /var/lib/rcpt-milter
	MinFree uint64 // octets that must stay free on its file system; default 256 MiB
	KeyFile string // encryption_key_file: absolute; empty (default): it is not encrypted
}

// Canaries are addresses that tell when something is wrong.
type Canaries struct {
	Accept []address.Address // must never go: losing one holds removals back
	Refuse []address.Address // must never be known: one that is raises an alarm
}

// Confirm is how a directory is asked about a recipient before it is refused as unknown.
type Confirm struct {
	Enabled   bool          // default true; false: the index is believed
	Timeout   time.Duration // for which a recipient waits for the answer; default 300ms, below 10s
	PerSecond float64       // how many recipients are asked about; default 5
}

// Harvest says when the network of a client is taken for one that guesses addresses.
type Harvest struct {
	Unknown  int           // distinct addresses that never existed within Window; default 0: there is no limit
	Ratio    float64       // of these to all distinct recipients, from 0 to 1; default 0.8
	Window   time.Duration // default 1h
	Penalty  time.Duration // for which it is kept off; default 1h
	IPv4     int           // networks.ipv4: length of the prefix of a network, 8 to 32; default 24
	IPv6     int           // networks.ipv6: 16 to 128; default 64
	Tempfail bool          // reply: tempfail, 450; default hangup, 421
	All      bool          // scope: all; known recipients are put off as well; default unknown
}

// Limits bounds what Postfix may use of us.
type Limits struct {
	Connections int           // milter connections at one time; default 2000
	Idle        time.Duration // a connection without a packet for so long is closed; default 2h
}

// Journal is what passes changed.
type Journal struct {
	Keep time.Duration // default 720h, written 30d
}

// Log is how the daemon logs.
type Log struct {
	Format string // text (default) or json
	Level  string // debug, info (default), warn or error

	Syslog        string // the facility of syslog that gets it in place of standard error; empty (default): none
	HashAddresses bool   // addresses: hash; local parts are replaced by a keyed hash
}

// Mode is what happens to a recipient in a domain.
type Mode string

// The modes of a domain.
const (
	Enforce Mode = "enforce" // refuse unknown recipients
	Report  Mode = "report"  // refuse nothing, log what would have been refused
	Pass    Mode = "pass"    // not our business
)

// Treatment is the answer where the index cannot tell.
type Treatment string

// The treatments.
const (
	Tempfail Treatment = "tempfail" // 451
	Accept   Treatment = "accept"   // continue
	Refuse   Treatment = "refuse"   // 550, as if the index could tell
)

// Load reads and checks the file. The error is one or several *Error, joined, or the
// reason why the file could not be read.
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

// Parse checks the text of a configuration file; name stands for it in errors, each
// of which is an *Error. It touches nothing outside its arguments.
func Parse(name string, data []byte) (*Config, error) {
	r := &reader{file: name, at: map[string]position{}, written: map[string]string{}}
	root := r.parse(data)
	if root == nil {
		return nil, r.err()
	}
	c := defaults()
	c.file, c.at = name, r.at
	c.fields()(value{reader: r, node: root})
	r.validate(c)
	if err := r.err(); err != nil {
		return nil, err
	}
	c.warnings = r.warnings
	return c, nil
}

// Warnings lists what in the file is valid and hardly meant, each as an *Error: entries
// of the lists that have no effect.
func (c *Config) Warnings() []error { return c.warnings }

// defaults is the configuration of an empty file, which is not a valid one: domains
// and directories have no default.
func defaults() *Config {
	return &Config{
		Listen:       []Endpoint{{Network: "unix", Address: "/var/spool/postfix/rcpt-milter/milter.sock"}},
		Socket:       Socket{Group: "postfix", Mode: 0o660},
		Control:      Endpoint{Network: "unix", Address: "/run/rcpt-milter/control.sock"},
		Metrics:      Endpoint{Network: "tcp", Address: "127.0.0.1:9417"},
		Page:         Page{Serve: Loopback},
		Store:        Store{Dir: "/var/lib/rcpt-milter", MinFree: 256 << 20},
		Domains:      map[string]Mode{},
		AlwaysAccept: []string{"postmaster", "abuse"},
		RemovalGrace: time.Hour,
		LateAfter:    5 * time.Minute,
		StaleAfter:   30 * time.Minute,
		WhenStale:    Tempfail,
		WhenNotReady: Tempfail,
		Confirm:      Confirm{Enabled: true, Timeout: 300 * time.Millisecond, PerSecond: 5},
		Harvest:      Harvest{Ratio: 0.8, Window: time.Hour, Penalty: time.Hour, IPv4: 24, IPv6: 64},
		Limits:       Limits{Connections: 2000, Idle: 2 * time.Hour},
		Journal:      Journal{Keep: 30 * 24 * time.Hour},
		Log:          Log{Format: "text", Level: "info"},
	}
}
