package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"rcpt-milter/address"
)

// natsPort is the default port of a NATS server, routePort that of its cluster.
const (
	natsPort  = "4222"
	routePort = "6222"
)

// Publish configures a hub, which publishes its directories.
type Publish struct {
	Stream      Stream   // stream: where it publishes; empty means the engine of this daemon
	Directories []string // directories: names; empty means all that are read from Active Directory
	Names       bool     // names: distinguished names are published too; default false
}

// Publishes reports whether this daemon publishes a directory.
func (c *Config) Publishes(d Directory) bool {
	if c.Publish == nil || d.Stream != nil {
		return false
	}
	if len(c.Publish.Directories) == 0 {
		return true
	}
	for _, name := range c.Publish.Directories {
		if name == d.Name {
			return true
		}
	}
	return false
}

// Stream configures the way to a NATS server with JetStream.
type Stream struct {
	URLs            []string  // urls: "tls://host:port"; empty means the engine of this daemon
	CredentialsFile string    // credentials_file: absolute; an nkey or NATS credentials; empty means none
	TLS             StreamTLS // tls
}

// Embedded reports whether the stream is that of the engine of this daemon.
func (s Stream) Embedded() bool { return len(s.URLs) == 0 }

// StreamTLS configures how the certificate of a NATS server is verified, and that of this daemon.
type StreamTLS struct {
	CAFile     string // absolute, PEM; empty means the system roots
	ServerName string // expected in the certificate; empty means the host of the URL
	CertFile   string // absolute, PEM; empty means that the client has no certificate
	KeyFile    string // absolute, PEM; required with CertFile
}

// NATS configures the embedded NATS server, the engine.
type NATS struct {
	Listen    Endpoint  // listen: TCP; default inet:0.0.0.0:4222
	URLs      []string  // urls: "tls://host:port" where hubs and edges reach it; default the name of this host
	Dir       string    // dir: absolute; default /var/lib/rcpt-milter/nats
	MaxDisk   uint64    // max_disk: bytes; default 10 GiB
	MaxMemory uint64    // max_memory: bytes of streams in memory; default 64 MiB
	Monitor   Endpoint  // monitor: TCP on loopback; zero (default) means none
	TLS       ServerTLS // tls; default certificates of an authority that the engine creates in Dir
	Cluster   *Cluster  // cluster; nil means a single server
}

// ServerTLS has the certificate of the engine.
type ServerTLS struct {
	CertFile string // absolute, PEM; empty means one of the authority in NATS.Dir
	KeyFile  string // absolute, PEM; required with CertFile
	CAFile   string // absolute, PEM: what hubs and edges verify it with; required with CertFile
}

// Cluster joins engines to one that survives the loss of a node.
type Cluster struct {
	Node   string   // node: the name of this node, unique in the cluster; required
	Listen Endpoint // listen: TCP; default inet:0.0.0.0:6222
	Routes []string // routes: "tls://host:port" of all nodes; at least two
}

func defaultNATS() NATS {
	return NATS{
		Listen:    Endpoint{Network: "tcp", Address: "0.0.0.0:" + natsPort},
		Dir:       "/var/lib/rcpt-milter/nats",
		MaxDisk:   10 << 30,
		MaxMemory: 64 << 20,
	}
}

func publish(target **Publish) field {
	return func(v value) {
		p := &Publish{}
		keys(fields{
			"stream":      keys(p.Stream.fields()),
			"directories": atLeastOne(&p.Directories, "directories", parseName),
			"names":       onOff(&p.Names),
		})(v)
		*target = p
	}
}

// streamOf reads the stream of a directory.
func streamOf(target **Stream) field {
	return func(v value) {
		s := &Stream{}
		keys(s.fields())(v)
		*target = s
	}
}

func (s *Stream) fields() fields {
	return fields{
		"urls":             atLeastOne(&s.URLs, "NATS URLs", parseNATSURL(natsPort)),
		"credentials_file": scalar(&s.CredentialsFile, parseOptionalPath),
		"tls": keys(fields{
			"ca_file":     scalar(&s.TLS.CAFile, parseOptionalPath),
			"server_name": scalar(&s.TLS.ServerName, parseServerName),
			"cert_file":   scalar(&s.TLS.CertFile, parseOptionalPath),
			"key_file":    scalar(&s.TLS.KeyFile, parseOptionalPath),
		}),
	}
}

func natsServer(target **NATS) field {
	return func(v value) {
		n := defaultNATS()
		keys(fields{
			"listen":     scalar(&n.Listen, parseInetKey),
			"urls":       atLeastOne(&n.URLs, "NATS URLs", parseNATSURL(natsPort)),
			"dir":        scalar(&n.Dir, parsePath),
			"max_disk":   size(&n.MaxDisk),
			"max_memory": size(&n.MaxMemory),
			"monitor":    orNull(scalar(&n.Monitor, parseMetrics)),
			"tls": keys(fields{
				"cert_file": scalar(&n.TLS.CertFile, parseOptionalPath),
				"key_file":  scalar(&n.TLS.KeyFile, parseOptionalPath),
				"ca_file":   scalar(&n.TLS.CAFile, parseOptionalPath),
			}),
			"cluster": cluster(&n.Cluster),
		})(v)
		*target = &n
	}
}

func cluster(target **Cluster) field {
	return func(v value) {
		c := &Cluster{Listen: Endpoint{Network: "tcp", Address: "0.0.0.0:" + routePort}}
		keys(fields{
			"node":   scalar(&c.Node, parseNode),
			"listen": scalar(&c.Listen, parseInetKey),
			"routes": atLeastOne(&c.Routes, "NATS URLs", parseNATSURL(routePort)),
		}, "node", "routes")(v)
		*target = c
	}
}

var nodeSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)

// parseNode reads the name of a node of a cluster.
func parseNode(text string) (string, error) {
	if !nodeSyntax.MatchString(text) {
		return "", fmt.Errorf("expected a name of letters, digits, dashes and underscores, 32 at most, got %s",
			quoted(text))
	}
	return text, nil
}

// parseInetKey reads inet:host:port.
func parseInetKey(text string) (Endpoint, error) {
	rest, ok := strings.CutPrefix(text, "inet:")
	if !ok {
		return Endpoint{}, fmt.Errorf("expected inet:host:port, got %s", quoted(text))
	}
	return parseInet(rest)
}

// parseNATSURL returns a reader of the URLs of NATS servers. It adds the default port. A URL without
// TLS is allowed for loopback only. Its errors do not contain a password in the URL.
func parseNATSURL(port string) func(string) (string, error) {
	return func(text string) (string, error) {
		u, err := url.Parse(text)
		if err != nil {
			return "", fmt.Errorf("expected a URL such as tls://mx1.example.com:%s", port)
		}
		if u.User != nil {
			return "", fmt.Errorf("user and password are not allowed in a URL; use credentials_file")
		}
		if u.Scheme != "tls" && u.Scheme != "nats" || u.Opaque != "" {
			return "", fmt.Errorf("expected a URL such as tls://mx1.example.com:%s, got %s", port, quoted(text))
		}
		host := strings.ToLower(u.Hostname())
		if !isHost(host) {
			return "", fmt.Errorf("expected a host after %s://, got %s", u.Scheme, quoted(text))
		}
		if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
			return "", fmt.Errorf("expected nothing after the host and port, got %s", quoted(text))
		}
		at := port
		if given := u.Port(); given != "" {
			if n, err := strconv.ParseUint(given, 10, 16); err != nil || n == 0 {
				return "", fmt.Errorf("expected a port from 1 to 65535, got %s", quoted(given))
			}
			at = given
		}
		endpoint := Endpoint{Network: "tcp", Address: net.JoinHostPort(host, at)}
		if u.Scheme == "nats" && !endpoint.Loopback() {
			return "", fmt.Errorf("%s has no TLS, which is for loopback only; use tls://%s", quoted(text),
				endpoint.Address)
		}
		return u.Scheme + "://" + endpoint.Address, nil
	}
}

// isHost reports whether a text is a host name or an IP address.
func isHost(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	domain, err := address.ParseDomain(text)
	return err == nil && domain == text && !strings.ContainsAny(domain, "[/*%")
}
