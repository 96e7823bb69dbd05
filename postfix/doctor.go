package postfix

import (
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/internal/text"
)

// Level is the severity of a finding.
type Level string

// The levels.
const (
	Problem Level = "problem" // mail is or will be lost, or accepted for unknown recipients
	Note    Level = "note"    // worth knowing; may be intended
)

// Finding is one thing that is wrong between Postfix and the daemon.
type Finding struct {
	Name  string   `json:"name"` // constant
	Level Level    `json:"level"`
	What  string   `json:"what"` // a sentence
	Why   string   `json:"why"`  // why it matters
	Fix   []string `json:"fix"`  // commands, and lines of the configuration
}

// Daemon describes the daemon and its configuration for Examine.
type Daemon struct {
	Listen              []string            // "unix:/path" or "inet:host:port"
	Domains             map[string]string   // mode by canonical domain or ".parent"
	Empty               []string            // enforced domains, or ".parent", without a known address
	EmptyReply          string              // what their recipients get; empty if it is not known
	AlwaysAccept        []string            // local parts
	Aliases             map[string][]string // targets by canonical domain
	Connections         int                 // limits.connections
	ExemptAuthenticated bool
	ReplyTimeout        time.Duration // the longest configured time of an answer
	State               string        // of the directories, as in status; empty if the daemon does not answer
	Unknown             string        // what unknown recipients get in this state; empty if the index can tell
	// accept files that are stale, each with the reason, the effect and the remedy
	StaleFiles   []string
	Store        string            // store_state, as in status
	Rejected     string            // why the configuration in place was rejected; empty if it was not
	Restart      []string          // keys with new values that need a restart
	Modes        map[string]string // as Domains, of the configuration in effect; nil if it is not known
	Possible     int               // connections that the daemon serves at once; 0 if it is not known
	Started      time.Time         // zero if it is not known
	Trouble      string            // why the daemon does not answer
	Alarms       []string          // as in status
	Socketmap    []string          // as Listen, of the socketmap
	Export       string            // the file that the daemon exports; empty means none
	Delimiter    string            // recipient_delimiter
	DelimiterSet bool              // the configuration has recipient_delimiter, perhaps as ""
}

// Judgement is the answer of the daemon about an address.
type Judgement struct {
	Accepted bool // as in mode enforce
	Owned    bool // an object in a directory has it
}

// ErrCannotList is the error of a Host for a table that has look-ups but no list, such as
// pcre or ldap.
var ErrCannotList = errors.New("a table of this type cannot be listed")

// Host is the host of Postfix, with a daemon that answers look-ups.
type Host interface {
	// Keys visits the entries of a lookup table, "type:name", or the words of a file,
	// "/path". The error wraps ErrCannotList if that is impossible.
	Keys(table string, visit func(key, value string)) error
	// Has reports whether a lookup table has a key.
	Has(table, key string) (bool, error)
	// Socket examines a path, for a user of this host.
	Socket(path, user string) Socket
	// Judge asks the daemon about addresses and returns one answer for each.
	Judge([]address.Address) ([]Judgement, error)
	// Denied returns the newest denial by SELinux of a connection of smtpd to a unix socket of the
	// daemon; the zero value means that none is known.
	Denied() Denial
	// Resolve follows symbolic links, as far as the path exists.
	Resolve(path string) string
}

// Socket is the state of a socket.
type Socket struct {
	Exists   bool
	IsSocket bool
	Writable bool   // by the user
	Obstacle string // why it is not writable
	Answers  bool   // it accepts connections
}

// Examine runs all checks. It changes nothing.
func Examine(s Settings, d Daemon, h Host) []Finding {
	e := &examination{Settings: s, daemon: d, host: h}
	e.listeners = e.findListeners()
	for _, check := range []func(){
		e.checkDaemon, e.checkAsked, e.checkElsewhere, e.checkSockets, e.checkActions, e.checkTimeouts, e.checkProtocol,
		e.checkConnections,
		e.checkRelayed, e.checkServed, e.checkEmpty, e.checkOldTable, e.checkHostTables, e.checkDelimiter,
		e.checkProbing,
		e.checkDenied,
		e.checkMaps, e.checkProbe, e.checkRoles, e.checkSoftBounce, e.checkErrorLimits, e.checkInstances,
	} {
		check()
	}
	return e.findings
}

// examination is one run of Examine.
type examination struct {
	Settings
	daemon    Daemon
	host      Host
	listeners []listener
	findings  []Finding
}

func (e *examination) find(name string, level Level, what, why string, fix ...string) {
	e.findings = append(e.findings, Finding{name, level, what, why, append([]string{}, fix...)})
}

// role is the purpose of a listener.
type role int

const (
	outside     role = iota // accepts mail from anywhere
	submission              // accepts mail from users
	reinjection             // accepts mail back from a content filter
)

// listener is one smtpd service.
type listener struct {
	*Service
	role  role
	all   []Milter // all milters
	ours  []Milter // those of the daemon
	stray []Milter // meant for the daemon, at a wrong address
	maps  bool     // smtpd_milter_maps names the daemon for some clients
}

// findListeners returns every smtpd of master.cf.
func (e *examination) findListeners() []listener {
	var all []listener
	for i := range e.Services {
		s := &e.Services[i]
		if path.Base(s.Program) != "smtpd" {
			continue
		}
		l := listener{Service: s, role: e.roleOf(s)}
		if !slices.Contains(list(e.Value(s, "receive_override_options")), "no_milters") {
			l.all = ParseMilters(e.Value(s, "smtpd_milters"))
			l.maps = e.mapsNameUs(s)
		}
		for _, m := range l.all {
			if e.isOurs(s, m) {
				l.ours = append(l.ours, m)
			} else if e.isStray(m) {
				l.stray = append(l.stray, m)
			}
		}
		all = append(all, l)
	}
	return all
}

// roleOf returns the role of a listener by its usual names and ports, and by its settings.
func (e *examination) roleOf(s *Service) role {
	host, port := "", s.Name
	if i := strings.LastIndexByte(s.Name, ':'); i >= 0 {
		host, port = strings.Trim(s.Name[:i], "[]"), s.Name[i+1:]
	}
	if slices.Contains([]string{"submission", "submissions", "smtps", "587", "465"}, port) ||
		e.Value(s, "smtpd_tls_wrappermode") == "yes" {
		return submission
	}
	if e.Value(s, "smtpd_upstream_proxy_protocol") != "" { // clients come through a proxy on this host
		return outside
	}
	loopback := host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
	filter, overridden := s.Overrides["content_filter"]
	if s.Type == "inet" && loopback && port != "smtp" && port != "25" || overridden && filter == "" &&
		e.Value(nil, "content_filter") != "" {
		return reinjection
	}
	return outside
}

// seenAs returns the path on this host of a unix socket of a service, which runs in the queue
// directory, chrooted or not.
func (e *examination) seenAs(s *Service, socket string) string {
	if path.IsAbs(socket) && !e.chrooted(s) {
		return path.Clean(socket)
	}
	return path.Join(e.queue(), socket)
}

// isOurs reports whether a milter of a service is the daemon.
func (e *examination) isOurs(s *Service, m Milter) bool {
	return e.reaches(s, m.Endpoint, e.daemon.Listen)
}

// reaches reports whether an endpoint, as a service sees it, is one of the listeners.
func (e *examination) reaches(s *Service, endpoint string, listeners []string) bool {
	kind, where := Milter{Endpoint: endpoint}.split()
	for _, own := range listeners {
		ownKind, at, _ := strings.Cut(own, ":")
		switch {
		case kind == "unix" && ownKind == "unix":
			if seen := e.seenAs(s, where); seen == path.Clean(at) || e.host.Resolve(seen) == e.host.Resolve(at) {
				return true
			}
		case kind == "inet" && ownKind == "inet":
			if samePort(where, at) {
				return true
			}
		}
	}
	return false
}

// samePort compares two "host:port"; the second may be any address. It does not resolve
// names, because two filters on one host do not share a port.
func samePort(theirs, own string) bool {
	host, port := hostPort(theirs)
	ownHost, ownPort := hostPort(own)
	if port != ownPort {
		return false
	}
	numeric := strings.Trim(host, "0123456789abcdef.:") == ""
	return host == ownHost || !numeric || ownHost == "" || ownHost == "0.0.0.0" || ownHost == "::" ||
		!strings.ContainsAny(ownHost, "0123456789:")
}

func hostPort(text string) (host, port string) {
	i := strings.LastIndexByte(text, ':')
	return strings.Trim(text[:max(i, 0)], "[]"), text[i+1:]
}

// isStray reports whether a milter was meant to be the daemon: by its name, or by the path
// of the socket in another directory.
func (e *examination) isStray(m Milter) bool {
	kind, where := m.split()
	if kind != "unix" {
		return false
	}
	if strings.Contains(where, "rcpt-milter") {
		return true
	}
	return slices.ContainsFunc(e.daemon.Listen, func(own string) bool {
		at, unix := strings.CutPrefix(own, "unix:")
		return unix && strings.HasSuffix(path.Clean(at), path.Clean("/"+where))
	})
}

// mapsNameUs reports whether smtpd_milter_maps sends some clients to the daemon.
func (e *examination) mapsNameUs(s *Service) bool {
	found := false
	for _, table := range list(e.Value(s, "smtpd_milter_maps")) {
		e.host.Keys(table, func(_, value string) {
			for _, m := range ParseMilters(value) {
				found = found || e.isOurs(s, m)
			}
		})
	}
	return found
}

// endpoint returns the endpoint of the daemon for smtpd_milters. It is empty if a chrooted
// smtpd cannot reach the daemon.
func (e *examination) endpoint() string {
	chrooted := slices.ContainsFunc(e.listeners, func(l listener) bool {
		return l.role == outside &&
			e.chrooted(l.Service)
	})
	other := ""
	for _, own := range e.daemon.Listen {
		kind, at, _ := strings.Cut(own, ":")
		if inside, within := strings.CutPrefix(path.Clean(at), e.queue()+"/"); kind == "unix" && within {
			return "unix:" + inside
		}
		switch {
		case other != "" || kind == "unix" && chrooted:
		case kind == "inet":
			host, port := hostPort(at)
			if host == "0.0.0.0" || host == "::" || host == "" {
				at = "127.0.0.1:" + port
			}
			other = "inet:" + at
		default:
			other = own
		}
	}
	return other
}

// entry returns the recommended entry for smtpd_milters.
func (e *examination) entry(endpoint string) string {
	return "{ " + endpoint + ", connect_timeout=5s, command_timeout=10s, default_action=tempfail }"
}

// postconf returns the command that sets a parameter of main.cf or of a service.
func (e *examination) postconf(option, assignment string) string {
	command := "postconf "
	if e.Dir != "" {
		command += "-c " + text.ShellQuoted(e.Dir) + " "
	}
	return command + option + " " + text.ShellQuoted(assignment)
}

// set returns the command that sets a parameter in main.cf.
func (e *examination) set(name, value string) string {
	return e.postconf("-e", strings.TrimSpace(name+" = "+value))
}

// setFor returns the command that sets a parameter of a listener where it has its value: in master.cf or in
// main.cf. postconf -P accepts no value with white space.
func (e *examination) setFor(l listener, name, value string) string {
	if _, overridden := l.Overrides[name]; overridden {
		return e.postconf("-P", l.String()+"/"+name+"="+value)
	}
	return e.set(name, value)
}

// names formats listeners for a sentence.
func names(all []listener) string {
	var words []string
	for _, l := range all {
		words = append(words, l.String())
	}
	return text.List(words, len(words))
}

// those returns the listeners that match.
func (e *examination) those(is func(listener) bool) []listener {
	var found []listener
	for _, l := range e.listeners {
		if is(l) {
			found = append(found, l)
		}
	}
	return found
}
