package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/stream/engine"
)

// engineRetry is the interval between attempts to start the engine. Tests change it.
var engineRetry = 5 * time.Second

// engineHost runs the engine of this daemon. If the engine cannot start, for example for lack of disk space,
// the daemon answers without it.
type engineHost struct {
	config *config.NATS
	log    *slog.Logger

	mu     sync.Mutex
	engine *engine.Engine // nil if it is not running
	err    error          // why the engine is not running
}

// errEngineStarting is the reason before the first attempt to start.
var errEngineStarting = errors.New("the engine of this daemon has not started yet")

func newEngineHost(c *config.NATS, log *slog.Logger) *engineHost {
	return &engineHost{config: c, log: log, err: errEngineStarting}
}

// run keeps the engine running until ctx ends. It returns after the engine has stopped.
func (h *engineHost) run(ctx context.Context) error {
	for ctx.Err() == nil {
		e, err := engine.Start(ctx, engineConfig(h.config, h.log))
		if err == nil {
			h.set(e, nil)
			<-ctx.Done()
			h.set(nil, errors.New("the engine of this daemon has stopped"))
			e.Shutdown()
			return nil
		}
		if ctx.Err() == nil {
			h.log.Error("cannot start the engine; trying again", "error", err)
		}
		h.set(nil, err)
		timer := time.NewTimer(engineRetry)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

func (h *engineHost) set(e *engine.Engine, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.engine, h.err = e, err
}

// running returns the engine, or the reason why it is not running.
func (h *engineHost) running() (*engine.Engine, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.engine, h.err
}

// InProcessConn connects to the engine.
func (h *engineHost) InProcessConn() (net.Conn, error) {
	e, err := h.running()
	if e == nil {
		return nil, err
	}
	return e.InProcessConn()
}

// engineConfig converts the configuration of an engine.
func engineConfig(c *config.NATS, log *slog.Logger) engine.Config {
	e := engine.Config{Listen: c.Listen.Address, URLs: c.URLs, Dir: c.Dir, CertFile: c.TLS.CertFile,
		KeyFile: c.TLS.KeyFile, CAFile: c.TLS.CAFile, MaxDisk: int64(c.MaxDisk), MaxMemory: int64(c.MaxMemory),
		MaxConnections: engineBudget(countDescriptors().Limit), Monitor: c.Monitor.Address,
		Log: log.With("part", "engine")}
	if c.Cluster != nil {
		e.Cluster = &engine.Cluster{Node: c.Cluster.Node, Listen: c.Cluster.Listen.Address, Routes: c.Cluster.Routes}
	}
	return e
}

// certificateWarning is how long before its expiry a certificate of the engine, or of a host that connects to
// an engine, raises an alarm.
const certificateWarning = 30 * 24 * time.Hour

// status returns the state of the engine, or nil if none is configured.
func (h *engineHost) status() *control.EngineStatus {
	if h == nil {
		return nil
	}
	e, err := h.running()
	if e == nil {
		return &control.EngineStatus{Listen: h.config.Listen.Address, LastError: errorText(err)}
	}
	s := e.Status()
	out := &control.EngineStatus{Listen: s.Listen, Running: true, Ready: s.Ready, URLs: s.URLs, Node: s.Node,
		Peers: s.Peers, Streams: s.Streams, Disk: s.Disk, MaxDisk: s.MaxDisk, Memory: s.Memory,
		MaxMemory: s.MaxMemory, Clients: s.Clients, Members: s.Members, Flooding: s.Flooding,
		Expires:    control.Time{Time: s.Expires},
		KeyMissing: s.KeyMissing, WriteError: s.WriteError, LastError: s.LastError,
		ErrorAt: control.Time{Time: s.ErrorAt}}
	if c := h.config.Cluster; c != nil {
		out.Nodes = len(c.Routes)
	}
	return out
}
