package stream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// SourceOptions configures a Source.
type SourceOptions struct {
	Timeout time.Duration // limit of a step without progress; 0 means 30 seconds
	Log     *slog.Logger  // required
}

// A page ends with the object that reaches one of these limits. Without the last two, a hostile hub could use up
// the memory of an edge.
const (
	pageSize      = 1000    // objects
	pageAddresses = 50_000  // addresses of all objects
	pageText      = 8 << 20 // bytes of names and addresses of all objects
)

// defaultTimeout is the default of SourceOptions.Timeout.
const defaultTimeout = 30 * time.Second

// A cluster without a leader does not answer at all, also not once it has a leader again. Waiting longer only
// delays the next attempt. These requests can be repeated.
const (
	lookTimeout   = 10 * time.Second // of the requests of one look at the newest state, or of one step of a hub
	answerTimeout = 5 * time.Second  // of the first request of a hub to a stream, which changes nothing
)

// Source presents the stream of one directory as a source to package mirror. Like any source, it is for one
// goroutine; a page function may call Root and Read.
type Source struct {
	client  *Client
	dir     string
	options SourceOptions

	mu     sync.Mutex
	kept   *tail          // positioned at the end of the last read; nil means none
	shown  directory.GUID // generation that the last Root returned; zero means none
	cut    state          // the state at which the last read ended
	closed bool
}

// Hub describes the hub and the last state that it published.
type Hub struct {
	Name       string        // of the hub
	Version    string        // version of the hub's program
	Controller string        // the controller that the hub follows
	Age        time.Duration // age of the hub's last good pass, at the time At
	AgeUnknown bool
	At         time.Time // when the state was read, by the local clock
	Pass       uint64    // number of the hub's last good pass
	Generation directory.GUID
	Sequence   uint64 // of the state
	Digest     store.Digest
	Unreadable int  // messages that cannot be read, such as those of a later version
	TooLarge   int  // objects that do not fit in a message
	Known      bool // whether a state was read
}

// Source returns a source for a directory. It does not wait for the engine.
func (c *Client) Source(directory string, o SourceOptions) (*Source, error) {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	return &Source{client: c, dir: directory, options: o}, nil
}

// Hub returns what the sources of a directory have read last.
func (c *Client) Hub(directory string) Hub {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hubs[directory]
}

func (c *Client) setHub(dir string, change func(*Hub)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hubs[dir]
	change(&h)
	c.hubs[dir] = h
}

// Root returns the generation and the newest state of the stream.
func (s *Source) Root(ctx context.Context) (directory.Root, error) {
	_, v, err := s.look(ctx)
	if err != nil {
		return directory.Root{}, err
	}
	s.client.setHub(s.dir, func(h *Hub) {
		*h = Hub{Name: v.state.Hub, Version: v.state.Version, Controller: v.state.Controller, Age: v.age,
			AgeUnknown: v.state.AgeUnknown, At: time.Now(), Pass: v.state.Pass, Generation: v.state.Generation,
			Sequence: v.state.Sequence, Digest: v.state.Digest, Unreadable: h.Unreadable, TooLarge: h.TooLarge,
			Known: true}
	})
	s.mu.Lock()
	s.shown = v.state.Generation
	s.mu.Unlock()
	return directory.Root{Term: v.state.Term, HighestCommittedUSN: v.state.Sequence, InvocationID: v.state.Generation,
		DNSHostName: streamName(s.dir), Now: v.now, DeletedVisible: true, Age: v.age, LastUSN: v.last}, nil
}

// look reads the newest state of the stream.
func (s *Source) look(ctx context.Context) (session, view, error) {
	ctx, cancel := context.WithTimeout(ctx, min(s.options.Timeout, lookTimeout))
	defer cancel()
	at, err := s.client.session(ctx)
	if err != nil {
		return session{}, view{}, err
	}
	ctx, end := at.within(ctx)
	defer end()
	v, err := look(ctx, at.js, s.dir)
	if err == nil && !v.found {
		err = &kindError{directory.ErrRefused, "no hub has published this directory completely yet", nil}
	}
	return at, v, whyEnded(ctx, err)
}

// Digest returns the digest and the sequence of the state at which the last Read ended.
func (s *Source) Digest() (digest store.Digest, sequence uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut.Digest, s.cut.Sequence, s.cut.Sequence != 0
}

// Watch calls ready as soon as it will not miss a state, and calls changed after each state that followed
// changed objects.
func (s *Source) Watch(ctx context.Context, ready, changed func()) error {
	at, v, err := s.look(ctx)
	if err != nil {
		return err
	}
	ctx, end := at.within(ctx)
	defer end()
	return whyEnded(ctx, s.watch(ctx, at.js, v, ready, changed))
}

func (s *Source) watch(ctx context.Context, js jetstream.JetStream, v view, ready, changed func()) error {
	opening, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	t, err := openLast(opening, js, streamName(s.dir), stateSubject(s.dir))
	if err != nil {
		return err
	}
	defer t.close()
	seen := uint64(0)
	for {
		_, meta, err := t.next(ctx)
		switch {
		case err != nil:
			return err
		case seen == 0:
			ready()
		case meta.Sequence.Stream != seen+1:
			changed()
		}
		if seen = meta.Sequence.Stream; seen < v.state.Sequence {
			return unreachable("the stream was set back", nil)
		}
	}
}

// Close ends the reads of the source. The client stays connected.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.kept.close()
	s.kept = nil
	return nil
}
