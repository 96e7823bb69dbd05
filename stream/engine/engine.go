// Package engine runs a NATS server with JetStream inside the daemon, and keeps the list of the hubs
// and edges that may connect to it.
//
// Logs, signals, files and limits of the server are those of the daemon. It accepts connections with
// TLS only, and from enrolled members only. A member may use the subjects of its role, and the server
// rejects everything else.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rcpt-milter/internal/safely"
)

// Config configures an engine.
type Config struct {
	Listen   string   // host:port for hubs and edges
	URLs     []string // "tls://host:port", where hubs and edges reach the engine; the certificate has these hosts; empty means the name of this host
	Dir      string   // the files of the engine; created if missing
	CertFile string   // PEM; empty means a certificate of the authority in Dir
	KeyFile  string   // PEM; required with CertFile
	CAFile   string   // PEM; what hubs and edges verify CertFile with; required with CertFile

	Cluster   *Cluster // nil means a single server
	MaxDisk   int64    // bytes of streams on disk
	MaxMemory int64    // bytes of streams in memory
	Monitor   string   // host:port for the HTTP monitoring of NATS; empty means none

	Log *slog.Logger
	Now func() time.Time // nil means time.Now
}

// Cluster makes an engine one of several nodes.
type Cluster struct {
	Node   string   // the name of this node
	Listen string   // host:port for the other nodes
	Routes []string // "tls://host:port" of all nodes
}

// Status describes a running engine.
type Status struct {
	Listen    string
	URLs      []string
	Node      string    // empty without a cluster
	Peers     int       // connected other nodes
	Leader    string    // of the cluster; empty if there is none, or without a cluster
	Ready     bool      // streams can be read and written
	Streams   int       //
	Disk      int64     // bytes used by streams on disk
	MaxDisk   int64     //
	Memory    int64     // bytes used by streams in memory
	MaxMemory int64     //
	Clients   int       // connected hubs and edges
	Members   int       // enrolled hubs and edges
	Flooding  []string  // names of edges that may not connect for some time, because they sent too much
	Expires   time.Time // the first expiry among the certificates of the server and its authority
	LastError string    // the last error that the server logged
	ErrorAt   time.Time // zero without an error
}

// Engine is a running server.
type Engine struct {
	config    Config
	server    *server.Server
	log       *serverLog
	authority *authority
	members   *members

	stop context.CancelFunc
	wait sync.WaitGroup
}

// ErrUnknown means that no member has this name.
var ErrUnknown = errors.New("not enrolled; \"rcpt-milter edge list\" shows the enrolled ones")

// startTimeout limits the start of the server. It reads its streams meanwhile.
const startTimeout = 2 * time.Minute

// Start starts the server and waits until it accepts connections.
func Start(ctx context.Context, c Config) (*Engine, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := prepareDir(c.Dir); err != nil {
		return nil, err
	}
	if len(c.URLs) == 0 {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("this host has no name: %w; set nats.urls", err)
		}
		_, port, _ := net.SplitHostPort(c.Listen)
		c.URLs = []string{"tls://" + net.JoinHostPort(host, port)}
	}
	e := &Engine{config: c, log: newServerLog(c.Log, c.Now)}
	var err error
	if e.authority, err = openAuthority(c); err != nil {
		return nil, err
	}
	if e.members, err = openMembers(c.Dir, c.Now); err != nil {
		return nil, err
	}
	options, err := e.options()
	if err != nil {
		return nil, err
	}
	if e.server, err = server.NewServer(options); err != nil {
		return nil, fmt.Errorf("cannot start the engine: %w", err)
	}
	e.server.SetLoggerV2(e.log, false, false, false)
	e.members.disconnect = e.server.DisconnectClientByID
	e.members.connected = func(id uint64) bool { return e.server.GetClient(id) != nil }
	e.server.Start()
	if err := e.waitReady(ctx); err != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
		return nil, err
	}
	background, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.wait.Go(func() { e.maintain(background) })
	e.wait.Go(func() { e.limit(background) })
	if c.Cluster != nil {
		e.wait.Go(func() { e.replicate(background) })
	}
	return e, nil
}

// prepareDir creates the directory of the engine. Other accounts cannot read it.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot create the directory of the engine: %w; change nats.dir", err)
	}
	probe, err := os.CreateTemp(dir, ".probe")
	if err != nil {
		return fmt.Errorf("cannot write to the directory of the engine: %w; change its owner or nats.dir", err)
	}
	defer os.Remove(probe.Name())
	return probe.Close()
}

// waitReady waits until the server accepts connections and has read its streams.
func (e *Engine) waitReady(ctx context.Context) error {
	deadline := time.Now().Add(startTimeout)
	for !e.server.ReadyForConnections(50 * time.Millisecond) {
		if err := e.log.fatal(); err != nil {
			return fmt.Errorf("cannot start the engine: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the engine does not accept connections within %s; see the log", startTimeout)
		}
	}
	if err := e.log.fatal(); err != nil {
		return fmt.Errorf("cannot start the engine: %w", err)
	}
	return nil
}

// Shutdown stops the server and waits for its end.
func (e *Engine) Shutdown() {
	e.stop()
	e.wait.Wait()
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

// InProcessConn returns a connection of this process, which needs no credentials.
func (e *Engine) InProcessConn() (net.Conn, error) { return e.server.InProcessConn() }

// Status returns the state of the server.
func (e *Engine) Status() Status {
	s := Status{Listen: e.config.Listen, URLs: e.config.URLs, MaxDisk: e.config.MaxDisk, MaxMemory: e.config.MaxMemory,
		Expires: e.authority.expires(), Peers: e.server.NumRoutes()}
	if e.config.Cluster != nil {
		s.Node = e.config.Cluster.Node
		s.Peers = e.peers()
	}
	s.LastError, s.ErrorAt = e.log.last()
	s.Members, s.Clients = e.members.count()
	s.Flooding = e.members.bans(e.config.Now())
	s.Ready = e.server.JetStreamEnabled() && (e.config.Cluster == nil || e.server.JetStreamIsCurrent())
	if js, err := e.server.Jsz(nil); err == nil && js != nil {
		s.Streams, s.Disk, s.Memory = js.Streams, int64(js.Store), int64(js.Memory)
		if js.Meta != nil {
			s.Leader = js.Meta.Leader
		}
	}
	if e.config.Cluster != nil && s.Leader == "" { // nothing can be created, such as a consumer
		s.Ready = false
	}
	return s
}

// peers returns how many other nodes are connected.
func (e *Engine) peers() int {
	routes, err := e.server.Routez(nil)
	if err != nil {
		return 0
	}
	names := map[string]bool{}
	for _, r := range routes.Routes {
		names[r.RemoteName] = true
	}
	return len(names)
}

// maintenanceInterval is how often certificates and the free space of the disk are checked.
const maintenanceInterval = 10 * time.Second

// maintain renews the certificate of the server, warns of expiry, and starts JetStream again after
// a full disk, until ctx ends.
func (e *Engine) maintain(ctx context.Context) {
	ticker := time.NewTicker(maintenanceInterval)
	defer ticker.Stop()
	for {
		_ = safely.Do(e.config.Log, "maintenance of the engine", func() error { // it logs the error
			e.authority.renew(e.config.Log)
			e.revive()
			return nil
		})
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// revive starts JetStream again if an error of the disk has stopped it.
func (e *Engine) revive() {
	if e.server.JetStreamEnabled() || !e.server.Running() || prepareDir(e.config.Dir) != nil {
		return
	}
	err := e.server.EnableJetStream(&server.JetStreamConfig{StoreDir: e.config.streams(), MaxStore: e.config.MaxDisk,
		MaxMemory: e.config.MaxMemory})
	if err != nil {
		e.config.Log.Warn("cannot restart the streams of the engine", "error", err)
		return
	}
	e.config.Log.Info("streams of the engine restarted")
}
