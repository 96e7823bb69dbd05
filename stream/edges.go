package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// EdgeReport is what an edge said of itself after its last pass.
type EdgeReport struct {
	Name       string        `json:"name"`
	Version    string        `json:"version"`
	State      string        `json:"state"` // fresh, late, stale, not ready or widening
	Generation string        `json:"generation"`
	Sequence   uint64        `json:"sequence"` // of the state that it has followed
	DigestOK   bool          `json:"digest_ok"`
	Held       int           `json:"held"` // addresses whose removal its guard holds
	Addresses  uint64        `json:"addresses"`
	Lag        time.Duration `json:"lag"`   // from the hub's state to its effect at the edge
	Error      string        `json:"error"` // of its last pass; empty: none
	Age        time.Duration `json:"age"`   // of this report, set by the reader
}

// maxEdges limits the reports that are read.
const maxEdges = 10_000

// edgesTimeout limits Edges. A hub publishes nothing meanwhile, and a cluster without a leader does not
// answer.
const edgesTimeout = 3 * time.Second

// Edges returns the last reports of all edges of a directory, by name. Reports that cannot be read are
// left out.
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
	var all []EdgeReport
	for subject := range subjects.State.Subjects {
		m, err := s.GetLastMsgForSubject(ctx, subject)
		if err != nil {
			return nil, explain(err)
		}
		var r EdgeReport
		name, ok := strings.CutPrefix(subject, prefix)
		if !ok || len(all) == maxEdges || decode(m.Data, &r) != nil || !r.valid() || token(r.Name) != name {
			continue
		}
		r.Age = max(subjects.TimeStamp.Sub(m.Time), 0)
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b EdgeReport) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
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

// Report publishes the report of this edge. Name and Age are set by the client and the reader.
func (c *Client) Report(ctx context.Context, directory string, r EdgeReport) error {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	at, err := c.session(ctx)
	if err != nil {
		return err
	}
	ctx, end := at.within(ctx)
	defer end()
	r.Name, r.Age = c.config.Name, 0
	r.Error = printable(r.Error, maxError)
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return whyEnded(ctx, explain(c.publishReport(ctx, at.js, edgeSubject(directory, c.config.Name), data)))
}

// sharedAfter is how many reports in a row must follow one of another host before the name counts as
// shared. A lost answer of the engine, or a restored engine, looks like such a report once.
const sharedAfter = 3

// reported is what a client knows of its own reports on one subject.
type reported struct {
	last   uint64 // sequence of the last report; 0 means unknown
	others int    // reports in a row that followed one of another host
}

// publishReport publishes a report, and notices whether another host reports under this name.
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

// SharedName returns the name of this host if another host reports a directory under it; otherwise it
// is empty.
func (c *Client) SharedName(directory string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reports[edgeSubject(directory, c.config.Name)].others < sharedAfter {
		return ""
	}
	return c.config.Name
}
