// Package engine runs a NATS server with JetStream inside the daemon, and keeps the list of the hubs and edges
// that may connect to it.
//
// The server uses the logs, signals, files and limits of the daemon. It accepts connections only over TLS and
// only from enrolled members. A member may use the subjects of its role; the server rejects all others.
package engine

import (
	"cmp"
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
	Listen string // host:port that hubs and edges connect to
	// URLs are "tls://host:port", at which hubs and edges reach the engine. The certificate has their hosts.
	// Empty means the name of this host.
	URLs     []string
	Dir      string // directory for the files of the engine; created if missing
	CertFile string // PEM; empty means a certificate of the engine's own authority
	KeyFile  string // PEM; required with CertFile
	CAFile   string // PEM certificates to verify CertFile with; required with CertFile

	Cluster   *Cluster // nil means a single server
	MaxDisk   int64    // limit of the streams on disk, in bytes
	MaxMemory int64    // limit of the streams in memory, in bytes
	// MaxConnections limits the connections of hubs and edges. 0 means 10,000, which is also the maximum.
	MaxConnections int
	Monitor        string // host:port of the HTTP monitoring of NATS; empty means none

	Log *slog.Logger
	Now func() time.Time // nil means time.Now
}

// Cluster makes an engine a node of a cluster.
type Cluster struct {
	Node   string   // name of this node
	Listen string   // host:port that other nodes connect to
	Routes []string // "tls://host:port" of each node
}

// Status describes a running engine.
type Status struct {
	Listen    string
	URLs      []string
	Node      string    // empty without a cluster
	Peers     int       // number of other nodes that are connected
	Leader    string    // leader of the cluster; empty if there is none
	Ready     bool      // streams can be read and written
	Streams   int       //
	Disk      int64     // bytes used by streams on disk
	MaxDisk   int64     //
	Memory    int64     // bytes used by streams in memory
	MaxMemory int64     //
	Clients   int       // connected hubs and edges
	Members   int       // enrolled hubs and edges
	Flooding  []string  // names of edges that are banned because they sent too much
	Expires   time.Time // earliest expiry among the server certificate and its authority
	// KeyMissing reports that the engine's own authority has no file ca.key, so certificates cannot be renewed.
	KeyMissing bool
	// WriteError is why a stream takes no messages, for example because the disk is full. The engine restarts its
	// streams once it can write again. Empty means no error.
	WriteError string
	LastError  string    // last error that the server logged
	ErrorAt    time.Time // zero means no error
}

// Engine is a running NATS server.
type Engine struct {
	config    Config
	server    *server.Server
	log       *serverLog
	authority *authority
	members   *members
	reviving  sync.Mutex    // guards the fields below
	restarted time.Time     // when the streams were last restarted; zero means never
	pause     time.Duration // from then until the next restart

	denying    sync.Mutex    // held while the denied requests change
	provideNow chan struct{} // capacity 1
	stop       context.CancelFunc
	wait       sync.WaitGroup
}

// ErrUnknown reports that no member has the given name.
var ErrUnknown = errors.New("not enrolled; \"rcpt-milter edge list\" shows the enrolled ones")

// startTimeout limits the start of the server, which includes reading its streams.
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
	e := &Engine{config: c, log: newServerLog(c.Log, c.Now), provideNow: make(chan struct{}, 1)}
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
	e.members.changed = e.wakeProvide
	e.members.connected = func(id uint64) bool { return e.server.GetClient(id) != nil }
	e.server.Start()
	denied := e.deny()
	if err := cmp.Or(e.waitReady(ctx), denied); err != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
		return nil, err
	}
	background, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.wait.Go(func() { e.maintain(background) })
	e.wait.Go(func() { e.limit(background) })
	e.wait.Go(func() { e.provide(background) })
	if c.Cluster != nil {
		e.wait.Go(func() { e.replicate(background) })
	}
	return e, nil
}

// prepareDir creates the directory of the engine, readable only by the account of the daemon.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot create the directory of the engine: %w; change nats.dir", err)
	}
	if err := probe(dir, 0); err != nil {
		return fmt.Errorf("cannot write to the directory of the engine: %w; change its owner or nats.dir", err)
	}
	return nil
}

// probe writes a temporary file of a size in bytes to disk.
func probe(dir string, size int) error {
	f, err := os.CreateTemp(dir, ".probe")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if size > 0 {
		if _, err = f.Write(make([]byte, size)); err == nil {
			err = f.Sync()
		}
	}
	return errors.Join(err, f.Close())
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

// Shutdown stops the server and waits until it has stopped.
func (e *Engine) Shutdown() {
	e.stop()
	e.wait.Wait()
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

// InProcessConn returns a connection within this process. It needs no credentials.
func (e *Engine) InProcessConn() (net.Conn, error) { return e.server.InProcessConn() }

// Status returns the current state of the server.
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
	s.KeyMissing = e.authority.isKeyMissing()
	s.WriteError = e.log.writeError()
	s.Ready = s.WriteError == "" && e.server.JetStreamEnabled() &&
		(e.config.Cluster == nil || e.server.JetStreamIsCurrent())
	if js, err := e.server.Jsz(nil); err == nil && js != nil {
		s.Streams, s.Disk, s.Memory = js.Streams, int64(js.Store), int64(js.Memory)
		if js.Meta != nil {
			s.Leader = js.Meta.Leader
		}
	}
	if e.config.Cluster != nil && s.Leader == "" { // without a leader, streams and consumers cannot be created
		s.Ready = false
	}
	return s
}

// peers returns the number of other nodes that are connected.
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

// maintenanceInterval is the interval between checks of the certificates and of JetStream.
const maintenanceInterval = 10 * time.Second

// maintain renews the server certificate, warns about expiry, and restarts JetStream after a disk error, until
// ctx ends.
func (e *Engine) maintain(ctx context.Context) {
	ticker := time.NewTicker(maintenanceInterval)
	defer ticker.Stop()
	for {
		_ = safely.Do(e.config.Log, "maintenance of the engine", func() error { // Do logs the error
			e.authority.renew(e.config.Log)
			e.reloadRoots()
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

// reloadRoots makes the server verify other nodes with authority certificates that were replaced. Connections
// between nodes stay. Members are not verified by certificates.
func (e *Engine) reloadRoots() {
	if !e.authority.takeReplaced() || e.config.Cluster == nil {
		return
	}
	options, err := e.options()
	if err == nil {
		err = e.reload(options)
	}
	if err != nil {
		e.config.Log.Warn("nats.tls.ca_file has changed, but nodes cannot be verified with it; restart the daemon",
			"error", err)
		return
	}
	e.config.Log.Info("nats.tls.ca_file has changed; nodes are verified with it")
}

// reload applies options to the running server.
func (e *Engine) reload(options *server.Options) error {
	return cmp.Or(e.server.ReloadOptions(options), e.deny())
}

// restartInterval and maxRestartInterval limit the pause between restarts of the streams. It doubles while restarts
// do not help: each interrupts the edges that read, and the library keeps some goroutines of each until the end of
// the process.
const (
	restartInterval    = time.Minute
	maxRestartInterval = 15 * time.Minute
)

// probeSize is how many bytes the engine must be able to write before it restarts its streams.
const probeSize = 1 << 20

// revive restarts JetStream if a disk error has stopped it, or if a stream takes no messages because of a write
// error. The server stops JetStream for some errors only; after the others, such as a full disk of a single
// server, each stream rejects all messages until it is opened again.
func (e *Engine) revive() {
	e.reviving.Lock()
	defer e.reviving.Unlock()
	enabled, problem := e.server.JetStreamEnabled(), e.log.writeError()
	now := e.config.Now()
	switch {
	case enabled && problem == "":
		if now.Sub(e.restarted) > 2*e.pause {
			e.pause = 0 // the last restart helped
		}
		return
	case !e.server.Running(), now.Sub(e.restarted) < e.pause:
		return
	case probe(e.config.Dir, probeSize) != nil:
		return
	}
	e.restarted, e.pause = now, min(max(2*e.pause, restartInterval), maxRestartInterval)
	if enabled {
		if err := e.server.ShutdownJetStream(); err != nil {
			e.config.Log.Warn("cannot stop the streams of the engine", "error", err)
			return
		}
	}
	e.log.forgetWriteError()
	err := e.server.EnableJetStream(&server.JetStreamConfig{StoreDir: e.config.streams(), MaxStore: e.config.MaxDisk,
		MaxMemory: e.config.MaxMemory, SyncInterval: syncInterval, Strict: true}) // Strict as in a start, see denied
	if err != nil {
		e.config.Log.Warn("cannot restart the streams of the engine", "error", err)
		return
	}
	e.config.Log.Info("streams of the engine restarted", "because", problem)
	e.wakeProvide()
}
