package mirror

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/policy"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// forAnswer limits how long a test waits for an event. A test that passes never waits that long.
const forAnswer = 20 * time.Second

// messageLog sends the messages of a log to a channel.
type messageLog struct{ lines chan string }

func (h messageLog) Enabled(context.Context, slog.Level) bool { return true }
func (h messageLog) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h messageLog) WithGroup(string) slog.Handler            { return h }

func (h messageLog) Handle(_ context.Context, r slog.Record) error {
	select {
	case h.lines <- r.Message:
	default:
	}
	return nil
}

// confirming is a world with two controllers and a Confirmer. The mirror follows the first
// controller.
type confirming struct {
	*world
	*Confirmer
	d2     *adsim.Directory
	second *adsim.Server
	log    messageLog
}

// newConfirming returns a world whose second controller has objects that the first one
// lacks. change may alter the configurations before anything runs.
func newConfirming(t *testing.T, change func(*confirming, *Config, *ConfirmConfig)) *confirming {
	t.Helper()
	c := &confirming{log: messageLog{make(chan string, 1000)}}
	config := ConfirmConfig{Timeout: forAnswer, PerSecond: 1000}
	c.world = newWorld(t, func(w *world, m *Config) {
		c.world = w
		w.user("Ann", "ann@corp.example")
		c.d2 = w.d.NewReplica("dc2", 50_000)
		c.second = adsim.StartTest(t, c.d2, adsim.ServerConfig{MaxPageSize: 3})
		m.Candidates = append(m.Candidates, w.candidate(c.second))
		m.Log = slog.New(c.log)
		config.Now = m.Now
		if change != nil {
			change(c, m, &config)
		}
	})
	c.pass(store.Full)
	if len(config.Directories) == 0 {
		config.Directories = []ConfirmDirectory{{Mirror: c.mirror}}
	}
	var err error
	c.Confirmer, err = NewConfirmer(config)
	c.must(err)
	for _, a := range c.workers {
		a.failures = newBackoff(100 * time.Millisecond) // shorter, to save time
	}
	return c
}

// start runs the Confirmer and waits until it is connected.
func (c *confirming) start() {
	c.t.Helper()
	c.begin()
	c.await(canConfirm)
}

func (c *confirming) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Confirmer.Run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("Run: %v", err)
		}
	})
}

// await waits for a message in the log.
func (c *confirming) await(message string) {
	c.t.Helper()
	late := time.After(forAnswer)
	for {
		select {
		case line := <-c.log.lines:
			if line == message {
				return
			}
		case <-late:
			c.t.Fatalf("no %q in the log", message)
		}
	}
}

// new adds an object to the second controller only.
func (c *confirming) new(kind adsim.Kind, dn string, attrs adsim.Attrs) adsim.GUID {
	c.t.Helper()
	guid, err := c.d2.Add(kind, dn, attrs)
	c.must(err)
	return guid
}

func (c *confirming) newUser(name string, addresses ...string) adsim.GUID {
	c.t.Helper()
	return c.new(adsim.User, "CN="+name+","+people, adsim.Attrs{"proxyAddresses": addresses})
}

func (c *confirming) ask(text string) (policy.Entry, error) {
	c.t.Helper()
	a, err := address.Parse(text)
	c.must(err)
	return c.Confirm(c.t.Context(), a, false)
}

func (c *confirming) want(text string, want policy.Entry) {
	c.t.Helper()
	if got, err := c.ask(text); err != nil || got != want {
		c.t.Errorf("Confirm(%q) = %+v, %v, want %+v", text, got, err, want)
	}
}

func (c *confirming) wantError(text string, want error) {
	c.t.Helper()
	if got, err := c.ask(text); !errors.Is(err, want) || got != (policy.Entry{}) {
		c.t.Errorf("Confirm(%q) = %+v, %v, want %v", text, got, err, want)
	}
}

// watch counts the searches for an address at a server. It replaces the faults of the server.
func watch(s *adsim.Server, f adsim.Faults) *atomic.Int64 {
	var n atomic.Int64
	f.BeforePage = func(search adsim.Search) {
		if search.Scope == 2 && strings.Contains(search.Filter, "=smtp:") {
			n.Add(1)
		}
	}
	s.SetFaults(f)
	return &n
}

const (
	canConfirm    = "recipients can be confirmed"
	cannotConfirm = "recipients cannot be confirmed, using the index alone"
)
