package engine

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rcpt-milter/internal/files"
	"rcpt-milter/stream"
)

// clusterName is the cluster name that all clusters of engines use.
const clusterName = stream.EngineName

// Intervals of the server. A silent client is detected after maxPings times pingInterval. After a crash of the
// machine, the streams may lack the messages of the last syncInterval.
const (
	pingInterval = 20 * time.Second
	maxPings     = 2
	syncInterval = 5 * time.Second
	tlsTimeout   = 5 // seconds
)

// streams returns the directory of the streams.
func (c Config) streams() string { return filepath.Join(c.Dir, "streams") }

// connections returns how many connections hubs and edges may have together.
func (c Config) connections() int {
	if c.MaxConnections <= 0 {
		return MaxConnections
	}
	return min(c.MaxConnections, MaxConnections)
}

// options returns the options of the NATS server.
func (e *Engine) options() (*server.Options, error) {
	c := e.config
	host, port, err := splitAddress(c.Listen)
	if err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName: clusterName, Host: host, Port: port,
		NoSigs: true, NoLog: true, DisableJetStreamBanner: true,
		JetStream: true, StoreDir: c.streams(), JetStreamMaxStore: c.MaxDisk, JetStreamMaxMemory: c.MaxMemory,
		SyncInterval: syncInterval, PingInterval: pingInterval, MaxPingsOut: maxPings,
		CustomClientAuthentication: e.members, AlwaysEnableNonce: true,
		TLSTimeout: tlsTimeout, MaxConn: c.connections(), MaxSubs: maxSubscriptions,
		TLSConfig: &tls.Config{MinVersion: files.MinTLSVersion, GetCertificate: e.authority.certificate},
	}
	if c.Monitor != "" {
		if o.HTTPHost, o.HTTPPort, err = splitAddress(c.Monitor); err != nil {
			return nil, err
		}
	}
	if c.Cluster != nil {
		return o, e.clusterOptions(o)
	}
	return o, nil
}

// clusterOptions adds the options of a node to o. Nodes verify each other's certificates.
func (e *Engine) clusterOptions(o *server.Options) error {
	c := e.config.Cluster
	host, port, err := splitAddress(c.Listen)
	if err != nil {
		return err
	}
	for _, route := range c.Routes {
		u, err := url.Parse(route)
		if err != nil {
			return fmt.Errorf("nats.cluster.routes: %w", err)
		}
		o.Routes = append(o.Routes, u)
	}
	roots, err := e.authority.roots()
	if err != nil {
		return err
	}
	o.ServerName = c.Node
	o.CustomRouterAuthentication = routeCheck{o.Routes}
	o.Cluster = server.ClusterOpts{
		Name: clusterName, Host: host, Port: port, NoAdvertise: true, ConnectBackoff: true,
		TLSTimeout: tlsTimeout,
		TLSConfig: &tls.Config{MinVersion: files.MinTLSVersion, GetCertificate: e.authority.certificate,
			GetClientCertificate: e.authority.clientCertificate,
			RootCAs:              roots, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert},
	}
	return nil
}

// routeCheck accepts nodes whose certificate has the host of a configured route. A certificate from an
// authority that also issues others is therefore not sufficient.
type routeCheck struct{ routes []*url.URL }

// Check implements server.Authentication.
func (r routeCheck) Check(c server.ClientAuthentication) bool {
	state := c.GetTLSConnectionState()
	if state == nil || len(state.PeerCertificates) == 0 {
		return false
	}
	for _, route := range r.routes {
		if state.PeerCertificates[0].VerifyHostname(route.Hostname()) == nil {
			return true
		}
	}
	return false
}

func splitAddress(at string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(at)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		return "", 0, fmt.Errorf("%q is not an address of the form host:port", at)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}
