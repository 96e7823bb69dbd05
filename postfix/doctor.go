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

// Level says how much a finding matters.
type Level string

// The levels.
const (
	Fault Level = "fault" // mail is lost, or accepted for nobody, or will be
	Note  Level = "note"  // worth knowing; it may be as it should
)

// Finding is one thing that is not as it should be between Postfix and the daemon.
type Finding struct {
	Name  string   `json:"name"` // a constant word
	Level Level    `json:"level"`
	What  string   `json:"what"` // a sentence
	Why   string   `json:"why"`  // why it matters
	Mend  []string `json:"mend"` // commands, and lines of our configuration
}

// Daemon is what Examine has to know of the daemon and its configuration.
type Daemon struct {
	Listen              []string            // "unix:/path" or "inet:host:port"
	Domains             map[string]string   // canonical domain, or ".parent", and mode
	Empty               []string            // enforced domains, or ".parent", of which it knows no address
	AlwaysAccept        []string            // local parts
	Aliases             map[string][]string // canonical domains, and those that each is an alias of
	Connections         int                 // limits.connections
	ExemptAuthenticated bool
	Patience            time.Duration // the longest that an answer may take by configuration
	State               string        // as status has it; empty: it does not answer
	Trouble             string        // why it does not answer
}

// Judgement is what the daemon thinks of an address.
type Judgement struct {
	Accepted bool // by enforcement, also where the mode is report
	Owned    bool // somebody in a directory has it
}

// ErrCannotList is what a World says of a table that can be asked only, such as pcre or
// ldap.
var ErrCannotList = errors.New("a table of this type cannot be listed")

// World is where Postfix runs, and the daemon that can be asked.
type World interface {
	// Keys visits the entries of a lookup table, "type:name", or the words of a file,
	// "/path". The error wraps ErrCannotList where that is impossible.
	Keys(table string, visit func(key, value string)) error
	// Has asks a lookup table for one key.
	Has(table, key string) (bool, error)
	// Socket says what is at a path, for a user of this host.
	Socket(path, user string) Socket
	// Judge asks the daemon about addresses, one answer for each.
	Judge([]address.Address) ([]Judgement, error)
	// Resolve follows symbolic links, as far as the path exists.
	Resolve(path string) string
}

// Socket is what is at a path.
type Socket struct {
	Exists   bool
	IsSocket bool
	Writable bool   // by the user
	Obstacle string // why it is not writable, in words
	Answers  bool   // somebody takes connections
}

// Examine finds what is wrong. It changes nothing.
func Examine(s Settings, d Daemon, w World) []Finding {
	e := &examination{Settings: s, daemon: d, world: w}
	e.listeners = e.findListeners()
	for _, check := range []func(){
		e.checkDaemon, e.checkAsked, e.checkElsewhere, e.checkSockets, e.checkActions, e.checkTimeouts, e.checkProtocol, e.checkConnections,
		e.checkRelayed, e.checkServed, e.checkEmpty, e.checkOldTable,
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
	world     World
	listeners []listener
	findings  []Finding
}

func (e *examination) find(name string, level Level, what, why string, mend ...string) {
	e.findings = append(e.findings, Finding{name, level, what, why, append([]string{}, mend...)})
}

// role is what a listener is for.
type role int

const (
	outside     role = iota // takes mail from anywhere
	submission              // takes mail from users
	reinjection             // takes mail back from a content filter
)

// listener is one smtpd service.
type listener struct {
	*Service
	role  role
	all   []Milter // that it asks
	ours  []Milter // among them, as they should be
	stray []Milter // meant to be ours, and at a place where we are not
	maps  bool     // smtpd_milter_maps names us for some clients
}

// findListeners looks at every smtpd of master.cf.
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

// roleOf tells listeners apart by what distributions and manuals call them, and by what
// makes them what they are.
func (e *examination) roleOf(s *Service) role {
	host, port := "", s.Name
	if i := strings.LastIndexByte(s.Name, ':'); i >= 0 {
		host, port = strings.Trim(s.Name[:i], "[]"), s.Name[i+1:]
	}
	if slices.Contains([]string{"submission", "submissions", "smtps", "587", "465"}, port) || e.Value(s, "smtpd_tls_wrappermode") == "yes" {
		return submission
	}
	loopback := host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
	filter, overridden := s.Overrides["content_filter"]
	if s.Type == "inet" && loopback && port != "smtp" && port != "25" || overridden && filter == "" && e.Value(nil, "content_filter") != "" {
		return reinjection
	}
	return outside
}

// seenAs is the path of a unix socket on this host, as a service sees it: it runs in the
// queue directory, and chrooted there is nothing above it.
func (e *examination) seenAs(s *Service, socket string) string {
	if path.IsAbs(socket) && !e.chrooted(s) {
		return path.Clean(socket)
	}
	return path.Join(e.queue(), socket)
}

// isOurs reports whether a milter of a service is the daemon.
func (e *examination) isOurs(s *Service, m Milter) bool {
	kind, where := m.split()
	for _, own := range e.daemon.Listen {
		ownKind, at, _ := strings.Cut(own, ":")
		switch {
		case kind == "unix" && ownKind == "unix":
			if seen := e.seenAs(s, where); seen == path.Clean(at) || e.world.Resolve(seen) == e.world.Resolve(at) {
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

// samePort compares two "host:port" of which the second may be any address. What a name
// stands for is not looked up: on one host two filters do not share a port.
func samePort(theirs, own string) bool {
	host, port := hostPort(theirs)
	ownHost, ownPort := hostPort(own)
	if port != ownPort {
		return false
	}
	numeric := strings.Trim(host, "0123456789abcdef.:") == ""
	return host == ownHost || !numeric || ownHost == "" || ownHost == "0.0.0.0" || ownHost == "::" || !strings.ContainsAny(ownHost, "0123456789:")
}

func hostPort(text string) (host, port string) {
	i := strings.LastIndexByte(text, ':')
	return strings.Trim(text[:max(i, 0)], "[]"), text[i+1:]
}

// isStray reports whether a milter was meant to be the daemon: it has our name, or our
// path in another place.
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
		e.world.Keys(table, func(_, value string) {
			for _, m := range ParseMilters(value) {
				found = found || e.isOurs(s, m)
			}
		})
	}
	return found
}

// endpoint is how smtpd_milters names us best; empty: from a chroot we cannot be reached.
func (e *examination) endpoint() string {
	chrooted := slices.ContainsFunc(e.listeners, func(l listener) bool { return l.role == outside && e.chrooted(l.Service) })
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

// entry is how smtpd_milters should name us.
func (e *examination) entry(endpoint string) string {
	return "{ " + endpoint + ", connect_timeout=5s, command_timeout=10s, default_action=tempfail }"
}

// postconf is a command that sets a parameter, of main.cf or of a service.
func (e *examination) postconf(option, assignment string) string {
	command := "postconf "
	if e.Dir != "" {
		command += "-c " + shellQuoted(e.Dir) + " "
	}
	return command + option + " " + shellQuoted(assignment)
}

// set is the command that sets a parameter in main.cf.
func (e *examination) set(name, value string) string {
	return e.postconf("-e", strings.TrimSpace(name+" = "+value))
}

// shellQuoted is a word as a shell takes it for one.
func shellQuoted(text string) string {
	if text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@") == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// names lists listeners for a sentence.
func names(all []listener) string {
	var words []string
	for _, l := range all {
		words = append(words, l.String())
	}
	return text.List(words, len(words))
}

// those are the listeners of a kind.
func (e *examination) those(is func(listener) bool) []listener {
	var found []listener
	for _, l := range e.listeners {
		if is(l) {
			found = append(found, l)
		}
	}
	return found
}
