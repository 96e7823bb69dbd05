package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"rcpt-milter/internal/safely"
)

// EdgeReport is what an edge reports about itself after a pass.
type EdgeReport struct {
	Name       string        `json:"name"`
	Version    string        `json:"version"`
	State      string        `json:"state"` // fresh, late, stale or not_ready
	Generation string        `json:"generation"`
	Sequence   uint64        `json:"sequence"` // of the last state that the edge has applied
	DigestOK   bool          `json:"digest_ok"`
	Held       int           `json:"held"` // addresses whose removal the guard of the edge holds
	Addresses  uint64        `json:"addresses"`
	Lag        time.Duration `json:"lag"`   // from publication of the state at the hub to its effect at the edge
	Error      string        `json:"error"` // error of the last pass; empty means none
	Age        time.Duration `json:"age"`   // age of this report, set by the reader
}

// maxEdges limits the number of reports that Edges reads.
const maxEdges = 10_000

// edgesTimeout limits Edges, because a cluster without a leader does not answer. edgesRequests is the number of
// reports that Edges requests at the same time.
const (
	edgesTimeout  = 15 * time.Second
	edgesRequests = 32
)

// Edges returns the latest report of each edge of a directory, sorted by name. It omits reports that cannot be
// read.
func (c *Client) Edges(ctx context.Context, directory string) ([]EdgeReport, error) {
	ctx, cancel := context.WithTimeout(ctx, edgesTimeout)
	defer cancel()
	at, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	ctx, end := at.within(ctx)
	defer end()
	s, err := at.js.Stream(ctx, edgesStream)
	if err != nil {
		return nil, explain(err)
	}
	prefix := edgeSubject(directory, "")
	subjects, err := s.Info(ctx, subjectsOf(prefix+"*"))
	if err != nil {
		return nil, explain(err)
	}
	names := slices.Collect(maps.Keys(subjects.State.Subjects))
	names = names[:min(len(names), maxEdges)]
	reports := make(chan EdgeReport, len(names))
	readers, ctx := errgroup.WithContext(ctx)
	readers.SetLimit(edgesRequests)
	for _, subject := range names {
		readers.Go(func() error {
			return safely.Do(c.config.Log, "report of an edge", func() error {
				m, err := s.GetLastMsgForSubject(ctx, subject)
				if errors.Is(err, jetstream.ErrMsgNotFound) { // it expired meanwhile
					return nil
				}
				if err != nil {
					return explain(err)
				}
				if r, ok := readReport(strings.TrimPrefix(subject, prefix), m.Data); ok {
					r.Age = max(subjects.TimeStamp.Sub(m.Time), 0)
					reports <- r
				}
				return nil
			})
		})
	}
	if err := readers.Wait(); err != nil {
		return nil, err
	}
	close(reports)
	var all []EdgeReport
	for r := range reports {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b EdgeReport) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// readReport reads the report that an edge published under its token.
func readReport(name string, data []byte) (r EdgeReport, ok bool) {
	ok = decode(data, &r) == nil && r.valid() && token(r.Name) == name
	return r, ok
}

// valid reports whether the texts of a report can be shown.
func (r *EdgeReport) valid() bool {
	for _, text := range []string{r.Name, r.Version, r.State, r.Generation, r.Error} {
		if !validText(text) {
			return false
		}
	}
	return true
}

// Report publishes a report of this edge. It sets Name; the reader sets Age.
func (c *Client) Report(ctx context.Context, directory string, r EdgeReport) error {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	at, err := c.session(ctx)
	if err != nil {
		return err
	}
	ctx, end := at.within(ctx)
	defer end()
	name := c.Name()
	r.Name, r.Age = name, 0
	r.Error = printable(r.Error, maxError)
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return whyEnded(ctx, explain(c.publishReport(ctx, at.js, edgeSubject(directory, name), data)))
}

// sharedAfter is the number of consecutive conflicts after which the name of this host counts as shared. A
// single conflict can also come from a lost answer or from a restored engine.
const sharedAfter = 3

// reported records the reports that this client published on one subject.
type reported struct {
	last   uint64 // sequence of the last report; 0 means unknown
	others int    // consecutive reports that followed a report of another host
}

// publishReport publishes a report, and detects whether another host reports under the same name.
func (c *Client) publishReport(ctx context.Context, js jetstream.JetStream, subject string, data []byte) error {
	c.mu.Lock()
	now := c.reports[subject]
	c.mu.Unlock()
	var expect []jetstream.PublishOpt
	if now.last > 0 {
		expect = append(expect, jetstream.WithExpectLastSequencePerSubject(now.last))
	}
	ack, err := js.Publish(ctx, subject, data, expect...)
	if isConflict(err) {
		now.others++
		ack, err = js.Publish(ctx, subject, data)
	} else if err == nil {
		now.others = 0
	}
	if now.last = 0; err == nil {
		now.last = ack.Sequence
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports[subject] = now
	return err
}

// SharedName returns the name of this host if another host reports the directory under the same name. Otherwise
// it returns an empty string.
func (c *Client) SharedName(directory string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := c.name()
	if c.reports[edgeSubject(directory, name)].others < sharedAfter {
		return ""
	}
	return name
}
