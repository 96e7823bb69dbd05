package control

import (
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
)

// KnownHost reports whether the Host of a request names this host: localhost, an IP address, the
// name of this host with the names beside it in /etc/hosts, or one of more, which are in lower
// case. Other names may belong to a foreign page that resolves them to this host to read its
// answers (DNS rebinding).
func KnownHost(host string, more []string) bool {
	name := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = bare
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if name == "" {
		return false
	}
	return name == "localhost" || net.ParseIP(name) != nil || slices.Contains(more, name) ||
		slices.Contains(ownNames(), name)
}

// hostsFile has the full name of this host on most systems, see hostname(1).
const hostsFile = "/etc/hosts"

// ownNames returns the names of this host in lower case.
func ownNames() []string {
	own, err := os.Hostname()
	if err != nil {
		return nil
	}
	own = strings.ToLower(own)
	text, _ := os.ReadFile(hostsFile) // without it there is only one name
	return append(namesBeside(string(text), own), own)
}

// namesBeside returns the names on the lines of a hosts(5) file that have this name.
func namesBeside(hosts, name string) (found []string) {
	for line := range strings.Lines(strings.ToLower(hosts)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) > 1 && slices.Contains(fields[1:], name) {
			found = append(found, fields[1:]...)
		}
	}
	return found
}

// CheckHost rejects requests under a name that KnownHost does not know. It lets requests without
// a Host pass: no browser sends one, but some health checks do. hosts is called for every request.
func CheckHost(hosts func() []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "" && !KnownHost(r.Host, hosts()) {
			RejectHost(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// RejectHost answers a request under a foreign name.
func RejectHost(w http.ResponseWriter) {
	http.Error(w, "this server has another name; if the name in the request is yours, add it to page.hosts in the "+
		"configuration", http.StatusMisdirectedRequest)
}
