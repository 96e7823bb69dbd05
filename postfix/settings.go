package postfix

import (
	"path"
	"strconv"
	"strings"
	"time"
)

// Settings holds the settings of one Postfix instance, as postconf(1) prints them.
type Settings struct {
	Dir        string            // of main.cf; empty means the default
	Parameters map[string]string // all, with defaults, not expanded: `postconf`
	Set        map[string]bool   // those that main.cf sets: `postconf -n`
	Services   []Service         // of master.cf: `postconf -M` and `postconf -P`
}

// Service is one line of master.cf(5).
type Service struct {
	Name      string // such as smtp, 127.0.0.1:10025
	Type      string // inet, unix, fifo or pass
	Chroot    string // y, n or - for the default
	Processes string // the limit: a number, 0 for none, or - for the default
	Program   string
	Overrides map[string]string // of -o, not expanded
}

// String returns the name that postconf -M and -P take.
func (s Service) String() string { return s.Name + "/" + s.Type }

// ParseSettings reads what postconf prints without options, with -n, -M and -P.
func ParseSettings(all, set, services, overrides string) Settings {
	s := Settings{Parameters: map[string]string{}, Set: map[string]bool{}}
	for name, value := range assignments(all) {
		s.Parameters[name] = value
	}
	for name, value := range assignments(set) {
		s.Parameters[name], s.Set[name] = value, true
	}
	for line := range strings.Lines(services) {
		if f := strings.Fields(line); len(f) >= 8 {
			s.Services = append(s.Services, Service{Name: f[0], Type: f[1], Chroot: f[4], Processes: f[6],
				Program: f[7], Overrides: map[string]string{}})
		}
	}
	for name, value := range assignments(overrides) {
		for _, service := range s.Services {
			if parameter, its := strings.CutPrefix(name, service.String()+"/"); its {
				service.Overrides[parameter] = value
			}
		}
	}
	return s
}

// assignments visits lines of "name = value".
func assignments(text string) func(func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		for line := range strings.Lines(text) {
			name, value, found := strings.Cut(line, "=")
			if name = strings.TrimSpace(name); !found || name == "" || strings.ContainsAny(name, " \t") {
				continue
			}
			if !yield(name, strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// Value returns the expanded parameter of a service. Nil means that of main.cf.
func (s Settings) Value(service *Service, name string) string {
	return expand(s.raw(service, name), func(name string) string { return s.raw(service, name) })
}

func (s Settings) raw(service *Service, name string) string {
	if service != nil {
		if value, overridden := service.Overrides[name]; overridden {
			return value
		}
	}
	return s.Parameters[name]
}

// isSet reports whether a parameter has a value of its own for a service.
func (s Settings) isSet(service *Service, name string) bool {
	if service != nil {
		if _, overridden := service.Overrides[name]; overridden {
			return true
		}
	}
	return s.Set[name]
}

// number parses a parameter as a whole number and reports whether it is one.
func (s Settings) number(service *Service, name string) (int, bool) {
	n, err := strconv.Atoi(s.Value(service, name))
	return n, err == nil
}

// time parses a parameter as a time (postconf(5)), by default in seconds, and reports
// whether it is one.
func (s Settings) time(service *Service, name string) (time.Duration, bool) {
	return parseTime(s.Value(service, name))
}

func parseTime(text string) (time.Duration, bool) {
	digits := strings.TrimRight(text, "smhdw")
	n, err := strconv.Atoi(digits)
	unit, known := map[string]time.Duration{"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour,
		"d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[text[len(digits):]]
	return time.Duration(n) * unit, err == nil && known
}

// chrooted reports whether a service runs in the queue directory.
func (s Settings) chrooted(service *Service) bool {
	if service.Chroot == "-" { // the default was y before compatibility_level 1
		return compareValues(s.Value(nil, "compatibility_level"), "1") < 0
	}
	return service.Chroot == "y"
}

// processes returns the process limit of a service. Zero means no limit.
func (s Settings) processes(service *Service) int {
	text := service.Processes
	if text == "-" {
		text = s.Value(service, "default_process_limit")
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

// queue returns the queue directory.
func (s Settings) queue() string { return path.Clean("/" + s.Value(nil, "queue_directory")) }

// Milter is one entry of smtpd_milters.
type Milter struct {
	Endpoint string            // unix:path or inet:host:port
	Options  map[string]string // in braces
	source   string            // as written
}

// ParseMilters reads the value of smtpd_milters.
func ParseMilters(value string) []Milter {
	var all []Milter
	for _, text := range list(value) {
		m := Milter{Endpoint: text, source: text, Options: map[string]string{}}
		if strings.HasPrefix(text, "{") {
			inner, _ := inBraces(text)
			m.Endpoint = ""
			for i, word := range list(inner) {
				if strings.HasPrefix(word, "{") { // { name = value }
					word, _ = inBraces(word)
				}
				name, option, found := strings.Cut(word, "=")
				if i == 0 {
					m.Endpoint = word
				} else if found {
					m.Options[strings.TrimSpace(name)] = strings.TrimSpace(option)
				}
			}
		}
		if m.Endpoint != "" {
			all = append(all, m)
		}
	}
	return all
}

// split splits an endpoint into its kind and the rest.
func (m Milter) split() (kind, where string) {
	kind, where, found := strings.Cut(m.Endpoint, ":")
	if !found {
		return "", m.Endpoint
	}
	return kind, where
}
